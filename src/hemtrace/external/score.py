"""Frozen model on a second data set -> figures at the levels that its labels allow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from hemtrace.evaluate.calibrate import apply_unseen, digest_patients
from hemtrace.evaluate.operating import POINTS, Operating
from hemtrace.evaluate.reliability import measure_reliability
from hemtrace.evaluate.scored import LEVELS_OF, UNITS, LabelLevel, Scored, scored_partition
from hemtrace.labels import LABELS
from hemtrace.metrics import (
    Resamples,
    average_precision,
    brier_scores,
    confusion,
    estimate,
    estimate_area,
    estimate_share,
    log_losses,
    rates_at_threshold,
    resample_patients,
    roc_auc,
)

RATES_TOLD = (
    "sensitivity",
    "specificity",
    "positive_predictive_value",
    "negative_predictive_value",
)
_RELIABILITY = ("in_the_large", "slope", "observed_expected")


def score_external(
    predictions: pl.DataFrame,
    operating: Operating,
    level: LabelLevel,
    labels: Sequence[str],
    replicates: int,
    seed: int,
    clip: float,
) -> dict[str, Any]:
    """Score predictions with calibration and thresholds as they came with the model.

    Parameters
    ----------
    predictions
        As `read.make_predictions` gives them, the probabilities before calibration.
    operating
        Of the model; nothing of it is fitted or chosen here.
    level
        What has one set of labels.
    labels
        Those that the data have.
    replicates, seed
        Of the bootstrap of whole patients.
    clip
        Of the log loss.

    Returns
    -------
    By level, `n`, `patients` and `labels`; by label counts, areas, calibration, and the rates at
    each operating point.

    Raises
    ------
    HemtraceError
        If calibration and thresholds were fixed on one of the patients.
    """
    slices = apply_unseen(operating.calibration, scored_partition(predictions, "external"))
    levels: dict[str, Any] = {}
    for name in LEVELS_OF[level]:
        scored = slices.at_level(name, operating.score_rule)
        resamples = resample_patients(scored.patients, replicates, seed)
        levels[name] = {
            "n": len(scored),
            "patients": resamples.patients,
            "labels": {
                label: _score_label(scored, label, operating, resamples, clip) for label in labels
            },
        }
    return levels


def _score_label(
    scored: Scored, label: str, operating: Operating, resamples: Resamples, clip: float
) -> dict[str, Any]:
    column, unit = LABELS.index(label), UNITS[scored.level]
    truth, score = scored.truth[:, column], scored.probability[:, column]
    every = np.ones(len(truth))
    reliability = measure_reliability(truth, score, resamples, unit)
    points = operating.points[scored.level]
    return {
        "n": len(truth),
        "positives": int(truth.sum()),
        "positive_patients": len(np.unique(scored.patients[truth])),
        "prevalence": float(truth.mean()),
        "roc_auc": estimate_area(roc_auc, truth, score, resamples, unit).as_dict(),
        "average_precision": estimate_area(
            average_precision, truth, score, resamples, unit
        ).as_dict(),
        "log_loss": estimate_share(log_losses(truth, score, clip), every, resamples).as_dict(),
        "brier": estimate_share(brier_scores(truth, score), every, resamples).as_dict(),
        **{name: reliability[name] for name in _RELIABILITY},
        "points": {
            name: _score_point(truth, score, points[name][label].threshold, resamples, unit)
            for name in POINTS
            if label in points[name]
        },
    }


def _score_point(
    truth: np.ndarray,
    score: np.ndarray,
    threshold: float | None,
    resamples: Resamples,
    unit: str,
) -> dict[str, Any]:
    rates = rates_at_threshold(truth, score, threshold, resamples, unit)
    is_told = threshold is not None and not np.isnan(score).any()
    return {
        "threshold": threshold,
        "confusion": confusion(truth, score >= threshold) if is_told else None,
        **{name: rates[name].as_dict() for name in RATES_TOLD},
    }


def compare_with_internal(
    external: pl.DataFrame,
    internal: pl.DataFrame,
    operating: Operating,
    level: LabelLevel,
    labels: Sequence[str],
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Say how much AUC is lost between the internal test patients and the external ones.

    Parameters
    ----------
    external, internal
        Predictions of the external data, and `data/predictions.parquet`.
    operating, level, labels, replicates, seed
        As for `score_external`.

    Returns
    -------
    `why`: None, or why nothing can be compared; `levels`, by level and label `internal` (the AUC
    of the test patients, with `n` and `positives`) and `drop` (internal less external). The two
    groups are resampled independently.
    """
    fixed_on = internal.filter(pl.col("partition") == "val")["patient"]
    if digest_patients(fixed_on) != operating.calibration.fitted_on:
        why = "the internal predictions are not those on which the operating points were fixed"
        return {"why": why, "levels": {}}
    found: dict[str, Any] = {}
    tables = (scored_partition(internal, "test"), scored_partition(external, "external"))
    inner, outer = (apply_unseen(operating.calibration, table) for table in tables)
    for name in LEVELS_OF[level]:
        here, there = (one.at_level(name, operating.score_rule) for one in (inner, outer))
        # Other draws for each: the patients have nothing to do with one another.
        ours = resample_patients(here.patients, replicates, seed + 1)
        theirs = resample_patients(there.patients, replicates, seed)
        found[name] = {
            label: _drop(here, there, LABELS.index(label), ours, theirs) for label in labels
        }
    return {"why": None, "levels": found}


