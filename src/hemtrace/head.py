"""Is there a head in a slice, and where? Judged by the picture, since headers often do not tell."""

from dataclasses import dataclass

import cv2
import numpy as np

# A grid of about this many pixels each way is fine enough: 2 mm in a field of 250 mm.
_GRID = 128
_TISSUE_HU = -200
_BONE_HU = 250
_USUAL_FIELD_MM = 250.0
# The rule's limits, in mm: a cap of scalp and bone near the vertex is the least that counts; the
# largest heads measure 240 mm, and a holder that touches adds to that.
_SMALLEST_AREA_MM2 = 600.0
_LARGEST_SIDE_MM = 300.0
_LEAST_BONE = 0.01


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels."""

    top: int
    left: int
    rows: int
    columns: int


def find_head(
    hu: np.ndarray, spacing_mm: float | None = None, spacing_across_mm: float | None = None
) -> Box | None:
    """Find the head: the largest patch of tissue, if it can be one.

    The rule: after thin things (tubes, the edge of the table) are taken away, the largest connected
    patch above -200 HU measures 600 mm2 or more and no side of it more than 300 mm; it does not
    reach all four edges of the picture; within its box at least 1 % of what is above -200 HU is
    bone (above 250 HU). A neck passes, and any other part of a body that is as large as a head:
    what the header does not tell apart, this cannot.

    Parameters
    ----------
    hu
        (rows, columns), Hounsfield units.
    spacing_mm, spacing_across_mm
        Sides of a pixel; None: a field of 250 mm is taken for granted.

    Returns
    -------
    The box around it, or None where the picture shows no head.
    """
    step = max(1, max(hu.shape) // _GRID)
    sample = hu[::step, ::step]
    tissue = (sample > _TISSUE_HU).view(np.uint8)
    if min(sample.shape) > _GRID // 2:
        tissue = cv2.morphologyEx(tissue, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    # OpenCV's own statistics of all patches take four times as long as finding them.
    count, patches = cv2.connectedComponents(tissue, connectivity=4)
    if count < 2:
        return None
    areas = np.bincount(patches.ravel())
    largest = 1 + int(np.argmax(areas[1:]))
    area = int(areas[largest])
    left, top, columns, rows = cv2.boundingRect((patches == largest).view(np.uint8))
    down_mm = step * (spacing_mm or _USUAL_FIELD_MM / max(hu.shape))
    across_mm = step * (spacing_across_mm or spacing_mm or _USUAL_FIELD_MM / max(hu.shape))
    if area * down_mm * across_mm < _SMALLEST_AREA_MM2:
        return None
    if max(rows * down_mm, columns * across_mm) > _LARGEST_SIDE_MM:
        return None
    if not (left or top) and (rows, columns) == sample.shape:
        return None
    box = sample[top : top + rows, left : left + columns]
    if np.count_nonzero(box > _BONE_HU) < _LEAST_BONE * np.count_nonzero(box > _TISSUE_HU):
        return None
    return Box(top * step, left * step, rows * step, columns * step)
