"""Pictures of slices and the stacks that the viewer takes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from hemtrace.params import Window
from hemtrace.predict.regions import heat_on_slice
from hemtrace.predict.study import SeriesPrediction
from hemtrace.serve.nifti import StackWriter, measure_voxel
from hemtrace.serve.pixels import Pixels
from hemtrace.serve.sides import tell_orientation
from hemtrace.sides import USUAL_SIDES
from hemtrace.window import AIR_HU, apply_window

BRAIN = Window(name="brain", center_hu=40, width_hu=80)
_PREVIEW_SIDE = 320
# BGR: readable on grey, and told from it by a weak printer too.
_MARK = (40, 60, 230)


def encode_preview(hu: np.ndarray) -> bytes:
    """Show a slice in the brain window as a small PNG."""
    return _encode(_shrink(apply_window(hu, BRAIN), _PREVIEW_SIDE))


def encode_marked(
    hu: np.ndarray, outlines: Sequence[Sequence[tuple[float, float]]], side: int = 448
) -> bytes:
    """Show a slice in the brain window with outlines (rows and columns of corners) as a PNG."""
    grey = _shrink(apply_window(hu, BRAIN), side)
    scale = len(grey) / len(hu)
    shown = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for outline in outlines:
        corners = np.rint(np.array(outline, dtype=float)[:, ::-1] * scale).astype(np.int32)
        cv2.polylines(shown, [corners], isClosed=True, color=_MARK, thickness=1)
    return _encode(shown)


def volume_shape(series: SeriesPrediction) -> tuple[int, int, int]:
    """Choose slices, rows and columns of a stack: the shape of the slice of middle size.

    Where slices differ that is at most twice what they have together, however they differ.
    """
    shapes = sorted((one.shape for one in series.slices), key=lambda shape: shape[0] * shape[1])
    rows, columns = shapes[(len(shapes) - 1) // 2]
    return len(shapes), rows, columns


def write_volume(series: SeriesPrediction, pixels: Pixels, path: Path) -> None:
    """Write the HU of a series as NIfTI, int16."""

    def read(number: int) -> np.ndarray:
        one = series.slices[number]
        return pixels.read(one.file, one.frame)

    _write(series, path, "int16", AIR_HU, read)


def write_heat(series: SeriesPrediction, label: int, path: Path) -> None:
    """Write the heat maps of a label, laid on the slices, as NIfTI: uint8, 255 the peak of each.

    A slice without a map is empty.
    """

    def read(number: int) -> np.ndarray:
        one = series.slices[number]
        heat = heat_on_slice(one, label)
        if heat is None:
            return np.zeros(one.shape, np.uint8)
        return np.rint(255 * np.clip(np.nan_to_num(heat), 0, 1)).astype(np.uint8)

    _write(series, path, "uint8", 0, read)


def _write(
    series: SeriesPrediction,
    path: Path,
    kind: str,
    fill: int,
    read: Callable[[int], np.ndarray],
) -> None:
    shape = volume_shape(series)
    spacing = next((s.spacing_mm for s in series.slices if s.spacing_mm is not None), None)
    size = measure_voxel([one.z_mm for one in series.slices], spacing)
    part = path.with_suffix(".part")
    out = StackWriter(
        part, kind, shape, size, fill, is_usual=tell_orientation(series) == USUAL_SIDES
    )
    try:
        for number in range(shape[0]):
            out.write(read(number))
    finally:
        out.close()
    part.replace(path)


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    longest = max(image.shape)
    if longest <= side:
        return image
    rows, columns = (max(1, round(length * side / longest)) for length in image.shape)
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)


def _encode(image: np.ndarray) -> bytes:
    # The least packing is several times faster, and the page is near.
    done, content = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return content.tobytes()
