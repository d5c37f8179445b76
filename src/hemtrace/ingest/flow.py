"""The flow of numbers: how many files and pictures came how far, and what the labels said."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from hemtrace.dicom.identity import is_public_name
from hemtrace.dicom.reasons import count_steps
from hemtrace.errors import HemtraceError
from hemtrace.ingest.catalog import IMAGE_NAME
from hemtrace.ingest.labels_csv import LabelTable
from hemtrace.ingest.series import SCAN, STUDY
from hemtrace.writing import write_whole

_LISTED = 20


def count_flow(catalog: pl.DataFrame, labels: LabelTable | None) -> dict[str, Any]:
    """Count what became of the files and of the label rows.

    Returns
    -------
    files, pictures (a multi-frame file has several), and for each step of `reasons.STEPS` how many
    pictures passed it; quarantined by reason; then counts of what was repaired, of encodings,
    labels, series and shared pixels.

    Raises
    ------
    HemtraceError
        If pictures do not equal used and quarantined ones, or the rows of the shards do not equal
        the readable heads.
    """
    quarantined = catalog.filter(pl.col("status") == "quarantined")
    by_reason = dict(quarantined.group_by("reason").len().sort("reason").iter_rows())
    passed = count_steps(catalog.height, by_reason)
    used = catalog.filter(pl.col("status") == "used")
    heads = catalog.filter(pl.col("row").is_not_null())
    for what, count, expected in (
        ("used pictures", used.height, passed["used"]),
        ("pictures in the shards", heads.height, passed["head"]),
    ):
        if count != expected:
            raise HemtraceError(
                f"The counts do not add up: {count:,} {what}, and {expected:,} by the reasons of "
                f"{catalog.height:,}. Please report this as a defect of hemtrace."
            )
    flow: dict[str, Any] = {
        "files": catalog["file"].n_unique(),
        "pictures": catalog.height,
        **passed,
        "quarantined": by_reason,
        "repaired_12_bit": int(catalog["repaired"].sum()),
        "lossy": int(heads["lossy"].sum()),
        "encodings": _count(heads, "encoding"),
    }
    return flow | _count_labels(catalog, labels) | _count_series(heads, used) | _count_shared(heads)


def _count(table: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(table.group_by(column).len().sort(column).iter_rows())


def _count_labels(catalog: pl.DataFrame, labels: LabelTable | None) -> dict[str, Any]:
    if labels is None:
        return {"label_rows": 0, "label_rows_duplicated": 0, "labels_without_file": 0}
    images = catalog.select(image=IMAGE_NAME)
    orphans = labels.table.join(images, on="image", how="anti")["image"].sort()
    return {
        "label_rows": labels.csv_rows,
        "label_rows_duplicated": labels.duplicated_rows,
        "labels_disagreeing": labels.disagreeing,
        "labels_contradicting": labels.contradicting,
        "labels_without_file": orphans.len(),
        # Other names may be a person's; data/labels.parquet has them all.
        "labels_without_file_first": [name for name in orphans if is_public_name(name)][:_LISTED],
    }


def _count_series(heads: pl.DataFrame, used: pl.DataFrame) -> dict[str, int]:
    studies = heads.select("patient", STUDY).unique().height
    return {
        "studies": studies,
        "series": heads.select(SCAN).unique().height,
        "series_used": used.select(SCAN).unique().height,
        "slices_missing": int(used["missing_next"].sum()),
    }


def _count_shared(heads: pl.DataFrame) -> dict[str, int]:
    """Count groups of equal pixels across patients, and those with contradicting labels."""
    groups = (
        heads.filter(pl.col("duplicates"))
        .group_by("pixel_blake3")
        .agg(pl.col("any").drop_nulls().n_unique().alias("answers"), pl.col("patient").n_unique())
    )
    return {
        "shared_pixels": groups.height,
        "shared_pixels_contradicting": groups.filter(pl.col("answers") > 1).height,
    }


def write_flow(flow: dict[str, Any], path: Path) -> None:
    """Write the counts.

    Raises
    ------
    HemtraceError
        If nothing is left to be used.
    """
    if not flow["used"]:
        told = ", ".join(f"{count:,} {reason}" for reason, count in flow["quarantined"].items())
        advice = "Check ingest.raw and ingest.images in params.yaml."
        if flow["head"] and "unlabelled" in flow["quarantined"]:
            advice = (
                f"No file has the name of one of the {flow['labels_without_file']:,} images of "
                "the label file: an ID there is the name of a file without folders and `.dcm`, "
                "then _ and the label."
            )
        raise HemtraceError(
            f"None of the {flow['pictures']:,} pictures can be used: {told}. {advice} What each "
            "file is stands in data/shards/*.parquet (file, reason, detail)."
        )
    with write_whole(path) as part:
        part.write_text(json.dumps(flow, indent=2) + "\n")
