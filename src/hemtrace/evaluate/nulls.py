"""What needs no picture, or must come to nothing: the nulls that stand beside every model."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from hemtrace.evaluate.leak import find_leak
from hemtrace.evaluate.level import resamples_at
from hemtrace.evaluate.position import look_up
from hemtrace.evaluate.scored import UNITS, Rule, Scored, scored_partition
from hemtrace.labels import ANY, LABEL_WEIGHTS
from hemtrace.metrics import (
    Estimate,
    Resamples,
    average_precision,
    estimate_area,
    estimate_share,
    log_losses,
    resample_patients,
    roc_auc,
)

_HALF = 0.5
NULLS = {
    "no bleed": "answers no to everything",
    "prevalence": "gives every slice each label's share among the training slices",
    "position": "knows where in its scan a slice lies, and the share of each label there among the "
    "training patients; sees no picture",
    "shuffled labels": "a network trained and scored like the model on labels that belong to other "
    "patients, at the same height in the head: it can know the position, and what leaked",
}


def score_nulls(
    test: Scored,
    prevalence: np.ndarray,
    position: pl.DataFrame | None,
    shuffled: pl.DataFrame | None,
    clip: float,
    rule: Rule,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Score the model on the test slices beside what sees no picture.

    Parameters
    ----------
    test
        Test slices with the model's probabilities.
    prevalence
        (6,), each label's share among the training slices.
    position
        What `position.position_scores` gives; None: not known.
    shuffled
        Predictions of the network that learned from shuffled labels, with those labels; None:
        there is none.
    clip, rule
        Of the log loss; how a patient's slices become one score.
    replicates, seed
        Of the patient bootstrap: the same draws for all.

    Returns
    -------
    `rows`: for the model and each of `NULLS` that is known: name, meaning, weighted_log_loss,
    mean_accuracy, roc_auc, roc_auc_patients and average_precision of any. `leak_test`: what
    `leak.find_leak` gives; None without a shuffled run or the position.
    """
    resamples = resample_patients(test.patients, replicates, seed)
    constant = np.broadcast_to(prevalence, test.probability.shape)
    scored = {
        "this model": test,
        "no bleed": replace(test, probability=np.zeros_like(test.probability)),
        "prevalence": replace(test, probability=np.array(constant)),
    }
    if position is not None:
        scored["position"] = replace(test, probability=look_up(position, test.keys))
    leak: dict[str, Any] | None = None
    if shuffled is not None:
        scored["shuffled labels"] = scored_partition(shuffled, "test")
        if position is not None:
            leak = find_leak(scored["shuffled labels"], position, replicates, seed)
    rows = [
        {
            "name": name,
            "meaning": NULLS.get(name, "the network of this report"),
            **_score(one, clip, rule, resamples),
        }
        for name, one in scored.items()
    ]
    return {"rows": rows, "leak_test": leak}


def _score(scored: Scored, clip: float, rule: Rule, resamples: Resamples) -> dict[str, Any]:
    patients = scored.at_level("patients", rule)
    losses = log_losses(scored.truth, scored.probability, clip) @ LABEL_WEIGHTS
    right = ((scored.probability >= _HALF) == scored.truth).mean(axis=1)
    right[np.isnan(scored.probability).any(axis=1)] = np.nan
    every = np.ones(len(scored))
    figures = {
        "weighted_log_loss": estimate_share(losses, every, resamples),
        "mean_accuracy": estimate_share(right, every, resamples),
        "roc_auc": _area(roc_auc, scored, resamples),
        "roc_auc_patients": _area(roc_auc, patients, resamples_at(patients, resamples)),
        "average_precision": _area(average_precision, scored, resamples),
    }
    return {name: figure.as_dict() for name, figure in figures.items()}


def _area(area: Any, scored: Scored, resamples: Resamples) -> Estimate:
    truth, score = scored.truth[:, ANY], scored.probability[:, ANY]
    return estimate_area(area, truth, score, resamples, UNITS[scored.level])
