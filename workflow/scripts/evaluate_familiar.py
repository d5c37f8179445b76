"""Learn what the features of training slices are like, and how far validation patients lie off."""

from pathlib import Path

import polars as pl

from hemtrace.engine import open_engine
from hemtrace.familiar.stage import make_familiar
from hemtrace.familiar.stored import write
from hemtrace.job import job
from hemtrace.split import partition_of_fold

with job(snakemake.log[0]):
    given = snakemake.input
    engine = open_engine(Path(given.model), "torch")
    # The features are those of the first network, which validates on the first fold.
    splits = partition_of_fold(pl.read_parquet(given.splits), 0)
    made = make_familiar(
        engine,
        pl.read_parquet(given.catalog),
        splits,
        Path(given.shards[0]).parent,
        snakemake.params.share,
        snakemake.params.seed,
    )
    if isinstance(made, str):
        print(f"hemtrace: whether a scan is unlike the training data is not measured. {made}")
    write(made, engine.model_sha256, engine.spec.synthetic, Path(snakemake.output[0]))
