"""Figures of merit for slices that cluster in patients: numpy alone, checked against scikit-learn.

The replicates of a bootstrap are computed together, from how often each patient was drawn: a loop
over scikit-learn's functions takes minutes on a real test set.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hemtrace.labels import LABEL_WEIGHTS

# Replicates times slices held in memory at once (float64): 64 MB an array.
_CHUNK_CELLS = 8_000_000
# An interval is given where at least this share of the replicates defines the figure.
_DEFINED_SHARE = 0.95


def log_losses(truth: np.ndarray, probability: np.ndarray, clip: float) -> np.ndarray:
    """Cross-entropy of each slice and label, natural logarithm.

    Parameters
    ----------
    truth
        0 or 1, any shape.
    probability
        Of the label being 1, same shape.
    clip
        Probabilities are first held within [clip, 1 - clip].
    """
    held = np.clip(np.asarray(probability, dtype=np.float64), clip, 1 - clip)
    return np.where(np.asarray(truth, dtype=bool), -np.log(held), -np.log1p(-held))


def weighted_log_loss(truth: np.ndarray, probability: np.ndarray, clip: float) -> float:
    """Score slices as the RSNA 2019 challenge did: the mean of (2 any + the five others) / 7.

    Parameters
    ----------
    truth, probability
        (N, 6), in the order of `labels.LABELS`.
    clip
        As in `log_losses`.

    References
    ----------
    Flanders et al., Radiology: Artificial Intelligence 2020;2(3):e190211.
    """
    return float((log_losses(truth, probability, clip) @ LABEL_WEIGHTS).mean())


@dataclass(frozen=True)
class Resamples:
    """Bootstrap samples of patients, with all slices of each.

    Attributes
    ----------
    drawn
        Integer (R, P): how often each patient stands in each replicate.
    member
        Integer (N,): the patient of each slice, as a column of `drawn`.
    """

    drawn: np.ndarray
    member: np.ndarray

    def __len__(self) -> int:
        """Count the replicates."""
        return len(self.drawn)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum a figure of (N,) slices over each replicate: (R,)."""
        of_patient = np.bincount(self.member, values, minlength=self.drawn.shape[1])
        total: np.ndarray = self.drawn @ of_patient
        return total

    def ratio(self, above: np.ndarray, below: np.ndarray) -> np.ndarray:
        """Divide two sums over slices in each replicate: (R,), NaN where nothing is below."""
        divisor = self.total(below)
        undefined = np.full(len(divisor), np.nan)
        return np.divide(self.total(above), divisor, out=undefined, where=divisor > 0)


def resample_patients(patients: np.ndarray, replicates: int, seed: int) -> Resamples:
    """Draw as many patients as there are, with replacement, for each replicate.

    Slices of a patient resemble each other: drawing slices would give intervals far too narrow.

    Parameters
    ----------
    patients
        (N,): the patient of each slice.
    replicates
        R; may be 0.
    seed
        Fixes the draw.

    References
    ----------
    Field and Welsh, Journal of the Royal Statistical Society B 2007;69:369-390.
    """
    names, member = np.unique(patients, return_inverse=True)
    chance = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), chance, size=replicates)
    return Resamples(drawn.astype(np.uint16), member)


def roc_auc(truth: np.ndarray, score: np.ndarray, resamples: Resamples | None = None) -> np.ndarray:
    """Area under the ROC curve, ties counting half.

    Parameters
    ----------
    truth, score
        (N,).
    resamples
        The replicates to compute it on; None: the data as they are, one replicate.

    Returns
    -------
    (R,), NaN where a replicate lacks one of the two classes.
    """
    return _by_step(_roc_auc, truth, score, resamples, -1)


def average_precision(
    truth: np.ndarray, score: np.ndarray, resamples: Resamples | None = None
) -> np.ndarray:
    """Area under the steps of the precision-recall curve, as scikit-learn defines it.

    Parameters and what is returned are those of `roc_auc`.
    """
    return _by_step(_average_precision, truth, score, resamples, 1)


