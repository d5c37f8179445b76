"""The leak test: the same pipeline with labels that belong to other patients.

A network that learns from such labels can know nothing of the test patients' ones, but where in a
scan bleeds are common. If it does better than that, it has seen test patients or their labels: a
patient stands on both sides of the split, or training reads what it must not. A patient or picture
that stands there under another name has other labels, and is not found so: `study.leakage` looks
for these.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from hemtrace.labels import LABELS

_SCAN = ["patient", "study", "series"]


def shuffle_labels(
    catalog: pl.DataFrame, splits: pl.DataFrame, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give each patient the labels of another one, at the same height in the head.

    Labels move among all partitions, and a patient's stay together: so one who stands on both sides
    of the split can be recognised, and his labels known. What remains is where in the scan bleeds
    are common.

    Parameters
    ----------
    catalog, splits
        Products of ingest and split.
    seed
        Fixes who gets whose labels.

    Returns
    -------
    Both tables with other labels in the used rows.
    """
    used = catalog.filter(pl.col("status") == "used").sort(*_SCAN, "z_mm", "slice")
    rows = used.select(LABELS).to_numpy()
    taken = give_labels(find_scans(used), np.random.default_rng(seed))
    moved = used.select("slice", "patient").hstack(pl.DataFrame(rows[taken], schema=list(LABELS)))
    shuffled = (
        catalog.join(moved.drop("patient"), on="slice", how="left", suffix="_moved")
        .with_columns(
            pl.when(pl.col("status") == "used").then(f"{label}_moved").otherwise(label).alias(label)
            for label in LABELS
        )
        .select(catalog.columns)
    )
    counts = moved.group_by("patient").agg(pl.col(LABELS).cast(pl.Int64).sum())
    patients = splits.drop(LABELS).join(counts, on="patient", how="left", maintain_order="left")
    return shuffled, patients.select(splits.columns)


@dataclass(frozen=True)
class Scans:
    """The scans of a table that is sorted by patient, study, series, and from one end to the other.

    Attributes
    ----------
    slices
        int (S,): rows of each scan, which follow those of the scan before.
    patient
        int (S,): whose scan it is, counted from 0 in the order of the table.
    """

    slices: np.ndarray
    patient: np.ndarray


def find_scans(used: pl.DataFrame) -> Scans:
    """Find the scans of a table of slices sorted as `Scans` says."""
    scans = used.group_by(_SCAN, maintain_order=True).agg(slices=pl.len())
    patient = scans.select(pl.col("patient").rle_id())["patient"].to_numpy()
    return Scans(scans["slices"].to_numpy().astype(np.intp), patient.astype(np.intp))


def give_labels(scans: Scans, rng: np.random.Generator) -> np.ndarray:
    """Draw for each row the one of another patient, at its height, whose labels it gets.

    Parameters
    ----------
    scans
        Of `find_scans`.
    rng
        Draws who gets whose.

    Returns
    -------
    int (rows,). A patient's rows all come from one other patient.
    """
    count = np.bincount(scans.patient)  # scans of each patient
    begin = np.cumsum(count) - count
    first = np.cumsum(scans.slices) - scans.slices
    giver = _derange(len(count), rng)[scans.patient]
    place = np.arange(len(first)) - begin[scans.patient]
    other = begin[giver] + place % count[giver]
    own = np.repeat(np.arange(len(first)), scans.slices)
    # the middle of slice k of n lies at (k + 1/2) / n of the scan's height
    height = (np.arange(len(own)) - first[own] + 0.5) / scans.slices[own]
    return np.asarray(first[other][own] + (height * scans.slices[other][own]).astype(np.intp))


def _derange(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw for each patient another one: a cycle through all in random order."""
    order = rng.permutation(count)
    giver = np.empty(count, dtype=np.intp)
    giver[order] = np.roll(order, 1)
    return giver
