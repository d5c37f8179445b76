"""Do heat maps lie on the bleeds? Scores against lesion masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage

from hemtrace.labels import LABELS
from hemtrace.metrics import estimate_share, resample_patients

RULES = {
    "pointing": "share of slices whose hottest point lies within one cell of the lesion mask",
    "pointing_chance": "the same for a point dropped at random on the head",
    "pointing_shuffled": "the same for the hottest points of other patients' slices: what a map "
    "that only knows where bleeds usually lie would reach",
    "energy": "mean share of a map's heat that lies within the mask",
    "energy_chance": "mean share of the head that the mask covers: the energy of a map that is "
    "equally warm everywhere on the head",
    "dice": "mean Dice coefficient of mask and region: the part of the head where the map, scaled "
    "to 0..1, reaches the map threshold",
    "dice_chance": "the same for as many pixels strewn at random over the head",
    "dice_shuffled": "the same for the regions of other patients' slices",
    "iou": "mean intersection over union of mask and region",
    "iou_chance": "the same for as many pixels strewn at random over the head",
}
_MEASURES = ("pointing", "energy", "dice", "iou")
# mm2 of the lesion on the slice: discs of 11, 23 and 45 mm across.
SIZE_BINS_MM2 = (100.0, 400.0, 1600.0)
# Of the map scaled to 0..1.
THRESHOLD_GRID = tuple(round(0.05 * k, 2) for k in range(1, 20))


@dataclass(frozen=True)
class Trial:
    """A heat map beside the mask that it should lie on.

    Attributes
    ----------
    patient
        Whose slice it is.
    detected
        Whether `any` was flagged on it.
    heat
        float (H, W), not negative.
    mask, head
        bool (H, W).
    area_mm2
        Of the lesion on the slice; NaN where the spacing is unknown.
    """

    patient: str
    detected: bool
    heat: np.ndarray
    mask: np.ndarray
    head: np.ndarray
    area_mm2: float = np.nan


@dataclass(frozen=True)
class Score:
    """What is kept of a trial: figures, and two areas of a bit a pixel."""

    patient: str
    detected: bool
    area_mm2: float
    warm: bool
    peak: int
    hit: bool
    near_share: float
    energy: float
    mask_share: float
    dice: float
    iou: float
    dice_chance: float
    iou_chance: float
    near: np.ndarray
    mask: np.ndarray
    region: np.ndarray


def heat_region(heat: np.ndarray, head: np.ndarray, threshold: float) -> np.ndarray:
    """Cut the region out of a map within 0..1: bool (H, W), where it is warm enough on the head.

    Where the hottest point lies in the air around the head, little or nothing may be left.
    """
    region: np.ndarray = (heat >= threshold) & (heat > 0) & head
    return region


def overlap(region: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Compare two areas: Dice coefficient and intersection over union; 0 where both are empty."""
    both, either = int((region & mask).sum()), int((region | mask).sum())
    return (2 * both / (both + either), both / either) if either else (0.0, 0.0)


def score_trial(trial: Trial, cell_px: float, threshold: float) -> Score:
    """Score a heat map.

    Parameters
    ----------
    trial
        With a mask that is not empty.
    cell_px
        Side of a heat map's cell in pixels of the picture: the tolerance of the pointing game.
    threshold
        From `choose_map_threshold`.

    References
    ----------
    Zhang et al., Top-down neural attention by excitation backprop, ECCV 2016 (pointing game).
    """
    near = ndimage.distance_transform_edt(~trial.mask) <= cell_px
    peak = int(np.argmax(trial.heat))
    # An empty map points nowhere; its argmax, the corner, must not count by accident.
    warm = bool(trial.heat.max() > 0)
    region = heat_region(trial.heat, trial.head, threshold)
    dice, iou = overlap(region, trial.mask)
    mask_share = float(trial.mask[trial.head].mean())
    region_share = float(region[trial.head].mean())
    common = mask_share * region_share
    total = mask_share + region_share
    return Score(
        patient=trial.patient,
        detected=trial.detected,
        area_mm2=trial.area_mm2,
        warm=warm,
        peak=peak,
        hit=bool(near.flat[peak]) and warm,
        near_share=float(near[trial.head].mean()),
        energy=float(trial.heat[trial.mask].sum() / max(float(trial.heat.sum()), 1e-12)),
        mask_share=mask_share,
        dice=dice,
        iou=iou,
        dice_chance=2 * common / total if total else 0.0,
        iou_chance=common / (total - common) if total else 0.0,
        near=np.packbits(near),
        mask=np.packbits(trial.mask),
        region=np.packbits(region),
    )


