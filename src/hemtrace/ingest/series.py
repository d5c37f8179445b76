"""Slices -> series: order along the scan, neighbours, gaps, and the one chosen for a study."""

from typing import Literal

import polars as pl

# Positions are written with a hundredth of a millimetre at best.
_SAME_PLACE_MM = 0.01
# A step of more than this times the larger of its neighbours' steps leaves room for a slice.
_MISSING_STEP = 1.5
# A series must cover this share of the longest of its study to be preferred.
_COVERAGE = 0.8
# What the readers of the RSNA set were shown.
_USUAL_THICKNESS_MM = 5.0
SCAN = ["patient", "study", "series"]


def mark_doubled(catalog: pl.DataFrame) -> pl.DataFrame:
    """Give pictures that stand twice in a series the reason `doubled`, if they have none yet.

    The same pixels under one instance UID or at one place: the first by file name stays. Different
    pixels stay all, whatever their UIDs and places say, since none is known to be wrong.
    """
    catalog = catalog.sort("file", "frame")
    pictures = catalog.filter(pl.col("row").is_not_null() & pl.col("pixel_blake3").is_not_null())
    again: list[pl.Series] = []
    for keys in (["instance", "pixel_blake3"], ["z_mm", "pixel_blake3"]):
        known = pictures.filter(pl.col(keys[0]).is_not_null())
        first = known.unique([*SCAN, *keys], keep="first", maintain_order=True)["slice"]
        again.append(known.filter(~pl.col("slice").is_in(first.implode()))["slice"])
    twice = pl.col("slice").is_in(pl.concat(again).implode())
    return catalog.with_columns(
        reason=pl.when(twice & pl.col("reason").is_null())
        .then(pl.lit("doubled"))
        .otherwise("reason")
    )


def place_in_series(catalog: pl.DataFrame) -> pl.DataFrame:
    """Order the pictures of each series along their normal, and name their neighbours.

    Pictures without labels count too: they are neighbours all the same.

    Parameters
    ----------
    catalog
        Columns slice, file, row, reason, `SCAN`, z_mm.

    Returns
    -------
    The catalog with these columns, null without picture or z_mm, and where the slice is doubled:

    index
        Place in the series from 0, by z_mm, then file.
    gap_mm
        Distance to the next slice.
    missing_next
        Whether the step to the next slice is more than 1.5 times as long as the steps before and
        after it, so that a slice is missing. Where a scan goes from thin to thick slices one of the
        two is as long.
    previous, next
        Keys of the neighbours; null at the ends, and where a slice is missing in between.
    """
    good = pl.col("row").is_not_null() & (pl.col("reason") != "doubled").fill_null(True)
    placed = catalog.filter(good & pl.col("z_mm").is_not_null()).sort(*SCAN, "z_mm", "file")
    step = (pl.col("z_mm").shift(-1) - pl.col("z_mm")).over(SCAN)
    placed = placed.with_columns(index=pl.int_range(pl.len(), dtype=pl.Int32).over(SCAN), step=step)
    before = pl.col("step").shift(1).over(SCAN)
    after = pl.col("step").shift(-1).over(SCAN)
    usual = pl.max_horizontal(before, after)
    missing = (pl.col("step") > _MISSING_STEP * usual + _SAME_PLACE_MM).fill_null(False)
    placed = placed.with_columns(missing=missing & (usual > _SAME_PLACE_MM).fill_null(False))
    gone_before = pl.col("missing").shift(1).over(SCAN).fill_null(False)
    places = placed.select(
        "slice",
        "index",
        gap_mm=pl.col("step").round(4),
        missing_next=pl.col("missing"),
        previous=pl.when(~gone_before).then(pl.col("slice").shift(1).over(SCAN)),
        next=pl.when(~pl.col("missing")).then(pl.col("slice").shift(-1).over(SCAN)),
    )
    return catalog.join(places, on="slice", how="left", maintain_order="left")


def choose_series(catalog: pl.DataFrame, how: Literal["one", "all"]) -> pl.DataFrame:
    """Mark the slices of series that were not chosen `other-series`.

    With `one`, of each study the series that comes first in this order: with labels before without;
    covering at least 0.8 of the longest extent in the study; soft kernel, unknown, sharp; thickness
    nearest to 5 mm, which the readers of the RSNA set were shown (the step where the header has no
    thickness); more slices; smaller pseudonym. Only slices without a reason count.
    """
    good = catalog.filter(pl.col("reason").is_null())
    if how == "all" or good.is_empty():
        return catalog
    labelled = pl.col("any").is_not_null()
    series = good.group_by(SCAN).agg(
        labelled=labelled.any(),
        extent=(pl.col("z_mm").max() - pl.col("z_mm").min()).fill_null(0.0),
        kernel=pl.col("kernel").drop_nulls().mode().sort().first(),
        thickness=pl.coalesce(pl.col("thickness_mm").median(), pl.col("gap_mm").median()),
        slices=pl.len(),
    )
    longest = pl.col("extent").max().over("patient", "study")
    ranked = series.with_columns(
        covers=pl.col("extent") >= _COVERAGE * longest,
        softness=pl.col("kernel").replace_strict(
            {"soft": 0, "sharp": 2}, default=1, return_dtype=pl.Int8
        ),
        off=(pl.col("thickness") - _USUAL_THICKNESS_MM).abs().fill_null(99.0),
    ).sort(
        *("patient", "study", "labelled", "covers", "softness", "off", "slices", "series"),
        descending=[False, False, True, True, False, False, True, False],
    )
    chosen = ranked.unique(["patient", "study"], keep="first", maintain_order=True).select(SCAN)
    kept = good.join(chosen, on=SCAN, how="semi", nulls_equal=True)["slice"]
    other = pl.col("reason").is_null() & ~pl.col("slice").is_in(kept.implode())
    return catalog.with_columns(
        reason=pl.when(other).then(pl.lit("other-series")).otherwise("reason")
    )
