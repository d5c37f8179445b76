"""Draw the galleries, and score the heat maps on the phantom's masks."""

import json
from pathlib import Path

import polars as pl

from hemtrace.explain import explain
from hemtrace.job import job
from hemtrace.params import ExplainParams
from hemtrace.shards import open_partition

with job(snakemake.log[0]):
    evaluation = json.loads(Path(snakemake.input.evaluation).read_text())
    partition = open_partition(
        Path(snakemake.input.catalog),
        Path(snakemake.input.splits),
        Path(snakemake.input.shards[0]).parent,
        "test",
    )
    explain(
        Path(snakemake.input.model),
        partition,
        pl.read_parquet(snakemake.input.predictions),
        Path(snakemake.input.masks) if snakemake.input.get("masks") else None,
        ExplainParams(**snakemake.params.explain),
        evaluation["thresholds"]["any"]["value"],
        snakemake.params.seed,
        Path(snakemake.output.gallery_bleeds),
        Path(snakemake.output.gallery_clear),
        Path(snakemake.output.localisation),
    )
