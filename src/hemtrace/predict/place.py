"""Slices -> series -> studies, by the rules of ingest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hemtrace.dicom import REASONS
from hemtrace.evaluate.scored import Rule, Scored
from hemtrace.ingest.series import SCAN, STUDY, choose_series, mark_doubled, place_in_series
from hemtrace.labels import LABELS
from hemtrace.predict.study import RejectedFile, SeriesPrediction, SlicePrediction

# Two slices at one place make no step.
_SAME_PLACE_MM = 0.01


@dataclass(frozen=True)
class PlacedStudy:
    """A study before it is judged.

    Attributes
    ----------
    key, patient, series, rejected
        As in `study.StudyPrediction`.
    """

    key: str | None
    patient: str | None
    series: tuple[SeriesPrediction, ...]
    rejected: tuple[RejectedFile, ...]


Make = Callable[[Mapping[str, Any]], SlicePrediction]


def place_studies(rows: pl.DataFrame, make: Make, rule: Rule) -> Iterator[PlacedStudy]:
    """Sort slices into their series and studies, and choose a series of each study.

    The order along the scan, what is a copy, and which series is chosen are decided by the
    functions of `ingest.series`, so that a study is judged as it was in evaluation. A study is also
    one of which no file could be used, as long as a header names it.

    Parameters
    ----------
    rows
        Of `shards.ROW_SCHEMA`, one a picture of each file, in the order of reading; `row` is null
        where there is no picture.
    make
        Makes the prediction of a slice from its row.
    rule
        How one score is made of many slices.

    Yields
    ------
    The studies, in the order in which their first file was read.
    """
    table = rows.with_row_index("order")
    nothing = [pl.lit(None, pl.UInt8).alias(label) for label in LABELS]
    placed = place_in_series(mark_doubled(table.with_columns(*nothing)))
    marked = choose_series(placed, "one").with_columns(whole=STUDY).sort("order")
    for (patient, whole), study in marked.group_by("patient", "whole", maintain_order=True):
        pictured = study.filter(pl.col("row").is_not_null())
        if whole is None and pictured.is_empty():
            continue  # what names no study belongs to none
        series = [
            _make_series(part, make, rule)
            for _, part in study.group_by(SCAN, maintain_order=True)
            if part["row"].is_not_null().any()
        ]
        series.sort(key=lambda one: not one.chosen)
        yield PlacedStudy(study["study"][0], _text(patient), tuple(series), list_rejected(study))


def list_rejected(rows: pl.DataFrame) -> tuple[RejectedFile, ...]:
    """List what has no picture, in the order of the rows."""
    return tuple(_reject(row) for row in _unpictured(rows).iter_rows(named=True))


def count_strays(rows: pl.DataFrame) -> int:
    """Count damaged files that name no study and may be a slice of any."""
    nameless = rows.filter(
        pl.col("row").is_null() & pl.col("study").is_null() & pl.col("series").is_null()
    )
    return sum(
        is_damaged(reason) and (reason != "not-dicom" or file.lower().endswith(".dcm"))
        for file, reason in nameless.select("file", "reason").iter_rows()
    )


def score_slices(slices: Sequence[SlicePrediction], rule: Rule) -> np.ndarray:
    """Make one score a label of many slices: float64 (6,), NaN where a slice has none."""
    if not slices:
        return np.full(len(LABELS), np.nan)
    return score_rows(np.stack([one.probabilities for one in slices]), rule)


def score_rows(probabilities: np.ndarray, rule: Rule) -> np.ndarray:
    """Make one score a label of the probabilities of slices (N, 6), N > 0, as evaluation does."""
    count = len(probabilities)
    one = np.full(count, "one")
    scored = Scored(
        partition="given",
        level="slices",
        keys=np.arange(count).astype(str),
        patients=one,
        studies=one,
        truth=np.zeros((count, len(LABELS)), dtype=bool),
        probability=probabilities,
    )
    return np.asarray(scored.at_level("studies", rule).probability[0], dtype=np.float64)


def _make_series(part: pl.DataFrame, make: Make, rule: Rule) -> SeriesPrediction:
    pictured = part.filter(pl.col("row").is_not_null())
    stack = pictured.filter(~pl.col("is_copy")).sort("index", "file", "frame", nulls_last=True)
    own = tuple(make(row) for row in stack.iter_rows(named=True))
    copies = pictured.filter(pl.col("is_copy"))
    steps = part["gap_mm"].drop_nulls().filter(part["gap_mm"].drop_nulls() > _SAME_PLACE_MM)
    step = float(steps.median()) if steps.len() else None  # type: ignore[arg-type]
    heights = stack["z_mm"].drop_nulls()
    extent = None
    if step is not None and heights.len() == stack.height:
        extent = float(heights.max()) - float(heights.min()) + step  # type: ignore[arg-type]
    return SeriesPrediction(
        key=part["series"][0],
        slices=own,
        chosen=bool(stack["reason"].is_null().any()),
        scores=score_slices(own, rule),
        copies=tuple(make(row) for row in copies.iter_rows(named=True)),
        gaps=int(part["missing_next"].fill_null(False).sum()),
        unreadable=sum(is_damaged(reason) for reason in _unpictured(part)["reason"]),
        step_mm=step,
        extent_mm=extent,
    )


def is_damaged(reason: str) -> bool:
    """Say whether a file ended for a fault of its own, and could be a slice of any scan."""
    return REASONS[reason][0] == "readable" or reason == "implausible-hu"


def _unpictured(part: pl.DataFrame) -> pl.DataFrame:
    return part.filter(pl.col("row").is_null())


def _reject(row: Mapping[str, Any]) -> RejectedFile:
    reason = str(row["reason"])
    return RejectedFile(
        file=str(row["file"]),
        frame=row.get("frame"),
        reason=reason,
        meaning=REASONS[reason][1],
        detail=row.get("detail"),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
