"""Figures on who fails: a forest of subgroups, and curves by the strength of a perturbation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemtrace.figures.style import (
    GOOD,
    GOOD_PALE,
    INK,
    MUTED,
    in_common_look,
    new_figure,
    say_nothing_to_draw,
)

# Inches: a row, and from the left edge on names, counts, the plot, and its numbers.
_ROW = 0.215
_WIDTH, _COUNT_END, _PLOT, _PLOT_END = 6.6, 2.9, 3.0, 5.15


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; None where it is not estimable, and why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    why: str | None = None


@dataclass(frozen=True)
class ForestRow:
    """A subgroup.

    Attributes
    ----------
    fact
        What it is a group of, e.g. `slice thickness, mm`; rows of a fact stand together.
    group
        Its name, e.g. `1.5 to 3.5`.
    n
        How many, in words as short as `412 / 60 / 26`.
    figure
        What is drawn.
    """

    fact: str
    group: str
    n: str
    figure: Interval


@in_common_look
def subgroup_forest(
    rows: Sequence[ForestRow], whole: Interval, name: str, n_means: str, whole_n: str = ""
) -> Figure:
    """Draw a figure of each subgroup beside that of all slices.

    Parameters
    ----------
    rows
        By fact.
    whole
        The figure of all slices, drawn as a line.
    name
        Of the figure, within 0..1, e.g. `Sensitivity`.
    n_means
        Heads the column of `n`, e.g. `slices / positives / patients`.
    whole_n
        The `n` of all slices.
    """
    if not rows:
        figure, (axes,) = new_figure(6.4, 1.2)
        say_nothing_to_draw(axes, "No fact tells the slices apart.")
        return figure
    places, heads = _place_rows(rows)
    rows_high = max(places) + 3.0
    height = 0.6 + _ROW * rows_high
    figure = Figure(figsize=(_WIDTH, height))
    # Columns of text beside the plot: places in inches, not what a layout engine makes of them.
    axes = figure.add_axes(
        (_PLOT / _WIDTH, 0.55 / height, (_PLOT_END - _PLOT) / _WIDTH, 1 - 0.6 / height)
    )
    axes.set_ylim(rows_high - 2.3, -2.3)
    axes.set_xlim(_left_end(rows, whole), 1.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    has_interval = any(one.low is not None for one in (whole, *(row.figure for row in rows)))
    axes.set_xlabel(f"{name}, with 95 % interval" if has_interval else name)
    if whole.value is not None:
        axes.axvline(whole.value, color=MUTED, lw=1.0, ls="--", zorder=1)
    _write(axes, 0.05, -1.75, "group", color=MUTED)
    _write(axes, _COUNT_END, -1.75, n_means, color=MUTED, ha="right")
    _write(axes, _PLOT_END + 0.08, -1.75, name, color=MUTED)
    _draw_row(axes, -0.8, ForestRow("", "all test slices", whole_n, whole), bold=True)
    for place, fact in heads:
        _write(axes, 0.05, place, fact, fontweight="bold")
    for place, row in zip(places, rows, strict=True):
        _draw_row(axes, place, row)
    return figure


def _write(axes: Axes, left_in: float, place: float, text: str, **look: Any) -> None:
    """Write beside the plot, at so many inches from the figure's left edge."""
    across = (left_in - _PLOT) / (_PLOT_END - _PLOT)
    beside = axes.get_yaxis_transform()
    axes.text(across, place, text, transform=beside, va="center", **({"fontsize": 8.4} | look))


def _place_rows(rows: Sequence[ForestRow]) -> tuple[list[float], list[tuple[float, str]]]:
    """Give each row its place, below the name of its fact, and each fact's name its own."""
    places: list[float] = []
    heads: list[tuple[float, str]] = []
    place, fact = 0.0, None
    for row in rows:
        if row.fact != fact:
            place += 0.45 if heads else 0.3
            heads.append((place, row.fact))
            place += 1
            fact = row.fact
        places.append(place)
        place += 1
    return places, heads


def _left_end(rows: Sequence[ForestRow], whole: Interval) -> float:
    figures = [whole, *(row.figure for row in rows)]
    ends = [end for one in figures for end in (one.value, one.low) if end is not None]
    return max(0.0, np.floor((min(ends, default=0.5) - 0.02) * 10) / 10)


