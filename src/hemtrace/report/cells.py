"""The parts of tables: ready words and figures, no HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNDEFINED = "not estimable"
_DASH = "\N{EN DASH}"
NO_INTERVAL = (
    "A figure without an interval rests on fewer than three patients, or on replicates that lack a "
    "class or all agree."
)


@dataclass(frozen=True)
class Table:
    """A table of ready text; the first column names the row, figures stand in the others.

    Attributes
    ----------
    columns, rows
        Headings, and as many cells in each row; lines of a cell after its first are set small.
    text
        Whether the other columns hold words, which are set flush left.
    note
        What stands below.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: bool = False
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """A figure in large type: name, value, interval, and what it is computed on."""

    name: str
    value: str
    interval: str
    basis: str


def number(value: float | None, digits: int = 3) -> str:
    """Write a figure, or that it is undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def interval(estimate: Mapping[str, Any], digits: int = 3) -> str:
    """Write the bounds of a 95 % interval, or nothing where there is none."""
    low, high = estimate["low"], estimate["high"]
    if low is None or high is None:
        return ""
    # A dash beside a minus sign cannot be read.
    between = " to " if low < 0 else _DASH
    return f"{low:.{digits}f}{between}{high:.{digits}f}"


def cell(estimate: Mapping[str, Any], digits: int = 3) -> str:
    """Write a figure, and on a line of its own its interval."""
    return "\n".join(filter(None, [number(estimate["value"], digits), interval(estimate, digits)]))


def explain(estimates: Mapping[str, Mapping[str, Any]]) -> str:
    """Say of which names no figure can be given, and why."""
    causes: dict[str, list[str]] = {}
    for name, estimate in estimates.items():
        if estimate["value"] is None:
            causes.setdefault(str(estimate["why"]), []).append(name)
    lacking = [f"Not estimable for {', '.join(names)}: {why}." for why, names in causes.items()]
    return " ".join([*lacking, NO_INTERVAL])
