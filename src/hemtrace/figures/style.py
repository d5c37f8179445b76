"""One look for all figures, and their bytes: equal figures give equal files."""

from collections.abc import Callable
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")

INK = "#1f2933"
MUTED = "#69757f"
GRID = "#dfe4e8"

# Okabe and Ito, Color Universal Design 2008: told apart with every common colour blindness.
# `any`, the one that matters most, is dark and drawn thicker.
LABEL_COLORS = {
    "epidural": "#d55e00",
    "intraparenchymal": "#0072b2",
    "intraventricular": "#009e73",
    "subarachnoid": "#cc79a7",
    "subdural": "#e69f00",
    "any": INK,
}
# Of the same palette; each differs in lightness too, so that they survive a grey print.
GOOD, BAD = "#0072b2", "#d55e00"
GOOD_PALE, BAD_PALE = "#a8cfe6", "#f3c19c"

_LOOK: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "svg.fonttype": "path",  # no fonts are needed where the page is read
    "svg.hashsalt": "hemtrace",  # element ids are random without it
}


def in_common_look(make: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a figure maker draw in the common look, whatever matplotlib's global settings are."""

    @wraps(make)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_LOOK):
            return make(*args, **kwargs)

    return styled


def new_figure(
    width_in: float, height_in: float, rows: int = 1, columns: int = 1, **subplots: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure without pyplot's global state.

    Returns
    -------
    The figure and its axes, row by row.
    """
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    return figure, list(axes.ravel())


def draw_bytes(figure: Figure, kind: str = "svg", dpi: int = 150) -> bytes:
    """Draw a figure as `svg` or `png`, without the date that would make each drawing differ."""
    stream = BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(_LOOK):
        figure.savefig(stream, format=kind, dpi=dpi, metadata=metadata, facecolor="white")
    return stream.getvalue()


def write_figure(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure in the format that the file's suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(draw_bytes(figure, path.suffix.lstrip("."), dpi))


def say_nothing_to_draw(axes: Axes, sentence: str) -> None:
    """Put a sentence where a figure would be, so that nobody takes it for a mistake."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, sentence, ha="center", va="center", color=MUTED, wrap=True)
