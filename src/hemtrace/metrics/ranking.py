"""Areas under the ROC and precision-recall curves, of all replicates at once.

Both areas are sums over the positives. Negatives are needed only as counts between two positives,
a patient at a time: a sparse matrix, whose product with the draws gives the curves of a replicate
each. Every count is an integer below 2^53, so the AUC is exact up to its one division.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from hemtrace.metrics.resample import Estimate, Resamples, estimate, why_not

# Steps times replicates held in memory at once: 8 MB an array of float64.
_CHUNK_CELLS = 1_000_000


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
    (R,), NaN where a replicate lacks one of the two classes; all NaN where a score is NaN.
    """
    return _by_chunks(_roc_auc, truth, score, resamples)


def average_precision(
    truth: np.ndarray, score: np.ndarray, resamples: Resamples | None = None
) -> np.ndarray:
    """Area under the steps of the precision-recall curve, as scikit-learn defines it.

    Parameters and what is returned are those of `roc_auc`. Without a negative it is NaN: it would
    be 1 whatever the scores.
    """
    return _by_chunks(_average_precision, truth, score, resamples)


def estimate_area(
    area: Callable[[np.ndarray, np.ndarray, Resamples | None], np.ndarray],
    truth: np.ndarray,
    score: np.ndarray,
    resamples: Resamples,
    unit: str = "slice",
) -> Estimate:
    """Put an interval about `roc_auc` or `average_precision`, or say why it is undefined.

    Parameters
    ----------
    area
        One of the two functions.
    truth, score
        (N,).
    resamples
        Of the same rows.
    unit
        What a row is, for the sentence: `slice`, `study` or `patient`.
    """
    why = why_not(truth, score, unit)
    if why:
        return Estimate(None, why=why)
    value = float(area(truth, score, None)[0])
    positive = np.asarray(truth, dtype=bool)
    bearers = min(resamples.bearers(positive), resamples.bearers(~positive))
    replicates = area(truth, score, resamples)
    return estimate(value, replicates, patients=resamples.patients, bearers=bearers)


@dataclass(frozen=True)
class _Steps:
    """The scores of the positives, from the highest down: the steps of a curve.

    Attributes
    ----------
    hits
        Sparse (steps, P): positives of each patient with the score of the step.
    alarms
        Sparse (steps, P): negatives below the step before and not below this one.
    ties
        Sparse (steps, P): those of them with the score of the step.
    negatives
        float64 (P,): all negatives of each patient.
    """

    hits: Any
    alarms: Any
    ties: Any
    negatives: np.ndarray


def _find_steps(truth: np.ndarray, score: np.ndarray, member: np.ndarray, patients: int) -> _Steps:
    positive = np.asarray(truth, dtype=bool)
    # Negated, so that the steps ascend.
    scores, step = np.unique(-score[positive], return_inverse=True)
    negative, owner = -score[~positive], member[~positive]
    place = np.searchsorted(scores, negative)
    counted = place < len(scores)
    place, negative, counted_owner = place[counted], negative[counted], owner[counted]
    tied = scores[place] == negative
    shape = (len(scores), patients)
    return _Steps(
        hits=_count(step, member[positive], shape),
        alarms=_count(place, counted_owner, shape),
        ties=_count(place[tied], counted_owner[tied], shape),
        negatives=np.bincount(owner, minlength=patients).astype(np.float64),
    )


def _count(step: np.ndarray, owner: np.ndarray, shape: tuple[int, int]) -> Any:
    return sparse.csr_array((np.ones(len(step)), (step, owner)), shape=shape)


def _by_chunks(
    area: Callable[[_Steps, np.ndarray], np.ndarray],
    truth: np.ndarray,
    score: np.ndarray,
    resamples: Resamples | None,
) -> np.ndarray:
    """Compute an area on some replicates after the other: memory stays bounded."""
    if resamples is None:
        once = np.ones((1, 1), dtype=np.uint16)
        resamples = Resamples(once, np.zeros(len(score), dtype=np.intp))
    if why_not(truth, score):
        return np.full(len(resamples), np.nan)
    score = np.asarray(score, dtype=np.float64)
    steps = _find_steps(truth, score, resamples.member, resamples.patients)
    rows = max(1, _CHUNK_CELLS // steps.hits.shape[0])
    parts = [np.empty(0)]
    for start in range(0, len(resamples), rows):
        drawn = resamples.drawn[start : start + rows].T.astype(np.float64, order="C")
        parts.append(area(steps, drawn))
    return np.concatenate(parts)


def _roc_auc(steps: _Steps, drawn: np.ndarray) -> np.ndarray:
    hits = steps.hits @ drawn
    not_below = np.cumsum(steps.alarms @ drawn, axis=0)
    positives, negatives = hits.sum(axis=0), steps.negatives @ drawn
    lost = np.einsum("sr,sr->r", hits, not_below)
    if steps.ties.nnz:
        lost -= np.einsum("sr,sr->r", hits, steps.ties @ drawn) / 2
    pairs = positives * negatives
    undefined = np.full(len(pairs), np.nan)
    return np.divide(pairs - lost, pairs, out=undefined, where=pairs > 0)


def _average_precision(steps: _Steps, drawn: np.ndarray) -> np.ndarray:
    hits = steps.hits @ drawn
    found = np.cumsum(hits, axis=0)
    flagged = np.cumsum(steps.alarms @ drawn, axis=0)
    flagged += found
    # Where nothing is flagged yet nothing is hit either: the least divisor keeps 0 / 0 away.
    np.maximum(flagged, 1, out=flagged)
    total = found[-1].copy()
    found /= flagged
    defined = (total > 0) & (steps.negatives @ drawn > 0)
    undefined = np.full(len(total), np.nan)
    return np.divide(np.einsum("sr,sr->r", hits, found), total, out=undefined, where=defined)
