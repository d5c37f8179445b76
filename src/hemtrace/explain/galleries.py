"""The galleries and the figure of scores: which slices, and what is drawn of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from hemtrace.explain import choose
from hemtrace.explain.cases import Cases
from hemtrace.explain.maps import Mapper
from hemtrace.explain.tiles import add_heat, make_tiles
from hemtrace.figures.gallery import (
    Tile,
    heat_gallery,
    slice_gallery,
    subtype_gallery,
    worst_gallery,
)
from hemtrace.figures.localisation import ScoreRow, localisation_figure
from hemtrace.figures.style import INK, LABEL_COLORS
from hemtrace.labels import ANY, LABELS
from hemtrace.params import ExplainParams, Window


def shown_channel(windows: Sequence[Window]) -> int:
    """Tell which channel is shown: the brain window, of this slice where there are neighbours."""
    names = [window.name for window in windows]
    places = [k for k, name in enumerate(names) if name == "brain"] or [
        k for k, name in enumerate(names) if name == names[0]
    ]
    return places[len(places) // 2]


def make_galleries(
    mapper: Mapper,
    cases: Cases,
    lesions: Mapping[str, np.ndarray],
    windows: Sequence[Window],
    params: ExplainParams,
    threshold: float,
    seed: int,
) -> tuple[dict[str, list[Tile]], dict[str, Figure], dict[str, Any]]:
    """Choose and draw all galleries: tiles of the first two, figures, and the slices' keys."""
    brain = shown_channel(windows)
    window = f"{windows[brain].name} window"
    patients, labels = cases.slices.patients, cases.slices.labels

    def show(places: list[int], label: int = ANY, warm: bool = True) -> list[Tile]:
        tiles = make_tiles(places, cases, lesions, brain, window, label)
        return add_heat(tiles, places, mapper, cases, threshold, label) if warm else tiles

    choice = choose.choose_slices(
        labels, cases.flagged[:, ANY], patients, params.positives, params.negatives, seed
    )
    tiles = {"bleeds": show(choice.positives), "clear": show(choice.negatives, warm=False)}
    subtypes = {
        label: {kind: show(places, LABELS.index(label)) for kind, places in of_kind.items()}
        for label, of_kind in choose.choose_by_subtype(
            labels, cases.flagged, patients, params.each_subtype, seed
        ).items()
    }
    probability = cases.probability[:, ANY]
    worst = {
        kind: show(places)
        for kind, places in choose.choose_worst(
            labels, cases.flagged[:, ANY], probability, patients, params.worst
        ).items()
    }
    shown: dict[str, Any] = {name: [tile.name for tile in of] for name, of in tiles.items()}
    shown["worst"] = {kind: [tile.name for tile in of] for kind, of in worst.items()}
    shown["subtypes"] = {
        label: {kind: [tile.name for tile in of] for kind, of in of_kind.items()}
        for label, of_kind in subtypes.items()
    }
    figures = {
        "gallery_bleeds": heat_gallery(tiles["bleeds"]),
        "gallery_clear": slice_gallery(tiles["clear"]),
        "gallery_subtypes": subtype_gallery(subtypes),
        "gallery_worst": worst_gallery(worst["false alarm"], worst["missed"]),
    }
    return tiles, figures, shown


def draw_scores(localisation: Mapping[str, Any], volumes: pl.DataFrame) -> Figure:
    """Draw the figure of scores from what the product says."""

    def row(name: str, scores: Mapping[str, Any], color: str) -> ScoreRow:
        measures = ("pointing", "energy", "dice", "iou")
        return ScoreRow(
            name,
            scores["n"],
            {measure: scores[measure] for measure in measures},
            {measure: scores[f"{measure}_chance"] for measure in measures},
            color,
        )

    labels = localisation["labels"] or {}
    by_size = labels[LABELS[ANY]]["by_size"] if labels else {}
    known = volumes.filter(pl.col("label") == LABELS[ANY]).drop_nulls(
        ["volume_ml", "true_volume_ml"]
    )
    return localisation_figure(
        [row(label, scores["all"], LABEL_COLORS[label]) for label, scores in labels.items()],
        [row(name.replace("mm2", "mm²"), scores, INK) for name, scores in by_size.items()],
        localisation["planted"],
        (known["true_volume_ml"].to_numpy(), known["volume_ml"].to_numpy()),
        localisation["map_threshold"]["grid"],
        localisation["map_threshold"]["value"],
    )
