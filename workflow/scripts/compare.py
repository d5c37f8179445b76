"""Score the compared systems beside the one that was trained."""

import json
from pathlib import Path

import polars as pl

from hemtrace.compare.table import compare_systems
from hemtrace.evaluate import write_metrics
from hemtrace.job import drop_strangers, job
from hemtrace.model import load_spec
from hemtrace.params import EvaluateParams

with job(snakemake.log[0]):
    given = snakemake.params
    for folder in ("models/compare", "data/compare"):
        drop_strangers(Path(folder), given.systems)
    found = {"systems": [], "slices": 0, "patients": 0}
    model = Path(snakemake.input.model)
    if given.systems:
        # Where nothing is compared, the job need not wait for torch.
        from hemtrace.compare.cost import describe_system
        from hemtrace.model import load_model

        own = describe_system(*load_model(model))
        systems = {"this run": (pl.read_parquet(snakemake.input.own), own)}
        for name, table, text in zip(
            given.systems, snakemake.input.predictions, snakemake.input.descriptions, strict=True
        ):
            systems[name] = (pl.read_parquet(table), json.loads(Path(text).read_text()))
        found = compare_systems(systems, EvaluateParams(**given.evaluate), given.seed)
    write_metrics(found | {"synthetic_data": load_spec(model).synthetic}, Path(snakemake.output[0]))
