"""Join the predictions of all trainings: out of fold for validation, their mean for the test."""

from pathlib import Path

import polars as pl

from hemtrace.evaluate import combine_predictions
from hemtrace.evaluate.marks import join_marks, read_synthetic, write_marked
from hemtrace.job import drop_strangers, job

with job(snakemake.log[0]):
    paths = [Path(path) for path in snakemake.input.runs]
    drop_strangers(paths[0].parent, [path.stem for path in paths])
    tables = [pl.read_parquet(path) for path in paths]
    synthetic = join_marks(read_synthetic(path) for path in paths)
    write_marked(combine_predictions(tables), Path(snakemake.output[0]), synthetic)
