"""The sides of the split: who stands where, how rare each label is, which labels come together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from hemtrace.ingest.series import STUDY
from hemtrace.labels import LABELS
from hemtrace.split import DROPPED

# What the header tells of a scan: column, title with unit. Numbers first, then names.
NUMBERS: dict[str, str] = {
    "thickness_mm": "slice thickness, mm",
    "spacing_mm": "pixel spacing, mm",
    "gap_mm": "distance of slices, mm",
    "tilt_deg": "gantry tilt, degrees",
}
NAMES: dict[str, str] = {
    "intercept": "rescale intercept",
    "encoding": "transfer syntax",
    "bits_stored": "bits stored",
    "signed": "signed pixels",
    "repaired": "12-bit fault repaired",
    "lossy": "lossy compression",
    "manufacturer": "manufacturer",
    "kernel": "kernel",
}


def name_sides(splits: pl.DataFrame) -> pl.DataFrame:
    """Name the side of the split on which each patient stands.

    With one training the sides are train, val and test. With several folds each fold is a side of
    its own: a patient in two folds would be learnt from by the network that validates on him.

    Parameters
    ----------
    splits
        Product of split: patient, partition, fold.

    Returns
    -------
    patient and side, sorted, without those whom `split.shared_pixels: drop` left out.
    """
    folds = splits["fold"].drop_nulls().n_unique()
    side: pl.Expr = pl.col("partition")
    if folds > 1:
        fold = pl.format("fold {}", pl.col("fold"))
        side = pl.when(pl.col("fold").is_not_null()).then(fold).otherwise("partition")
    return (
        splits.filter(pl.col("partition") != DROPPED)
        .select("patient", side=side)
        .unique()
        .sort("patient", "side")
    )


def order_sides(sides: pl.DataFrame) -> list[str]:
    """List the sides: train, the folds by their numbers, val, test."""

    def place(side: str) -> tuple[int, int]:
        kinds = ["train", "fold", "val", "test"]
        kind, _, number = side.partition(" ")
        return kinds.index(kind), int(number or 0)

    return sorted(sides["side"].unique().to_list(), key=place)


def used_with_sides(catalog: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    """Take the used slices of the catalog with the side of their patient."""
    used = catalog.filter(pl.col("status") == "used")
    return used.join(name_sides(splits), on="patient", how="inner").sort("slice", "side")


def count_partitions(catalog: pl.DataFrame, splits: pl.DataFrame) -> list[dict[str, Any]]:
    """Count patients, studies, slices and labels of each side of the split.

    Parameters
    ----------
    catalog, splits
        Products of ingest and split.

    Returns
    -------
    A row a side, and last the row `all`: name, patients, studies, series, slices, and labels: by
    label the slices and patients that bear it, their shares, and `negatives_per_positive` of the
    slices (None without a positive one).
    """
    used = used_with_sides(catalog, splits).with_columns(whole=STUDY)
    names = order_sides(used)
    tables = [(name, used.filter(pl.col("side") == name)) for name in names]
    return [_count_side(name, table) for name, table in [*tables, ("all", used)]]


def _count_side(name: str, table: pl.DataFrame) -> dict[str, Any]:
    patients = table["patient"].n_unique()
    labels = {}
    for label in LABELS:
        bearing = table.filter(pl.col(label) == 1)
        slices, bearers = bearing.height, bearing["patient"].n_unique()
        labels[label] = {
            "slices": slices,
            "slice_share": slices / table.height if table.height else None,
            "patients": bearers,
            "patient_share": bearers / patients if patients else None,
            "negatives_per_positive": (table.height - slices) / slices if slices else None,
        }
    return {
        "name": name,
        "patients": patients,
        "studies": table.select("patient", "whole").unique().height,
        "series": table.select("patient", "whole", "series").unique().height,
        "slices": table.height,
        "labels": labels,
    }


def count_co_occurrence(catalog: pl.DataFrame, splits: pl.DataFrame) -> dict[str, Any]:
    """Count how often two labels stand on the same slice, and in the same patient.

    Returns
    -------
    slices and patients: each with `total`, and `counts`, a matrix (6, 6) in the order of
    `labels.LABELS` whose diagonal counts those that bear the label.
    """
    used = used_with_sides(catalog, splits)
    people = used.group_by("patient").agg(pl.col(LABELS).max()).sort("patient")
    return {"slices": _co_occur(used), "patients": _co_occur(people)}


def _co_occur(table: pl.DataFrame) -> dict[str, Any]:
    truth = table.select(LABELS).to_numpy().astype(np.int64)
    return {"total": table.height, "counts": (truth.T @ truth).tolist()}


def describe_scans(catalog: pl.DataFrame, splits: pl.DataFrame) -> dict[str, Any]:
    """Compare what the headers tell of the slices on each side of the split.

    Returns
    -------
    facts: those with at least two values, each with column, title and sides: by side `slices`,
    `untold` (slices whose header lacks it), and of numbers `quartiles` with `range` (None where
    no slice has one), of names `counts`, the most frequent first. same: facts with one value
    everywhere, with `value`. untold: facts that no slice has.
    """
    used = used_with_sides(catalog, splits)
    facts, same, untold = [], [], []
    for column, title in (NUMBERS | NAMES).items():
        known = used[column].drop_nulls()
        head = {"column": column, "title": title}
        if known.is_empty():
            untold.append(head)
        elif known.n_unique() == 1 and len(known) == used.height:
            same.append(head | {"value": known[0]})
        else:
            sides = {
                name: _describe(used.filter(pl.col("side") == name)[column], column in NUMBERS)
                for name in order_sides(used)
            }
            facts.append(head | {"sides": sides})
    return {"facts": facts, "same": same, "untold": untold}


def _describe(values: pl.Series, is_number: bool) -> dict[str, Any]:
    known = values.drop_nulls()
    told: dict[str, Any] = {"slices": len(values), "untold": values.null_count()}
    if not is_number:
        counts = known.alias("value").value_counts(name="count")
        ordered = counts.sort("count", "value", descending=[True, False])
        return told | {"counts": [[show_value(value), count] for value, count in ordered.rows()]}
    if known.is_empty():
        return told | {"quartiles": None, "range": None}
    quartiles: Sequence[float] = np.percentile(known.to_numpy(), [25, 50, 75]).tolist()
    return told | {
        "quartiles": list(quartiles),
        "range": [float(known.min()), float(known.max())],  # type: ignore[arg-type]
    }


def show_value(value: object) -> str:
    """Write a value of the header as a reader expects it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
