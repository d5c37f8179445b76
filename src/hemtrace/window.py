"""From Hounsfield units to the uint8 image that every network sees.

`preprocess` is the one door: ingest, `hemtrace predict` and the app all go through it.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hemtrace.params import Window

AIR_HU = -1000.0

# OpenCV's own threads would fight with those of torch and of Snakemake's jobs.
cv2.setNumThreads(1)


def preprocess(hu: np.ndarray, windows: Sequence[Window], size: int) -> np.ndarray:
    """Show a slice in each window, as small uint8 images.

    The windows are applied before the slice is made smaller: averaging HU first would let bone of
    1000 HU spill over the thin subdural blood beside it.

    Parameters
    ----------
    hu
        (rows, columns), Hounsfield units.
    windows
        One output channel each.
    size
        Side of the output, pixels.

    Returns
    -------
    uint8 (len(windows), size, size); a slice that is not square is padded with air first.
    """
    square = pad_to_square(np.asarray(hu, dtype=np.float32))
    channels = [
        cv2.resize(apply_window(square, window), (size, size), interpolation=cv2.INTER_AREA)
        for window in windows
    ]
    return np.stack(channels)


def apply_window(hu: np.ndarray, window: Window) -> np.ndarray:
    """Map the window's HU linearly to 0..255, the rest to its ends: uint8, shape of `hu`."""
    black_hu = window.center_hu - window.width_hu / 2
    grey = (hu - np.float32(black_hu)) * np.float32(255 / window.width_hu)
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)


def pad_to_square(hu: np.ndarray) -> np.ndarray:
    """Centre a slice on a square of air, so that resizing keeps its proportions."""
    rows, columns = hu.shape
    if rows == columns:
        return hu
    side = max(rows, columns)
    square = np.full((side, side), AIR_HU, dtype=hu.dtype)
    top, left = (side - rows) // 2, (side - columns) // 2
    square[top : top + rows, left : left + columns] = hu
    return square
