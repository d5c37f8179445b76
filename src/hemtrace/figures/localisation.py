"""How well heat maps lie on bleeds, and whether they depend on what was learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemtrace.figures.style import (
    BAD,
    GOOD,
    GOOD_PALE,
    INK,
    LABEL_COLORS,
    MUTED,
    in_common_look,
    new_figure,
)
from hemtrace.figures.style import say_nothing_to_draw as say

Interval = Mapping[str, Any]


@dataclass(frozen=True)
class ScoreRow:
    """A row of the panels of scores.

    Attributes
    ----------
    name
        What it is of, e.g. a label or a size of lesion.
    n
        Slices behind it.
    values
        By measure: value, low, high (None where unknown).
    chances
        By measure: what chance reaches, or None.
    color
        Of the marks.
    """

    name: str
    n: int
    values: Mapping[str, Interval]
    chances: Mapping[str, float | None]
    color: str = INK


_TITLES = {
    "pointing": "Pointing game",
    "energy": "Energy-based\npointing game",
    "dice": "Dice coefficient",
    "iou": "Intersection over union",
}


@in_common_look
def localisation_figure(
    labels: Sequence[ScoreRow],
    sizes: Sequence[ScoreRow],
    planted: Mapping[str, Any],
    volumes: tuple[np.ndarray, np.ndarray],
    grid: Sequence[Sequence[float]] | None,
    threshold: float,
) -> Figure:
    """Draw the scores of heat maps.

    Parameters
    ----------
    labels, sizes
        Rows of the first and second line of panels; none where there are no masks.
    planted
        What `explain.plant.score_plantings` gives.
    volumes
        float (N,) each: true and predicted volume of each series in mL.
    grid
        Thresholds of the map and the mean Dice coefficient on validation slices; None: no masks.
    threshold
        The one chosen.
    """
    heights = [max(1, len(labels)) + 2.2, max(1, len(sizes)) + 2.2, 8.5]
    figure = new_figure(11.4, 0.36 * sum(heights))[0]
    figure.clear()
    lines = np.ravel(np.asarray(figure.subfigures(3, 1, height_ratios=heights)))
    for line, rows, what in (
        (lines[0], labels, "by label (chance: open diamond)"),
        (lines[1], sizes, "any bleed, by area of the lesion on the slice"),
    ):
        panels = list(line.subplots(1, len(_TITLES), sharey=True))
        _score_panels(panels, rows, what)
    left, middle, right = lines[2].subplots(1, 3)
    _planted_panel(left, planted)
    _threshold_panel(middle, grid, threshold)
    _volume_panel(right, *volumes)
    return figure


def _score_panels(panels: Sequence[Axes], rows: Sequence[ScoreRow], what: str) -> None:
    if not rows:
        for panel in panels[1:]:
            panel.set_axis_off()
        say(panels[0], "No lesion masks: no scores.")
        return
    for panel, (key, title) in zip(panels, _TITLES.items(), strict=True):
        for place, row in enumerate(rows):
            value, chance = row.values[key], row.chances.get(key)
            if chance is not None:
                panel.plot(chance, place, marker="D", mfc="white", mec=MUTED, ms=5, ls="")
            if value["value"] is None:
                panel.text(0.02, place, "not estimable", va="center", fontsize=7.5, color=MUTED)
                continue
            if value["low"] is not None:
                panel.plot([value["low"], value["high"]], [place, place], color=row.color, lw=1.6)
            panel.plot(value["value"], place, marker="o", ms=5.5, color=row.color, ls="")
        top = _upper_end(rows, key)
        panel.set_xlim(-0.03 * top, 1.03 * top)
        panel.grid(axis="x")
        panel.set_title(title, fontsize=9.5)
        panel.set_yticks(range(len(rows)), [f"{row.name} (n = {row.n})" for row in rows])
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.tick_params(axis="y", length=0)
        panel.set_xticks(np.linspace(0, top, 3))
    panels[0].set_xlabel(what, loc="left", fontsize=8.5)


def _upper_end(rows: Sequence[ScoreRow], key: str) -> float:
    """Choose the end of an axis, a multiple of 0.2 of at most 1."""
    if key == "pointing":
        return 1.0
    reached = [row.values[key]["high"] or row.values[key]["value"] or 0 for row in rows]
    reached += [row.chances.get(key) or 0 for row in rows]
    return min(1.0, max(0.2, float(np.ceil(5 * max(reached)) / 5)))


def _planted_panel(axes: Axes, planted: Mapping[str, Any]) -> None:
    if not planted.get("slices"):
        say(axes, "No slice in which to plant a lesion.")
        return
    names = ["all quadrants", *planted["map"]["quadrants"]]
    names += [f"place {name}" for name in planted["map"]["flipped"]]
    for kind, shift, label in (("map", -0.19, "map"), ("difference", 0.19, "change of the map")):
        found = planted[kind]
        values = [found["hits"], *found["quadrants"].values(), *found["flipped"].values()]
        axes.barh(
            np.arange(len(values)) + shift,
            [value["value"] or 0 for value in values],
            color=GOOD if kind == "map" else GOOD_PALE,
            height=0.36,
            label=label,
        )
        for place, value in enumerate(values):
            if value["low"] is not None:
                axes.plot([value["low"], value["high"]], [place + shift] * 2, color=INK, lw=1.1)
    axes.legend(loc="lower right", fontsize=7.5)
    if planted["chance"] is not None:
        axes.axvline(planted["chance"], color=MUTED, ls=":", lw=1.2)
        axes.text(planted["chance"], len(names) - 0.35, " chance", fontsize=7.5, color=MUTED)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.05, -0.6)
    axes.set_xlim(0, 1.03)
    axes.set_xlabel("share of peaks within one cell")
    axes.set_title(f"Planted lesions (n = {planted['trials']})", fontsize=9.5)


def _threshold_panel(axes: Axes, grid: Sequence[Sequence[float]] | None, chosen: float) -> None:
    if not grid:
        say(axes, f"No validation slice has a mask:\nthe map threshold is {chosen:g}.")
        return
    thresholds, dices = np.asarray(grid, dtype=float).T
    axes.plot(thresholds, dices, color=INK, marker="o", ms=3)
    axes.axvline(chosen, color=BAD, ls="--", lw=1.2)
    axes.text(chosen, 0.02, f" {chosen:g}", color=BAD, transform=axes.get_xaxis_transform())
    axes.set_xlim(0, 1)
    axes.set_ylim(0, None)
    axes.grid(axis="y")
    axes.set_xlabel("threshold of the heat map")
    axes.set_ylabel("mean Dice")
    axes.set_title("Chosen on validation slices", fontsize=9.5)


def _volume_panel(axes: Axes, truth: np.ndarray, predicted: np.ndarray) -> None:
    if not len(truth):
        say(axes, "No series with a known volume.")
        return
    top = max(1.0, float(truth.max()), float(predicted.max())) * 1.6
    axes.plot([0, top], [0, top], color=MUTED, lw=1, ls=":")
    axes.plot(truth, predicted, ls="", marker="o", ms=4.5, mfc="none", mec=INK, clip_on=False)
    for set_scale in (axes.set_xscale, axes.set_yscale):
        set_scale("symlog", linthresh=1)
    axes.set_xlim(-0.1, top)
    axes.set_ylim(-0.1, top)
    axes.set_xlabel("true volume, mL")
    axes.set_ylabel("volume of the regions, mL")
    axes.set_title(f"Volume, {len(truth)} series", fontsize=9.5)


@in_common_look
def randomisation_figure(
    steps: Sequence[Mapping[str, Any]],
    other_patients: float | None,
    pointing_chance: float | None,
    images: np.ndarray,
    maps: np.ndarray,
) -> Figure:
    """Draw maps of networks that are made random step by step, and how much they change.

    Parameters
    ----------
    steps
        name, similarity, pointing of each, as `explain.randomise.compare_maps` gives.
    other_patients
        Similarity of maps of different patients.
    pointing_chance
        Share of hits of points dropped at random on the head.
    images
        uint8 (K, H, W), the example slices; K may be 0.
    maps
        (len(steps), K, H, W), their maps.
    """
    if not len(images):
        figure, (panel,) = new_figure(11.4, 1.2)
        say(panel, "No slice to compare maps on.")
        return figure
    figure = new_figure(11.4, 1.75 * len(images) + 3.4)[0]
    figure.clear()
    parts = figure.subfigures(2, 1, height_ratios=[1.75 * len(images) + 0.35, 3.05])
    above, below = np.ravel(np.asarray(parts))
    panels = above.subplots(len(images), len(steps) + 1, squeeze=False)
    for image, row, of_image in zip(images, panels, maps.swapaxes(0, 1), strict=True):
        for place, panel in enumerate(row):
            panel.imshow(image, cmap="gray", vmin=0, vmax=255)
            panel.set_xticks([])
            panel.set_yticks([])
            panel.spines[:].set_visible(False)
            if place:
                heat = of_image[place - 1]
                panel.imshow(
                    heat,
                    cmap="inferno",
                    alpha=np.clip(heat * 1.3, 0, 0.62),
                    vmin=0,
                    vmax=1,
                    interpolation="bilinear",
                )
    names = [step["name"] for step in steps]
    for panel, name in zip(panels[0], ["slice", *names], strict=True):
        panel.set_title(name, fontsize=8.5, loc="center")
    similar, pointing = below.subplots(1, 2)
    _step_panel(similar, [step["similarity"] for step in steps], names, "rank correlation")
    similar.set_title("Similarity to the trained network's map", fontsize=9.5)
    similar.set_ylim(min(-0.25, similar.get_ylim()[0]), 1.05)
    _chance_line(similar, other_patients, "maps of different patients")
    if all(step["pointing"]["value"] is None for step in steps):
        say(pointing, "No lesion masks: no hits to count.")
    else:
        _step_panel(pointing, [step["pointing"] for step in steps], names, "share of peaks on it")
        pointing.set_ylim(-0.03, 1.05)
        pointing.set_title("Pointing at the lesion", fontsize=9.5)
        _chance_line(pointing, pointing_chance, "a random point on the head")
    return figure


def _chance_line(axes: Axes, value: float | None, name: str) -> None:
    if value is not None:
        axes.axhline(value, color=MUTED, ls=":", lw=1.4, label=name)
        axes.legend(loc="upper right", fontsize=8)


def _step_panel(axes: Axes, values: Sequence[Interval], names: Sequence[str], what: str) -> None:
    known = [(k, value) for k, value in enumerate(values) if value["value"] is not None]
    axes.plot(
        [k for k, _ in known],
        [value["value"] for _, value in known],
        color=LABEL_COLORS["intraparenchymal"],
        marker="o",
    )
    for k, value in known:
        if value["low"] is not None:
            axes.plot([k, k], [value["low"], value["high"]], color=INK, lw=1.2)
    axes.axhline(0, color=MUTED, lw=0.8)
    axes.set_xlim(-0.3, len(names) - 0.55)
    axes.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names], fontsize=8)
    axes.set_xlabel("random layers")
    axes.set_ylabel(what)
    axes.grid(axis="y")
