"""Predict by one of the compared systems, and say what it is and costs."""

import json
from pathlib import Path

import polars as pl

from hemtrace.compare.cost import describe_system
from hemtrace.evaluate.marks import write_marked
from hemtrace.evaluate.predictions import predict_partitions
from hemtrace.job import job
from hemtrace.model import load_model

with job(snakemake.log[0]):
    net, spec = load_model(Path(snakemake.input.model))
    catalog = pl.read_parquet(snakemake.input.catalog)
    splits = pl.read_parquet(snakemake.input.splits)
    table = predict_partitions(net, spec, catalog, splits, Path(snakemake.input.shards[0]).parent)
    write_marked(table, Path(snakemake.output.predictions), spec.synthetic)
    description = describe_system(net, spec)
    Path(snakemake.output.description).write_text(json.dumps(description, indent=2))
