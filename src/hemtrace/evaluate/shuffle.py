"""The leak test: the same pipeline with labels that belong to other patients.

A network that learns from such labels can know nothing of the test patients' ones, but where in a
scan bleeds are common. If it does better than that, patients or pictures have leaked from training
to test.
"""

import numpy as np
import polars as pl

from hemtrace.labels import LABELS

_SCAN = ["patient", "study", "series"]


def shuffle_labels(
    catalog: pl.DataFrame, splits: pl.DataFrame, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give each scan the labels of another one, at the same height in the head.

    Labels move among all partitions, and a scan's labels stay together: so a patient, or a picture,
    that stands on both sides of the split can be recognised, and its labels known. What remains is
    where in the scan bleeds are common.

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
    scans = used.select(pl.struct(_SCAN).rle_id()).to_series().to_numpy()
    starts = np.flatnonzero(np.r_[True, np.diff(scans) > 0]) if len(scans) else np.empty(0, int)
    sizes = np.diff(np.r_[starts, len(scans)])
    giver = _derange(len(starts), np.random.default_rng(seed))
    taken = np.concatenate(
        [
            # the middle of slice k of n lies at (k + 1/2) / n of the scan's height
            starts[other] + ((np.arange(size) + 0.5) * sizes[other] / size).astype(np.intp)
            for size, other in zip(sizes, giver, strict=True)
        ]
    )
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


def _derange(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw for each scan another one: a cycle through all in random order."""
    order = rng.permutation(count)
    giver = np.empty(count, dtype=np.intp)
    giver[order] = np.roll(order, 1)
    return giver
