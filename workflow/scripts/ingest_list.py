"""List the files, deal them out to shards, and see that these will fit on the disk."""

from pathlib import Path

from hemtrace.ingest.listing import list_files
from hemtrace.job import job
from hemtrace.preflight import check_room
from hemtrace.writing import write_table

with job(snakemake.log[0]):
    files = list_files(Path(snakemake.params.images), snakemake.params.shards)
    check_room(Path("data"), files.height * snakemake.params.slice_bytes)
    write_table(files, Path(snakemake.output[0]))
    print(f"{files.height} files, {files['bytes'].sum() / 1e6:.0f} MB")
