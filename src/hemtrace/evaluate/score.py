"""Predictions -> figures: every one with its interval, its counts and its null beside it."""

from typing import Any

import numpy as np
import polars as pl

from hemtrace.evaluate.position import position_scores
from hemtrace.evaluate.scored import (
    SCORED_PARTITIONS,
    Scored,
    check_predictions,
    scored_partition,
)
from hemtrace.labels import ANY, LABEL_WEIGHTS, LABELS
from hemtrace.metrics import (
    Estimate,
    Resamples,
    average_precision,
    confusion,
    constant_log_loss,
    estimate,
    log_losses,
    resample_patients,
    roc_auc,
    threshold_for_sensitivity,
)
from hemtrace.params import EvaluateParams

_EVEN = 0.5


def evaluate(
    predictions: pl.DataFrame,
    params: EvaluateParams,
    seed: int,
    splits: pl.DataFrame | None = None,
    catalog: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """Score the predictions on validation and test patients.

    Thresholds come from the validation slices alone; the test slices are only scored.

    Parameters
    ----------
    predictions
        A row a slice: slice, patient, partition (`val` or `test`), `p_<label>`, `<label>`.
    params
        Clip value, wanted sensitivity, number of bootstrap replicates.
    seed
        Fixes the bootstrap.
    splits
        Product of the split, whose training patients give the prevalence for the null. Without
        it, validation gives it.
    catalog
        Product of ingest. With it and the split, the AUC of `any` gets the null that knows only
        where in the scan a slice lies; without, its null is 0.5.

    Returns
    -------
    Plain values for JSON: `headline`, `rules`, `thresholds`, `prevalence`, and `partitions` with
    `val` and `test`. What is undefined, such as the AUC of a label that no slice has, is None.

    Raises
    ------
    HemtraceError
        If columns or a partition are missing, or a probability is none.
    """
    check_predictions(predictions)
    tables = {name: scored_partition(predictions, name) for name in SCORED_PARTITIONS}
    thresholds = choose_thresholds(tables["val"], params.sensitivity)
    source, prevalence = _prevalence(tables["val"], splits)
    partitions = {
        name: _score(table, thresholds, prevalence, params, seed) for name, table in tables.items()
    }
    if splits is not None and catalog is not None:
        scores = position_scores(catalog, splits)
        for name in SCORED_PARTITIONS:
            _add_position_null(partitions[name], predictions, name, scores)
    return {
        "headline": _headline(partitions["test"]),
        "rules": _rules(params, source),
        "thresholds": thresholds,
        "prevalence": dict(zip(LABELS, prevalence.tolist(), strict=True)),
        "partitions": partitions,
    }


def choose_thresholds(validation: Scored, sensitivity: float) -> dict[str, dict[str, Any]]:
    """Choose an operating threshold for each label, and one for `any` of whole patients.

    Returns
    -------
    For each label and `patient`: the value and where it comes from in words.
    """
    patients = validation.by_patient()
    columns = {
        label: (validation.truth[:, column], validation.probability[:, column])
        for column, label in enumerate(LABELS)
    }
    columns["patient"] = (patients.truth[:, ANY], patients.probability[:, ANY])
    return {
        name: _threshold(truth, probability, sensitivity)
        for name, (truth, probability) in columns.items()
    }


def _threshold(truth: np.ndarray, probability: np.ndarray, sensitivity: float) -> dict[str, Any]:
    value = threshold_for_sensitivity(truth, probability, sensitivity)
    if value is None:
        return {"value": _EVEN, "positives": 0, "source": "0.5, as validation has no positive"}
    return {"value": value, "positives": int(truth.sum()), "source": "validation"}


def _prevalence(validation: Scored, splits: pl.DataFrame | None) -> tuple[str, np.ndarray]:
    if splits is None:
        return "validation", validation.truth.mean(axis=0)
    train = splits.filter(pl.col("partition") == "train")
    positives = train.select(LABELS).sum().to_numpy()[0]
    return "training", positives.astype(np.float64) / train["slices"].sum()


def _score(
    slices: Scored,
    thresholds: dict[str, dict[str, Any]],
    prevalence: np.ndarray,
    params: EvaluateParams,
    seed: int,
) -> dict[str, Any]:
    resamples = resample_patients(slices.patients, params.bootstrap, seed)
    count = len(slices.patients)
    losses = log_losses(slices.truth, slices.probability, params.clip)
    right = (slices.probability >= _EVEN) == slices.truth
    every = np.ones(count)
    null_losses = [
        constant_log_loss(slices.truth[:, column].mean(), prevalence[column], params.clip)
        for column in range(len(LABELS))
    ]
    return {
        "slices": count,
        "patients": len(np.unique(slices.patients)),
        "weighted_log_loss": _share(losses @ LABEL_WEIGHTS, every, resamples).as_dict(),
        "mean_accuracy": _share(right.mean(axis=1), every, resamples).as_dict(),
        "null": {
            "weighted_log_loss": float(np.dot(null_losses, LABEL_WEIGHTS)),
            "mean_accuracy": float(1 - slices.truth.mean()),
        },
        "labels": {
            label: _score_label(
                slices.truth[:, column],
                slices.probability[:, column],
                slices.patients,
                thresholds[label]["value"],
                losses[:, column],
                null_losses[column],
                resamples,
            )
            for column, label in enumerate(LABELS)
        },
        "patient": _score_patients(slices.by_patient(), thresholds["patient"]["value"], resamples),
    }


def _score_label(
    truth: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    threshold: float,
    losses: np.ndarray,
    null_loss: float,
    resamples: Resamples,
) -> dict[str, Any]:
    right = (probability >= _EVEN) == truth
    every = np.ones(len(truth))
    prevalence = float(truth.mean())
    return {
        "positives": int(truth.sum()),
        "positive_patients": len(np.unique(patients[truth])),
        "prevalence": prevalence,
        **_ranking(truth, probability, resamples),
        "log_loss": _share(losses, every, resamples).as_dict(),
        "accuracy": _share(right, every, resamples).as_dict(),
        **_operating_point(truth, probability >= threshold, resamples),
        "null": {
            **_ranking_null(prevalence),
            "log_loss": null_loss,
            "accuracy": 1 - prevalence,
        },
    }


def _score_patients(patients: Scored, threshold: float, slices: Resamples) -> dict[str, Any]:
    # The same draws as for the slices: column p of `drawn` is patient p, in order of names.
    resamples = Resamples(slices.drawn, np.arange(len(patients.patients)))
    truth, probability = patients.truth[:, ANY], patients.probability[:, ANY]
    return {
        "patients": len(truth),
        "positives": int(truth.sum()),
        "prevalence": float(truth.mean()),
        **_ranking(truth, probability, resamples),
        **_operating_point(truth, probability >= threshold, resamples),
        "null": _ranking_null(float(truth.mean())),
    }


def _ranking_null(prevalence: float) -> dict[str, Any]:
    defined = 0 < prevalence < 1
    return {
        "roc_auc": _EVEN if defined else None,
        "average_precision": prevalence if defined else None,
    }


def _ranking(truth: np.ndarray, probability: np.ndarray, resamples: Resamples) -> dict[str, Any]:
    return {
        name: estimate(
            float(area(truth, probability)[0]), area(truth, probability, resamples)
        ).as_dict()
        for name, area in (("roc_auc", roc_auc), ("average_precision", average_precision))
    }


def _operating_point(
    truth: np.ndarray, flagged: np.ndarray, resamples: Resamples
) -> dict[str, Any]:
    hit, cleared = truth & flagged, ~truth & ~flagged
    return {
        "confusion": confusion(truth, flagged),
        "sensitivity": _share(hit, truth, resamples).as_dict(),
        "specificity": _share(cleared, ~truth, resamples).as_dict(),
        "positive_predictive_value": _share(hit, flagged, resamples).as_dict(),
        "negative_predictive_value": _share(cleared, ~flagged, resamples).as_dict(),
    }


def _share(above: np.ndarray, below: np.ndarray, resamples: Resamples) -> Estimate:
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    value = above.sum() / below.sum() if below.sum() else np.nan
    return estimate(float(value), resamples.ratio(above, below))


def _add_position_null(
    scored: dict[str, Any], predictions: pl.DataFrame, partition: str, scores: pl.DataFrame
) -> None:
    """Put the AUC that the position in the scan reaches beside those of `any`."""
    table = predictions.filter(pl.col("partition") == partition).join(
        scores, on="slice", how="left", maintain_order="left"
    )
    patients = table.group_by("patient").agg(pl.col("any").max(), pl.col("score").max())
    for place, rows in ((scored["labels"]["any"], table), (scored["patient"], patients)):
        area = float(roc_auc(rows["any"].to_numpy(), rows["score"].to_numpy())[0])
        place["null"]["roc_auc_position"] = area if np.isfinite(area) else None


def _headline(test: dict[str, Any]) -> dict[str, float | None]:
    """Pick the few figures that `dvc metrics` and the head of the report show."""
    of_any, patient = test["labels"]["any"], test["patient"]
    return {
        "roc_auc_any": of_any["roc_auc"]["value"],
        "average_precision_any": of_any["average_precision"]["value"],
        "sensitivity_any": of_any["sensitivity"]["value"],
        "specificity_any": of_any["specificity"]["value"],
        "roc_auc_any_patient": patient["roc_auc"]["value"],
        "weighted_log_loss": test["weighted_log_loss"]["value"],
        "mean_accuracy": test["mean_accuracy"]["value"],
    }


def _rules(params: EvaluateParams, prevalence_source: str) -> dict[str, Any]:
    return {
        "clip": params.clip,
        "weighted_log_loss": "mean over slices of (2 any + the five others) / 7, natural "
        f"logarithm, probabilities held within [{params.clip:g}, 1 - {params.clip:g}]",
        "threshold": f"for each label the highest threshold that flags at least "
        f"{params.sensitivity:.0%} of its positive validation slices; for patients the same on "
        "the highest probability of any bleed over their slices; test data play no part",
        "accuracy": f"share of slices on the right side of {_EVEN}",
        "interval": f"95 %, percentile bootstrap of whole patients, {params.bootstrap} "
        "replicates; none where over 5 % of the replicates lack a class, or all agree",
        "null": f"log loss: the prevalence among {prevalence_source} slices as every answer; "
        "accuracy: no bleed everywhere; average precision: the prevalence; AUC: 0.5, and for any "
        "bleed the place of the slice in the scan alone, where known",
        "bootstrap": params.bootstrap,
        "sensitivity": params.sensitivity,
    }
