"""Sheets of slices, with and without heat maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemtrace.figures.style import BAD, GOOD, INK, MUTED, in_common_look, new_figure
from hemtrace.figures.style import say_nothing_to_draw as say

# Yellow on a heat map of dark to light reds would be lost; cyan stands out on both and on grey.
_OUTLINE = "#38d9ff"


@dataclass(frozen=True)
class Tile:
    """A slice of a gallery.

    Attributes
    ----------
    name
        The slice's key.
    title, verdict
        What is predicted; what is true.
    right
        Whether the two agree.
    image
        uint8 (H, W), the brain window.
    heat
        (H, W) within 0..1, or None.
    mask
        bool (H, W), the lesions, or None where unknown.
    """

    name: str
    title: str
    verdict: str
    right: bool
    image: np.ndarray
    heat: np.ndarray | None = None
    mask: np.ndarray | None = None


@in_common_look
def heat_gallery(tiles: Sequence[Tile], pairs: int = 3) -> Figure:
    """Draw slices, each beside itself under its heat map, `pairs` to a row."""
    if not tiles:
        return _empty("No flagged test slice to show.")
    rows = -(-len(tiles) // pairs)
    figure, axes = new_figure(11.4, 2.5 * rows, rows, 2 * pairs)
    for place, panel in enumerate(axes):
        if place // 2 >= len(tiles):
            panel.set_axis_off()
            continue
        tile = tiles[place // 2]
        _show(panel, tile)
        if place % 2 and tile.heat is not None:
            panel.imshow(
                tile.heat,
                cmap="inferno",
                alpha=_alpha(tile.heat),
                vmin=0,
                vmax=1,
                interpolation="bilinear",
            )
            panel.set_title(_wrap(tile.verdict), color=GOOD if tile.right else BAD, fontsize=8)
            what = "heat map" if tile.heat.any() else "empty: nothing speaks for a bleed"
            panel.set_xlabel(what, fontsize=7.5, color=MUTED)
        else:
            panel.set_title(_wrap(tile.title), color=INK, fontsize=8)
    return figure


@in_common_look
def slice_gallery(tiles: Sequence[Tile], columns: int = 4) -> Figure:
    """Draw slices as they are, `columns` to a row."""
    if not tiles:
        return _empty("No test slice that is not flagged to show.")
    rows = -(-len(tiles) // columns)
    figure, axes = new_figure(11.4, 3.7 * rows, rows, columns)
    for panel in axes[len(tiles) :]:
        panel.set_axis_off()
    for panel, tile in zip(axes, tiles, strict=False):
        _show(panel, tile)
        title = f"{tile.title}\n{_wrap(tile.verdict, 33)}"
        panel.set_title(title, color=INK if tile.right else BAD, fontsize=9)
    return figure


def _show(axes: Axes, tile: Tile) -> None:
    axes.imshow(tile.image, cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
    if tile.mask is not None and tile.mask.any():
        axes.contour(tile.mask.astype(float), [0.5], colors=_OUTLINE, linewidths=0.9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(tile.name, fontsize=7.5, color=MUTED)


def _alpha(heat: np.ndarray) -> np.ndarray:
    """Leave the slice visible where the map is cold."""
    return np.clip(heat * 1.3, 0, 0.62)


def _wrap(text: str, width: int = 27) -> str:
    """Break a title into lines that fit above a picture, two at least, so that rows line up."""
    lines = wrap(text, width)
    return "\n".join([*lines, *[""] * (2 - len(lines))])


def _empty(sentence: str) -> Figure:
    figure, (axes,) = new_figure(11.4, 1.2)
    say(axes, sentence)
    return figure
