"""The parts of tables: ready words and figures, no HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hemtrace.labels import SUBTYPES
from hemtrace.metrics import FEW_BEARERS

# The order of labels on a page.
ANY_FIRST = ("any", *SUBTYPES)
UNDEFINED = "not estimable"
_DASH = "\N{EN DASH}"
NO_INTERVAL = (
    "A figure without an interval rests on fewer than three patients, or on replicates that lack a "
    "class or all agree."
)
NOT_ASKED = (
    "No bootstrap was asked for (evaluate.bootstrap is 0): an interval stands only where it is the "
    "exact binomial one."
)
# Before a table of published figures.
SYNTHETIC_ROWS = "This run's data are synthetic: no row compares."
# After an interval that rests on few patients, as `Estimate.note` says.
MARK = "\N{DAGGER}"
FOOTNOTE = (
    f"{MARK} Rests on fewer than {FEW_BEARERS} patients: such an interval is too narrow, and holds "
    "the truth less often than it says."
)


class Link(str):
    """Text of a cell that leads somewhere.

    Attributes
    ----------
    href
        Where to.
    """

    href: str

    def __new__(cls, text: str, href: str) -> "Link":
        """Make the text, and remember where it leads."""
        made = super().__new__(cls, text)
        made.href = href
        return made


@dataclass(frozen=True)
class Table:
    """A table of ready text; the first column names the row, figures stand in the others.

    Attributes
    ----------
    columns, rows
        Headings, and as many cells in each row; lines of a cell after its first are set small. A
        cell may be a `Link`.
    text
        Whether the other columns hold words, which are set flush left.
    note, lead
        What stands below, and what must be read before.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: bool = False
    note: str = ""
    lead: str = ""

    @property
    def footnote(self) -> str:
        """What the mark in its cells means; nothing where no cell bears one."""
        return FOOTNOTE if any(MARK in cell for row in self.rows for cell in row) else ""

    def without_intervals(self) -> "Table":
        """Say that no intervals were asked for, in place of why some are missing."""
        return replace(self, note=self.note.replace(NO_INTERVAL, NOT_ASKED))


@dataclass(frozen=True)
class Headline:
    """A figure in large type: name, value, interval, and what it is computed on."""

    name: str
    value: str
    interval: str
    basis: str

    @property
    def is_marked(self) -> bool:
        """Whether its interval rests on few patients."""
        return MARK in self.interval


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


def marked_interval(estimate: Mapping[str, Any], digits: int = 3) -> str:
    """Write an interval, with a mark where it rests on few patients."""
    bounds = interval(estimate, digits)
    return f"{bounds}{MARK}" if bounds and estimate.get("note") else bounds


def marked_cell(estimate: Mapping[str, Any], digits: int = 3) -> str:
    """Write a figure, and on a line of its own its interval, marked where it rests on few."""
    lines = number(estimate["value"], digits), marked_interval(estimate, digits)
    return "\n".join(filter(None, lines))


def explain(estimates: Mapping[str, Mapping[str, Any]]) -> str:
    """Say of which names no figure can be given, and why."""
    causes: dict[str, list[str]] = {}
    for name, estimate in estimates.items():
        if estimate["value"] is None:
            causes.setdefault(str(estimate["why"]), []).append(name)
    lacking = [f"Not estimable for {', '.join(names)}: {why}." for why, names in causes.items()]
    return " ".join([*lacking, NO_INTERVAL])