def _by_step(
    area: Callable[[np.ndarray, np.ndarray], np.ndarray],
    truth: np.ndarray,
    score: np.ndarray,
    resamples: Resamples | None,
    direction: int,
) -> np.ndarray:
    """Give `area` the weight of positives and negatives at each step of the curve: (R, steps)."""
    if resamples is None:
        once = np.ones((1, 1), dtype=np.uint16)
        resamples = Resamples(once, np.zeros(len(score), dtype=np.intp))
    if not len(score):
        return np.full(len(resamples), np.nan)
    order = np.argsort(-direction * score, kind="stable")
    positive = np.asarray(truth, dtype=np.float64)[order]
    member, ranked = resamples.member[order], np.asarray(score)[order]
    # Slices of equal score form one step.
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    rows = max(1, _CHUNK_CELLS // len(ranked))
    parts = [np.empty(0)]
    for start in range(0, len(resamples), rows):
        weight = resamples.drawn[start : start + rows, member].astype(np.float64)
        hits = np.add.reduceat(weight * positive, starts, axis=1)
        alarms = np.add.reduceat(weight * (1 - positive), starts, axis=1)
        parts.append(area(hits, alarms))
    return np.concatenate(parts)


def _roc_auc(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    below = np.cumsum(alarms, axis=1) - alarms / 2
    pairs = hits.sum(axis=1) * alarms.sum(axis=1)
    undefined = np.full(len(pairs), np.nan)
    return np.divide((hits * below).sum(axis=1), pairs, out=undefined, where=pairs > 0)


def _average_precision(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    found = np.cumsum(hits, axis=1)
    flagged = found + np.cumsum(alarms, axis=1)
    precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
    total = hits.sum(axis=1)
    # Without a negative slice it would be 1 whatever the scores: undefined, as the AUC is.
    defined = (total > 0) & (alarms.sum(axis=1) > 0)
    undefined = np.full(len(total), np.nan)
    return np.divide((hits * precision).sum(axis=1), total, out=undefined, where=defined)


def threshold_for_sensitivity(
    truth: np.ndarray, score: np.ndarray, sensitivity: float
) -> float | None:
    """Find the highest threshold that still flags the wanted share of the positives.

    Parameters
    ----------
    truth, score
        (N,), of validation slices, never of test slices.
    sensitivity
        Wanted share; a slice is flagged when its score is at least the threshold.

    Returns
    -------
    The threshold, or None where there is no positive.
    """
    positives = np.sort(score[np.asarray(truth, dtype=bool)])[::-1]
    if not len(positives):
        return None
    # The small term keeps 0.9 x 10 at 9 in spite of rounding.
    needed = max(1, int(np.ceil(sensitivity * len(positives) - 1e-9)))
    return float(positives[needed - 1])


def confusion(truth: np.ndarray, flagged: np.ndarray) -> dict[str, int]:
    """Count true and false positives and negatives of (N,) truths and flags."""
    truth, flagged = np.asarray(truth, dtype=bool), np.asarray(flagged, dtype=bool)
    return {
        "tp": int((truth & flagged).sum()),
        "fp": int((~truth & flagged).sum()),
        "fn": int((truth & ~flagged).sum()),
        "tn": int((~truth & ~flagged).sum()),
    }


def constant_log_loss(prevalence: float, answer: float, clip: float) -> float:
    """Log loss of the predictor that always gives one answer, on data of a prevalence."""
    held = float(np.clip(answer, clip, 1 - clip))
    return float(-prevalence * np.log(held) - (1 - prevalence) * np.log1p(-held))


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; None where it is undefined.

    Attributes
    ----------
    value, low, high
        The figure on the data as they are, and the 2.5th and 97.5th percentile of its replicates.
        No interval is given where it would promise too much: where more than one replicate in
        twenty lacks a class, as happens with fewer than three positive patients, and where all
        replicates agree, as they do when nothing in the sample is wrong.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Give it as plain JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}


def estimate(value: float, replicates: np.ndarray) -> Estimate:
    """Put a percentile interval about a figure.

    Parameters
    ----------
    value
        The figure on the data as they are; NaN where undefined.
    replicates
        (R,), NaN where a replicate leaves it undefined.
    """
    if not np.isfinite(value):
        return Estimate(None)
    defined = replicates[np.isfinite(replicates)]
    if not len(replicates) or len(defined) < _DEFINED_SHARE * len(replicates):
        return Estimate(float(value))
    if np.ptp(defined) == 0:
        return Estimate(float(value))
    low, high = np.percentile(defined, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))
