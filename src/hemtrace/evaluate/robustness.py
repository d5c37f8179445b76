"""How much do the predictions suffer from noise, a false calibration, motion and blur?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemtrace.evaluate.perturb import PERTURBATIONS, perturb
from hemtrace.inference import predict_probabilities
from hemtrace.labels import ANY
from hemtrace.metrics import (
    Estimate,
    Resamples,
    estimate,
    estimate_area,
    estimate_share,
    resample_patients,
    roc_auc,
    why_not,
)
from hemtrace.model import Ensemble, ModelSpec, Net
from hemtrace.params import Window
from hemtrace.shards import TestSlices

Calibrate = Callable[[np.ndarray], np.ndarray]


def choose_patients(
    patients: np.ndarray, truth: np.ndarray, slices_limit: int, seed: int
) -> np.ndarray:
    """Draw whole patients by lot, those with a bleed in their share, up to a number of slices.

    Parameters
    ----------
    patients, truth
        (N,) each: whose slice it is, and whether it bears a bleed.
    slices_limit
        Most slices; one patient with and one without a bleed are taken in any case.
    seed
        Of the lot.

    Returns
    -------
    int: the places of their slices, ascending.
    """
    names, member = np.unique(patients, return_inverse=True)
    bears = np.bincount(member, truth, minlength=len(names)) > 0
    sizes = np.bincount(member, minlength=len(names))
    rng = np.random.default_rng(seed)
    rank = np.empty(len(names))
    for group in (np.flatnonzero(bears), np.flatnonzero(~bears)):
        rank[rng.permutation(group)] = (np.arange(len(group)) + 0.5) / max(1, len(group))
    order = np.lexsort((~bears, rank))
    firsts = {int(order[bears[order] == kind][0]) for kind in np.unique(bears)}
    left = slices_limit - int(sizes[list(firsts)].sum())
    kept = set(firsts)
    for place in order.tolist():
        if place in firsts:
            continue
        left -= int(sizes[place])
        if left < 0:
            break
        kept.add(place)
    return np.flatnonzero(np.isin(member, list(kept)))


@dataclass(frozen=True)
class _Perturbed:
    """Slices of a partition that are changed as they are read."""

    partition: TestSlices
    chosen: np.ndarray
    windows: Sequence[Window]
    kind: str
    strength: float
    seed: int

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        places = np.asarray(indices)
        images = self.partition.read(self.chosen[places])
        return perturb(images, self.windows, self.kind, self.strength, self.seed, places)


def measure_robustness(
    net: Net | Ensemble,
    spec: ModelSpec,
    partition: TestSlices,
    threshold: float | None,
    *,
    slices_limit: int = 300,
    replicates: int = 500,
    seed: int = 0,
    calibrate: Calibrate | None = None,
    perturbations: dict[str, tuple[float, ...]] | None = None,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Predict the same patients under each perturbation, and compare with the pictures as they are.

    Parameters
    ----------
    net, spec, partition
        The model, and the test slices opened for it.
    threshold
        Of `any`, fixed on validation patients; None: no sensitivity and specificity.
    slices_limit
        Most slices that are predicted for each strength (`choose_patients`).
    replicates, seed
        Of the patient bootstrap; the seed also draws patients and noise.
    calibrate
        From the network's probabilities (N, 6) to those that the threshold is for; None: as they
        are.
    perturbations
        Strengths by kind; None: those of `PERTURBATIONS`.

    Returns
    -------
    patients, slices, positives, threshold; unperturbed: a row; rows: one a kind and strength, each
    with kind, title, unit, strength, strength_mm (of shift and blur, where the size of a pixel is
    known), auc, difference (of the AUC to the unperturbed one, paired), sensitivity, specificity
    (each as `Estimate.as_dict`), and change: the mean absolute change of the
    probability of `any` (None with NaN).
    """
    wanted = perturbations or {kind: entry[2] for kind, entry in PERTURBATIONS.items()}
    truth = partition.labels[:, ANY].astype(bool)
    chosen = choose_patients(partition.patients, truth, slices_limit, seed)
    truth = truth[chosen]
    resamples = resample_patients(partition.patients[chosen], replicates, seed)

    def predict(kind: str, strength: float) -> np.ndarray:
        slices = _Perturbed(partition, chosen, spec.windows, kind, strength, seed)
        raw = predict_probabilities(net, slices, batch_size, label=f"{kind} {strength:g}")
        return (raw if calibrate is None else calibrate(raw))[:, ANY]

    judge = _Judge(truth, resamples, threshold, predict("noise", 0))
    rows = [
        {
            "kind": kind,
            "title": PERTURBATIONS[kind][0],
            "unit": PERTURBATIONS[kind][1],
            "strength": strength,
            "strength_mm": _in_mm(kind, strength, spec),
            **judge.score(predict(kind, strength)),
        }
        for kind, strengths in wanted.items()
        for strength in strengths
    ]
    return {
        "patients": len(np.unique(partition.patients[chosen])),
        "slices": len(chosen),
        "positives": int(truth.sum()),
        "threshold": threshold,
        "unperturbed": judge.score(judge.plain),
        "rows": rows,
    }


def _in_mm(kind: str, strength: float, spec: ModelSpec) -> float | None:
    # Without the crop a pixel is as large as the scan's field makes it.
    if spec.crop != "head":
        return None
    pixels = {"shift": round(strength * spec.size), "blur": strength}.get(kind)
    return None if pixels is None else pixels * spec.pixel_mm


@dataclass(frozen=True)
class _Judge:
    """Scores the probabilities of `any` on the same slices and replicates each time."""

    truth: np.ndarray
    resamples: Resamples
    threshold: float | None
    plain: np.ndarray

    def score(self, probability: np.ndarray) -> dict[str, Any]:
        truth, threshold = self.truth, self.threshold
        why = None if threshold is not None else "`any` has no threshold"
        if np.isnan(probability).any():
            why = "NaN among the predictions"
        flagged = probability >= (np.inf if threshold is None else threshold)
        shares = {
            "sensitivity": (truth & flagged, truth, "no positive slice"),
            "specificity": (~truth & ~flagged, ~truth, "no negative slice"),
        }
        return {
            "auc": estimate_area(roc_auc, truth, probability, self.resamples).as_dict(),
            "difference": self._difference(probability).as_dict(),
            "change": self._change(probability),
            **{
                name: Estimate(None, why=why).as_dict()
                if why
                else estimate_share(above, below, self.resamples, none).as_dict()
                for name, (above, below, none) in shares.items()
            },
        }

    def _difference(self, probability: np.ndarray) -> Estimate:
        value = roc_auc(self.truth, probability) - roc_auc(self.truth, self.plain)
        replicates = roc_auc(self.truth, probability, self.resamples)
        replicates = replicates - roc_auc(self.truth, self.plain, self.resamples)
        why = why_not(self.truth, probability + self.plain)
        return estimate(
            float(value[0]),
            replicates,
            why,
            patients=self.resamples.patients,
            bearers=self.resamples.bearers_of_either(self.truth),
        )

    def _change(self, probability: np.ndarray) -> float | None:
        change = float(np.abs(probability - self.plain).mean())
        return change if np.isfinite(change) else None
