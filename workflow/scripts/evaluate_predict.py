"""Join the predictions of all trainings: out of fold for validation, their mean for the test."""

from pathlib import Path

import polars as pl

from hemtrace.evaluate import combine_predictions
from hemtrace.job import drop_strangers, job

with job(snakemake.log[0]):
    paths = [Path(path) for path in snakemake.input.runs]
    drop_strangers(paths[0].parent, [path.stem for path in paths])
    tables = [pl.read_parquet(path) for path in paths]
    combine_predictions(tables).write_parquet(snakemake.output[0])
