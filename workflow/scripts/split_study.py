"""Count what the study rests on, and look for leaks between the partitions."""

import json
from pathlib import Path

import polars as pl

from hemtrace.job import job
from hemtrace.study import (
    count_co_occurrence,
    count_partitions,
    describe_scans,
    flow_numbers,
    leakage_table,
)

with job(snakemake.log[0]):
    catalog = pl.read_parquet(snakemake.input.catalog)
    splits = pl.read_parquet(snakemake.input.splits)
    shards = Path(snakemake.input.shards[0]).parent
    windows = snakemake.params.windows
    brain = windows.index("brain") if "brain" in windows else 0
    study = {
        "synthetic_data": snakemake.params.synthetic,
        "flow": flow_numbers(catalog, splits),
        "partitions": count_partitions(catalog, splits),
        "co_occurrence": count_co_occurrence(catalog, splits),
        "scans": describe_scans(catalog, splits),
        "leakage": leakage_table(catalog, splits, shards, brain),
    }
    text = json.dumps(study, indent=2, sort_keys=True, allow_nan=False)
    Path(snakemake.output[0]).write_text(text + "\n")