def summarise_scores(scores: Sequence[Score], replicates: int, seed: int) -> dict[str, Any]:
    """Average scores of one label.

    Parameters
    ----------
    scores
        Of slices that bear the label; may be none.
    replicates, seed
        Of the patient bootstrap behind the intervals.

    Returns
    -------
    n, patients, empty_maps, and the figures of `RULES`: estimates with interval of pointing,
    energy, dice and iou; numbers of the chance levels, None where there is no slice.
    """
    patients = np.array([score.patient for score in scores], dtype=str)
    resamples = resample_patients(patients, replicates, seed)
    every = np.ones(len(scores))
    values = {
        "pointing": [score.hit for score in scores],
        "energy": [score.energy for score in scores],
        "dice": [score.dice for score in scores],
        "iou": [score.iou for score in scores],
    }
    chances = {
        "pointing_chance": [score.near_share for score in scores],
        "energy_chance": [score.mask_share for score in scores],
        "dice_chance": [score.dice_chance for score in scores],
        "iou_chance": [score.iou_chance for score in scores],
    }
    return {
        "n": len(scores),
        "patients": resamples.patients,
        "empty_maps": sum(not score.warm for score in scores),
        **{
            name: estimate_share(
                np.array(values[name]), every, resamples, "no slice with a mask"
            ).as_dict()
            for name in _MEASURES
        },
        **{name: float(np.mean(chance)) if chance else None for name, chance in chances.items()},
        **_shuffle(scores, patients),
    }


def _shuffle(scores: Sequence[Score], patients: np.ndarray) -> dict[str, float | None]:
    """Score each mask with the peaks and regions of the other patients' slices."""
    hits, dices = [], []
    if len(set(patients)) > 1:
        peaks = np.array([score.peak for score in scores])
        warm = np.array([score.warm for score in scores])
        regions = np.stack([score.region for score in scores])
        sizes = np.bitwise_count(regions).sum(axis=1, dtype=np.int64)
        for score in scores:
            others = patients != score.patient
            bytes_, bits = np.divmod(peaks[others], 8)
            near = (score.near[bytes_] >> (7 - bits)) & 1
            # As in `score_trial`, an empty map misses: its argmax, the corner, is no peak.
            hits.append(float((near & warm[others]).mean()))
            both = np.bitwise_count(regions[others] & score.mask).sum(axis=1, dtype=np.int64)
            mask_size = int(np.bitwise_count(score.mask).sum(dtype=np.int64))
            dices.append(float((2 * both / (sizes[others] + mask_size)).mean()))
    return {
        "pointing_shuffled": float(np.mean(hits)) if hits else None,
        "dice_shuffled": float(np.mean(dices)) if dices else None,
    }


def score_labels(
    scores: dict[str, list[Score]], replicates: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Average each label over all its slices, those where a bleed was detected, and by size."""
    return {
        label: {
            "all": summarise_scores(scores[label], replicates, seed),
            "detected": summarise_scores(
                [score for score in scores[label] if score.detected], replicates, seed
            ),
            "by_size": {
                name: summarise_scores(chosen, replicates, seed)
                for name, chosen in split_by_size(scores[label]).items()
            },
        }
        for label in LABELS
    }


def split_by_size(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Sort scores by the area of the lesion on the slice, into the bins of `SIZE_BINS_MM2`.

    Slices of unknown spacing stand in none.
    """
    edges = (0.0, *SIZE_BINS_MM2, np.inf)
    bins: dict[str, list[Score]] = {}
    for low, high in pairwise(edges):
        if low == 0:
            name = f"below {high:g} mm2"
        else:
            name = f"from {low:g} mm2" if high == np.inf else f"{low:g} to {high:g} mm2"
        bins[name] = [score for score in scores if low <= score.area_mm2 < high]
    return bins


def choose_map_threshold(dices: np.ndarray) -> float:
    """Choose the threshold of the map whose mean Dice coefficient is highest, the lower if equal.

    Parameters
    ----------
    dices
        (N, len(THRESHOLD_GRID)): of validation slices, never of test slices.
    """
    return THRESHOLD_GRID[int(np.argmax(dices.mean(axis=0)))]


def dice_by_threshold(heat: np.ndarray, head: np.ndarray, mask: np.ndarray) -> list[float]:
    """Compute the Dice coefficient at each threshold of `THRESHOLD_GRID`."""
    return [overlap(heat_region(heat, head, value), mask)[0] for value in THRESHOLD_GRID]
