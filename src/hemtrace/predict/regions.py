"""Heat map cells -> what is shown of a slice: map, region with its outline, area, volume."""

from collections.abc import Mapping

import cv2
import numpy as np

from hemtrace.explain.heat import scale_up
from hemtrace.explain.masks import head_area
from hemtrace.explain.regions import Region, find_regions, slice_distances, volume_ml
from hemtrace.labels import LABELS
from hemtrace.predict.study import SeriesPrediction, SlicePrediction
from hemtrace.predict.verdict import flag_slice

# `explain` chooses the threshold of the map on validation slices, but no product carries it with
# the model; half of the peak is the rule where nobody gives it.
MAP_THRESHOLD = 0.5
# Maps are cut on a grid of this side, the size of the model's picture at which `explain` scores.
_SIDE = 224


def pack_head(brain_window: np.ndarray) -> np.ndarray:
    """Find the head in the model's picture of the brain window, and pack it to bits."""
    return np.packbits(head_area(brain_window))


def head_of(slice_: SlicePrediction, size: int = _SIDE) -> np.ndarray:
    """Give where the head lies: bool (size, size); everywhere where it was not kept."""
    if slice_.head is None:
        return np.ones((size, size), dtype=bool)
    side = int(np.sqrt(slice_.head.size * 8))
    bits = np.unpackbits(slice_.head)[: side * side].reshape(side, side)
    scaled = cv2.resize(bits, (size, size), interpolation=cv2.INTER_NEAREST)
    return np.asarray(scaled > 0)


def heat_of(slice_: SlicePrediction, label: int, size: int = _SIDE) -> np.ndarray | None:
    """Scale the heat map of a label to the model's picture: float32 (size, size), 0..1.

    None where the slice has no map.
    """
    if slice_.cells is None:
        return None
    return scale_up(slice_.cells[label], size, size)


def heat_on_slice(slice_: SlicePrediction, label: int) -> np.ndarray | None:
    """Lay the heat map of a label on the slice: float32, its shape; 0 beyond the model's square."""
    square, (rows, columns) = slice_.square, slice_.shape
    if slice_.cells is None:
        return None
    whole = np.zeros((rows, columns), dtype=np.float32)
    top, left = max(0, square.top), max(0, square.left)
    bottom, right = min(rows, square.top + square.side), min(columns, square.left + square.side)
    if bottom > top and right > left:
        heat = scale_up(slice_.cells[label], square.side, square.side)
        whole[top:bottom, left:right] = heat[
            top - square.top : bottom - square.top, left - square.left : right - square.left
        ]
    return whole


def regions_of(
    slice_: SlicePrediction, label: int, threshold: float = MAP_THRESHOLD, size: int = _SIDE
) -> list[Region]:
    """Cut the regions of a label out of a slice's heat map, the largest first.

    Ask for those labels alone that are flagged on the slice: a map is scaled to its own peak, and
    shows something even where nothing is.

    Parameters
    ----------
    slice_
        With cells; without there is no region.
    label
        Its place among `labels.LABELS`.
    threshold
        Share of the peak from which on a pixel belongs to the region.
    size
        Side of the grid on which it is cut.
    """
    heat = heat_of(slice_, label, size)
    if heat is None:
        return []
    area = (heat >= threshold) & (heat > 0) & head_of(slice_, size)
    return find_regions(area, slice_.square, slice_.shape, slice_.spacing_mm)


def measure_volumes(
    series: SeriesPrediction,
    thresholds: Mapping[str, float | None],
    map_threshold: float = MAP_THRESHOLD,
) -> dict[str, float | None]:
    """Sum the regions of a series to volumes, by `explain.regions.VOLUME_RULE`.

    Parameters
    ----------
    series
        Its slices along the scan.
    thresholds
        Of slices by label, from `verdict.slice_thresholds`; a slice that is not flagged has no
        region.
    map_threshold
        As in `regions_of`.

    Returns
    -------
    mL by label; None where spacing, positions or maps of a flagged slice are unknown.
    """
    z_mm = np.array([np.nan if one.z_mm is None else one.z_mm for one in series.slices], float)
    distances = slice_distances(z_mm).tolist()
    flags = [flag_slice(one, dict(thresholds)) for one in series.slices]
    volumes: dict[str, float | None] = {}
    for column, label in enumerate(LABELS):
        areas = [
            _area(one, column, map_threshold) if flag[label] else 0.0
            for one, flag in zip(series.slices, flags, strict=True)
        ]
        volumes[label] = volume_ml(areas, distances)
    return volumes


def _area(slice_: SlicePrediction, column: int, threshold: float) -> float:
    if slice_.cells is None:
        return float("nan")
    found = [region.area_mm2 for region in regions_of(slice_, column, threshold)]
    return float(sum(float("nan") if area is None else area for area in found))
