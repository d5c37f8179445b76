"""Pictures of slices with what was found burned in: grey slice, heat, outlines, words."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hemtrace.dicom_results.findings import BRAIN
from hemtrace.explain.regions import Region
from hemtrace.window import Square, apply_window

# Smaller slices are enlarged by a whole factor, so that words are legible and no pixel is blended.
_SMALLEST_SIDE = 512
_LINE = 24
_MARGIN = 8
# Cyan stands out on greys and on the reds of the heat (as in the report's galleries).
_OUTLINE = (56, 217, 255)
_INK = (235, 235, 235)
_WARN = (255, 205, 90)


@dataclass(frozen=True)
class Canvas:
    """How a slice lies in its picture.

    Attributes
    ----------
    factor
        Pixels of the picture along a pixel of the slice.
    above, below
        Rows of black with words before and after the slice.
    shape
        Rows and columns of the whole picture.
    """

    factor: int
    above: int
    below: int
    shape: tuple[int, int]


def lay_out(shapes: Sequence[tuple[int, int]], lines_above: int, lines_below: int) -> Canvas:
    """Lay out pictures of one size for slices of these shapes."""
    rows, columns = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    factor = max(1, -(-_SMALLEST_SIDE // columns))
    above = _LINE * lines_above + _MARGIN
    below = _LINE * lines_below + _MARGIN
    return Canvas(factor, above, below, (above + rows * factor + below, columns * factor))


def draw_slice(
    canvas: Canvas,
    hu: np.ndarray,
    square: Square,
    heat: np.ndarray | None,
    regions: Sequence[Region],
    above: Sequence[str],
    below: Sequence[str],
) -> np.ndarray:
    """Draw a slice: uint8 (rows, columns, 3).

    Parameters
    ----------
    canvas
        From `lay_out`.
    hu
        (rows, columns), Hounsfield units.
    square, heat
        What part of the slice was judged, and float (n, n) within 0..1 upon it; None: no heat.
    regions
        Outlined.
    above, below
        Lines of words, cut off where they are too long.
    """
    picture = np.zeros((*canvas.shape, 3), np.uint8)
    grey = apply_window(np.ascontiguousarray(hu), BRAIN)
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    if heat is not None:
        rgb = _warm(rgb, spread_heat(heat, square, grey.shape))
    shown = np.kron(
        rgb.round().astype(np.uint8), np.ones((canvas.factor, canvas.factor, 1), np.uint8)
    )
    picture[canvas.above : canvas.above + len(shown), : shown.shape[1]] = shown
    for region in regions:
        corners = region.outline[:, ::-1] * canvas.factor + [0, canvas.above] - 0.5
        points = np.round(corners).astype(np.int32)
        cv2.polylines(picture, [points], True, _OUTLINE, 1, cv2.LINE_AA)
    return _write(picture, canvas, above, below)


def spread_heat(heat: np.ndarray, square: Square, shape: tuple[int, ...]) -> np.ndarray:
    """Lay the heat of a square over its slice: float32 (rows, columns), 0 outside the square."""
    spread = cv2.resize(heat.astype(np.float32), (square.side, square.side))
    whole = np.zeros(shape, np.float32)
    top, left = max(0, square.top), max(0, square.left)
    bottom = min(shape[0], square.top + square.side)
    right = min(shape[1], square.left + square.side)
    if top < bottom and left < right:
        whole[top:bottom, left:right] = spread[
            top - square.top : bottom - square.top, left - square.left : right - square.left
        ]
    return whole


def _warm(rgb: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay heat over grey, the more opaque the warmer, so that the cold parts stay as they are."""
    colours = matplotlib.colormaps["autumn"](heat)[..., :3] * 255
    opacity = (0.55 * np.clip(heat, 0, 1))[..., None]
    warm: np.ndarray = rgb * (1 - opacity) + colours * opacity
    return warm


def _write(
    picture: np.ndarray, canvas: Canvas, above: Sequence[str], below: Sequence[str]
) -> np.ndarray:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    width = canvas.shape[1] - 2 * _MARGIN
    for number, line in enumerate(above):
        _write_line(draw, line, _MARGIN // 2 + number * _LINE, width, _INK)
    for number, line in enumerate(below):
        top = canvas.shape[0] - canvas.below + _MARGIN // 2 + number * _LINE
        _write_line(draw, line, top, width, _WARN)
    return np.asarray(image)


def _write_line(
    draw: ImageDraw.ImageDraw, line: str, top: int, width: int, colour: tuple[int, int, int]
) -> None:
    for points in (17, 15, 13, 11):
        if draw.textlength(line, font=_font(points)) <= width:
            break
    while line and draw.textlength(line, font=_font(points)) > width:
        line = line[:-2].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    draw.text((_MARGIN, top), line, font=_font(points), fill=colour)


@lru_cache(maxsize=8)
def _font(points: int) -> ImageFont.FreeTypeFont:
    # Matplotlib brings the font along, so that pictures are the same on every machine.
    return ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", points
    )
