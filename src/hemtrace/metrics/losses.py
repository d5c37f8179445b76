"""Losses of probabilities: cross-entropy, the challenge's weighted mean of it, Brier's score."""

import numpy as np

from hemtrace.labels import LABEL_WEIGHTS


def log_losses(truth: np.ndarray, probability: np.ndarray, clip: float) -> np.ndarray:
    """Cross-entropy of each slice and label, natural logarithm.

    Parameters
    ----------
    truth
        0 or 1, any shape.
    probability
        Of the label being 1, same shape; NaN gives NaN.
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


def constant_log_loss(prevalence: float, answer: float, clip: float) -> float:
    """Log loss of the predictor that always gives one answer, on data of a prevalence."""
    held = float(np.clip(answer, clip, 1 - clip))
    return float(-prevalence * np.log(held) - (1 - prevalence) * np.log1p(-held))


def brier_scores(truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Squared distance of each probability from what is true; their mean is Brier's score.

    Parameters
    ----------
    truth
        0 or 1, any shape.
    probability
        Of the label being 1, same shape; NaN gives NaN.

    References
    ----------
    Brier, Monthly Weather Review 1950;78(1):1-3.
    """
    return np.square(np.asarray(probability, dtype=np.float64) - np.asarray(truth, dtype=bool))