def _draw_row(axes: Axes, place: float, row: ForestRow, bold: bool = False) -> None:
    weight = "bold" if bold else "normal"
    _write(axes, 0.05 if bold else 0.15, place, row.group, fontweight=weight)
    _write(axes, _COUNT_END, place, row.n, ha="right")
    one = row.figure
    if one.value is None:
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        _write(axes, _PLOT + 0.05, place, one.why or "", color=MUTED, fontsize=7.8, bbox=ground)
        _write(axes, _PLOT_END + 0.08, place, "not estimable", color=MUTED)
        return
    told, face = f"{one.value:.2f} (no interval)", "white"
    if one.low is not None and one.high is not None:
        axes.plot([one.low, one.high], [place, place], color=GOOD, lw=1.8, solid_capstyle="butt")
        told, face = f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})", GOOD
    axes.plot(
        one.value,
        place,
        "D" if bold else "o",
        ms=6 if bold else 5,
        mec=GOOD,
        mew=1.3,
        # A hollow dot has no interval, so that it is not taken for a sure one.
        mfc=face,
        zorder=4,
        clip_on=False,
    )
    _write(axes, _PLOT_END + 0.08, place, told, fontweight=weight)


@dataclass(frozen=True)
class RobustnessPanel:
    """A kind of perturbation: its title, the unit of its strengths, and the AUC at each.

    Attributes
    ----------
    title, unit
        What the panel says.
    strengths
        float (K,), without the unperturbed 0.
    auc
        One a strength.
    """

    title: str
    unit: str
    strengths: Sequence[float]
    auc: Sequence[Interval]


@in_common_look
def robustness_curves(panels: Sequence[RobustnessPanel], plain: Interval) -> Figure:
    """Draw the AUC against the strength of each kind of perturbation.

    Parameters
    ----------
    panels
        A panel each.
    plain
        The AUC without perturbation: the dashed line, and the point at strength 0.
    """
    if not panels or plain.value is None:
        figure, (axes,) = new_figure(6.4, 1.2)
        why = plain.why if plain.value is None and plain.why else "nothing was perturbed"
        say_nothing_to_draw(axes, f"The AUC is not estimable: {why}.")
        return figure
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, grid = new_figure(8.4, 2.7 * lines, lines, columns, sharey=True)
    for number, (panel, shown) in enumerate(zip(grid, panels, strict=False)):
        _draw_curve(panel, shown, plain)
        if number % columns == 0:
            panel.set_ylabel("ROC AUC of any bleed")
    # A range of a tenth at least: a wide scale must not make much of little.
    figures = [plain, *(one for shown in panels for one in shown.auc)]
    ends = [end for one in figures for end in (one.value, one.low, one.high) if end is not None]
    grid[0].set_ylim(min(min(ends) - 0.02, plain.value - 0.1), min(1.01, max(ends) + 0.02))
    for panel in grid[len(panels) :]:
        panel.set_axis_off()
    handles, names = grid[0].get_legend_handles_labels()
    if len(grid) > len(panels):
        grid[len(panels)].legend(handles, names, loc="center")
    else:
        grid[0].legend(handles, names, loc="lower left")
    return figure


def _draw_curve(axes: Axes, shown: RobustnessPanel, plain: Interval) -> None:
    both = [(0.0, plain), *zip(shown.strengths, shown.auc, strict=True)]
    # NaN leaves a gap where a figure is not estimable.
    strength, value, low, high = np.array(
        [(at, one.value, one.low, one.high) for at, one in both], dtype=np.float64
    ).T
    order = np.argsort(strength)
    strength, value, low, high = strength[order], value[order], low[order], high[order]
    axes.axhline(float(plain.value or 0), color=MUTED, lw=1.0, ls="--", label="unperturbed")
    if np.isfinite(low).any():
        band: dict[str, Any] = {"color": GOOD_PALE, "alpha": 0.6, "lw": 0}
        axes.fill_between(strength, low, high, label="95 % interval", **band)
    axes.plot(strength, value, "o-", color=GOOD, ms=4.5, label="perturbed")
    axes.plot(0, float(plain.value or 0), "D", color=INK, ms=5, zorder=5)
    axes.set_title(shown.title)
    axes.set_xlabel(shown.unit)
    axes.set_xticks(strength, [f"{at:g}" for at in strength])
    axes.grid(axis="y")
