"""The catalog: a row a picture, with all that is known of it; the one truth of what is used."""

from typing import Literal

import pandera.polars as pa
import polars as pl

from hemtrace.dicom.reasons import REASONS
from hemtrace.errors import HemtraceError
from hemtrace.ingest.labels_csv import LabelTable
from hemtrace.ingest.series import choose_series, mark_doubled, place_in_series
from hemtrace.labels import LABELS
from hemtrace.shards.rows import ROW_SCHEMA

_POSITIVE = ("rows", "columns", "spacing_mm", "spacing_across_mm", "thickness_mm", "crop_side")
_SHARE = ("air_share", "soft_share", "bone_share")
_FROM_ZERO = ("row", "index", "gap_mm")
_NEVER_NULL = ("slice", "file", "status", "shard", "duplicates")
_COLUMNS = {
    "slice": pl.String,
    "file": pl.String,
    "frame": pl.Int32,
    "status": pl.String,
    **{name: kind for name, kind in ROW_SCHEMA.items() if name not in ("slice", "file", "frame")},
    "index": pl.Int32,
    "gap_mm": pl.Float64,
    "missing_next": pl.Boolean,
    "previous": pl.String,
    "next": pl.String,
    "duplicates": pl.Boolean,
    **dict.fromkeys(LABELS, pl.UInt8),
}


def _checks(name: str) -> list[pa.Check]:
    if name == "status":
        return [pa.Check.isin(["used", "quarantined"])]
    if name == "reason":
        return [pa.Check.isin(list(REASONS))]
    if name in LABELS:
        return [pa.Check.isin([0, 1])]
    if name in _POSITIVE:
        return [pa.Check.gt(0)]
    if name in _SHARE:
        return [pa.Check.in_range(0, 1)]
    return [pa.Check.ge(0)] if name in _FROM_ZERO else []


def _is_used_without_reason(data: pa.PolarsData) -> pl.LazyFrame:
    return data.lazyframe.select((pl.col("status") == "used") == pl.col("reason").is_null())


CATALOG_CONTRACT = pa.DataFrameSchema(
    {
        name: pa.Column(
            kind, _checks(name), nullable=name not in _NEVER_NULL, unique=name == "slice"
        )
        for name, kind in _COLUMNS.items()
    },
    checks=pa.Check(_is_used_without_reason, error="used is what has no reason"),
    strict=True,
    ordered=True,
)

# What the label CSV calls a file: its name without folders and `.dcm` (a UID may hold other dots);
# a picture of a multi-frame file has its number after `#`. `%` is escaped in the list of files.
IMAGE_NAME = pl.concat_str(
    pl.col("file")
    .str.split("/")
    .list.last()
    .str.replace(r"(?i)\.dcm$", "")
    .str.replace_all("%25", "%", literal=True)
    .str.normalize("NFC"),  # macOS takes letters and their accents apart
    pl.when(pl.col("frame").is_not_null())
    .then(pl.lit("#") + pl.col("frame").cast(pl.String))
    .otherwise(pl.lit("")),
)


def build_catalog(
    files: pl.DataFrame,
    shard_rows: pl.DataFrame,
    labels: LabelTable | None,
    series: Literal["one", "all"] = "one",
) -> pl.DataFrame:
    """Join the rows of all shards with their labels, and decide what is used.

    A picture's labels are those of the image named like its file. In this order a readable head is
    quarantined: without a patient, without a full and consistent set of labels (if there are any),
    doubled in its series, in a series that was not chosen (`series.choose_series`).

    Parameters
    ----------
    files
        The list that was read, column `file`.
    shard_rows
        The tables of all shards, one below the other.
    labels
        None: the data have none; what is used has null labels.
    series
        Of a study with several series `one`, or `all`.

    Returns
    -------
    A table that fulfils `CATALOG_CONTRACT`, sorted by file and frame. `duplicates` marks pictures
    whose pixels stand in another patient too.

    Raises
    ------
    HemtraceError
        If a listed file has no row or a row no listed file, or two pictures share a labelled name.
    """
    _check_complete(files, shard_rows)
    joined = shard_rows.with_columns(image=IMAGE_NAME)
    if labels is None:
        nothing = [pl.lit(None, pl.UInt8).alias(label) for label in LABELS]
        joined = joined.with_columns(*nothing, conflict=pl.lit(None, pl.Boolean))
    else:
        _refuse_namesakes(joined, labels.table)
        joined = joined.join(labels.table, on="image", how="left", maintain_order="left")
    use: pl.Expr = pl.when(pl.col("patient").is_null()).then(pl.lit("no-patient"))
    if labels is not None:
        use = (
            pl.when(pl.col("patient").is_null())
            .then(pl.lit("no-patient"))
            .when(pl.col("conflict").is_null())
            .then(pl.lit("unlabelled"))
            .when(pl.any_horizontal(pl.col(label).is_null() for label in LABELS))
            .then(pl.lit("incomplete-labels"))
            .when(pl.col("conflict"))
            .then(pl.lit("conflicting-labels"))
        )
    joined = joined.with_columns(reason=pl.coalesce("reason", use))
    placed = place_in_series(mark_doubled(joined))
    chosen = choose_series(placed, series)
    status = (
        pl.when(pl.col("reason").is_null()).then(pl.lit("used")).otherwise(pl.lit("quarantined"))
    )
    others = pl.col("patient").n_unique().over("pixel_blake3") > 1
    catalog = (
        chosen.with_columns(
            status=status,
            duplicates=(others & pl.col("pixel_blake3").is_not_null()).fill_null(False),
        )
        .select(list(_COLUMNS))
        .sort("file", "frame")
    )
    return CATALOG_CONTRACT.validate(catalog)


def _check_complete(files: pl.DataFrame, rows: pl.DataFrame) -> None:
    """See that files in = files in the rows, so that nothing is lost on the way."""
    read = rows.select("file").unique()
    lost = files.join(read, on="file", how="anti")
    extra = read.join(files, on="file", how="anti")
    if lost.height or extra.height:
        raise HemtraceError(
            f"{files.height} files were listed, {read.height} stand in the shards: {lost.height} "
            f"are missing and {extra.height} were not listed. The shards are older than the list: "
            "`hemtrace verify --repair`, then run again."
        )


def _refuse_namesakes(pictures: pl.DataFrame, labels: pl.DataFrame) -> None:
    """Stop where the labels of an image could be those of several pictures."""
    readable = pictures.filter(pl.col("row").is_not_null() & pl.col("image").is_duplicated())
    twins = readable.join(labels, on="image", how="semi", maintain_order="left")
    if twins.height:
        raise HemtraceError(
            f"{twins.height} readable files have a labelled name that another file has too, first "
            f"the slice {twins['slice'][0]} (its file: data/shards/*.parquet, column slice); "
            "labels go by name: give each file a name of its own."
        )
