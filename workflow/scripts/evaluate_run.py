"""Predict the slices of a network's validation and test patients."""

from pathlib import Path

import polars as pl

from hemtrace.evaluate.marks import write_marked
from hemtrace.evaluate.predictions import predict_partitions
from hemtrace.job import job
from hemtrace.model import load_model
from hemtrace.split import partition_of_fold

with job(snakemake.log[0]):
    net, spec = load_model(Path(snakemake.input.model))
    catalog = pl.read_parquet(snakemake.input.catalog)
    splits = partition_of_fold(pl.read_parquet(snakemake.input.splits), snakemake.params.fold)
    shards = Path(snakemake.input.shards[0]).parent
    table = predict_partitions(net, spec, catalog, splits, shards)
    write_marked(table, Path(snakemake.output[0]), spec.synthetic)
