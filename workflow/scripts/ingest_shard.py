"""Read and window the files of one shard."""

from pathlib import Path

import polars as pl

from hemtrace.dicom import read_salt
from hemtrace.dicom.guard import GuardedReader
from hemtrace.job import job
from hemtrace.params import View
from hemtrace.shards import make_pictures, write_shard

with job(snakemake.log[0]):
    given = snakemake.params
    shard = int(snakemake.wildcards.shard)
    files = pl.scan_parquet(snakemake.input.files).filter(pl.col("shard") == shard).collect()
    view, salt = View(**given.view), read_salt(given.salt_file)
    with GuardedReader(
        Path(given.images), salt, given.read_seconds, given.read_memory_gb
    ) as reader:
        pictures = make_pictures(reader.read, files["file"].to_list(), view, salt, shard)
        images, rows = Path(snakemake.output.images), Path(snakemake.output.rows)
        table = write_shard(pictures, view, images, rows)
    for other in {"npy", "images.parquet"} - {snakemake.params.image_suffix}:
        images.with_name(f"{shard:04d}.{other}").unlink(missing_ok=True)
    print(f"shard {shard:04d}: {table['row'].count()} pictures of {files.height} files")
