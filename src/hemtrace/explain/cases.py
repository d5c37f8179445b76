"""Slices with all that is known of them: prediction, flags, geometry, place in the scan."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.position import slice_depths
from hemtrace.evaluate.scored import PROBABILITIES
from hemtrace.labels import LABELS
from hemtrace.shards import TestSlices, ValSlices
from hemtrace.window import Square

_GEOMETRY = ("z_mm", "spacing_mm", "spacing_across_mm", "rows", "columns", "orientation")


@dataclass(frozen=True)
class Cases:
    """Slices of a partition, in its order.

    Attributes
    ----------
    slices
        The partition.
    probability
        float64 (N, 6).
    flagged
        bool (N, 6): each label at its own threshold, as evaluation flags it.
    table
        slice, patient, study, series, depth, z_mm, spacing_mm, spacing_across_mm, rows, columns,
        orientation.
    """

    slices: TestSlices | ValSlices
    probability: np.ndarray
    flagged: np.ndarray
    table: pl.DataFrame

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.slices.slices)

    def square(self, place: int) -> Square:
        """Tell what the picture of a slice shows of it."""
        return Square(*(int(value) for value in self.slices.squares[place]))

    def spacing_mm(self, place: int) -> tuple[float, float] | None:
        """Give height and width of a pixel of the original slice; None where unknown."""
        down, across = self.table["spacing_mm"][place], self.table["spacing_across_mm"][place]
        return None if down is None else (down, down if across is None else across)

    def shape(self, place: int, size: int) -> tuple[int, int]:
        """Give rows and columns of the original slice; unknown, those up to the square's end."""
        rows, columns = self.table["rows"][place], self.table["columns"][place]
        if rows is None or columns is None:
            square = self.square(place)
            return square.top + max(square.side, size), square.left + max(square.side, size)
        return rows, columns

    def picture_pixel_mm2(self, place: int, size: int) -> float:
        """Give the area of a pixel of the picture; NaN where the spacing is unknown."""
        spacing = self.spacing_mm(place)
        scale = self.square(place).side / size
        return float("nan") if spacing is None else scale**2 * spacing[0] * spacing[1]


def describe_cases(
    slices: TestSlices | ValSlices,
    predictions: pl.DataFrame,
    catalog: pl.DataFrame,
    thresholds: Mapping[str, float | None],
) -> Cases:
    """Join slices with their predictions and their rows of the catalog.

    Parameters
    ----------
    slices
        The partition.
    predictions
        Product of evaluation: slice and `p_<label>`, with these slices among its rows.
    catalog
        Product of ingest.
    thresholds
        By label, as chosen on validation slices; a label whose threshold is None is never flagged.

    Raises
    ------
    HemtraceError
        If a slice has no prediction.
    """
    wanted = pl.DataFrame({"slice": slices.slices})
    known = predictions.select("slice", *PROBABILITIES)
    joined = wanted.join(known, on="slice", how="left", maintain_order="left")
    missing = joined.join(known.select("slice"), on="slice", how="anti", maintain_order="left")
    if missing.height:
        raise HemtraceError(
            f"{missing.height} {slices.name} slices have no prediction, first "
            f"{missing['slice'][0]}; the predictions are older than the split: evaluate again."
        )
    probability = joined.select(PROBABILITIES).to_numpy().astype(np.float64)
    limits = [thresholds.get(label) for label in LABELS]
    # Nothing reaches infinity, and NaN reaches nothing.
    flagged = probability >= np.array([np.inf if limit is None else limit for limit in limits])
    table = wanted.join(slice_depths(catalog), on="slice", how="left", maintain_order="left").join(
        catalog.select("slice", *_GEOMETRY), on="slice", how="left", maintain_order="left"
    )
    return Cases(slices, probability, flagged, table)
