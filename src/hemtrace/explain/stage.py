"""The stage `explain`: from a model and its test slices to all products."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from hemtrace.evaluate.marks import write_marked
from hemtrace.explain import choose, localise
from hemtrace.explain.cases import describe_cases
from hemtrace.explain.checks import check_planted, check_randomisation
from hemtrace.explain.galleries import draw_scores, make_galleries, shown_channel
from hemtrace.explain.maps import Mapper, create_mapper
from hemtrace.explain.masks import read_masks
from hemtrace.explain.regions import VOLUME_RULE
from hemtrace.explain.survey import choose_threshold, fix_threshold, measure_volumes, survey_slices
from hemtrace.explain.volumes import summarise_volumes
from hemtrace.figures import write_figure
from hemtrace.figures.gallery import Tile
from hemtrace.figures.localisation import randomisation_figure
from hemtrace.labels import ANY, LABELS
from hemtrace.model import Net, list_members, load_model
from hemtrace.params import ExplainParams, Window
from hemtrace.shards import TestSlices, ValSlices

_REPLICATES = 500
# Sheets of slices make most of a page that is to be mailed: a dot is about a pixel of a slice.
_DPI = 110
_NO_MASKS = "the data have no lesion masks"
_METHODS = {"grad-cam": "Grad-CAM", "grad-cam++": "Grad-CAM++", "hirescam": "HiResCAM"}


@dataclass(frozen=True)
class Products:
    """Where the products go.

    Attributes
    ----------
    localisation
        JSON: all scores, rules and counts.
    regions, volumes
        Parquet: `survey.REGION_SCHEMA` and `survey.VOLUME_SCHEMA`; marked as predictions are with
        whether the slices are synthetic.
    gallery_bleeds, gallery_clear, gallery_subtypes, gallery_worst
        PNG: sheets of slices.
    localisation_figure, randomisation_figure
        PNG: scores, and the check with random networks.
    """

    localisation: Path
    regions: Path
    volumes: Path
    gallery_bleeds: Path
    gallery_clear: Path
    gallery_subtypes: Path
    gallery_worst: Path
    localisation_figure: Path
    randomisation_figure: Path


@dataclass(frozen=True)
class Explanation:
    """What the stage found.

    Attributes
    ----------
    localisation
        Plain JSON values.
    regions, volumes
        Tables.
    tiles
        Of the galleries `bleeds` and `clear`.
    figures
        By name of the fields of `Products`.
    """

    localisation: dict[str, Any]
    regions: pl.DataFrame
    volumes: pl.DataFrame
    tiles: dict[str, list[Tile]]
    figures: dict[str, Figure]


def explain(
    model_path: Path,
    test: TestSlices,
    validation: ValSlices,
    catalog: pl.DataFrame,
    predictions: pl.DataFrame,
    masks: Path | None,
    params: ExplainParams,
    thresholds: Mapping[str, float | None],
    seed: int,
    products: Products,
) -> dict[str, Any]:
    """Write galleries, regions, volumes, and the scores of the heat maps of the test slices.

    Parameters
    ----------
    model_path
        The trained model.
    test, validation
        The slices; those of validation only set the threshold of the map.
    catalog
        Product of ingest.
    predictions
        Product of evaluation, with the test slices among its rows.
    masks
        The phantom's table with lesion masks; None for real data, which then get no scores.
    params
        Method, and how many slices.
    thresholds
        By label, as evaluation chose them on validation slices; None: never flagged.
    seed
        Fixes which slices are drawn.
    products
        Where the products go.

    Returns
    -------
    What stands in `products.localisation`.

    Raises
    ------
    HemtraceError
        If a slice has no prediction, a mask is damaged, or no layer's map has enough cells.
    """
    net, spec = load_model(model_path)
    windows = list(spec.windows) * (3 if spec.has_context else 1)
    found = explain_nets(
        list_members(net),
        windows,
        test,
        validation,
        catalog,
        predictions,
        masks,
        params,
        thresholds,
        seed,
    )
    for name, figure in found.figures.items():
        write_figure(figure, getattr(products, name), _DPI)
    for table, path in ((found.regions, products.regions), (found.volumes, products.volumes)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_marked(table, path, spec.synthetic)
    products.localisation.parent.mkdir(parents=True, exist_ok=True)
    told = found.localisation | {"synthetic_data": spec.synthetic}
    text = json.dumps(told, indent=2, sort_keys=True, allow_nan=False)
    products.localisation.write_text(text + "\n")
    return told


def explain_nets(
    nets: Sequence[Net],
    windows: Sequence[Window],
    test: TestSlices,
    validation: ValSlices | None,
    catalog: pl.DataFrame,
    predictions: pl.DataFrame,
    masks: Path | None,
    params: ExplainParams,
    thresholds: Mapping[str, float | None],
    seed: int,
) -> Explanation:
    """Do all that `explain` does, without writing it.

    `nets` are the networks, whose maps are averaged, and `windows` one a channel of their input;
    the rest as for `explain`. Without validation slices the threshold of the map is fixed.
    """
    cases = describe_cases(test, predictions, catalog, thresholds)
    sample = test.read([0])
    size = sample.shape[-1]
    mapper = create_mapper(nets, sample, params.fewest_cells, params.method)
    brain = shown_channel(windows)
    lesions = {} if masks is None else read_masks(masks, test.slices, test.squares, size)
    map_threshold = _map_threshold(
        mapper, validation, predictions, catalog, masks, params, brain, size, seed
    )
    threshold = float(map_threshold["value"])
    scored, score_rule = choose.draw_scored(cases, lesions, params.scored, seed)
    series, cut_rule = choose.draw_series(cases, params.segmented, seed)
    flagged = [place for place in series if cases.flagged[place, ANY]]
    scores, regions = survey_slices(mapper, cases, lesions, scored, flagged, threshold, brain)
    cut = regions.filter(pl.col("label") == LABELS[ANY])["slice"].n_unique()
    without = len(flagged) - cut
    volumes = measure_volumes(cases, series, regions, masks)
    found = None if masks is None else localise.score_labels(scores, _REPLICATES, seed)
    planted = check_planted(mapper, cases, windows, params.planted, brain, _REPLICATES, seed)
    randomisation = check_randomisation(
        mapper, cases, lesions, params.randomised, brain, _REPLICATES, seed
    )
    tiles, figures, shown = make_galleries(mapper, cases, lesions, windows, params, threshold, seed)
    why = None if masks is not None else _NO_MASKS
    localisation = {
        "cells": list(mapper.cells),
        "method": {
            "name": _METHODS[params.method],
            "closed_form": mapper.has_closed_form,
            "networks": len(mapper.targets),
            "says": f"{_METHODS[params.method]} by pytorch-grad-cam"
            + (", in the closed form" if mapper.has_closed_form else "")
            + "; each label's own map, scored on its own mask",
        },
        "rules": localise.RULES,
        "threshold": thresholds.get(LABELS[ANY]),
        "thresholds": {label: thresholds.get(label) for label in LABELS},
        "map_threshold": map_threshold,
        "labels": found,
        "labels_why": why,
        "scored": {"slices": len(scored), "rule": score_rule, "why": why},
        "size_bins_mm2": list(localise.SIZE_BINS_MM2),
        "randomisation": randomisation.summary,
        "planted": planted,
        "regions": {
            "slices": len(flagged),
            "regions": regions.height,
            "rule": cut_rule,
            "without": without,
            "says": "The part of the head where a label's map, scaled to 0..1, reaches the map "
            "threshold, on slices flagged with the label; `without` are flagged slices on which "
            "the map of any bleed does so nowhere on the head. Where no bleed is found there is no "
            "region, and the slice is shown as it is.",
        },
        "volumes": {
            "series": volumes["series"].n_unique(),
            "rule": VOLUME_RULE,
            "labels": None if masks is None else summarise_volumes(volumes, _REPLICATES, seed),
            "why": why,
        },
        "gallery_rules": {
            "bleeds": choose.POSITIVE_RULE,
            "clear": choose.NEGATIVE_RULE,
            "subtypes": choose.SUBTYPE_RULE,
            "worst": choose.WORST_RULE,
        },
        "gallery_slices": shown,
    }
    figures["localisation_figure"] = draw_scores(localisation, volumes)
    figures["randomisation_figure"] = randomisation_figure(
        randomisation.summary["steps"] or [],
        randomisation.summary["other_patients"],
        randomisation.summary["pointing_chance"],
        randomisation.images,
        randomisation.maps,
    )
    return Explanation(localisation, regions, volumes, tiles, figures)


def _map_threshold(
    mapper: Mapper,
    validation: ValSlices | None,
    predictions: pl.DataFrame,
    catalog: pl.DataFrame,
    masks: Path | None,
    params: ExplainParams,
    brain: int,
    size: int,
    seed: int,
) -> dict[str, Any]:
    if validation is None or masks is None:
        return fix_threshold()
    cases = describe_cases(validation, predictions, catalog, {})
    lesions = read_masks(masks, validation.slices, validation.squares, size)
    places, _ = choose.draw_scored(cases, lesions, params.scored, seed)
    return choose_threshold(mapper, cases, lesions, places, brain)
