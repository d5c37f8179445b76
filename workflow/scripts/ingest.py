"""Join the rows of all shards with the labels, and count what became of the files."""

from pathlib import Path

import polars as pl

from hemtrace.ingest import build_catalog, count_flow, read_labels, write_catalog
from hemtrace.job import job

with job(snakemake.log[0]):
    labels = read_labels(Path(snakemake.input.labels))
    catalog = build_catalog(pl.concat(map(pl.read_parquet, snakemake.input.rows)), labels)
    flow = count_flow(catalog, labels)
    write_catalog(catalog, flow, Path(snakemake.output.catalog), Path(snakemake.output.flow))
    print(f"{flow['used']} of {flow['files']} files used; quarantined: {flow['quarantined']}")
