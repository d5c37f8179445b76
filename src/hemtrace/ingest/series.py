"""Slices -> series: order along the scan, neighbours, gaps, and the one chosen for a study."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import polars as pl

from hemtrace.labels import LABELS

# Positions are written with a hundredth of a millimetre at best.
_SAME_PLACE_MM = 0.01
# A step of more than this times the usual one leaves room for a slice.
_LONG = 1.5
# So many like steps one after the other are usual where they stand.
_LASTING = 3
# A series must cover this share of the longest of its study to be preferred.
_COVERAGE = 0.8
# What the readers of the RSNA set were shown.
_USUAL_THICKNESS_MM = 5.0
SCAN = ["patient", "study", "series"]
# Without StudyInstanceUID nothing says which series of a patient belong together.
STUDY = pl.coalesce("study", "series")
# What ends for these is no slice of a stack, or one whose place another holds.
_OUT_OF_STACK = ("localizer", "secondary-capture", "dose-report", "not-ct", "no-pixels",
                 "not-greyscale", "not-axial")  # fmt: skip


def mark_doubled(catalog: pl.DataFrame) -> pl.DataFrame:
    """Find pictures that stand twice in a series, and give them the reason `doubled`.

    The same pixels under one instance UID or at one place. The first stays, by file name, and one
    that has no reason yet before one that has: a labelled slice is not lost to an unlabelled copy.
    Copies whose labels disagree are all `conflicting-labels`. Different pixels stay all, whatever
    their UIDs and places say, since none is known to be wrong.

    Returns
    -------
    The catalog, sorted by file and frame, with the column `is_copy`: of one that stands twice.
    """
    pictures = catalog.filter(
        pl.col("row").is_not_null() & pl.col("pixel_blake3").is_not_null()
    ).sort(pl.col("reason").is_not_null(), "file", "frame")
    copies, disagreeing = [], []
    for key in ("instance", "z_mm"):
        same = [*SCAN, key, "pixel_blake3"]
        known = pictures.filter(pl.col(key).is_not_null() & pl.struct(same).is_duplicated())
        copies.append(known.filter(~pl.struct(same).is_first_distinct())["slice"])
        answers = pl.struct(LABELS).n_unique().over(same)
        disagreeing.append(known.filter(pl.col("reason").is_null()).filter(answers > 1)["slice"])
    is_copy = pl.col("slice").is_in(pl.concat(copies).implode())
    disagrees = pl.col("slice").is_in(pl.concat(disagreeing).implode())
    return catalog.sort("file", "frame").with_columns(
        is_copy=is_copy,
        reason=pl.when(disagrees)
        .then(pl.lit("conflicting-labels"))
        .when(is_copy & pl.col("reason").is_null())
        .then(pl.lit("doubled"))
        .otherwise("reason"),
    )


def place_in_series(catalog: pl.DataFrame) -> pl.DataFrame:
    """Order the slices of each series along their normal, and name their neighbours.

    Slices without labels count too: they are neighbours all the same. So do slices whose pixels
    cannot be used, where their header tells the place: not missing, but nobody's neighbour.

    Parameters
    ----------
    catalog
        Columns slice, file, row, reason, is_copy, `SCAN`, z_mm.

    Returns
    -------
    The catalog with these columns, null without z_mm, and where the slice is a copy:

    index
        Place in the series from 0, by z_mm, then file.
    gap_mm
        Distance to the next slice.
    missing_next
        Whether a slice is missing before the next one (`find_missing`).
    previous, next
        Keys of the neighbours; null at the ends, where a slice is missing in between, and where the
        neighbour has no picture.
    """
    has_picture = pl.col("row").is_not_null()
    is_slice = pl.col("series").is_not_null() & ~pl.col("reason").is_in(_OUT_OF_STACK)
    stacked = catalog.filter(
        ~pl.col("is_copy") & pl.col("z_mm").is_finite() & (has_picture | is_slice)
    )
    # A damaged copy of a slice takes no place of its own.
    place = (pl.col("z_mm") / _SAME_PLACE_MM).round()
    placed = stacked.filter(has_picture | ~has_picture.any().over(*SCAN, place))
    placed = placed.sort(*SCAN, "z_mm", "file")
    step = (pl.col("z_mm").shift(-1) - pl.col("z_mm")).over(SCAN)
    placed = placed.with_columns(index=pl.int_range(pl.len(), dtype=pl.Int32).over(SCAN), step=step)
    placed = placed.with_columns(missing=_mark_missing(placed))
    key = pl.when(has_picture).then("slice")
    before = pl.col("missing").shift(1).over(SCAN).fill_null(False)
    places = placed.select(
        "slice",
        "index",
        gap_mm=pl.col("step").round(4),
        missing_next=pl.col("missing"),
        previous=pl.when(has_picture & ~before).then(key.shift(1).over(SCAN)),
        next=pl.when(has_picture & ~pl.col("missing")).then(key.shift(-1).over(SCAN)),
    )
    return catalog.join(places, on="slice", how="left", maintain_order="left")


def _mark_missing(placed: pl.DataFrame) -> pl.Series:
    """Apply `find_missing` to the steps of each series; two slices at one place make no step."""
    # Nearly all series have one step throughout: only the others are looked at one by one.
    steps = pl.col("step").filter(pl.col("step") > _SAME_PLACE_MM)
    is_uneven = (steps.max() > _LONG * steps.min()).over(SCAN).fill_null(False)
    uneven = placed.with_row_index("at").filter(is_uneven & (pl.col("step") > _SAME_PLACE_MM))
    missing = [False] * placed.height
    for _, series in uneven.group_by(SCAN, maintain_order=True):
        for at, gone in zip(series["at"], find_missing(series["step"].to_list()), strict=True):
            missing[at] = gone
    return pl.Series(missing, dtype=pl.Boolean)


def find_missing(steps: Sequence[float]) -> list[bool]:
    """Say after which slices of a series one is missing.

    A step is long if it has more than 1.5 times the usual length. Usual is what three like steps in
    a row are, where they stand: a scan may go from thin slices to thick ones, or back. The usual
    step of any other is the larger of those on its two sides, or, where no three are alike, the
    middle one of the series. Long steps between shorter ones are gaps, however many.

    Parameters
    ----------
    steps
        Distances of neighbouring slices, along the scan, in mm; none is 0.
    """
    runs: list[list[float]] = [[steps[0]]] if steps else []
    for step, following in pairwise(steps):
        if max(step, following) > _LONG * min(step, following):
            runs.append([])
        runs[-1].append(following)
    middle = sorted(steps)[(len(steps) - 1) // 2] if steps else 0.0
    lasting = [(place, min(run)) for place, run in enumerate(runs) if len(run) >= _LASTING]
    missing: list[bool] = []
    for place, run in enumerate(runs):
        before = [step for other, step in lasting if other < place]
        after = [step for other, step in lasting if other > place]
        sides = [min(side) for side in (before, after) if side]
        if len(run) >= _LASTING and len(sides) < 2:
            sides = [min(run)]
        usual = max(sides, default=middle)
        missing += [step > _LONG * usual + _SAME_PLACE_MM for step in run]
    return missing


def choose_series(catalog: pl.DataFrame, how: Literal["one", "all"]) -> pl.DataFrame:
    """Mark the slices of series that were not chosen `other-series`.

    With `one`, of each study (`STUDY`) the series that comes first in this order: with labels
    before without; covering at least 0.8 of the longest extent in the study; soft kernel, unknown,
    sharp; thickness nearest to 5 mm, which the readers of the RSNA set were shown (the step where
    the header has no thickness); more slices; smaller pseudonym. Only slices without a reason
    count.
    """
    good = catalog.filter(pl.col("reason").is_null())
    if how == "all" or good.is_empty():
        return catalog
    labelled = pl.col("any").is_not_null()
    series = good.group_by(SCAN).agg(
        whole=STUDY.first(),
        labelled=labelled.any(),
        extent=(pl.col("z_mm").max() - pl.col("z_mm").min()).fill_null(0.0),
        kernel=pl.col("kernel").drop_nulls().mode().sort().first(),
        thickness=pl.coalesce(pl.col("thickness_mm").median(), pl.col("gap_mm").median()),
        slices=pl.len(),
    )
    longest = pl.col("extent").max().over("patient", "whole")
    ranked = series.with_columns(
        covers=pl.col("extent") >= _COVERAGE * longest,
        softness=pl.col("kernel").replace_strict(
            {"soft": 0, "sharp": 2}, default=1, return_dtype=pl.Int8
        ),
        off=(pl.col("thickness") - _USUAL_THICKNESS_MM).abs().fill_null(99.0),
    ).sort(
        *("patient", "whole", "labelled", "covers", "softness", "off", "slices", "series"),
        descending=[False, False, True, True, False, False, True, False],
    )
    chosen = ranked.unique(["patient", "whole"], keep="first", maintain_order=True).select(SCAN)
    kept = good.join(chosen, on=SCAN, how="semi", nulls_equal=True)["slice"]
    other = pl.col("reason").is_null() & ~pl.col("slice").is_in(kept.implode())
    return catalog.with_columns(
        reason=pl.when(other).then(pl.lit("other-series")).otherwise("reason")
    )
