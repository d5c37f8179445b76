"""Each system's predictions -> a row of figures, and how far it differs from this run."""

from typing import Any

import numpy as np
import polars as pl

from hemtrace.evaluate.level import resamples_at
from hemtrace.evaluate.scored import Scored, check_predictions, scored_partition
from hemtrace.labels import ANY, LABEL_WEIGHTS, LABELS
from hemtrace.metrics import (
    average_precision,
    compare_figures,
    compare_means,
    estimate_area,
    estimate_share,
    log_losses,
    resample_patients,
    roc_auc,
)
from hemtrace.params import EvaluateParams


def compare_systems(
    systems: dict[str, tuple[pl.DataFrame, dict[str, Any]]], params: EvaluateParams, seed: int
) -> dict[str, Any]:
    """Score every system on the same test slices, by the same replicates of patients.

    Parameters
    ----------
    systems
        By name, in the order of the table, the one that the others are compared with first:
        predictions as `evaluate` takes them, and what `cost.describe_system` says.
    params, seed
        As for `evaluate`.

    Returns
    -------
    `systems`: a row each with name, description, and on the test slices `weighted_log_loss`,
    `average_precision` of any, `roc_auc_patients`, and `roc_auc_<label>`, each with its interval;
    of all but the first, `roc_auc_difference` of any and `log_loss_difference` to the first, with
    interval and p; `slices` and `patients` of the test.
    """
    rows: list[dict[str, Any]] = []
    first: Scored | None = None
    for name, (predictions, description) in systems.items():
        check_predictions(predictions)
        test = scored_partition(predictions, "test")
        first = first or test
        row = {"name": name, **description, **_score(test, params, seed)}
        if test is not first:
            row |= _compare(test, first, params, seed)
        rows.append(row)
    patients = len(np.unique(first.patients)) if first else 0
    return {"systems": rows, "slices": len(first) if first else 0, "patients": patients}


def _score(test: Scored, params: EvaluateParams, seed: int) -> dict[str, Any]:
    draws = resample_patients(test.patients, params.bootstrap, seed)
    patients = test.at_level("patients", params.score_rule)
    losses = log_losses(test.truth, test.probability, params.clip) @ LABEL_WEIGHTS

    def area(kind: Any, scored: Scored, column: int) -> dict[str, Any]:
        truth, score = scored.truth[:, column], scored.probability[:, column]
        return estimate_area(kind, truth, score, resamples_at(scored, draws)).as_dict()

    return {
        "weighted_log_loss": estimate_share(losses, np.ones(len(test)), draws).as_dict(),
        "average_precision": area(average_precision, test, ANY),
        "roc_auc_patients": area(roc_auc, patients, ANY),
        **{f"roc_auc_{label}": area(roc_auc, test, k) for k, label in enumerate(LABELS)},
    }


def _compare(test: Scored, first: Scored, params: EvaluateParams, seed: int) -> dict[str, Any]:
    draws = resample_patients(test.patients, params.bootstrap, seed)
    loss, its_loss = (
        log_losses(one.truth, one.probability, params.clip) @ LABEL_WEIGHTS for one in (test, first)
    )
    own, theirs = test.probability[:, ANY], first.probability[:, ANY]
    areas = compare_figures(roc_auc, test.truth[:, ANY], own, theirs, draws)
    losses = compare_means(loss, its_loss, draws)
    return {"roc_auc_difference": areas.as_dict(), "log_loss_difference": losses.as_dict()}
