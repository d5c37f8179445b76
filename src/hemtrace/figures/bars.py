"""Bar charts: what is detected, which subtypes, and what became of the files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemtrace.figures.style import (
    BAD,
    BAD_PALE,
    GOOD,
    GOOD_PALE,
    INK,
    LABEL_COLORS,
    MUTED,
    in_common_look,
    new_figure,
    say_nothing_to_draw,
)


@dataclass(frozen=True)
class Proportion:
    """A share with its interval, and what it is a share of.

    Attributes
    ----------
    name
        What the bar says, e.g. `subdural`.
    value, low, high
        Within 0..1; None where undefined.
    n
        Number of slices (or patients) below the line.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int


@in_common_look
def detection_bars(slices: Mapping[str, int] | None, patients: Mapping[str, int] | None) -> Figure:
    """Draw what a reader wants at a glance: bleeds found and missed, false alarms and all-clears.

    Parameters
    ----------
    slices, patients
        Counts `tp`, `fp`, `fn`, `tn` of `any` at the operating thresholds; None where there is no
        threshold.
    """
    figure, (axes,) = new_figure(9.6, 3.3)
    rows = []
    for unit, counts in (("patients", patients), ("slices", slices)):
        if counts is None:
            continue
        rows.append((f"{unit} with a bleed", counts["tp"], counts["fn"], "found", "missed"))
        rows.append((f"{unit} without", counts["tn"], counts["fp"], "clear", "false alarms"))
    if not rows:
        say_nothing_to_draw(axes, "not estimable: no threshold could be chosen")
    names = []
    for place, (name, right, wrong, right_word, wrong_word) in enumerate(rows):
        total = right + wrong
        names.append(f"{name} (n = {total:,})")
        bleed = right_word == "found"
        _stack(axes, place, right, total, 0, GOOD if bleed else GOOD_PALE, right_word)
        _stack(axes, place, wrong, total, right, BAD if bleed else BAD_PALE, wrong_word)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 6), [f"{share:.0%}" for share in np.linspace(0, 1, 6)])
    axes.set_xlabel("share of the patients or slices in the row")
    axes.set_title("Detection of any bleed on the test patients, at the operating thresholds")
    return figure


def _stack(
    axes: Axes, place: int, count: int, total: int, before: int, color: str, word: str
) -> None:
    if not count:
        return
    width, left = count / total, before / total
    axes.barh(place, width, left=left, color=color, height=0.68, edgecolor="white")
    dark = color in (GOOD, BAD)
    text = f"{count:,} {word}"
    # A narrow part has its words above it, where they cannot run into its neighbour's.
    if width > 0.018 * len(text):
        axes.text(
            left + width / 2,
            place,
            text,
            ha="center",
            va="center",
            color="white" if dark else INK,
            fontweight="bold",
            fontsize=9,
        )
    else:
        axes.text(
            left + width,
            place - 0.36,
            text,
            ha="left" if before == 0 else "right",
            va="bottom",
            color=INK,
            fontsize=8,
        )


@in_common_look
def subtype_bars(
    sensitivity: Sequence[Proportion],
    specificity: Sequence[Proportion],
    auc: Sequence[Proportion],
) -> Figure:
    """Draw each label's sensitivity, specificity and AUC, with 95 % intervals.

    Parameters
    ----------
    sensitivity, specificity, auc
        One entry a label, in the same order; n of the first and last are positive slices, n of
        the second negative ones.
    """
    figure, axes = new_figure(10.5, 3.6, 1, 3, sharey=True)
    titles = ("Sensitivity", "Specificity", "ROC AUC")
    for panel, title, bars in zip(axes, titles, (sensitivity, specificity, auc), strict=True):
        for place, bar in enumerate(bars):
            _bar(panel, place, bar)
        panel.set_xlim(0, 1.18)
        panel.set_xticks(np.linspace(0, 1, 6))
        panel.set_title(title)
        panel.grid(axis="x")
    axes[2].axvline(0.5, color=MUTED, lw=0.8, ls=":")
    axes[0].set_yticks(
        range(len(auc)), [f"{bar.name}\n{bar.n:,} slices" for bar in auc], fontsize=9
    )
    axes[0].invert_yaxis()
    return figure


def _bar(axes: Axes, place: int, bar: Proportion) -> None:
    if bar.value is None:
        axes.text(0.02, place, "not estimable", va="center", color=MUTED, fontsize=8)
        return
    axes.barh(place, bar.value, color=LABEL_COLORS[bar.name], height=0.66)
    # Beyond the end of the scale, where no interval runs across it.
    axes.text(1.04, place, f"{bar.value:.2f}", va="center", fontweight="bold", fontsize=9)
    if bar.low is not None and bar.high is not None:
        axes.plot([bar.low, bar.high], [place, place], color="white", lw=4, solid_capstyle="butt")
        axes.plot([bar.low, bar.high], [place, place], color=INK, lw=1.6, solid_capstyle="butt")


@in_common_look
def flow_bars(steps: Sequence[tuple[str, int]], quarantined: Mapping[str, int]) -> Figure:
    """Draw how many files came through each step, and why the others did not.

    Parameters
    ----------
    steps
        Name and number of files, in order; the first holds all files.
    quarantined
        Files by reason.
    """
    ordered = sorted(quarantined.items(), key=lambda item: (-item[1], item[0]))
    # Slots of one height on both sides, so that a single reason does not fill its panel.
    slots = max(len(steps), len(ordered))
    figure, (flow, reasons) = new_figure(9.6, 0.5 + 0.32 * slots, 1, 2, width_ratios=(3, 2))
    _count_bars(flow, steps, GOOD_PALE)
    flow.set_title("Pictures")
    if ordered:
        _count_bars(reasons, ordered, BAD_PALE)
        reasons.set_title(f"Quarantined, by reason (n = {sum(quarantined.values()):,})")
    else:
        say_nothing_to_draw(reasons, "No file was quarantined.")
    for axes in (flow, reasons):
        axes.set_ylim(slots - 0.5, -0.5)
    return figure


def _count_bars(axes: Axes, counts: Sequence[tuple[str, int]], color: str) -> None:
    axes.barh(range(len(counts)), [count for _, count in counts], color=color, height=0.7)
    axes.set_yticks(range(len(counts)), [name for name, _ in counts])
    for place, (_, count) in enumerate(counts):
        axes.text(count, place, f" {count:,}", va="center", color=INK)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.2)
