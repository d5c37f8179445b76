"""Heat maps that take gradients: made of those slices alone on which an operating point looks."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hemtrace.engine.contract import Engine
from hemtrace.engine.maps import AT_ONCE
from hemtrace.evaluate.operating import Operating
from hemtrace.labels import LABELS
from hemtrace.predict.study import SeriesPrediction, SlicePrediction
from hemtrace.predict.verdict import slice_thresholds

_EVERY = list(range(len(LABELS)))


def add_maps(
    series: SeriesPrediction,
    engine: Engine,
    operating: Operating,
    pictures_of: Callable[[Sequence[SlicePrediction]], np.ndarray],
    tell: Callable[[int, int], None],
) -> SeriesPrediction:
    """Give cells to the slices that are flagged at any operating point, copies left out.

    Parameters
    ----------
    series
        Its slices without cells.
    engine, operating
        The model, and its points.
    pictures_of
        Gives the model's pictures of slices, uint8 (n, channels, size, size).
    tell
        Called with the number of maps that were just made, and of those that were just found to be
        wanted.
    """
    lowest = lowest_thresholds(operating)
    slices = list(series.slices)
    flagged = [n for n, one in enumerate(slices) if (one.probabilities >= lowest).any()]
    tell(0, len(flagged))
    for start in range(0, len(flagged), AT_ONCE):
        numbers = flagged[start : start + AT_ONCE]
        cells = engine.heat(pictures_of([slices[number] for number in numbers]), _EVERY)
        for number, own in zip(numbers, cells, strict=True):
            slices[number] = replace(slices[number], cells=own)
        tell(len(numbers), 0)
    return replace(series, slices=tuple(slices))


def lowest_thresholds(operating: Operating) -> np.ndarray:
    """Give the lowest threshold of slices over all points: float64 (6,), infinite without one."""
    points = [slice_thresholds(operating, name) for name in operating.points["slices"]]
    known = np.array([[point[label] for label in LABELS] for point in points], dtype=np.float64)
    return np.where(np.isnan(known), np.inf, known).min(axis=0)
