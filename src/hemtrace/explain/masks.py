"""Lesion masks and the head, in the geometry of the network's pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from scipy import ndimage

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.window import Square, cut_square


def read_bits(path: Path, slices: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Read the lesion masks of slices as they are.

    Parameters
    ----------
    path
        The phantom's table: slice, and mask, a PNG of the size of the DICOM slice whose bit k
        stands for `labels.SUBTYPES[k]`, null where there is none.
    slices
        Keys of the wanted slices.

    Yields
    ------
    Key and uint8 (rows, columns), of each slice with a lesion.

    Raises
    ------
    HemtraceError
        If a mask is no PNG.
    """
    table = pl.read_parquet(path, columns=["slice", "mask"]).filter(
        pl.col("slice").is_in(list(slices)) & pl.col("mask").is_not_null()
    )
    for name, png in table.iter_rows():
        bits = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if bits is None:
            raise HemtraceError(f"{path}: the mask of the slice {name} is no PNG; make it anew.")
        if bits.any():
            yield name, bits


def read_masks(
    path: Path, slices: Sequence[str], squares: np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """Read the lesion masks of slices, in the geometry of the network's pictures.

    Parameters
    ----------
    path, slices
        As for `read_bits`.
    squares
        int (N, 3), what the picture of each shows, as in `shards.Partition`.
    size
        Side of the pictures.

    Returns
    -------
    By key, for slices with a lesion: bool (6, size, size), in the order of `labels.LABELS`.
    """
    shown = {name: Square(*square) for name, square in zip(slices, squares.tolist(), strict=True)}
    return {name: split_mask(bits, shown[name], size) for name, bits in read_bits(path, slices)}


def split_mask(bits: np.ndarray, square: Square, size: int) -> np.ndarray:
    """Take a bit mask apart and bring it to the picture's size: bool (6, size, size).

    A pixel belongs to a lesion that covers half of it; of a lesion too thin for that, the pixels
    that it covers most remain, so that no lesion vanishes.
    """
    cut = cut_square(bits, square, fill=0)
    layers = [(cut >> bit) & 1 for bit in range(len(SUBTYPES))]
    layers.append((cut > 0).astype(np.uint8))
    covered = np.stack(
        [
            cv2.resize(layer.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
            for layer in layers
        ]
    )
    top = covered.max(axis=(1, 2), keepdims=True)
    return (covered >= np.minimum(0.5, top)) & (covered > 0)


def count_lesion_pixels(bits: np.ndarray) -> np.ndarray:
    """Count the pixels of each label in a bit mask: int (6,), in the order of `labels.LABELS`."""
    counts = [int(((bits >> bit) & 1).sum()) for bit in range(len(SUBTYPES))]
    return np.array([*counts, int((bits > 0).sum())]).reshape(len(LABELS))


def head_area(brain_window: np.ndarray) -> np.ndarray:
    """Find the head, the largest thing brighter than fat, holes filled: bool, shape as given."""
    regions, count = ndimage.label(brain_window > 0)
    if not count:
        return np.ones(brain_window.shape, dtype=bool)
    largest = np.argmax(np.bincount(regions.ravel())[1:]) + 1
    filled: np.ndarray = ndimage.binary_fill_holes(regions == largest)
    return filled
