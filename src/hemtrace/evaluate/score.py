"""Predictions -> figures: every one with its interval, its counts and its null beside it."""

from typing import Any

import numpy as np
import polars as pl

from hemtrace.evaluate.aims import TERMS
from hemtrace.evaluate.baselines import find_no_better
from hemtrace.evaluate.benefit import weigh_benefit
from hemtrace.evaluate.calibrate import METHODS, apply
from hemtrace.evaluate.confused import confuse_subtypes
from hemtrace.evaluate.contradictions import count_contradictions
from hemtrace.evaluate.level import resamples_at, score_level
from hemtrace.evaluate.nulls import score_nulls
from hemtrace.evaluate.operating import POINTS, Operating
from hemtrace.evaluate.position import PositionShares, position_scores
from hemtrace.evaluate.reliability import assess_calibration
from hemtrace.evaluate.scored import (
    LEVELS,
    SCORE_RULES,
    SCORED_PARTITIONS,
    Scored,
    check_predictions,
    scored_partition,
)
from hemtrace.evaluate.thresholds import BETWEEN, fix_operating
from hemtrace.labels import LABELS
from hemtrace.metrics import FEW_BEARERS, resample_patients
from hemtrace.params import EvaluateParams
from hemtrace.study.sample_size import sample_size_note


def fix_on_validation(
    predictions: pl.DataFrame,
    params: EvaluateParams,
    model_sha256: str,
    synthetic: bool,
    position: PositionShares | None = None,
) -> Operating:
    """Fit the calibration and choose the operating points, on validation slices alone.

    Parameters
    ----------
    predictions
        As for `evaluate`.
    params
        The aims.
    model_sha256, synthetic
        Of the model that they are carried with.
    position
        What the place in the scan tells, carried along; None: not known.

    Raises
    ------
    HemtraceError
        If columns or a partition are missing, or a probability is none.
    """
    check_predictions(predictions)
    operating = fix_operating(
        scored_partition(predictions, "val"),
        params.calibration,
        model_sha256,
        synthetic,
        params.score_rule,
        params.sensitivity,
        params.specificity,
        params.operating_point,
    )
    return operating.model_copy(update={"position": position})


