"""All figures of one partition at one level: slices, studies or patients."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hemtrace.evaluate.aims import add_aims
from hemtrace.evaluate.operating import Points, flagged
from hemtrace.evaluate.scored import UNITS, Scored
from hemtrace.labels import LABEL_WEIGHTS, LABELS
from hemtrace.metrics import (
    RATES,
    Estimate,
    Resamples,
    average_precision,
    brier_scores,
    confusion,
    constant_log_loss,
    estimate_area,
    estimate_rates,
    estimate_share,
    log_losses,
    roc_auc,
    why_not,
)

_HALF = 0.5


def resamples_at(scored: Scored, slices: Resamples) -> Resamples:
    """Take the draws of the slices' patients for the rows of another level: the same replicates."""
    _, member = np.unique(scored.patients, return_inverse=True)
    return Resamples(slices.drawn, member)


def score_level(
    raw: Scored,
    calibrated: Scored,
    points: Points,
    prevalence: np.ndarray,
    clip: float,
    resamples: Resamples,
    aims: Mapping[str, float],
) -> dict[str, Any]:
    """Compute all figures of one level.

    Parameters
    ----------
    raw, calibrated
        The same rows with the network's probabilities, and with the calibrated ones. The calibrated
        ones are compared with thresholds; all else is of the network's own.
    points
        Operating points of this level.
    prevalence
        (6,), each label's share among the training slices, for the null of the log loss.
    clip
        Of the log loss.
    resamples
        Of these rows.
    aims
        What the points were chosen for, as `aims.add_aims` takes them.

    Returns
    -------
    Plain values for JSON: n, patients, weighted_log_loss, mean_accuracy (each label at 0.5, then
    their mean: what Keras calls binary accuracy, and probably the paper's), exact_match (all six
    labels right at 0.5), null, and `labels`.
    """
    every = np.ones(len(raw))
    losses = log_losses(raw.truth, raw.probability, clip)
    # What is NaN is neither right nor wrong.
    right = np.where(np.isnan(raw.probability), np.nan, (raw.probability >= _HALF) == raw.truth)
    null_losses = [
        constant_log_loss(raw.truth[:, column].mean(), prevalence[column], clip)
        for column in range(len(LABELS))
    ]
    means = {
        "weighted_log_loss": losses @ LABEL_WEIGHTS,
        "mean_accuracy": right.mean(axis=1),
        "exact_match": np.where(np.isnan(right).any(axis=1), np.nan, right.all(axis=1)),
    }
    return {
        "n": len(raw),
        "patients": resamples.patients,
        **{name: estimate_share(one, every, resamples).as_dict() for name, one in means.items()},
        "null": {
            "weighted_log_loss": float(np.dot(null_losses, LABEL_WEIGHTS)),
            "mean_accuracy": float(1 - raw.truth.mean()),
            "exact_match": float((~raw.truth.any(axis=1)).mean()),
        },
        "labels": {
            label: {
                **_score_label(raw, column, losses[:, column], right[:, column], resamples),
                "null": _null(raw.truth[:, column], null_losses[column]),
                "points": add_aims(_score_points(calibrated, points, label, resamples), aims),
            }
            for column, label in enumerate(LABELS)
        },
    }


def _score_label(
    scored: Scored, column: int, losses: np.ndarray, right: np.ndarray, resamples: Resamples
) -> dict[str, Any]:
    truth, probability = scored.truth[:, column], scored.probability[:, column]
    unit, every = UNITS[scored.level], np.ones(len(scored))
    figures: dict[str, Estimate] = {
        "roc_auc": estimate_area(roc_auc, truth, probability, resamples, unit),
        "average_precision": estimate_area(average_precision, truth, probability, resamples, unit),
        "log_loss": estimate_share(losses, every, resamples),
        "brier": estimate_share(brier_scores(truth, probability), every, resamples),
        "accuracy": estimate_share(right, every, resamples),
    }
    return {
        "positives": int(truth.sum()),
        "positive_patients": len(np.unique(scored.patients[truth])),
        "prevalence": float(truth.mean()),
        **{name: figure.as_dict() for name, figure in figures.items()},
    }


def _null(truth: np.ndarray, log_loss: float) -> dict[str, float | None]:
    """What a predictor that sees no picture reaches."""
    prevalence = float(truth.mean())
    defined = 0 < prevalence < 1
    return {
        "roc_auc": _HALF if defined else None,
        "average_precision": prevalence if defined else None,
        "log_loss": log_loss,
        "accuracy": 1 - prevalence,
    }


def _score_points(
    calibrated: Scored, points: Points, label: str, resamples: Resamples
) -> dict[str, Any] | None:
    """Score each named point; None for a label that an older operating.json has no points of."""
    if any(label not in of_labels for of_labels in points.values()):
        return None
    column = LABELS.index(label)
    truth = calibrated.truth[:, column]
    unit = UNITS[calibrated.level]
    scored = {}
    for name, of_labels in points.items():
        point = of_labels[label]
        flags = flagged(calibrated, points, label, name)
        why = point.why
        if flags is None:
            why = why or why_not(truth, calibrated.probability[:, column], unit)
            rates = {rate: Estimate(None, why=why) for rate in RATES}
        else:
            rates = estimate_rates(truth, flags, resamples, unit)
        scored[name] = {
            "threshold": point.threshold,
            "why": why,
            "validation_positives": point.positives,
            "validation": {
                "sensitivity": point.sensitivity,
                "specificity": point.specificity,
            },
            "confusion": None if flags is None else confusion(truth, flags),
            **{rate: value.as_dict() for rate, value in rates.items()},
        }
    return scored
