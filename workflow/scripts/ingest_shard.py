"""Read and window the files of one shard."""

from pathlib import Path

import polars as pl

from hemtrace.job import job
from hemtrace.params import Window
from hemtrace.shards import make_shard, write_shard

with job(snakemake.log[0]):
    shard = int(snakemake.wildcards.shard)
    files = pl.read_parquet(snakemake.input.files).filter(pl.col("shard") == shard)
    images, rows = make_shard(
        Path(snakemake.params.images),
        files["file"].to_list(),
        [Window(**window) for window in snakemake.params.windows],
        snakemake.params.size,
        shard,
    )
    write_shard(images, rows, Path(snakemake.output.images), Path(snakemake.output.rows))
    print(f"shard {shard:04d}: {len(images)} of {rows.height} files read")
