"""Frozen model on a second data set -> figures at the levels that its labels allow."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from hemtrace.evaluate.calibrate import apply, apply_unseen, digest_patients
from hemtrace.evaluate.operating import Operating, Point
from hemtrace.evaluate.reliability import measure_reliability
from hemtrace.evaluate.scored import LEVELS_OF, UNITS, LabelLevel, Scored, scored_partition
from hemtrace.labels import LABELS
from hemtrace.metrics import (
    Resamples,
    average_precision,
    brier_scores,
    confusion,
    constant_log_loss,
    estimate,
    estimate_area,
    estimate_share,
    log_losses,
    rates_at_threshold,
    resample_patients,
    roc_auc,
    why_not,
)

NO_OPERATING = (
    "no operating.json lies beside the model, so that neither calibration nor thresholds are known"
)
OLD_OPERATING = (
    "the operating.json beside the model is of an older version, which has of {level} the points "
    "of any bleed alone"
)
RATES_TOLD = (
    "sensitivity",
    "specificity",
    "positive_predictive_value",
    "negative_predictive_value",
)
NO_POSITION = (
    "the operating.json beside the model does not hold what the place in the scan tells: it is of "
    "an older version"
)
NO_PLACE = "no file tells where in its scan a slice lies"
_HALF = 0.5
_RELIABILITY = ("in_the_large", "slope", "observed_expected")


def score_external(
    predictions: pl.DataFrame,
    operating: Operating | None,
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
        As `read.make_predictions` gives them, the probabilities before calibration. None of their
        patients may have taken part in fixing `operating`: `run` asks before it predicts.
    operating
        Of the model; nothing of it is fitted or chosen here. None: the probabilities stay as the
        network gives them, the highest one tells of a study or patient, and there are no rates.
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
    By level, `n`, `patients` and `labels`; by label counts, areas, losses, accuracy at 0.5,
    calibration, in `null` what needs no picture reaches, in `position` what the place in the scan
    alone does, as the training patients taught it (`position_why`: why it is empty), and the rates
    at each operating point, or in `points_why` why there are none.
    """
    slices = scored_partition(predictions, "external")
    if operating is not None:
        slices = apply(operating.calibration, slices)
    rule = operating.score_rule if operating else "highest"
    placed, why = _place(predictions, slices, operating)
    levels: dict[str, Any] = {}
    for name in LEVELS_OF[level]:
        scored = slices.at_level(name, rule)
        resamples = resample_patients(scored.patients, replicates, seed)
        levels[name] = {
            "n": len(scored),
            "patients": resamples.patients,
            "labels": {
                label: _score_label(scored, label, operating, resamples, clip)
                | {
                    "position": _score_position(placed.at_level(name, rule), label, clip)
                    if placed
                    else {},
                    "position_why": why,
                }
                for label in labels
            },
        }
    return levels


def _score_label(
    scored: Scored, label: str, operating: Operating | None, resamples: Resamples, clip: float
) -> dict[str, Any]:
    column, unit = LABELS.index(label), UNITS[scored.level]
    truth, score = scored.truth[:, column], scored.probability[:, column]
    every = np.ones(len(truth))
    right = np.where(np.isnan(score), np.nan, (score >= _HALF) == truth)
    reliability = measure_reliability(truth, score, resamples, unit)
    frozen = operating.points[scored.level] if operating else {}
    points = {
        name: _score_point(truth, score, of_label[label], resamples, unit)
        for name, of_label in frozen.items()
        if label in of_label
    }
    why = None if points else OLD_OPERATING.format(level=scored.level)
    return {
        "n": len(truth),
        "positives": int(truth.sum()),
        "positive_patients": len(np.unique(scored.patients[truth])),
        "negative_patients": len(np.unique(scored.patients[~truth])),
        "prevalence": float(truth.mean()),
        "roc_auc": estimate_area(roc_auc, truth, score, resamples, unit).as_dict(),
        "average_precision": estimate_area(
            average_precision, truth, score, resamples, unit
        ).as_dict(),
        "log_loss": estimate_share(log_losses(truth, score, clip), every, resamples).as_dict(),
        "brier": estimate_share(brier_scores(truth, score), every, resamples).as_dict(),
        "accuracy": estimate_share(right, every, resamples).as_dict(),
        **{name: reliability[name] for name in _RELIABILITY},
        "null": _find_null(truth, clip),
        "points": points,
        "points_why": NO_OPERATING if operating is None else why,
    }


