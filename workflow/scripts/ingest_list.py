"""Check the label CSV, then list the DICOM files and deal them out to shards."""

from pathlib import Path

from hemtrace.ingest import list_files, read_labels
from hemtrace.job import job
from hemtrace.preflight import check_room

with job(snakemake.log[0]):
    read_labels(Path(snakemake.input.labels))  # a wrong CSV must not cost hours of decoding first
    files = list_files(Path(snakemake.params.images), snakemake.params.shards)
    check_room(Path("data"), files.height * snakemake.params.slice_bytes)
    files.write_parquet(snakemake.output[0])
    print(f"{files.height} files, {files['bytes'].sum() / 1e6:.0f} MB")
