"""Is a second data set really another one? Ids and pixels against those of the development data."""

from pathlib import Path

import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.provenance import data_digest
from hemtrace.split import partition_of_fold

# What must not stand in both: the column, and how one and several are told.
SHARED = {
    "patient": ("patient", "patients"),
    "study": ("study", "studies"),
    "series": ("series", "series"),
    "instance": ("SOP instance", "SOP instances"),
    "pixel_blake3": ("picture by its pixels", "pictures by their pixels"),
}


def count_overlap(pictures: pl.DataFrame, development: pl.DataFrame) -> dict[str, int]:
    """Count what stands in both data sets, by what it is.

    Parameters
    ----------
    pictures
        Rows of the second data set, as `shards.make_pictures` gives them.
    development
        The catalog of the data that the model was trained and tested on; quarantined rows too. Its
        ids must be hashed with the same salt; the digest of pixels needs none.
    """
    counts = {}
    for column in SHARED:
        ours = pictures.select(pl.col(column).drop_nulls().unique())
        theirs = development.select(pl.col(column).drop_nulls().unique())
        counts[column] = ours.join(theirs, on=column, how="semi").height
    return counts


def refuse_overlap(counts: dict[str, int], folder: Path, catalog: Path) -> None:
    """Stop if anything stands in both data sets.

    Raises
    ------
    HemtraceError
        With the counts.
    """
    found = [f"{count:,} {SHARED[column][count > 1]}" for column, count in counts.items() if count]
    if found:
        raise HemtraceError(
            f"{folder} is no external data. What stands in {catalog} too, on which the model was "
            f"made: {', '.join(found)}. Take them out and run again; nothing was predicted."
        )


def find_development(data: Path, digest: str) -> tuple[pl.DataFrame | None, str]:
    """Read the catalog of the model's data.

    Parameters
    ----------
    data
        Folder with `catalog.parquet` and `splits.parquet`.
    digest
        `data_digest` of the model.

    Returns
    -------
    The catalog, or None and why it cannot serve.
    """
    catalog_path, splits_path = data / "catalog.parquet", data / "splits.parquet"
    for path in (catalog_path, splits_path):
        if not path.is_file():
            return None, f"{path} is missing"
    catalog, splits = pl.read_parquet(catalog_path), pl.read_parquet(splits_path)
    folds = splits["fold"].drop_nulls().unique().sort().to_list()
    views = [splits, *(partition_of_fold(splits, fold) for fold in folds)]
    if digest not in {data_digest(catalog, view) for view in views}:
        return None, f"{catalog_path} and {splits_path} are not those that the model was made on"
    return catalog, ""
