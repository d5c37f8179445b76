"""What a reader gains: net benefit, bleeds found sooner, predictive values elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from hemtrace.figures.style import (
    BAD,
    GOOD,
    GOOD_PALE,
    INK,
    MUTED,
    in_common_look,
    new_figure,
    say_nothing_to_draw,
)

# Points are told apart by mark and dashes; colour only helps.
_MARKS = (("o", "-", INK), ("s", "--", GOOD), ("^", "-.", BAD), ("D", ":", MUTED))


@in_common_look
def decision_curves(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the net benefit of acting on the model, on everyone and on nobody.

    Parameters
    ----------
    curves
        By title of the panel, e.g. `test patients`: n, positives, chances; `model` with the lists
        value, low, high; `all`; or `model` None and why.
    """
    figure, panels = new_figure(5.2 * max(1, len(curves)), 4.5, 1, max(1, len(curves)))
    handles: dict[str, Artist] = {}
    for axes, (title, curve) in zip(panels, curves.items(), strict=False):
        axes.set_title(f"Net benefit, {title} (n = {curve['n']:,})")
        if curve["model"] is None:
            say_nothing_to_draw(axes, f"not estimable: {curve['why']}")
            continue
        chances = np.asarray(curve["chances"])
        _fill(axes, chances, curve["model"])
        axes.plot(chances, curve["model"]["value"], color=GOOD, lw=2.4, label="model")
        axes.plot(chances, curve["all"], color=INK, ls="--", lw=1.3, label="act on everyone")
        axes.axhline(0, color=MUTED, ls=":", lw=1.6, label="act on nobody")
        highest = (curve["model"]["value"], curve["model"]["high"], [curve["prevalence"]])
        top = max(float(np.nanmax(_floats(values), initial=0)) for values in highest)
        axes.set_ylim(-0.12 * top, 1.06 * top)
        axes.set_xlim(0, chances[-1])
        axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
        axes.set_xlabel("probability from which one would act")
        axes.set_ylabel("net benefit (share of rows)")
        axes.grid()
        handles |= {
            str(artist.get_label()): artist for artist in axes.get_legend_handles_labels()[0]
        }
    if handles:
        figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=4)
    return figure


@in_common_look
def workload_curve(curve: Mapping[str, Any], unit: str = "studies") -> Figure:
    """Draw the share of bleeds found against the share of scans read, highest score first.

    Parameters
    ----------
    curve
        n, positives, read; `found` with the lists value, low, high; `ideal`; `to_read` by share
        ("0.9", ...), each with value; or `found` None and why.
    unit
        What is read, in the plural.
    """
    figure, (axes,) = new_figure(5.8, 5.0)
    axes.set_title(f"Reading {unit} in order of score")
    if curve["found"] is None:
        say_nothing_to_draw(axes, f"not estimable: {curve['why']}")
        return figure
    read = np.asarray(curve["read"])
    _fill(axes, read, curve["found"])
    axes.plot(read, curve["found"]["value"], color=GOOD, lw=2.4, label="in order of score")
    axes.plot(read, curve["ideal"], color=INK, ls="--", lw=1.2, label="all bleeds first")
    axes.plot([0, 1], [0, 1], color=MUTED, ls=":", lw=1.6, label="in order of arrival")
    for share, marker in zip(sorted(curve["to_read"], key=float), "oD*", strict=False):
        needed = curve["to_read"][share]["value"]
        if needed is not None:
            axes.plot(
                needed,
                # Of ten bleeds nine and a half cannot be found: the curve is then above the share.
                max(float(share), float(np.interp(needed, read, curve["found"]["value"]))),
                marker,
                ls="",
                mfc="white",
                mec=INK,
                ms=11 if marker == "*" else 7,
                zorder=5,
                clip_on=False,
                label=f"{float(share):.0%} found after {needed:.0%} of them",
            )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, 0))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.04)
    axes.set_xlabel(f"share of the {curve['n']:,} {unit} read")
    axes.set_ylabel(f"share of the {curve['positives']:,} with a bleed found")
    axes.grid()
    axes.legend(loc="lower right", fontsize=8.5)
    return figure


@in_common_look
def predictive_values(
    tables: Mapping[str, Sequence[Mapping[str, Any]]], title: str = "test patients"
) -> Figure:
    """Draw PPV and NPV over the prevalence.

    Parameters
    ----------
    tables
        By name of the operating point: rows of prevalence, ppv and npv, each with value, low, high.
    title
        Whose sensitivity and specificity they rest on.
    """
    figure, (left, right) = new_figure(10.2, 4.2, 1, 2)
    for axes, name, words in (
        (left, "ppv", "Positive predictive value"),
        (right, "npv", "Negative predictive value"),
    ):
        _draw_values(axes, name, tables)
        axes.set_title(f"{words}, {title}")
        axes.set_ylabel("bleed, if flagged" if name == "ppv" else "no bleed, if not flagged")
    return figure


def _draw_values(axes: Axes, name: str, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    lowest, ticks = 1.0, set()
    count = len(tables)
    for place, (point, rows) in enumerate(tables.items()):
        marker, style, color = _MARKS[place % len(_MARKS)]
        # Beside each other, so that intervals of equal prevalence stay apart.
        across = np.array([row["prevalence"] for row in rows]) * 1.05 ** (place - (count - 1) / 2)
        ticks |= {row["prevalence"] for row in rows}
        value, low, high = (_floats([row[name][key] for row in rows]) for key in _KEYS)
        if np.isnan(value).all():
            axes.plot([], [], ls="", label=f"{point}: not estimable")
            continue
        axes.vlines(across, low, high, color=color, lw=1)
        axes.plot(across, value, marker=marker, ls=style, color=color, ms=5, label=point)
        lowest = min(lowest, float(np.nanmin(np.fmin(value, low))))
    if not any(np.size(line.get_xdata()) for line in axes.lines):
        say_nothing_to_draw(axes, "not estimable at any operating point")
        return
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    shown = sorted(ticks)
    axes.set_xticks(shown, [f"{100 * tick:g}" for tick in shown])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    bottom = 0 if lowest < 0.5 else min(0.9, lowest - 0.1 * (1 - lowest))
    axes.set_ylim(bottom, 1 + 0.04 * (1 - bottom))
    axes.set_xlabel("share with a bleed where the model is used, %")
    axes.grid()
    axes.legend(loc="lower right" if name == "ppv" else "lower left")


_KEYS = ("value", "low", "high")


def _fill(axes: Axes, across: np.ndarray, band: Mapping[str, Any]) -> None:
    if np.isnan(_floats(band["low"])).all():
        return
    axes.fill_between(
        across,
        _floats(band["low"]),
        _floats(band["high"]),
        color=GOOD_PALE,
        alpha=0.6,
        lw=0,
        label="95 % interval",
    )


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array(values, dtype=np.float64)
