"""Give each scan the labels of another one, for the leak test."""

from pathlib import Path

import polars as pl

from hemtrace.evaluate.shuffle import shuffle_labels
from hemtrace.job import job
from hemtrace.writing import write_table

with job(snakemake.log[0]):
    catalog = pl.read_parquet(snakemake.input.catalog)
    splits = pl.read_parquet(snakemake.input.splits)
    catalog, splits = shuffle_labels(catalog, splits, snakemake.params.seed)
    # File names, which may be a person's, stand in data/catalog.parquet alone.
    write_table(catalog.drop("file"), Path(snakemake.output.catalog))
    write_table(splits, Path(snakemake.output.splits))
