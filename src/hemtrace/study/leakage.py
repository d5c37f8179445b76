"""Does anything stand on two sides of the split? Identities, digests and near-duplicates."""

from pathlib import Path
from typing import Any

import polars as pl

from hemtrace.study.near import NearRule, find_near_duplicates
from hemtrace.study.partitions import name_sides, order_sides, used_with_sides

# Column of the catalog, what it is called, and what null means.
IDENTITIES: tuple[tuple[str, str, str], ...] = (
    ("patient", "patient", "no PatientID"),
    ("study", "study", "no StudyInstanceUID"),
    ("series", "series", "no SeriesInstanceUID"),
    ("instance", "SOP instance", "no SOPInstanceUID"),
    ("pixel_blake3", "pixels (hash of the HU)", "a slice of one value, which tells nothing"),
    ("image_blake3", "picture (hash of the windows)", "no picture, or one of a blank slice"),
)
_LISTED = 20


def leakage_table(
    catalog: pl.DataFrame,
    splits: pl.DataFrame,
    shards: Path | None = None,
    window_place: int = 0,
    rule: NearRule | None = None,
) -> dict[str, Any]:
    """Count what stands on more than one side of the split.

    The sides are train, val and test; with several folds, test and each fold
    (`partitions.name_sides`). A study or series counts by its own identifier, whatever the patient
    beside it: so a patient under two names is found.

    Parameters
    ----------
    catalog, splits
        Products of ingest and split.
    shards
        Folder of the shards, for the near-duplicates; None: they are not looked for.
    window_place
        Channel of the brain window.
    rule
        Of the near-duplicates; None: `NearRule()`.

    Returns
    -------
    sides; rows: a dict each with what, distinct (values), shared (values on more than one side,
    zero where nothing leaks), slices (those that bear a shared value), untold (slices without a
    value) with untold_means, and first (the first shared values' slice keys); near_duplicates: as
    `near.find_near_duplicates` says, or None.
    """
    used = used_with_sides(catalog, splits)
    sides = order_sides(name_sides(splits))
    rows = [_count_identity(used, *identity) for identity in IDENTITIES]
    near = None
    if shards is not None:
        near = find_near_duplicates(used, sides, shards, window_place, rule or NearRule())
    return {"sides": sides, "rows": rows, "near_duplicates": near}


def _count_identity(used: pl.DataFrame, column: str, what: str, untold: str) -> dict[str, Any]:
    value = pl.col(column)
    if column == "image_blake3":  # pictures of blank slices are equal and say nothing of a leak
        value = pl.when(pl.col("pixel_blake3").is_not_null()).then(value)
    known = used.with_columns(value=value).filter(pl.col("value").is_not_null())
    shared = (
        known.group_by("value")
        .agg(pl.col("side").n_unique().alias("sides"), pl.col("slice").unique().sort())
        .filter(pl.col("sides") > 1)
        .sort(pl.col("slice").list.first())
    )
    slices = shared["slice"].explode().unique().drop_nulls().len() if shared.height else 0
    return {
        "what": what,
        "column": column,
        "distinct": known["value"].n_unique(),
        "shared": shared.height,
        "slices": slices,
        "untold": used["slice"].n_unique() - known["slice"].n_unique(),
        "untold_means": untold,
        "first": [keys[:2] for keys in shared["slice"].head(_LISTED).to_list()],
    }
