"""Write the page on ingestion."""

import json
from pathlib import Path

import polars as pl

from hemtrace.dicom import read_salt
from hemtrace.dicom.guard import GuardedReader
from hemtrace.job import job
from hemtrace.report.ingestion import build_ingestion_page

with job(snakemake.log[0]):
    given, page = snakemake.params, Path(snakemake.output[0])
    catalog = pl.read_parquet(snakemake.input.catalog)
    flow = json.loads(Path(snakemake.input.flow).read_text())
    salt = read_salt(given.salt_file)
    with GuardedReader(
        Path(given.images), salt, given.read_seconds, given.read_memory_gb
    ) as reader:
        build_ingestion_page(
            catalog, flow, reader.read, page, given.made_with, synthetic=given.synthetic
        )
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
