"""Draw the galleries, and score the heat maps on the phantom's masks."""

import json
from pathlib import Path

import polars as pl

from hemtrace.explain import explain
from hemtrace.job import job
from hemtrace.model import load_spec
from hemtrace.params import ExplainParams
from hemtrace.shards import TestSlices, open_partition

with job(snakemake.log[0]):
    evaluation = json.loads(Path(snakemake.input.evaluation).read_text())
    model = Path(snakemake.input.model)
    partition = open_partition(
        TestSlices,
        pl.read_parquet(snakemake.input.catalog),
        pl.read_parquet(snakemake.input.splits),
        Path(snakemake.input.shards[0]).parent,
        load_spec(model).has_context,
    )
    explain(
        model,
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
