"""Figures on the study itself: its flow from files to partitions, and labels that come together."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from hemtrace.figures.style import (
    BAD,
    GOOD,
    INK,
    MUTED,
    in_common_look,
    new_figure,
    say_nothing_to_draw,
)

_SHADE = LinearSegmentedColormap.from_list("shade", ["#ffffff", GOOD])
# Inches. Narrow, so that on a phone the letters stay large enough to read.
_WIDTH, _LINE, _PAD, _GAP = 5.6, 0.185, 0.13, 0.26
_MAIN, _ASIDE = 2.35, 2.75
_BESIDE_LETTERS = 38


@dataclass(frozen=True)
class FlowStep:
    """A step of the flow: what is left, and what ended there.

    Attributes
    ----------
    name
        What it is, e.g. `CT pictures`.
    count
        How many are left.
    excluded
        Reason and count of those that ended there.
    """

    name: str
    count: int
    excluded: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class FlowSide:
    """A partition at the end of the flow: its name, and lines of what it holds."""

    name: str
    lines: Sequence[str]


@in_common_look
def flow_diagram(steps: Sequence[FlowStep], sides: Sequence[FlowSide]) -> Figure:
    """Draw the flow of a study after STARD: boxes below each other, exclusions beside them.

    Parameters
    ----------
    steps
        In order; the exclusions of a step stand between it and the step before.
    sides
        The partitions, in boxes of a row each of three.
    """
    beside = [_list_excluded(step) for step in steps]
    main = [textwrap.wrap(step.name, 30) for step in steps]
    rows = [sides[start : start + 3] for start in range(0, len(sides), 3)]
    heights = [_box_height(len(lines) + 1) for lines in main]
    gaps = [max(_GAP, _box_height(len(lines)) + 0.16 if lines else 0) for lines in beside]
    gaps[0] = 0.0
    row_heights = [max(_box_height(len(side.lines) + 1) for side in row) for row in rows]
    ends = sum(row_heights) + 0.16 * (len(rows) - 1) + 2 * _GAP if rows else 0
    total = sum(heights) + sum(gaps) + ends + 0.1
    figure, (axes,) = new_figure(_WIDTH, total)
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(total, 0)
    axes.set_axis_off()
    middle, top = 0.06 + _MAIN / 2, 0.05
    for step, lines, excluded, height, gap in zip(steps, main, beside, heights, gaps, strict=True):
        if gap:
            _arrow(axes, (middle, top), (middle, top + gap))
        if excluded:
            size = _box_height(len(excluded))
            left, upper = _WIDTH - _ASIDE - 0.06, top + (gap - size) / 2
            _arrow(axes, (middle, top + gap / 2), (left, top + gap / 2))
            _box(axes, (left, upper, _ASIDE, size), excluded, BAD, aside=True)
        top += gap
        _box(axes, (0.06, top, _MAIN, height), [*lines, f"n = {step.count:,}"], INK)
        top += height
    if rows:
        _draw_sides(axes, rows, row_heights, middle, top)
    return figure


def _list_excluded(step: FlowStep) -> list[str]:
    if not step.excluded:
        return []
    lines = [f"Excluded: n = {sum(count for _, count in step.excluded):,}"]
    for reason, count in step.excluded:
        lines += textwrap.wrap(f"{count:,} {reason}", _BESIDE_LETTERS, subsequent_indent="   ")
    return lines


def _draw_sides(
    axes: Axes,
    rows: Sequence[Sequence[FlowSide]],
    heights: Sequence[float],
    middle: float,
    top: float,
) -> None:
    """Draw the partitions' boxes below a bar that joins them to the last step."""
    bar = top + _GAP
    axes.plot([middle, middle], [top, bar], color=MUTED, lw=1.2)
    upper = bar + _GAP
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        width = (_WIDTH - 0.12 - 0.12 * (len(row) - 1)) / len(row)
        lefts = [0.06 + place * (width + 0.12) for place in range(len(row))]
        if number == 0:
            centres = [left + width / 2 for left in lefts]
            reach = [middle, *centres]
            axes.plot([min(reach), max(reach)], [bar, bar], color=MUTED, lw=1.2)
            for centre in centres:
                _arrow(axes, (centre, bar), (centre, upper))
        for side, left in zip(row, lefts, strict=True):
            _box(axes, (left, upper, width, height), [side.name, *side.lines], GOOD)
        upper += height + 0.16


def _box_height(lines: int) -> float:
    return lines * _LINE + _PAD


def _box(
    axes: Axes,
    place: tuple[float, float, float, float],
    lines: Sequence[str],
    edge: str,
    aside: bool = False,
) -> None:
    """Draw a box at left, top, width, height; its first line is bold."""
    left, top, width, height = place
    axes.fill_between(
        [left, left + width],
        top,
        top + height,
        facecolor="white",
        zorder=2,
        edgecolor=edge,
        lw=1.1,
        ls="--" if aside else "-",
    )
    for number, line in enumerate(lines):
        axes.text(
            left + (0.09 if aside else width / 2),
            top + _PAD / 2 + (number + 0.5) * _LINE,
            line,
            ha="left" if aside else "center",
            va="center",
            fontsize=8.8,
            fontweight="bold" if number == 0 else "normal",
            zorder=3,
        )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={"arrowstyle": "-|>", "color": MUTED, "lw": 1.2, "shrinkA": 0, "shrinkB": 0},
    )


@dataclass(frozen=True)
class CoOccurrence:
    """How often two labels come together.

    Attributes
    ----------
    unit
        `slices` or `patients`.
    total
        How many there are.
    counts
        int (labels, labels); the diagonal counts those that bear the label.
    """

    unit: str
    total: int
    counts: np.ndarray


@in_common_look
def co_occurrence_matrices(panels: Sequence[CoOccurrence], labels: Sequence[str]) -> Figure:
    """Draw for each pair of labels how many bear both, and their share of those with the row's.

    Parameters
    ----------
    panels
        One below the other.
    labels
        Names of rows and columns.
    """
    figure, axes = new_figure(5.8, 4.2 * len(panels), len(panels), 1)
    for panel, shown in zip(axes, panels, strict=True):
        counts = np.asarray(shown.counts)
        if not counts.any():
            say_nothing_to_draw(panel, f"No label stands on any of {shown.total:,} {shown.unit}.")
            continue
        bearers = np.diag(counts)[:, None]
        shares = np.divide(counts, bearers, out=np.zeros(counts.shape), where=bearers > 0)
        panel.imshow(shares, cmap=_SHADE, vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(*counts.shape):
            text = f"{counts[row, column]:,}"
            if row != column and bearers[row, 0]:
                text += f"\n{shares[row, column]:.0%}"
            panel.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=8.5,
                fontweight="bold" if row == column else "normal",
                color="white" if shares[row, column] > 0.82 else INK,
            )
        panel.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
        panel.set_yticks(range(len(labels)), labels)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        panel.set_title(f"{shown.unit} (n = {shown.total:,})")
    return figure