def _drop(
    here: Scored, there: Scored, column: int, ours: Resamples, theirs: Resamples
) -> dict[str, Any]:
    unit = UNITS[here.level]
    inside, outside = (
        estimate_area(roc_auc, one.truth[:, column], one.probability[:, column], resamples, unit)
        for one, resamples in ((here, ours), (there, theirs))
    )
    why = inside.why if inside.value is None else outside.why
    change = np.nan
    if inside.value is not None and outside.value is not None:
        change = inside.value - outside.value
    replicates = roc_auc(here.truth[:, column], here.probability[:, column], ours) - roc_auc(
        there.truth[:, column], there.probability[:, column], theirs
    )
    fewest = min(ours.patients, theirs.patients)
    return {
        "n": len(here),
        "positives": int(here.truth[:, column].sum()),
        "internal": inside.as_dict(),
        "drop": estimate(change, replicates, why, patients=fewest).as_dict(),
    }


def flatten_results(
    levels: dict[str, Any], internal: dict[str, Any], synthetic: bool
) -> pl.DataFrame:
    """Put every figure into a row of its own, each marked if the model or data are synthetic.

    Returns
    -------
    level, label, point (empty but for rates), figure, value, low, high, why, n, positives, data.
    """
    rows: list[dict[str, Any]] = []

    def add(level: str, label: str, point: str, figure: str, found: Any, counts: Any) -> None:
        rows.append(
            {"level": level, "label": label, "point": point, "figure": figure}
            | {key: found[key] for key in ("value", "low", "high", "why")}
            | {"n": counts["n"], "positives": counts["positives"]}
            | {"data": "SYNTHETIC, not clinical performance" if synthetic else "patients"}
        )

    for level, of_level in levels.items():
        for label, own in of_level["labels"].items():
            for figure, found in own.items():
                if isinstance(found, dict) and "value" in found:
                    add(level, label, "", figure, found, own)
            for point, rates in own["points"].items():
                for figure in RATES_TOLD:
                    add(level, label, point, figure, rates[figure], own)
            beside = internal["levels"].get(level, {}).get(label)
            if beside:
                add(level, label, "", "roc_auc_internal", beside["internal"], beside)
                add(level, label, "", "roc_auc_drop", beside["drop"], own)
    schema: dict[str, type[pl.DataType]] = dict.fromkeys(
        ("level", "label", "point", "figure"), pl.String
    )
    schema |= {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "why": pl.String}
    schema |= {"n": pl.Int64, "positives": pl.Int64, "data": pl.String}
    return pl.DataFrame(rows, schema=schema)
