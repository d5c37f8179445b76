"""Do heat maps depend on what the network learned? Its layers are made random, from the top down.

Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, arXiv 1810.03292: a map that stays
the same when the weights are random shows the picture's edges, not the network's evidence.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from hemtrace.explain.maps import Mapper, Target, mean_maps, raw_maps
from hemtrace.labels import ANY
from hemtrace.metrics import estimate_share, resample_patients
from hemtrace.model.branches import Branches

# Share of the layers, counted from the classifier down, that is random at each step; the first
# step is the classifier alone.
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
STEP_NAMES = ("trained", "classifier", "top quarter", "top half", "top three quarters", "all")
DRAWS = 3
RULE = (
    "Layers are set to random values from the classifier down (weights after He et al. 2015, "
    "normalisation as in a network not yet trained), in three draws. Similarity is Spearman's rank "
    "correlation, over the pixels of the head, of a slice's map with that of the trained network. "
    "Maps must change: it should fall to that of the maps of different patients."
)


def cascade_maps(mapper: Mapper, images: np.ndarray, seed: int) -> np.ndarray:
    """Make the maps of `any` while the networks are made random from the top down.

    The networks of `mapper` are left as they are.

    Parameters
    ----------
    mapper
        Of the trained networks.
    images
        uint8 (N, channels, H, W).
    seed
        Fixes the random weights.

    Returns
    -------
    float32 (DRAWS, len(STEP_NAMES), N, H, W), as `Mapper.maps`; the first step is the trained one.
    """
    height, width = images.shape[2:]
    trained = [raw_maps(target, images, [ANY], mapper.method) for target in mapper.targets]
    draws = []
    for draw in range(DRAWS):
        per_step: list[list[np.ndarray]] = [list(trained)] + [[] for _ in STEPS]
        for place, target in enumerate(mapper.targets):
            generator = torch.Generator().manual_seed(seed + 1000 * draw + place)
            for step, maps in enumerate(_cascade(target, images, mapper.method, generator)):
                per_step[1 + step].append(maps)
        draws.append([mean_maps(raw, height, width)[:, 0] for raw in per_step])
    return np.array(draws, dtype=np.float32)


def _cascade(
    target: Target, images: np.ndarray, method: str, generator: torch.Generator
) -> list[np.ndarray]:
    """Randomise a copy step by step, and make its maps after each."""
    name = next(name for name, module in target.net.named_modules() if module is target.layer)
    net = copy.deepcopy(target.net)
    random = Target(net, net.get_submodule(name), target.closed)
    layers = order_layers(net)
    done, maps = 0, []
    for share in STEPS:
        upto = max(1, round(share * len(layers)))
        for layer in layers[done:upto]:
            randomise_layer(layer, generator)
        done = upto
        maps.append(raw_maps(random, images, [ANY], method))
    return maps


def order_layers(net: nn.Module) -> list[nn.Module]:
    """List the layers that hold weights, from the classifier down; those of two branches in turn.

    A layer is a module that holds parameters itself. They stand in a network in the order in which
    data flow, as in all of timm's.
    """
    backbone = getattr(net, "backbone", net)
    if not isinstance(backbone, Branches):
        return _holders(net)[::-1]
    branches = [_holders(branch) for branch in backbone.branches]
    placed = [
        (place / len(layers), number, layer)
        for number, layers in enumerate(branches)
        for place, layer in enumerate(layers)
    ]
    below = [layer for *_, layer in sorted(placed, key=lambda one: one[:2])]
    return [backbone.classifier, *below[::-1]]


def _holders(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if list(module.parameters(recurse=False))]


def randomise_layer(layer: nn.Module, generator: torch.Generator) -> None:
    """Forget what a layer learned, in place."""
    fresh_norm = hasattr(layer, "reset_running_stats") or isinstance(
        layer, nn.GroupNorm | nn.LayerNorm
    )
    with torch.no_grad():
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.ndim >= 2:
                inputs = parameter[0].numel()
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(drawn * (2 / inputs) ** 0.5)
            elif fresh_norm and name == "weight":
                parameter.fill_(1)
            else:
                parameter.zero_()
    if hasattr(layer, "reset_running_stats"):
        layer.reset_running_stats()  # type: ignore[operator]


def compare_maps(
    draws: np.ndarray,
    heads: np.ndarray,
    near: np.ndarray | None,
    patients: np.ndarray,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Compare the maps of each step with those of the trained network.

    Parameters
    ----------
    draws
        From `cascade_maps`.
    heads
        bool (N, H, W).
    near
        bool (N, H, W), within one cell of the lesion; None: no masks.
    patients
        (N,).
    replicates, seed
        Of the patient bootstrap.

    Returns
    -------
    steps: name, similarity and pointing (estimates), empty_maps; and other_patients, the similarity
    of the trained network's maps of different patients.
    """
    resamples = resample_patients(patients, replicates, seed)
    steps = []
    for step, name in enumerate(STEP_NAMES):
        maps = draws[:, step]
        similar = np.array(
            [
                [
                    rank_correlation(own[head], trained[head])
                    for own, trained, head in zip(draw, draws[0, 0], heads, strict=True)
                ]
                for draw in maps
            ]
        )
        known = ~np.isnan(similar)
        similarity = estimate_share(
            np.where(known, similar, 0).sum(axis=0),
            known.sum(axis=0).astype(float),
            resamples,
            "every map is empty or of one value",
        )
        empty = maps.max(axis=(2, 3)) == 0
        pointing: dict[str, Any] = {
            "value": None,
            "low": None,
            "high": None,
            "why": "no lesion masks",
        }
        if near is not None:
            peaks = maps.reshape(*maps.shape[:2], -1).argmax(axis=2)
            flat = near.reshape(len(near), -1)
            hit = flat[np.arange(len(near)), peaks] & ~empty
            pointing = estimate_share(
                hit.mean(axis=0), np.ones(len(near)), resamples, "no slice"
            ).as_dict()
        steps.append(
            {
                "name": name,
                "similarity": similarity.as_dict(),
                "pointing": pointing,
                "empty_maps": int(empty.sum()),
            }
        )
    return {"steps": steps, "other_patients": _between_patients(draws[0, 0], heads, patients)}


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlate the ranks of two maps' pixels (Spearman); NaN where one has a single value."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    ranks = stats.rankdata(first), stats.rankdata(second)
    return float(np.corrcoef(*ranks)[0, 1])


def _between_patients(
    maps: np.ndarray, heads: np.ndarray, patients: Sequence[str] | np.ndarray
) -> float | None:
    found = [
        rank_correlation(maps[one][heads[one] & heads[two]], maps[two][heads[one] & heads[two]])
        for one in range(len(maps))
        for two in range(one)
        if patients[one] != patients[two]
    ]
    known = [value for value in found if not np.isnan(value)]
    return float(np.mean(known)) if known else None
