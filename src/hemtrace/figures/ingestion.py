"""What the ingestion page shows: HU, distributions, and pictures from the quarantine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from hemtrace.figures.style import GOOD, GOOD_PALE, MUTED, in_common_look, new_figure
from hemtrace.figures.style import say_nothing_to_draw as say

_TISSUES = {"air": (-1100, -850), "soft tissue": (-20, 90), "bone": (250, 2000)}


@dataclass(frozen=True)
class Distribution:
    """Values of one fact, with its name and unit; empty where the headers do not tell it."""

    name: str
    values: np.ndarray


@dataclass(frozen=True)
class Thumbnail:
    """A picture from the quarantine: its reason and uint8 (H, W)."""

    reason: str
    image: np.ndarray


@in_common_look
def hu_histogram(shares: np.ndarray, edges: np.ndarray) -> Figure:
    """Draw the mean share of pixels by HU, on a logarithmic scale, with its range over the slices.

    Parameters
    ----------
    shares
        float (slices, bins), each row of sum 1.
    edges
        float (bins + 1,), HU.
    """
    figure, (axes,) = new_figure(9.6, 3.2)
    if not len(shares):
        say(axes, "No slice could be read again.")
        return figure
    for name, (low, high) in _TISSUES.items():
        axes.axvspan(low, high, color=GOOD_PALE, alpha=0.35, lw=0)
        axes.text((low + high) / 2, 1.02, name, ha="center", transform=axes.get_xaxis_transform())
    middle = (edges[1:] + edges[:-1]) / 2
    floor = 1e-6  # a logarithm has no zero
    low, high = np.percentile(shares, [5, 95], axis=0)
    axes.fill_between(middle, low + floor, high + floor, color=GOOD, alpha=0.25, lw=0, step="mid")
    axes.step(middle, shares.mean(axis=0) + floor, color=GOOD, where="mid")
    axes.set_yscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("HU")
    axes.set_ylabel(f"share of pixels in {edges[1] - edges[0]:g} HU")
    axes.grid(axis="y")
    return figure


@in_common_look
def histograms(panels: Sequence[Distribution]) -> Figure:
    """Draw the distribution of each fact in a panel of its own."""
    figure, axes = new_figure(9.6, 2.6, 1, len(panels))
    for panel, shown in zip(axes, panels, strict=True):
        panel.set_title(shown.name)
        if not len(shown.values):
            say(panel, "not in the headers")
            continue
        spread = np.ptp(shown.values)
        bins: int | list[float] = 30
        if spread < 1e-6:  # one value: a thin bar in the middle
            value = float(shown.values[0])
            reach = max(abs(value), 1.0)
            bins = [value - 0.02 * reach, value + 0.02 * reach]
            panel.set_xlim(value - 0.5 * reach, value + 0.5 * reach)
        panel.hist(shown.values, bins=bins, color=GOOD_PALE, edgecolor="white", lw=0.4)
        panel.set_yticks([])
        panel.spines["left"].set_visible(False)
        panel.set_xlabel(f"n = {len(shown.values):,}", color=MUTED)
    return figure


@in_common_look
def thumbnail_sheet(tiles: Sequence[Thumbnail], columns: int = 6) -> Figure:
    """Draw pictures from the quarantine under their reasons."""
    rows = max(1, -(-len(tiles) // columns))
    figure, axes = new_figure(9.6, 1.95 * rows, rows, columns)
    for panel in axes:
        panel.set_axis_off()
    if not tiles:
        say(axes[columns // 2], "No quarantined file has a picture.")
    for panel, tile in zip(axes, tiles, strict=False):
        panel.set_title(tile.reason, fontsize=8.5, fontweight="normal")
        panel.imshow(tile.image, cmap="gray", vmin=0, vmax=255)
    return figure
