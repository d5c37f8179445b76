"""Sheets of slices, with and without heat maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from scipy import ndimage

from hemtrace.figures.style import BAD, GOOD, INK, MUTED, in_common_look, new_figure
from hemtrace.figures.style import say_nothing_to_draw as say
from hemtrace.sides import OPPOSITE_SIDE

# Yellow on a heat map of dark to light reds would be lost; cyan stands out on both and on grey.
_OUTLINE = "#38d9ff"
_REGION = "white"
_WIDTH_IN = 11.4


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
    region
        bool (H, W), where the map is above its threshold, or None.
    note
        Window and position of the slice.
    orientation
        Letters of the directions in which columns and rows are counted, or None where unknown.
    """

    name: str
    title: str
    verdict: str
    right: bool
    image: np.ndarray
    heat: np.ndarray | None = None
    mask: np.ndarray | None = None
    region: np.ndarray | None = None
    note: str = ""
    orientation: str | None = None


@in_common_look
def heat_gallery(tiles: Sequence[Tile], pairs: int = 3) -> Figure:
    """Draw slices, each beside itself under its heat map, `pairs` to a row."""
    if not tiles:
        return _empty("No flagged test slice to show.")
    return _draw_pairs(list(tiles), pairs)


@in_common_look
def worst_gallery(alarms: Sequence[Tile], missed: Sequence[Tile], pairs: int = 3) -> Figure:
    """Draw the worst false alarms, and from a new row on the worst misses."""
    if not alarms and not missed:
        return _empty("No false alarm and no missed bleed among the test slices.")
    gap = [None] * (-len(alarms) % pairs)
    return _draw_pairs([*alarms, *gap, *missed], pairs)


@in_common_look
def subtype_gallery(tiles: Mapping[str, Mapping[str, Sequence[Tile]]]) -> Figure:
    """Draw slices of each subtype: a row a subtype, a pair of columns a kind.

    Parameters
    ----------
    tiles
        By subtype, then by kind (found, missed, false alarm); each kind in its own order.
    """
    kinds = list(next(iter(tiles.values()), {}))
    rows = [
        (label, line)
        for label, of_kind in tiles.items()
        for line in range(max([1, *(len(found) for found in of_kind.values())]))
    ]
    if not kinds or not any(found for of_kind in tiles.values() for found in of_kind.values()):
        return _empty("No test slice that bears a subtype or is flagged as one.")
    figure, axes = new_figure(_WIDTH_IN, 2.55 * len(rows) + 0.3, len(rows), 2 * len(kinds))
    for number, (label, line) in enumerate(rows):
        for place, kind in enumerate(kinds):
            plain, warm = axes[2 * (number * len(kinds) + place) :][:2]
            found = tiles[label][kind]
            if line < len(found):
                _draw_pair(plain, warm, found[line])
                continue
            plain.set_axis_off()
            warm.set_axis_off()
            if line == 0:
                plain.text(
                    0.5,
                    0.5,
                    f"{label}:\n{kind}: none",
                    ha="center",
                    va="center",
                    color=MUTED,
                    fontsize=8,
                )
    _explain_lines(figure)
    return figure


