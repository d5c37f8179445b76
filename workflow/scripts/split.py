"""Split the patients."""

from pathlib import Path

import polars as pl

from hemtrace.job import job
from hemtrace.params import SplitParams
from hemtrace.split import split_patients
from hemtrace.writing import write_table

with job(snakemake.log[0]):
    catalog = pl.read_parquet(snakemake.input.catalog)
    params = SplitParams(**snakemake.params.split)
    splits = split_patients(catalog, params, snakemake.params.seed)
    write_table(splits, Path(snakemake.output[0]))
    for name, part in splits.group_by("partition", maintain_order=True):
        print(f"{name[0]}: {part.height} patients, {part['slices'].sum()} slices")
