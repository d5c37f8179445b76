"""Where the network looked: galleries by Grad-CAM, and their score on the phantom's masks."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn
from tqdm import tqdm

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.scored import PROBABILITIES
from hemtrace.explain.choose import NEGATIVE_RULE, POSITIVE_RULE, choose_slices
from hemtrace.explain.heat import closed_form_cams, find_target_layer, grad_cam, scale_up
from hemtrace.explain.localise import RULES, Trial, head_area, read_masks, score_labels
from hemtrace.figures import write_figure
from hemtrace.figures.gallery import Tile, heat_gallery, slice_gallery
from hemtrace.labels import ANY, LABELS, SUBTYPES
from hemtrace.model import Net, list_members, load_model
from hemtrace.params import ExplainParams
from hemtrace.shards import TestSlices

__all__ = ["explain", "explain_nets"]

# A network, and the layer of its heat map.
Target = tuple[Net, nn.Module]

_BATCH = 16
_REPLICATES = 500


def explain(
    model_path: Path,
    partition: TestSlices,
    predictions: pl.DataFrame,
    masks: Path | None,
    params: ExplainParams,
    threshold: float,
    seed: int,
    bleeds_png: Path,
    clear_png: Path,
    localisation_json: Path,
) -> dict[str, Any]:
    """Write both galleries and the localisation scores of the test slices.

    Parameters
    ----------
    model_path
        The trained model.
    partition
        The test slices.
    predictions
        Product of evaluation, with these slices among its rows.
    masks
        The phantom's table with lesion masks; None for real data, which then get no scores.
    params
        How many slices, and how fine the heat map.
    threshold
        Of `any`, as evaluation chose it on validation slices.
    seed
        Fixes which slices are drawn.
    bleeds_png, clear_png, localisation_json
        Where the products go.

    Returns
    -------
    What stands in `localisation_json`.

    Raises
    ------
    HemtraceError
        If a slice has no prediction, or no layer's map has enough cells.
    """
    net, spec = load_model(model_path)
    names = [window.name for window in spec.windows]
    brain = names.index("brain") if "brain" in names else 0
    if spec.has_context:  # the windows of this slice stand between those of its neighbours
        brain += len(names)
    tiles, localisation = explain_nets(
        list_members(net), brain, partition, predictions, masks, params, threshold, seed
    )
    write_figure(heat_gallery(tiles["bleeds"]), bleeds_png)
    write_figure(slice_gallery(tiles["clear"]), clear_png)
    localisation_json.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(localisation, indent=2, sort_keys=True, allow_nan=False)
    localisation_json.write_text(text + "\n")
    return localisation


def explain_nets(
    nets: Sequence[Net],
    brain: int,
    partition: TestSlices,
    predictions: pl.DataFrame,
    masks: Path | None,
    params: ExplainParams,
    threshold: float,
    seed: int,
) -> tuple[dict[str, list[Tile]], dict[str, Any]]:
    """Make the tiles of both galleries (`bleeds`, `clear`) and the scores, without writing them.

    `nets` are the networks, whose maps are averaged, and `brain` the channel of their input that is
    shown; the rest as for `explain`. A classifier that was fitted to a network's features has no
    maps of its own: they are those of the network below it.
    """
    probability = _align(predictions, partition)
    flagged = probability[:, ANY] >= threshold
    sample = partition.read([0])
    size = sample.shape[-1]
    layers = []
    for net in nets:
        net.head = None
        for parameter in net.parameters():
            parameter.requires_grad_(True)  # Grad-CAM needs the gradient; nothing is trained
        layer, cells = find_target_layer(net, torch.from_numpy(sample), params.fewest_cells)
        layers.append(layer)
    targets = list(zip(nets, layers, strict=True))
    lesions = {} if masks is None else read_masks(masks, partition.slices, partition.squares, size)
    choice = choose_slices(
        partition.labels, flagged, partition.patients, params.positives, params.negatives, seed
    )
    tiles = {
        "bleeds": _tiles(choice.positives, partition, probability, lesions, brain, flagged),
        "clear": _tiles(choice.negatives, partition, probability, lesions, brain, flagged),
    }
    tiles["bleeds"] = _warm(tiles["bleeds"], targets, partition, choice.positives)
    localisation: dict[str, Any] = {
        "cells": list(cells),
        "method": "Grad-CAM of any bleed in the gallery; scores on every test slice with a mask, "
        "each label's own map against its own mask",
        "gallery_rules": {"bleeds": POSITIVE_RULE, "clear": NEGATIVE_RULE},
        "gallery_slices": {
            "bleeds": [tile.name for tile in tiles["bleeds"]],
            "clear": [tile.name for tile in tiles["clear"]],
        },
        "rules": RULES,
        "threshold": threshold,
        "labels": None,
    }
    if masks is not None:
        trials = _trials(targets, partition, lesions, flagged, brain)
        localisation["labels"] = score_labels(trials, size / min(cells), _REPLICATES, seed)
    return tiles, localisation


def _align(predictions: pl.DataFrame, partition: TestSlices) -> np.ndarray:
    """Bring the probabilities into the partition's order: (N, 6)."""
    wanted = pl.DataFrame({"slice": partition.slices})
    joined = wanted.join(predictions, on="slice", how="left", maintain_order="left")
    missing = joined.filter(pl.col(PROBABILITIES[0]).is_null())
    if missing.height:
        raise HemtraceError(
            f"{missing.height} test slices have no prediction, first {missing['slice'][0]}; "
            "the predictions are older than the split: evaluate again."
        )
    return joined.select(PROBABILITIES).to_numpy()