def _place(
    predictions: pl.DataFrame, slices: Scored, operating: Operating | None
) -> tuple[Scored | None, str | None]:
    """Score the slices by their place in the scan alone; or say why that is not possible.

    A slice of unknown place gets the overall share of the training patients.
    """
    if operating is None:
        return None, NO_OPERATING
    if operating.position is None:
        return None, NO_POSITION
    depths = predictions.sort("slice")["depth"].cast(pl.Float64).to_numpy()
    if np.isnan(depths).all():
        return None, NO_PLACE
    return replace(slices, probability=operating.position.score(depths)), None


def _score_position(placed: Scored, label: str, clip: float) -> dict[str, float]:
    """Score the null that knows the position; what one class alone leaves undefined is left out."""
    column = LABELS.index(label)
    truth, score = placed.truth[:, column], placed.probability[:, column]
    found = {
        "log_loss": float(log_losses(truth, score, clip).mean()),
        "brier": float(brier_scores(truth, score).mean()),
        "accuracy": float(((score >= _HALF) == truth).mean()),
    }
    if why_not(truth) is None:
        found["roc_auc"] = float(roc_auc(truth, score)[0])
        found["average_precision"] = float(average_precision(truth, score)[0])
    return found


def _find_null(truth: np.ndarray, clip: float) -> dict[str, float]:
    """What needs no picture: no bleed everywhere (accuracy), and else the prevalence of these rows.

    Of all constant answers the prevalence here is the best, which makes it harder to beat than that
    of the training patients. A figure that one class alone leaves undefined is left out.
    """
    prevalence = float(truth.mean())
    null = {
        "log_loss": constant_log_loss(prevalence, prevalence, clip),
        "brier": prevalence * (1 - prevalence),
        "accuracy": 1 - prevalence,
    }
    if 0 < prevalence < 1:
        null |= {"roc_auc": _HALF, "average_precision": prevalence}
    return null


def _score_point(
    truth: np.ndarray,
    score: np.ndarray,
    point: Point,
    resamples: Resamples,
    unit: str,
) -> dict[str, Any]:
    rates = rates_at_threshold(truth, score, point.threshold, resamples, unit)
    holes = why_not(truth, score, unit) if np.isnan(score).any() else None
    is_told = point.threshold is not None and not holes
    return {
        "threshold": point.threshold,
        "confusion": confusion(truth, score >= point.threshold) if is_told else None,
        "why": point.why or holes,
        **{name: rates[name].as_dict() for name in RATES_TOLD},
    }


def compare_with_internal(
    external: pl.DataFrame,
    internal: pl.DataFrame,
    operating: Operating | None,
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
    if operating is None:
        return {"why": NO_OPERATING, "levels": {}}
    fixed_on = internal.filter(pl.col("partition") == "val")["patient"]
    if digest_patients(fixed_on) != operating.calibration.fitted_on:
        why = "the internal predictions are not those on which the operating points were fixed"
        return {"why": why, "levels": {}}
    found: dict[str, Any] = {}
    inner = apply_unseen(operating.calibration, scored_partition(internal, "test"))
    outer = apply(operating.calibration, scored_partition(external, "external"))
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
    bearers = min(_count_fewest(one, column) for one in (here, there))
    return {
        "n": len(here),
        "positives": int(here.truth[:, column].sum()),
        "internal": inside.as_dict(),
        "drop": estimate(change, replicates, why, patients=fewest, bearers=bearers).as_dict(),
    }


def _count_fewest(scored: Scored, column: int) -> int:
    """Count the patients with a positive, or with a negative, whichever are fewer."""
    truth = scored.truth[:, column]
    return min(len(np.unique(scored.patients[of])) for of in (truth, ~truth))


def flatten_results(levels: dict[str, Any], internal: dict[str, Any], mark: str) -> pl.DataFrame:
    """Put every figure into a row of its own, each with the mark of what it rests on.

    Returns
    -------
    level, label, point (empty but for rates), figure, value, low, high, why, note, n, positives,
    null (what needs no picture reaches; empty where there is none), position (what the place in the
    scan alone reaches), data.
    """
    rows: list[dict[str, Any]] = []

    def add(level: str, label: str, point: str, figure: str, found: Any, counts: Any) -> None:
        rows.append(
            {"level": level, "label": label, "point": point, "figure": figure}
            | {key: found.get(key) for key in ("value", "low", "high", "why", "note")}
            | {"n": counts["n"], "positives": counts["positives"]}
            | {
                key: None if point else counts.get(key, {}).get(figure)
                for key in ("null", "position")
            }
            | {"data": mark}
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
    schema |= {"note": pl.String, "n": pl.Int64, "positives": pl.Int64}
    schema |= {"null": pl.Float64, "position": pl.Float64, "data": pl.String}
    return pl.DataFrame(rows, schema=schema)
