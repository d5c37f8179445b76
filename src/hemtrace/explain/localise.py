"""Do heat maps lie on the bleeds? Scores against the phantom's lesion masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from scipy import ndimage

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.metrics import estimate, resample_patients
from hemtrace.window import Square, cut_square

_FEWEST_PATIENTS = 3
RULES = {
    "pointing": "share of slices whose hottest point lies within one cell of the lesion mask",
    "pointing_chance": "the same for a point dropped at random on the head",
    "pointing_shuffled": "the same for the hottest points of other patients' slices: what a map "
    "that only knows where bleeds usually lie would reach",
    "heat_inside": "mean share of a map's heat that lies within the mask",
    "area_share": "mean share of the head that the mask covers: the chance level of heat_inside",
}


def read_masks(
    path: Path, slices: list[str], squares: np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """Read the lesion masks of slices, in the geometry of the network's pictures.

    Parameters
    ----------
    path
        The phantom's table: slice, and mask, a PNG of the size of the DICOM slice whose bit k
        stands for `labels.SUBTYPES[k]`, null where there is none.
    slices
        Keys of the wanted slices.
    squares
        int (N, 3), what the picture of each shows, as in `shards.Partition`.
    size
        Side of the pictures.

    Returns
    -------
    By key, for slices with a lesion: bool (6, size, size), in the order of `labels.LABELS`.
    """
    table = pl.read_parquet(path, columns=["slice", "mask"]).filter(
        pl.col("slice").is_in(slices) & pl.col("mask").is_not_null()
    )
    shown = {name: Square(*square) for name, square in zip(slices, squares.tolist(), strict=True)}
    masks = {}
    for name, png in table.iter_rows():
        bits = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if bits is None:
            raise HemtraceError(f"{path}: the mask of the slice {name} is no PNG; make it anew.")
        if bits.any():
            masks[name] = split_mask(bits, shown[name], size)
    return masks


def split_mask(bits: np.ndarray, square: Square, size: int) -> np.ndarray:
    """Take a bit mask apart and bring it to the picture's size: bool (6, size, size).

    A pixel belongs to a lesion that covers half of it; of a lesion too thin for that, the pixels
    that it covers most remain, so that no lesion vanishes.
    """
    cut = cut_square(bits, square, fill=0)
    layers = [(cut >> bit) & 1 for bit in range(len(SUBTYPES))]
    layers.append((cut > 0).astype(np.uint8))
    covered = np.stack(
        [
            cv2.resize(layer.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
            for layer in layers
        ]
    )
    top = covered.max(axis=(1, 2), keepdims=True)
    return (covered >= np.minimum(0.5, top)) & (covered > 0)


def head_area(brain_window: np.ndarray) -> np.ndarray:
    """Find the head, the largest thing brighter than fat, holes filled: bool, shape as given."""
    regions, count = ndimage.label(brain_window > 0)
    if not count:
        return np.ones(brain_window.shape, dtype=bool)
    largest = np.argmax(np.bincount(regions.ravel())[1:]) + 1
    filled: np.ndarray = ndimage.binary_fill_holes(regions == largest)
    return filled


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
    """

    patient: str
    detected: bool
    heat: np.ndarray
    mask: np.ndarray
    head: np.ndarray


def score_trials(trials: list[Trial], cell_px: float, replicates: int, seed: int) -> dict[str, Any]:
    """Score heat maps of one label.

    Parameters
    ----------
    trials
        Slices that bear the label.
    cell_px
        Side of a heat map's cell in pixels of the picture: the tolerance of the pointing game.
    replicates, seed
        Of the patient bootstrap behind the interval of `pointing`.

    Returns
    -------
    n, patients, and the figures of `RULES`; None each where there is no slice.

    References
    ----------
    Zhang et al., Top-down neural attention by excitation backprop, ECCV 2016 (pointing game).
    """
    count = len(trials)
    patients = np.array([trial.patient for trial in trials])
    if not count:
        return {"n": 0, "patients": 0, **dict.fromkeys(RULES)}
    near = [ndimage.distance_transform_edt(~trial.mask) <= cell_px for trial in trials]
    peaks = [np.unravel_index(np.argmax(trial.heat), trial.heat.shape) for trial in trials]
    # An empty map points nowhere; its argmax, the corner, must not count by accident.
    warm = np.array([bool(trial.heat.max() > 0) for trial in trials])
    hit = np.array([bool(area[peak]) for area, peak in zip(near, peaks, strict=True)]) & warm
    every = np.ones(count)
    people = len(np.unique(patients))
    # Two patients' replicates are three distinct values at most: no interval to speak of.
    replicates = replicates if people >= _FEWEST_PATIENTS else 0
    replicate_rates = resample_patients(patients, replicates, seed).ratio(hit, every)
    return {
        "n": count,
        "patients": people,
        "empty_maps": int((~warm).sum()),
        "pointing": estimate(float(hit.mean()), replicate_rates).as_dict(),
        "pointing_chance": _mean(
            area[trial.head].mean() for area, trial in zip(near, trials, strict=True)
        ),
        "pointing_shuffled": _shuffled(near, peaks, patients),
        "heat_inside": _mean(
            trial.heat[trial.mask].sum() / max(float(trial.heat.sum()), 1e-12) for trial in trials
        ),
        "area_share": _mean(trial.mask[trial.head].mean() for trial in trials),
    }


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _shuffled(near: list[np.ndarray], peaks: list[Any], patients: np.ndarray) -> float | None:
    rows, columns = np.array(peaks).T
    rates = []
    for area, patient in zip(near, patients, strict=True):
        others = patients != patient
        if others.any():
            rates.append(area[rows[others], columns[others]].mean())
    return float(np.mean(rates)) if rates else None


def score_labels(
    trials: dict[str, list[Trial]], cell_px: float, replicates: int, seed: int
) -> dict[str, Any]:
    """Score every label on all its slices, and on those where a bleed was detected."""
    return {
        label: {
            "all": score_trials(trials[label], cell_px, replicates, seed),
            "detected": score_trials(
                [trial for trial in trials[label] if trial.detected], cell_px, replicates, seed
            ),
        }
        for label in LABELS
    }
