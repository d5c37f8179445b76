"""From Hounsfield units to the uint8 picture that every network sees.

`preprocess` is the one door: ingest, `hemtrace predict` and the app all go through it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from hemtrace.head import Box
from hemtrace.params import View, Window

AIR_HU = -1000
# Of a slice whose header tells no spacing: the median of head CT, 250 mm on 512 pixels.
_USUAL_FIELD_MM = 250.0
# As large as a slice may be itself (`dicom.pixels`): a wrong spacing must not fill memory.
LARGEST_SIDE = 4096

# OpenCV's own threads would fight with those of torch and of Snakemake's jobs.
cv2.setNumThreads(1)


@dataclass(frozen=True, slots=True)
class Square:
    """The part of a slice that a picture shows, in pixels of the slice; may reach beyond it."""

    top: int
    left: int
    side: int


def choose_square(
    shape: tuple[int, ...], spacing_mm: float | None, head: Box, view: View
) -> Square:
    """Choose what a picture shows: the whole slice, or a square around the head.

    Parameters
    ----------
    shape
        Rows and columns of the slice.
    spacing_mm
        Side of a pixel; None: a field of 250 mm is taken for granted.
    head
        Where the head lies.
    view
        With `crop: head` the square has `size * pixel_mm` mm, so that a millimetre is as long in
        every picture, whatever the field of the scan; 4096 pixels of the slice at most.
    """
    rows, columns = shape
    if view.crop == "none":
        side = max(rows, columns)
        # Centred, so that resizing keeps the proportions of a slice that is not square.
        return Square((rows - side) // 2, (columns - side) // 2, side)
    side = round(view.size * view.pixel_mm / (spacing_mm or _USUAL_FIELD_MM / columns))
    side = min(max(1, side), LARGEST_SIDE)
    centre_down, centre_across = head.top + head.rows / 2, head.left + head.columns / 2
    return Square(round(centre_down - side / 2), round(centre_across - side / 2), side)


def cut_square(image: np.ndarray, square: Square, fill: float) -> np.ndarray:
    """Cut a square out of an image (rows, columns); what lies beyond its edges is `fill`."""
    bottom, right = square.top + square.side, square.left + square.side
    inside = image[max(0, square.top) : max(0, bottom), max(0, square.left) : max(0, right)]
    if inside.shape == (square.side, square.side):
        return inside
    whole = np.full((square.side, square.side), fill, dtype=image.dtype)
    if inside.size:
        top, left = max(0, -square.top), max(0, -square.left)
        whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return whole


def preprocess(hu: np.ndarray, square: Square, windows: Sequence[Window], size: int) -> np.ndarray:
    """Show a square of a slice in each window, as small uint8 images.

    The windows are applied before the slice is made smaller: averaging HU first would let bone of
    1000 HU spill over the thin subdural blood beside it.

    Parameters
    ----------
    hu
        int16 or float (rows, columns), Hounsfield units.
    square
        What is shown.
    windows
        One output channel each.
    size
        Side of the output, pixels.

    Returns
    -------
    uint8 (len(windows), size, size): the mean over the area of each pixel, within one grey level of
    exact arithmetic; interpolated where the square has fewer pixels than `size`.
    """
    shown = cut_square(hu, square, AIR_HU)
    pictures = np.empty((len(windows), size, size), np.uint8)
    # The same memory for all windows: fresh memory costs more than the arithmetic.
    cut, grey = np.empty_like(shown), np.empty(shown.shape, np.uint8)
    for window, picture in zip(windows, pictures, strict=True):
        picture[:] = _resize(_fill_window(shown, window, cut, grey), size)
    return pictures


def _resize(image: np.ndarray, size: int) -> np.ndarray:
    side = len(image)
    if side == size:
        return image
    if side < size:
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    if side % size == 0:
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    # At other ratios the same sums as a sparse matrix take a third of OpenCV's time.
    weights = _area_weights(side, size)
    down = cv2.transpose(weights @ image.astype(np.float32))
    return cv2.transpose(cv2.convertScaleAbs(weights @ down))


@lru_cache(maxsize=256)
def _area_weights(side: int, size: int) -> Any:
    """What share of each output pixel lies in each input pixel: sparse float32 (size, side)."""
    from scipy.sparse import csr_matrix  # not worth its start-up where every ratio is whole

    edges = np.arange(size + 1) * side / size
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return csr_matrix((np.maximum(overlap, 0) * size / side).astype(np.float32))


def apply_window(hu: np.ndarray, window: Window) -> np.ndarray:
    """Map the window's HU linearly to 0..255, the rest to its ends: uint8, shape of `hu`."""
    return _fill_window(hu, window, np.empty_like(hu), np.empty(hu.shape, np.uint8))


def _fill_window(hu: np.ndarray, window: Window, cut: np.ndarray, grey: np.ndarray) -> np.ndarray:
    black_hu = window.center_hu - window.width_hu / 2
    # convertScaleAbs rounds and stops at 255, but mirrors what is below 0: that is cut off first,
    # one HU below black, so that the cut itself does not show.
    if hu.dtype == np.float64:
        np.maximum(hu, black_hu, out=cut)
    else:
        cv2.max(hu, np.floor(black_hu), dst=cut)
    scale = 255 / window.width_hu
    shown: np.ndarray = cv2.convertScaleAbs(cut, dst=grey, alpha=scale, beta=-black_hu * scale)
    return shown