@in_common_look
def slice_gallery(tiles: Sequence[Tile], columns: int = 4) -> Figure:
    """Draw slices as they are, `columns` to a row."""
    if not tiles:
        return _empty("No test slice that is not flagged to show.")
    rows = -(-len(tiles) // columns)
    figure, axes = new_figure(_WIDTH_IN, 3.75 * rows, rows, columns)
    for panel in axes[len(tiles) :]:
        panel.set_axis_off()
    for panel, tile in zip(axes, tiles, strict=False):
        _show(panel, tile)
        title = f"{tile.title}\n{_wrap(tile.verdict, 33)}"
        panel.set_title(title, color=INK if tile.right else BAD, fontsize=9)
    return figure


def _draw_pairs(tiles: Sequence[Tile | None], pairs: int) -> Figure:
    rows = -(-len(tiles) // pairs)
    figure, axes = new_figure(_WIDTH_IN, 2.55 * rows + 0.3, rows, 2 * pairs)
    for place in range(rows * pairs):
        plain, warm = axes[2 * place : 2 * place + 2]
        tile = tiles[place] if place < len(tiles) else None
        if tile is None:
            plain.set_axis_off()
            warm.set_axis_off()
        else:
            _draw_pair(plain, warm, tile)
    _explain_lines(figure)
    return figure


def _draw_pair(plain: Axes, warm: Axes, tile: Tile) -> None:
    """Draw a slice, and beside it the slice under its heat map."""
    _show(plain, tile)
    plain.set_title(_wrap(tile.title), color=INK, fontsize=8)
    _show(warm, tile)
    warm.set_title(_wrap(tile.verdict), color=GOOD if tile.right else BAD, fontsize=8)
    if tile.heat is None:
        warm.set_xlabel("no heat map", fontsize=7.5, color=MUTED)
        return
    warm.imshow(
        tile.heat,
        cmap="inferno",
        alpha=_alpha(tile.heat),
        vmin=0,
        vmax=1,
        interpolation="bilinear",
    )
    what = "heat map" if tile.heat.any() else "empty: nothing speaks for it"
    warm.set_xlabel(what, fontsize=7.5, color=MUTED)
    if tile.region is not None:
        _outline_regions(warm, tile.region)


def _outline_regions(axes: Axes, region: np.ndarray) -> None:
    """Draw the outline of the predicted region dashed, and the box about each part dotted."""
    if not region.any():
        return
    # A border of nothing closes the outline where the region meets the picture's edge.
    padded = np.pad(region.astype(float), 1)
    span = np.arange(-1, region.shape[1] + 1), np.arange(-1, region.shape[0] + 1)
    axes.contour(*span, padded, [0.5], colors=_REGION, linewidths=0.9, linestyles="dashed")
    numbers, _ = ndimage.label(region, structure=np.ones((3, 3)))
    for rows, columns in ndimage.find_objects(numbers):
        axes.add_patch(
            Rectangle(
                (columns.start - 0.5, rows.start - 0.5),
                columns.stop - columns.start,
                rows.stop - rows.start,
                fill=False,
                edgecolor=_REGION,
                linewidth=0.8,
                linestyle="dotted",
            )
        )
    axes.set_xlim(-0.5, region.shape[1] - 0.5)
    axes.set_ylim(region.shape[0] - 0.5, -0.5)


def _explain_lines(figure: Figure) -> None:
    lines = [
        Line2D([], [], color=_OUTLINE, linewidth=1.4, label="true lesion (where masks exist)"),
        Line2D([], [], color=_REGION, linewidth=1.4, linestyle="dashed", label="region of the map"),
        Line2D([], [], color=_REGION, linewidth=1.4, linestyle="dotted", label="its box"),
    ]
    legend = figure.legend(
        handles=lines, loc="outside lower center", ncols=3, fontsize=8.5, frameon=True
    )
    # White lines need a dark ground.
    legend.get_frame().set(facecolor=INK, edgecolor=INK)
    for text in legend.get_texts():
        text.set_color("white")


def _show(axes: Axes, tile: Tile) -> None:
    axes.imshow(tile.image, cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
    if tile.mask is not None and tile.mask.any():
        axes.contour(tile.mask.astype(float), [0.5], colors=_OUTLINE, linewidths=0.9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if tile.orientation is not None:
        right = tile.orientation[0]
        for place, letter in ((0.03, OPPOSITE_SIDE[right]), (0.97, right)):
            axes.text(
                place, 0.5, letter, color="white", fontsize=8, ha="center", va="center",
                transform=axes.transAxes,
            )  # fmt: skip
    axes.set_xlabel(f"{tile.name}\n{tile.note}".strip(), fontsize=7.5, color=MUTED)


def _alpha(heat: np.ndarray) -> np.ndarray:
    """Leave the slice visible where the map is cold."""
    return np.clip(heat * 1.3, 0, 0.62)


def _wrap(text: str, width: int = 27) -> str:
    """Break a title into lines that fit above a picture, two at least, so that rows line up."""
    lines = wrap(text, width)
    return "\n".join([*lines, *[""] * (2 - len(lines))])


def _empty(sentence: str) -> Figure:
    figure, (axes,) = new_figure(_WIDTH_IN, 1.2)
    say(axes, sentence)
    return figure
