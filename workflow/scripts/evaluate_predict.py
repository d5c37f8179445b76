"""Join the predictions of all trainings: out of fold for validation, their mean for the test."""

import polars as pl

from hemtrace.evaluate import combine_predictions
from hemtrace.job import job

with job(snakemake.log[0]):
    tables = [pl.read_parquet(path) for path in snakemake.input.runs]
    combine_predictions(tables).write_parquet(snakemake.output[0])
