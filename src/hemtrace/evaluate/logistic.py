"""Logistic regression by maximum likelihood, of many replicates of the same rows at once."""

import numpy as np
from scipy.special import expit

_ITERATIONS = 60
_HALVINGS = 30
_SETTLED = 1e-10


def fit_logistic(
    design: np.ndarray,
    hits: np.ndarray,
    total: np.ndarray,
    offset: np.ndarray | float = 0.0,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Fit logistic regressions of maximum likelihood on the same rows with different weights.

    Newton's steps, halved as long as the likelihood falls.

    Parameters
    ----------
    design
        (N, k): the columns whose factors are sought.
    hits, total
        (R, N): weight of the positives, and of all, at each row.
    offset
        (N,), added to the logits.
    start
        (k,): where to begin; None: at 0.

    Returns
    -------
    (R, k), NaN where it did not settle, as where classes are separated.
    """
    count, width = len(hits), design.shape[1]
    factors = np.tile(np.zeros(width) if start is None else start, (count, 1))
    loss = _loss(factors @ design.T + offset, hits, total)
    settled = np.zeros(count, dtype=bool)
    squares = np.einsum("ni,nj->nij", design, design).reshape(len(design), -1)
    ridge = 1e-14 * np.eye(width)  # lets a curvature of 0 be inverted; far below rounding elsewhere
    for _ in range(_ITERATIONS):
        rows = np.flatnonzero(~settled)
        if not len(rows):
            break
        some_hits, some_total = hits[rows], total[rows]
        mean = expit(factors[rows] @ design.T + offset)
        slope = (some_hits - some_total * mean) @ design
        bend = (some_total * mean * (1 - mean)) @ squares
        curvature = bend.reshape(-1, width, width) + ridge * some_total.sum(axis=1)[:, None, None]
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        for _ in range(_HALVINGS):
            trial = factors[rows] + step
            trial_loss = _loss(trial @ design.T + offset, some_hits, some_total)
            worse = ~(trial_loss <= loss[rows] + 1e-12 * np.abs(loss[rows]))
            if not worse.any():
                break
            step[worse] /= 2
        factors[rows], loss[rows] = trial, trial_loss
        settled[rows] = (np.abs(step) <= _SETTLED * (1 + np.abs(trial))).all(axis=1)
    factors[~settled] = np.nan
    return factors


def _loss(logits: np.ndarray, hits: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Negative log-likelihood: (R,)."""
    # Where classes are separated the factors grow until a logit is no number; such never settle.
    with np.errstate(invalid="ignore"):
        losses: np.ndarray = (total * np.logaddexp(0, logits) - hits * logits).sum(axis=1)
    return losses