def evaluate(
    predictions: pl.DataFrame,
    operating: Operating,
    params: EvaluateParams,
    seed: int,
    splits: pl.DataFrame | None = None,
    catalog: pl.DataFrame | None = None,
    shuffled: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """Score the predictions on validation and test patients, by slices, studies and patients.

    Parameters
    ----------
    predictions
        A row a slice: slice, patient, study, partition (`val` or `test`), `p_<label>`, `<label>`.
    operating
        What was fixed on the validation slices; test slices are only scored.
    params
        Clip value, rule of a study's score, number of bootstrap replicates.
    seed
        Fixes the bootstrap.
    splits
        Product of the split, whose training patients give the prevalence for the null. Without
        it, validation gives it.
    catalog
        Product of ingest. With it and the split there is the null that knows only where in the
        scan a slice lies.
    shuffled
        Predictions of the network that learned from shuffled labels; None: there is none.

    Returns
    -------
    Plain values for JSON: `headline`, `rules`, `default_point`, `prevalence`, `partitions` with
    `val` and `test`, each with the three levels as `level.score_level` gives them, `nulls`,
    `no_better`, `calibration`, `benefit`, `contradictions`, `confused` and `sample_size`. What is
    undefined, such as the AUC of a label that no slice has, is None with the reason beside it.

    Raises
    ------
    HemtraceError
        If columns or a partition are missing, a probability is none, or a test patient is one on
        whom calibration and points were fixed.
    """
    check_predictions(predictions)
    tables = {name: scored_partition(predictions, name) for name in SCORED_PARTITIONS}
    test = tables["test"]
    draws = resample_patients(test.patients, params.bootstrap, seed)
    # First, as it refuses patients on whom the calibration was fitted.
    calibration = assess_calibration(operating.calibration, test, draws)
    calibrated = apply(operating.calibration, test)
    source, prevalence = _prevalence(tables["val"], splits)
    partitions = {
        name: _score_partition(table, operating, prevalence, params, seed)
        for name, table in tables.items()
    }
    position = None
    if splits is not None and catalog is not None:
        position = position_scores(catalog, splits)
    return {
        "headline": _headline(partitions["test"], operating.default_point),
        "rules": _rules(params, operating, source),
        "default_point": operating.default_point,
        "prevalence": dict(zip(LABELS, prevalence.tolist(), strict=True)),
        "partitions": partitions,
        "nulls": score_nulls(
            test,
            prevalence,
            position,
            shuffled,
            params.clip,
            operating.score_rule,
            params.bootstrap,
            seed,
        ),
        "no_better": find_no_better(partitions["test"]),
        "calibration": calibration,
        "benefit": weigh_benefit(tables["val"], test, operating, draws),
        "contradictions": count_contradictions(calibrated, operating),
        "confused": confuse_subtypes(calibrated, operating, draws),
        "sample_size": _sample_size(test, operating),
    }


def _sample_size(test: Scored, operating: Operating) -> list[dict[str, Any]]:
    calibrated = apply(operating.calibration, test)
    points = operating.points["slices"][operating.default_point]
    thresholds = {label: point.threshold for label, point in points.items()}
    return sample_size_note(test.truth, calibrated.probability, test.patients, thresholds)


def _score_partition(
    slices: Scored,
    operating: Operating,
    prevalence: np.ndarray,
    params: EvaluateParams,
    seed: int,
) -> dict[str, Any]:
    draws = resample_patients(slices.patients, params.bootstrap, seed)
    calibrated = apply(operating.calibration, slices)
    rule = operating.score_rule
    return {
        level: score_level(
            slices.at_level(level, rule),
            calibrated.at_level(level, rule),
            operating.points[level],
            prevalence,
            params.clip,
            resamples_at(slices.at_level(level, rule), draws),
            operating.aims,
        )
        for level in LEVELS
    }


def _prevalence(validation: Scored, splits: pl.DataFrame | None) -> tuple[str, np.ndarray]:
    if splits is None:
        return "validation", validation.truth.mean(axis=0)
    train = splits.filter(pl.col("partition") == "train")
    positives = train.select(LABELS).sum().to_numpy()[0]
    return "training", positives.astype(np.float64) / train["slices"].sum()


def _headline(test: dict[str, Any], point: str) -> dict[str, float | None]:
    """Pick the few figures that `dvc metrics` and the head of the report show."""
    slices, patients = test["slices"], test["patients"]
    of_slices, of_patients = slices["labels"]["any"], patients["labels"]["any"]
    figures = {
        "roc_auc_any": of_slices["roc_auc"],
        "average_precision_any": of_slices["average_precision"],
        "sensitivity_any": of_slices["points"][point]["sensitivity"],
        "specificity_any": of_slices["points"][point]["specificity"],
        "roc_auc_any_patient": of_patients["roc_auc"],
        "sensitivity_any_patient": of_patients["points"][point]["sensitivity"],
        "specificity_any_patient": of_patients["points"][point]["specificity"],
        "weighted_log_loss": slices["weighted_log_loss"],
        "mean_accuracy": slices["mean_accuracy"],
    }
    return {name: figure["value"] for name, figure in figures.items()}


def _rules(params: EvaluateParams, operating: Operating, prevalence_source: str) -> dict[str, Any]:
    aims = operating.aims
    return {
        "clip": params.clip,
        "weighted_log_loss": "mean over slices of (2 any + the five others) / 7, natural "
        f"logarithm, probabilities held within [{params.clip:g}, 1 - {params.clip:g}]",
        "score": f"a study's or patient's score is {SCORE_RULES[operating.score_rule]}; its label "
        "is true where one of its slices bears it",
        "calibration": METHODS[operating.calibration.method],
        "points": {
            "rule-out": f"{POINTS['rule-out']}, {aims['sensitivity']:.0%} ({TERMS['rule-out']})",
            "rule-in": f"{POINTS['rule-in']}, {aims['specificity']:.0%} ({TERMS['rule-in']})",
            "balanced": POINTS["balanced"],
        },
        "between": BETWEEN,
        "accuracy": "share of slices on the right side of 0.5, the mean of the six labels: what "
        "training libraries call binary accuracy; exact match: all six labels right",
        "interval": f"95 %, percentile bootstrap of whole patients, {params.bootstrap:,} "
        "replicates; exact binomial (Clopper-Pearson) for a share of rows that are each another "
        "patient's; none where over 5 % "
        "of the replicates lack a class, where all agree, or of fewer than three patients; a note "
        f"where one rests on fewer than {FEW_BEARERS} patients, as too narrow then",
        "null": f"log loss: the prevalence among {prevalence_source} slices as every answer; "
        "accuracy: no bleed everywhere; average precision: the prevalence; AUC: 0.5",
        "bootstrap": params.bootstrap,
    }
