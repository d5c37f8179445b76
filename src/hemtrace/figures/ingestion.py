"""Figures of the ingestion page: what is lost at which step, HU, and distributions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from hemtrace.figures.style import (
    BAD,
    BAD_PALE,
    GOOD,
    GOOD_PALE,
    INK,
    MUTED,
    in_common_look,
    new_figure,
    say_nothing_to_draw,
)

HU_EDGES = np.arange(-1100, 2101, 10)
# The ranges by which the HU gate judges (`dicom.hu`); bone has no upper end.
HU_BANDS = {"air": (-1150, -800), "soft tissue": (-200, 150), "bone": (300, 2100)}
_BAND_COLORS = {"air": "#dfe4e8", "soft tissue": BAD_PALE, "bone": GOOD_PALE}
_MOST_BINS = 40


@dataclass(frozen=True)
class Panel:
    """A distribution: what is counted, its unit (or nothing), and its finite values."""

    title: str
    unit: str
    values: np.ndarray


@in_common_look
def step_bars(steps: Sequence[tuple[str, int, Sequence[tuple[str, int]]]]) -> Figure:
    """Draw how many pictures came through each step, and beside it why the others did not.

    Parameters
    ----------
    steps
        In order: name, pictures that passed, and those lost at it by reason.
    """
    lines = [max(1, len(lost)) for _, _, lost in steps]
    figure, (axes,) = new_figure(9.6, 0.6 + 0.24 * sum(lines) + 0.16 * len(steps))
    most = max(1, *(passed + sum(count for _, count in lost) for _, passed, lost in steps))
    top = 0.0
    places = []
    for (_, passed, lost), height in zip(steps, lines, strict=True):
        place = top + height / 2
        gone = sum(count for _, count in lost)
        axes.barh(place, passed, height=0.8 * height, color=GOOD_PALE)
        axes.barh(place, gone, left=passed, height=0.8 * height, color=BAD)
        axes.text(0.01 * most, place, f"{passed:,}", va="center", fontweight="bold")
        for line, (reason, count) in enumerate(lost):
            axes.text(
                1.03 * most,
                top + line + 0.5 + (height - len(lost)) / 2,
                f"\N{MINUS SIGN} {count:,}  {reason}",
                va="center",
                fontsize=8.5,
                color=INK,
            )
        places.append(place)
        top += height + 0.65
    axes.set_yticks(places, [name for name, _, _ in steps])
    axes.set_ylim(top - 0.4, -0.2)
    axes.set_xlim(0, 1.45 * most)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(left=False)
    axes.set_title("Came through (pale), and was lost at the step (dark), with the reason")
    return figure


@in_common_look
def hu_histogram(counts: np.ndarray, slices: int) -> Figure:
    """Draw the HU of many slices, over the whole range and around soft tissue.

    Parameters
    ----------
    counts
        Pixels in each bin of `HU_EDGES`, from all slices together.
    slices
        How many they are.
    """
    figure, axes = new_figure(9.6, 3.6, 1, 2, width_ratios=(3, 2))
    if not counts.sum():
        for panel in axes:
            say_nothing_to_draw(panel, "No slice to show.")
        return figure
    share = counts / counts.sum()
    whole, soft = axes
    for panel, (low, high) in ((whole, (-1100, 2100)), (soft, (-150, 200))):
        for name, (start, end) in HU_BANDS.items():
            panel.axvspan(start, end, color=_BAND_COLORS[name], alpha=0.55, lw=0)
            centre = (max(start, low) + min(end, high)) / 2
            if min(end, high) > max(start, low):
                panel.text(
                    centre, 0.98, name, ha="center", va="top", fontsize=8.5,
                    transform=panel.get_xaxis_transform(),
                )  # fmt: skip
        panel.stairs(share, HU_EDGES, color=INK, lw=1.2)
        panel.set_xlim(low, high)
        panel.set_xlabel("HU (bins of 10)")
    whole.set_yscale("log")
    whole.set_ylim(top=3 * share.max())
    whole.set_ylabel("share of the pixels")
    whole.set_title(f"All HU of {slices:,} slices (logarithmic)")
    inside = share[(HU_EDGES[:-1] >= -150) & (HU_EDGES[:-1] < 200)]
    soft.set_ylim(0, 1.2 * max(inside.max(), 1e-9))
    soft.set_title("Around soft tissue (linear)")
    return figure


@in_common_look
def distributions(panels: Sequence[Panel], columns: int = 2) -> Figure:
    """Draw a histogram a panel, with its median and its range in words."""
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(9.6, 2.6 * rows, rows, columns)
    for spare in axes[len(panels) :]:
        spare.set_axis_off()
    for panel, place in zip(panels, axes, strict=False):
        values = panel.values
        if not values.size:
            place.set_title(panel.title)
            say_nothing_to_draw(place, "No slice tells it.")
            continue
        low, middle, high = (float(part) for part in np.quantile(values, (0, 0.5, 1)))
        counts, edges = _bin(values, low, high)
        place.stairs(counts, edges, fill=True, color=GOOD_PALE, ec=GOOD)
        place.axvline(middle, color=BAD, lw=1.2)
        place.set_title(panel.title)
        unit = f" {panel.unit}" if panel.unit else ""
        place.set_xlabel(
            f"median {middle:.4g}, {low:.4g} to {high:.4g}{unit} (n = {values.size:,})",
            color=MUTED,
        )
        place.yaxis.get_major_locator().set_params(integer=True, nbins=4)
        place.ticklabel_format(axis="x", useOffset=False)
    return figure


def _bin(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Bin values; a single value, and whole numbers close together, get bars of their own."""
    if high - low < 1e-9:
        half = max(abs(low) * 0.05, 0.05)
        return np.array([values.size]), np.array([low - half, low + half])
    if np.array_equal(values, np.rint(values)) and high - low < _MOST_BINS:
        return np.histogram(values, np.arange(low - 0.5, high + 1))
    return np.histogram(values, _MOST_BINS, (low, high))
