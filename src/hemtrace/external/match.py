"""Which picture belongs to which unit of a label file, and what belongs to none."""

from typing import Any

import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.scored import LabelLevel
from hemtrace.external.labels import ExternalLabels
from hemtrace.ingest.catalog import IMAGE_NAME

_LISTED = 20
_EXAMPLES = 3


def list_keys(pictures: pl.DataFrame, level: LabelLevel) -> pl.DataFrame:
    """List the keys by which pictures may be labelled, the best one first.

    Returns
    -------
    Columns slice, rank, key.
    """
    if level == "slice":
        parts = [
            pl.lit("file:") + pl.col("file"),
            pl.lit("image:") + IMAGE_NAME,
            pl.lit("instance:") + pl.col("instance"),
        ]
    else:
        parts = [pl.lit(f"{level}:") + pl.col(level)]
    tables = [
        pictures.select("slice", rank=pl.lit(rank, pl.Int32), key=part)
        for rank, part in enumerate(parts)
    ]
    return pl.concat(tables).drop_nulls("key")


def match_labels(pictures: pl.DataFrame, labels: ExternalLabels, keys: pl.DataFrame) -> pl.Series:
    """Find the unit of each picture: int32 (pictures,), null where the file does not name it.

    Raises
    ------
    HemtraceError
        If one name is that of several readable files, whose labels cannot be told apart.
    """
    hits = keys.join(labels.keys, on="key").sort("slice", "rank")
    first = hits.unique("slice", keep="first", maintain_order=True)
    if labels.level == "slice":
        readable = pictures.filter(pl.col("row").is_not_null()).select("slice")
        named = first.filter(pl.col("key").str.starts_with("image:"))
        twins = named.join(readable, on="slice", how="semi").filter(pl.col("key").is_duplicated())
        if twins.height:
            raise HemtraceError(
                f"{twins.height} readable files have a labelled name that another file has too; "
                "name them by their paths below the folder, or by SOPInstanceUID."
            )
    return pictures.join(
        first.select("slice", "unit"), on="slice", how="left", maintain_order="left"
    )["unit"]


def tell_unmatched(labels: ExternalLabels, units: pl.Series) -> dict[str, Any]:
    """Count the units that no picture belongs to, and list the first of them."""
    missing = _list_missing(labels, units)
    return {
        "units": labels.table.height,
        "units_without_picture": len(missing),
        "units_without_picture_first": [labels.names[unit] for unit in missing[:_LISTED]],
    }


def show_missing(labels: ExternalLabels, units: pl.Series) -> list[str]:
    """Show the first units that no picture belongs to, to the person who has the label file."""
    return [labels.examples[unit] for unit in _list_missing(labels, units)[:_EXAMPLES]]


def _list_missing(labels: ExternalLabels, units: pl.Series) -> list[int]:
    return sorted(set(range(labels.table.height)) - set(units.drop_nulls()))


def tell_examples(labels: ExternalLabels, chosen: pl.DataFrame) -> str:
    """Say which ids lack their counterpart, up to three of each side, and how ids are understood.

    Parameters
    ----------
    labels
        As read.
    chosen
        As `read.choose_pictures` gives it.

    Returns
    -------
    Sentences; empty where every unit has a picture, and every readable picture a unit. Pictures are
    told by pseudonym.
    """
    heads = chosen.filter(pl.col("row").is_not_null())
    column = labels.level if labels.level in ("series", "study", "patient") else "slice"
    files = heads.filter(pl.col("unit").is_null())[column].drop_nulls().unique().sort()
    missing = _list_missing(labels, chosen["unit"])
    told = []
    if missing:
        shown = ", ".join(show_missing(labels, chosen["unit"]))
        told.append(f"Ids of the label file that no file bears, for example: {shown}.")
    if files.len():
        shown = ", ".join(files[:_EXAMPLES])
        told.append(f"Files without a label, by the pseudonym of their {column}: {shown}.")
    if told:
        told.append(f"Understood as an id: {labels.ids}.")
    return " ".join(told)
