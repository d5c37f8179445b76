"""DICOM tree and label CSV -> the list of files, and the catalog with one row a file.

The shards between the two are made by `shards.make_shard`, a job each.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandera.polars as pa
import polars as pl

from hemtrace.dicom import REASONS
from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.shards import ROW_SCHEMA

CATALOG_CONTRACT = pa.DataFrameSchema(
    {
        "slice": pa.Column(pl.String, unique=True),
        "file": pa.Column(pl.String, unique=True),
        "status": pa.Column(pl.String, pa.Check.isin(["used", "quarantined"])),
        "reason": pa.Column(pl.String, pa.Check.isin(list(REASONS)), nullable=True),
        "detail": pa.Column(pl.String, nullable=True),
        "patient": pa.Column(pl.String, nullable=True),
        "study": pa.Column(pl.String, nullable=True),
        "series": pa.Column(pl.String, nullable=True),
        "z_mm": pa.Column(pl.Float64, nullable=True),
        "rows": pa.Column(pl.Int32, pa.Check.gt(0), nullable=True),
        "columns": pa.Column(pl.Int32, pa.Check.gt(0), nullable=True),
        "spacing_mm": pa.Column(pl.Float64, pa.Check.gt(0), nullable=True),
        "repaired": pa.Column(pl.Boolean, nullable=True),
        "pixel_sha256": pa.Column(pl.String, nullable=True),
        "image_sha256": pa.Column(pl.String, nullable=True),
        "shard": pa.Column(pl.Int32, pa.Check.ge(0)),
        "row": pa.Column(pl.Int32, pa.Check.ge(0), nullable=True),
        **{label: pa.Column(pl.UInt8, pa.Check.isin([0, 1]), nullable=True) for label in LABELS},
    },
    strict=True,
)


# What the label CSV calls a file: its name without folders and `.dcm` (a UID may hold other dots).
IMAGE_NAME = pl.col("file").str.split("/").list.last().str.replace(r"(?i)\.dcm$", "")


@dataclass(frozen=True)
class LabelTable:
    """The label CSV, a row an image.

    Attributes
    ----------
    table
        Columns image, the six labels (null where the row lacks), and `conflict`.
    csv_rows, duplicated_rows
        Rows of the CSV, and those among them that repeat an earlier one.
    """

    table: pl.DataFrame
    csv_rows: int
    duplicated_rows: int


def list_files(folder: Path, shards: int) -> pl.DataFrame:
    """List every file below a folder, and deal them out to shards in order of their paths.

    Returns
    -------
    Columns file (path below the folder), bytes, shard. Each shard gets a run of neighbours; where
    there are fewer files than shards, the last ones stay empty.

    Raises
    ------
    HemtraceError
        If the folder is missing or holds no file.
    """
    found = sorted(_walk(folder, folder))
    if not found:
        raise HemtraceError(f"The folder {folder} holds no files; it must hold DICOM files.")
    table = pl.DataFrame(found, schema={"file": pl.String, "bytes": pl.Int64}, orient="row")
    shard = np.arange(len(found)) * shards // len(found)
    return table.with_columns(pl.Series("shard", shard, dtype=pl.Int32))


def _walk(folder: Path, root: Path) -> list[tuple[str, int]]:
    if not folder.is_dir():
        raise HemtraceError(f"The folder {folder} was not found.")
    found: list[tuple[str, int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                found += _walk(Path(entry.path), root)
            else:
                path = Path(entry.path).relative_to(root).as_posix()
                found.append((path, entry.stat().st_size))
    return found


def read_labels(csv: Path) -> LabelTable:
    """Read a label CSV of the RSNA layout: `ID,Label`, a row `<image>_<label>,0/1`.

    Rows that repeat and agree are kept once and counted; an image whose rows disagree, or whose
    `any` is not the union of its subtypes, is marked `conflict`.

    Raises
    ------
    HemtraceError
        If the file is missing, has other columns, an unknown label, or a value other than 0 and 1.
    """
    check_label_header(csv)
    try:
        raw = pl.read_csv(csv, schema={"ID": pl.String, "Label": pl.String})
    except pl.exceptions.PolarsError as error:
        raise HemtraceError(f"{csv} is not a readable CSV ({type(error).__name__}).") from None
    if raw.is_empty():
        raise HemtraceError(f"{csv} has a header but no rows.")
    parts = raw.select(
        image=pl.col("ID").str.extract(r"^(.+)_[^_]*$", 1),
        label=pl.col("ID").str.extract(r"_([^_]*)$", 1),
        value=pl.col("Label").str.strip_chars().cast(pl.UInt8, strict=False),
        line=pl.int_range(2, pl.len() + 2),
    )
    known = pl.col("label").is_in(LABELS).fill_null(False)
    _refuse(csv, parts.filter(~known), "ID", f"must end in _ and one of {', '.join(LABELS)}")
    binary = pl.col("value").is_in([0, 1]).fill_null(False)
    _refuse(csv, parts.filter(~binary), "Label", "must be 0 or 1")
    cells = parts.group_by("image", "label").agg(
        value=pl.col("value").first(), disagree=pl.col("value").n_unique() > 1, rows=pl.len()
    )
    wide = cells.pivot(on="label", index="image", values="value")
    wide = wide.with_columns(
        pl.lit(None, dtype=pl.UInt8).alias(label) for label in LABELS if label not in wide.columns
    )
    disagree = cells.group_by("image").agg(pl.col("disagree").any())
    table = (
        wide.join(disagree, on="image")
        .with_columns(
            conflict=pl.col("disagree")
            | (pl.max_horizontal(SUBTYPES) != pl.col("any")).fill_null(False)
        )
        .select("image", *LABELS, "conflict")
        .sort("image")
    )
    return LabelTable(table, raw.height, raw.height - cells.height)


def check_label_header(csv: Path) -> None:
    """Refuse a label CSV that is missing or has other columns than ID and Label."""
    if not csv.is_file():
        raise HemtraceError(
            f"The label file {csv} was not found; check ingest.labels in params.yaml."
        )
    with csv.open(encoding="utf-8-sig", errors="replace") as stream:
        header = stream.readline().strip()
    if header != "ID,Label":
        raise HemtraceError(
            f"{csv} must have the columns `ID,Label`; its first line says something else."
        )


def _refuse(csv: Path, wrong: pl.DataFrame, column: str, rule: str) -> None:
    # The row itself is not shown: in a hospital's file it may hold a person's name.
    if wrong.height:
        raise HemtraceError(
            f"{csv}, line {wrong['line'][0]}: {column} {rule} ({wrong.height} such rows)."
        )


def build_catalog(shard_rows: pl.DataFrame, labels: LabelTable) -> pl.DataFrame:
    """Join the rows of all shards with their labels.

    A file's labels are those of the image named like it. A readable file without a patient, or
    without a full and consistent set of labels, is quarantined.

    Parameters
    ----------
    shard_rows
        The tables of all shards, one below the other.
    labels
        The label CSV.

    Returns
    -------
    A table under `CATALOG_CONTRACT`, sorted by file.
    """
    _refuse_twins(shard_rows)
    joined = shard_rows.with_columns(image=IMAGE_NAME).join(labels.table, on="image", how="left")
    use_reason = (
        pl.when(pl.col("patient").is_null())
        .then(pl.lit("no-patient"))
        .when(pl.col("conflict").is_null())
        .then(pl.lit("unlabelled"))
        .when(pl.any_horizontal(pl.col(label).is_null() for label in LABELS))
        .then(pl.lit("incomplete-labels"))
        .when(pl.col("conflict"))
        .then(pl.lit("conflicting-labels"))
    )
    catalog = (
        joined.with_columns(reason=pl.coalesce("reason", use_reason))
        .with_columns(
            status=pl.when(pl.col("reason").is_null())
            .then(pl.lit("used"))
            .otherwise(pl.lit("quarantined"))
        )
        .select("slice", "file", "status", *list(ROW_SCHEMA)[2:], *LABELS)
        .sort("file")
    )
    return CATALOG_CONTRACT.validate(catalog)


def _refuse_twins(shard_rows: pl.DataFrame) -> None:
    twins = shard_rows.filter(pl.col("reason").is_null() & IMAGE_NAME.is_duplicated())
    if twins.height:
        raise HemtraceError(
            f"{twins.height} readable files have the name of one in another folder, first the "
            f"slice {twins['slice'][0]}; labels go by name: give each file a name of its own."
        )


def count_flow(catalog: pl.DataFrame, labels: LabelTable) -> dict[str, object]:
    """Count what became of the files and of the label rows; the counts add up to the files."""
    quarantined = catalog.filter(pl.col("status") == "quarantined")
    readable = catalog.filter(pl.col("row").is_not_null())
    images = catalog.select(IMAGE_NAME).to_series()
    return {
        "files": catalog.height,
        "readable": readable.height,
        "used": catalog.filter(pl.col("status") == "used").height,
        "quarantined": dict(quarantined.group_by("reason").len().sort("reason").iter_rows()),
        "repaired_12_bit": int(catalog["repaired"].sum()),
        "label_rows": labels.csv_rows,
        "label_rows_duplicated": labels.duplicated_rows,
        "labels_without_file": labels.table.filter(~pl.col("image").is_in(images.implode())).height,
    }


def write_catalog(catalog: pl.DataFrame, flow: dict[str, object], path: Path, counts: Path) -> None:
    """Write the catalog and its counts; each appears under its name only when complete."""
    if not flow["used"]:
        raise HemtraceError(
            f"None of the {flow['files']} files can be used. Reasons: {flow['quarantined']}. "
            "Check ingest.raw, ingest.images and ingest.labels in params.yaml."
        )
    part = path.with_suffix(".part")
    catalog.write_parquet(part)
    part.replace(path)
    counts.write_text(json.dumps(flow, indent=2) + "\n")
