"""Join the rows of all shards with the labels, and count what became of the files."""

from pathlib import Path

import polars as pl

from hemtrace.ingest.catalog import build_catalog
from hemtrace.ingest.flow import count_flow, write_flow
from hemtrace.ingest.labels_csv import load_labels
from hemtrace.job import job
from hemtrace.writing import write_table

with job(snakemake.log[0]):
    labels = load_labels(Path(snakemake.input.labels)) if snakemake.params.labelled else None
    catalog = build_catalog(
        pl.read_parquet(snakemake.input.files),
        pl.concat(map(pl.read_parquet, snakemake.input.rows)),
        labels,
        snakemake.params.series,
    )
    flow = count_flow(catalog, labels)
    write_flow(flow, Path(snakemake.output.flow))
    write_table(catalog, Path(snakemake.output.catalog))
    print(
        f"{flow['used']:,} of {flow['pictures']:,} pictures in {flow['files']:,} files are used; "
        f"quarantined: {flow['quarantined']}"
    )
