"""Predict the slices of the validation and test patients."""

from pathlib import Path

import polars as pl

from hemtrace.inference import predict_probabilities
from hemtrace.job import job
from hemtrace.labels import LABELS
from hemtrace.model import load_model
from hemtrace.shards import open_partition

with job(snakemake.log[0]):
    net, _ = load_model(Path(snakemake.input.model))
    shards = Path(snakemake.input.shards[0]).parent
    tables = []
    for name in ("val", "test"):
        partition = open_partition(
            Path(snakemake.input.catalog), Path(snakemake.input.splits), shards, name
        )
        probabilities = predict_probabilities(net, partition, label=name)
        tables.append(
            pl.DataFrame({"slice": partition.slices, "patient": partition.patients})
            .with_columns(partition=pl.lit(name))
            .hstack(pl.DataFrame(probabilities, schema=[f"p_{label}" for label in LABELS]))
            .hstack(pl.DataFrame(partition.labels, schema=list(LABELS)))
        )
    pl.concat(tables).write_parquet(snakemake.output[0])
