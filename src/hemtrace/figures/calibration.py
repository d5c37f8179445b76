"""Reliability before and after calibration, a small picture a label."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from hemtrace.figures.style import (
    GOOD,
    GRID,
    INK,
    MUTED,
    in_common_look,
    new_figure,
    say_nothing_to_draw,
)

# Most slices have a low probability: on a scale of square roots they are told apart.
_TICKS = (0, 0.05, 0.2, 0.5, 1)
_COLUMNS = 3


@in_common_look
def reliability_curves(
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]] | None = None,
    title: str = "Reliability on test slices",
) -> Figure:
    """Draw the share of positives against the mean probability, by label, before and after.

    Parameters
    ----------
    before, after
        By label: n, positives; `bins` with the lists stated, share, low, high, n; `histogram` with
        edges, positives, negatives; or `bins` None and why. The same labels in both; `after` None
        where nothing was calibrated.
    title
        Of the whole; says which rows.
    """
    labels = list(before)
    columns = min(_COLUMNS, max(1, len(labels)))
    lines = max(1, -(-len(labels) // columns))
    heights = (3.4, 1) * lines
    figure, axes = new_figure(
        3.3 * columns + 0.4, 4.1 * lines + 0.6, 2 * lines, columns, height_ratios=heights
    )
    for place, label in enumerate(labels):
        line, column = divmod(place, columns)
        upper, lower = (axes[(2 * line + k) * columns + column] for k in range(2))
        shown = None if after is None else after[label]
        _draw_label(upper, lower, label, before[label], shown)
    for place in range(len(labels), lines * columns):
        line, column = divmod(place, columns)
        for k in range(2):
            axes[(2 * line + k) * columns + column].set_axis_off()
    handles: list[Artist] = [Line2D([], [], color=MUTED, ls=":", lw=1, label="perfect")]
    handles.append(Line2D([], [], color=MUTED, marker="o", mfc="white", ls="--", label="before"))
    if after is not None:
        handles.append(
            Line2D([], [], color=INK, marker="s", ls="-", ms=4.5, label="after calibration")
        )
    handles.append(Patch(fc="none", ec=GOOD, hatch="////", label="count with the label"))
    handles.append(Patch(fc=GRID, ec=MUTED, label="without"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    figure.suptitle(title, fontsize=11.5, fontweight="bold", x=0.01, ha="left")
    return figure


def _draw_label(
    upper: Axes,
    lower: Axes,
    label: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any] | None,
) -> None:
    upper.set_title(f"{label}: {before['positives']:,} of {before['n']:,}")
    if before["bins"] is None:
        say_nothing_to_draw(upper, f"not estimable:\n{before['why']}")
        lower.set_axis_off()
        return
    upper.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=":")
    _draw_bins(upper, before["bins"], MUTED, "o", "--", "white")
    shown = before
    if after is not None and after["bins"] is not None:
        _draw_bins(upper, after["bins"], INK, "s", "-", INK)
        shown = after
    for scale in (upper.set_xscale, upper.set_yscale, lower.set_xscale):
        scale("function", functions=(_root, np.square))
    for axes in (upper, lower):
        axes.set_xlim(0, 1.02)
        axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    upper.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    upper.set_ylim(0, 1.02)
    upper.set_ylabel("share with the label")
    upper.grid()
    _draw_histogram(lower, shown["histogram"])


def _root(value: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(value, 0))


def _draw_bins(
    axes: Axes, bins: Mapping[str, Any], color: str, marker: str, style: str, face: str
) -> None:
    stated, share = np.asarray(bins["stated"]), np.asarray(bins["share"], dtype=np.float64)
    low, high = (_or(bins[name], share) for name in ("low", "high"))
    axes.vlines(stated, low, high, color=color, lw=1, alpha=0.8)
    axes.plot(
        stated, share, marker=marker, ls=style, color=color, mfc=face, ms=4.5, lw=0.9, clip_on=False
    )


def _or(values: list[float | None], instead: np.ndarray) -> np.ndarray:
    """Put the share where a bin has no interval, so that none is drawn."""
    found = np.array(values, dtype=np.float64)
    return np.where(np.isnan(found), instead, found)


def _draw_histogram(axes: Axes, histogram: Mapping[str, Any]) -> None:
    """Draw how many rows have which probability, those with the label hatched on the others."""
    edges = np.asarray(histogram["edges"])
    positives, negatives = np.asarray(histogram["positives"]), np.asarray(histogram["negatives"])
    widths = np.diff(edges)
    # On a logarithmic scale stacked parts would lie: they stand in front of each other.
    axes.bar(edges[:-1], negatives, widths, align="edge", color=GRID, edgecolor=MUTED, lw=0.6)
    axes.bar(
        edges[:-1], positives, widths, align="edge", fc=(0, 0, 0, 0), ec=GOOD, lw=0.9, hatch="////"
    )
    axes.set_yscale("log")
    axes.set_ylim(0.7, None)
    axes.set_ylabel("count (log)")
    axes.set_xlabel("predicted probability (square-root scale)")
