"""Check the label CSV, and bring it to a row an image."""

from pathlib import Path

from hemtrace.ingest.labels_csv import no_labels, read_labels
from hemtrace.job import job

with job(snakemake.log[0]):
    csv = snakemake.input.get("csv")
    labels = read_labels(Path(csv)) if csv else no_labels()
    labels.write(Path(snakemake.output[0]))
    print(f"{labels.csv_rows} rows, {labels.table.height} images")
