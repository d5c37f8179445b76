"""Figures with intervals in rows: AUC inside and outside, agreement between readers."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from hemtrace.figures.style import INK, MUTED, in_common_look, new_figure, say_nothing_to_draw

# Shape and fill tell the series apart, also without colour.
_MARKS = (
    ("o", INK, INK),
    ("s", "#0072b2", "white"),
    ("^", "#d55e00", "white"),
    ("D", "#009e73", "white"),
)


@dataclass(frozen=True)
class IntervalSeries:
    """A figure for each row, with its interval.

    Attributes
    ----------
    name
        For the legend.
    values
        (value, low, high) a row; None where undefined.
    """

    name: str
    values: Sequence[tuple[float | None, float | None, float | None]]


@in_common_look
def interval_rows(
    names: Sequence[str],
    series: Sequence[IntervalSeries],
    axis: str,
    low: float,
    high: float,
    null: float,
) -> Figure:
    """Draw up to four figures a row as points with their 95 % intervals.

    Parameters
    ----------
    names
        Of the rows, from the top.
    series
        Points of one kind, each in a shape of its own.
    axis
        What the axis says.
    low, high
        Its ends; reached further where a bound lies beyond.
    null
        Where a dotted line says that there is nothing but chance.
    """
    figure, (axes,) = new_figure(8.6, 1.1 + (0.3 + 0.12 * len(series)) * len(names))
    if all(value[0] is None for one in series for value in one.values):
        say_nothing_to_draw(axes, "No figure of these is estimable.")
        return figure
    step = 0.66 / max(1, len(series))
    for place, one in enumerate(series):
        shape, edge, face = _MARKS[place % len(_MARKS)]
        shift = (place - (len(series) - 1) / 2) * step
        rows = [row for row, value in enumerate(one.values) if value[0] is not None]
        for row in rows:
            _, below, above = one.values[row]
            if below is not None and above is not None:
                axes.plot([below, above], [row + shift] * 2, color=edge, lw=1.5, zorder=2)
        axes.plot(
            [one.values[row][0] or 0.0 for row in rows],
            [row + shift for row in rows],
            shape,
            color=edge,
            markerfacecolor=face,
            markersize=6.5,
            label=one.name,
            zorder=3,
        )
        for row in set(range(len(names))) - set(rows):
            left = low + 0.01 * (high - low)
            told = f"{one.name}: not estimable"
            axes.text(left, row + shift, told, va="center", color=MUTED, fontsize=8)
    bounds = [
        bound for one in series for value in one.values for bound in value if bound is not None
    ]
    axes.set_xlim(min([low, *bounds]) - 0.01, max([high, *bounds]) + 0.01)
    axes.axvline(null, color=MUTED, lw=0.8, ls=":")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_xlabel(axis)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(series))
    return figure