def _tiles(
    places: list[int],
    partition: TestSlices,
    probability: np.ndarray,
    lesions: dict[str, np.ndarray],
    brain: int,
    flagged: np.ndarray,
) -> list[Tile]:
    tiles = []
    for place in places:
        name = partition.slices[place]
        truth = partition.labels[place].astype(bool)
        present = [label for label, here in zip(SUBTYPES, truth[:ANY], strict=True) if here]
        top = int(np.argmax(probability[place, :ANY]))
        any_text = f"any {probability[place, ANY]:.2f}"
        found = f"{SUBTYPES[top]} {probability[place, top]:.2f}, {any_text}"
        tiles.append(
            Tile(
                name=name,
                title=found if flagged[place] else f"not flagged, {any_text}",
                verdict=_verdict(bool(truth[ANY]), bool(flagged[place]), present),
                right=bool(truth[ANY]) == bool(flagged[place]),
                image=partition.read([place])[0, brain],
                mask=lesions[name][ANY] if name in lesions else None,
            )
        )
    return tiles


def _verdict(bleed: bool, flagged: bool, present: list[str]) -> str:
    if bleed:
        return f"{'true' if flagged else 'missed'}: {', '.join(present) or 'any'}"
    return "false alarm" if flagged else "rightly clear"


def _warm(
    tiles: list[Tile],
    targets: Sequence[Target],
    partition: TestSlices,
    places: list[int],
) -> list[Tile]:
    """Lay the heat maps of `any` over the tiles."""
    warm = []
    for batch in _batches(len(tiles), "heat maps"):
        heat = _mean_cam(targets, partition.read([places[k] for k in batch]), ANY)
        warm += [replace(tiles[k], heat=one) for k, one in zip(batch, heat, strict=True)]
    return warm


def _mean_cam(targets: Sequence[Target], images: np.ndarray, label: int) -> np.ndarray:
    """Average the maps of all networks, scaled to 0..1 each before: float32 (N, H, W)."""
    return np.mean([grad_cam(net, layer, images, label) for net, layer in targets], axis=0)


def _mean_closed_form(targets: Sequence[Target], images: np.ndarray) -> np.ndarray | None:
    """Average the closed forms, where every network has one of the same size."""
    found = [closed_form_cams(net, layer, images) for net, layer in targets]
    known = [cams for cams in found if cams is not None]
    if len(known) < len(found) or len({cams.shape for cams in known}) > 1:
        return None
    return known[0] if len(known) == 1 else np.mean(known, axis=0)


def _trials(
    targets: Sequence[Target],
    partition: TestSlices,
    lesions: dict[str, np.ndarray],
    flagged: np.ndarray,
    brain: int,
) -> dict[str, list[Trial]]:
    """Make a map for each label that a slice bears, in the closed form where the head allows."""
    places = [k for k, name in enumerate(partition.slices) if name in lesions]
    trials: dict[str, list[Trial]] = {label: [] for label in LABELS}
    for batch in _batches(len(places), "localisation"):
        chosen = [places[k] for k in batch]
        images = partition.read(chosen)
        cams = _mean_closed_form(targets, images)
        for column, label in enumerate(LABELS):
            bearing = [k for k, place in enumerate(chosen) if partition.labels[place, column]]
            if not bearing:
                continue
            if cams is None:
                heat = _mean_cam(targets, images[bearing], column)
            else:
                heat = np.stack([scale_up(cams[k, column], *images.shape[2:]) for k in bearing])
            for k, one in zip(bearing, heat, strict=True):
                place = chosen[k]
                mask = lesions[partition.slices[place]][column]
                if mask.any():
                    trials[label].append(
                        Trial(
                            str(partition.patients[place]),
                            bool(flagged[place]),
                            one,
                            mask,
                            head_area(images[k, brain]),
                        )
                    )
    return trials


def _batches(count: int, what: str) -> Iterable[range]:
    starts = range(0, count, _BATCH)
    for start in tqdm(starts, desc=what, unit="batch", disable=count <= _BATCH):
        yield range(start, min(start + _BATCH, count))
