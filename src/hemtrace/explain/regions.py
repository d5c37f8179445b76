"""From a heat map to a region: outline, bounding box, area on the slice, volume in the scan."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from hemtrace.window import Square

VOLUME_RULE = (
    "The sum over the flagged slices of a series of area times distance: half the way to either "
    "neighbour by their positions, at an end the whole way to the only one. Slices that are not "
    "flagged have no region."
)
# Outlines are traced on so many times as fine a grid, so that they run along the pixels' edges.
_FINER = 4


@dataclass(frozen=True)
class Region:
    """A connected part of a heat map above its threshold, in pixels of the original slice.

    Positions are edges: 0 is the upper or left edge of the first pixel.

    Attributes
    ----------
    top, left, bottom, right
        The bounding box, whole pixels, within the slice: rows top to bottom - 1 are touched.
    area_mm2
        None where the pixel spacing is unknown.
    outline
        float (n, 2): rows and columns of its corners.
    share
        Of all pixels above the threshold on this slice.
    """

    top: int
    left: int
    bottom: int
    right: int
    area_mm2: float | None
    outline: np.ndarray
    share: float


def find_regions(
    area: np.ndarray,
    square: Square,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float] | None,
) -> list[Region]:
    """Take an area apart into its connected regions, the largest first.

    Parameters
    ----------
    area
        bool (size, size), in pixels of the picture.
    square
        What the picture shows of the slice.
    shape
        Rows and columns of the slice; what lies beyond is cut off.
    spacing_mm
        Height and width of a pixel of the slice; None: unknown.
    """
    # Columns of a crop may reach beyond the slice: there is nothing to report there.
    scale = square.side / len(area)
    inside = area & _on_slice(len(area), square, shape)
    numbers, count = ndimage.label(inside, structure=np.ones((3, 3)))
    total = max(1, int(inside.sum()))
    regions = []
    for number in range(1, count + 1):
        part = numbers == number
        rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        pixels = int(part.sum())
        regions.append(
            Region(
                top=max(0, int(np.floor(square.top + rows[0] * scale))),
                left=max(0, int(np.floor(square.left + columns[0] * scale))),
                bottom=min(shape[0], int(np.ceil(square.top + (rows[-1] + 1) * scale))),
                right=min(shape[1], int(np.ceil(square.left + (columns[-1] + 1) * scale))),
                area_mm2=area_of_pixels(pixels * scale**2, spacing_mm),
                outline=trace_outline(part) * scale + [square.top, square.left],
                share=pixels / total,
            )
        )
    return sorted(regions, key=lambda region: (-region.share, region.top, region.left))


def trace_outline(part: np.ndarray) -> np.ndarray:
    """Trace the outer outline of a connected area along its pixels' edges: float (n, 2).

    Rows and columns of the corners, to an eighth of a pixel; 0 is the edge of the first pixel.
    """
    fine = np.kron(part.astype(np.uint8), np.ones((_FINER, _FINER), np.uint8))
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    longest = max(contours, key=len)
    corners: np.ndarray = (longest[:, 0, ::-1] + 0.5) / _FINER
    return corners


def area_of_pixels(count: float, spacing_mm: tuple[float, float] | None) -> float | None:
    """Give the area of pixels of a slice in mm2; None where their spacing is unknown."""
    return None if spacing_mm is None else float(count * spacing_mm[0] * spacing_mm[1])


def slice_distances(z_mm: np.ndarray) -> np.ndarray:
    """Give the length of scan that each slice stands for.

    Parameters
    ----------
    z_mm
        (N,), positions of the slices of a series in any order; NaN where unknown.

    Returns
    -------
    float (N,): half the way to either neighbour, at an end the whole way to the only one; NaN
    where it cannot be known: without a position, or the only slice that has one.
    """
    distances = np.full(len(z_mm), np.nan)
    known = np.flatnonzero(~np.isnan(z_mm))
    if len(known) < 2:
        return distances
    order = known[np.argsort(z_mm[known], kind="stable")]
    steps = np.diff(z_mm[order])
    distances[order] = (np.r_[steps[0], steps] + np.r_[steps, steps[-1]]) / 2
    return distances


def volume_ml(areas_mm2: Sequence[float], distances_mm: Sequence[float]) -> float | None:
    """Sum areas times distances to mL; None where one that is needed is unknown (NaN)."""
    areas, distances = np.asarray(areas_mm2, float), np.asarray(distances_mm, float)
    # A slice without a region needs no distance.
    filled = ~(areas == 0)
    total = float((areas[filled] * distances[filled]).sum()) / 1000
    return None if np.isnan(total) else total


def _on_slice(size: int, square: Square, shape: tuple[int, int]) -> np.ndarray:
    """Say which pixels of the picture have their centre on the slice: bool (size, size)."""
    centres = (np.arange(size) + 0.5) * square.side / size
    rows, columns = square.top + centres, square.left + centres
    down = (rows >= 0) & (rows < shape[0])
    across = (columns >= 0) & (columns < shape[1])
    inside: np.ndarray = down[:, None] & across[None, :]
    return inside
