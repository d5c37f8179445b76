"""Calibration and the thresholds of the operating points, fixed on validation patients alone."""

import numpy as np

from hemtrace.evaluate.calibrate import Method, apply, require_validation
from hemtrace.evaluate.fit import fit_calibration
from hemtrace.evaluate.operating import POINTS, Operating, Point, Points
from hemtrace.evaluate.scored import LEVELS, UNITS, Rule, Scored
from hemtrace.labels import LABELS
from hemtrace.metrics import (
    threshold_balanced,
    threshold_for_sensitivity,
    threshold_for_specificity,
    why_not,
)
from hemtrace.params import EvaluateParams

_USUAL = EvaluateParams()
BETWEEN = "each threshold lies halfway from that score to the next lower one of validation"


def fix_operating(
    validation: Scored,
    method: Method,
    model_sha256: str,
    synthetic: bool,
    rule: Rule = _USUAL.score_rule,
    sensitivity: float = _USUAL.sensitivity,
    specificity: float = _USUAL.specificity,
    default_point: str = _USUAL.operating_point,
) -> Operating:
    """Fit the calibration, then choose the points at all levels, on validation slices alone.

    Parameters
    ----------
    validation
        Slices with the probabilities as the network gives them.
    method, rule
        Of calibration; of the score of a study or patient.
    model_sha256, synthetic
        Of the model, for the file.
    sensitivity, specificity
        As in `choose_points`.
    default_point
        One of `POINTS`.

    Raises
    ------
    HemtraceError
        If the slices are not those of validation patients.
    """
    calibration = fit_calibration(validation, method)
    calibrated = apply(calibration, validation)
    return Operating(
        model_sha256=model_sha256,
        synthetic=synthetic,
        calibration=calibration,
        score_rule=rule,
        aims={"sensitivity": sensitivity, "specificity": specificity},
        default_point=default_point,
        points={
            level: choose_points(calibrated.at_level(level, rule), sensitivity, specificity)
            for level in LEVELS
        },
        validation_slices=len(validation),
        validation_patients=len(np.unique(validation.patients)),
    )


def choose_points(validation: Scored, sensitivity: float, specificity: float) -> Points:
    """Choose the thresholds of the named points.

    The threshold is put halfway to the next lower score of validation: it flags the same rows
    there, and does not hang on the last digit, or on the side of a wide gap, of a single row.

    Parameters
    ----------
    validation
        Calibrated rows of any level.
    sensitivity, specificity
        Wanted shares, for rule-out and rule-in.

    Returns
    -------
    By point and label.

    Raises
    ------
    HemtraceError
        If the rows are not those of validation patients.

    References
    ----------
    Youden, Cancer 1950;3:32-35.
    """
    require_validation(validation, "Operating points")
    points: Points = {name: {} for name in POINTS}
    for column, label in enumerate(LABELS):
        chosen = _choose(
            validation.truth[:, column],
            validation.probability[:, column],
            (sensitivity, specificity),
            UNITS[validation.level],
        )
        for name, point in chosen.items():
            points[name][label] = point
    return points


def _choose(
    truth: np.ndarray, score: np.ndarray, aims: tuple[float, float], unit: str
) -> dict[str, Point]:
    positives, negatives = int(truth.sum()), int((~truth).sum())
    thresholds = {
        "rule-out": threshold_for_sensitivity(truth, score, aims[0]),
        "rule-in": threshold_for_specificity(truth, score, aims[1]),
        "balanced": threshold_balanced(truth, score),
    }
    # What is wrong with the rows is no reason against sensitivity where only negatives lack.
    amiss = why_not(truth, score, f"validation {unit}")
    points = {}
    for name, threshold in thresholds.items():
        why = amiss if not positives or threshold is None else None
        reached: dict[str, float | None] = {"sensitivity": None, "specificity": None}
        if why is None and threshold is not None:
            up = score >= threshold
            reached["sensitivity"] = float(up[truth].mean())
            reached["specificity"] = float((~up[~truth]).mean()) if negatives else None
            why = _why_useless(name, up, reached)
        points[name] = Point(
            threshold=_between(threshold, score) if why is None else None,
            positives=positives,
            negatives=negatives,
            why=why,
            **(reached if why is None else {}),
        )
    return points


def _between(threshold: float | None, score: np.ndarray) -> float | None:
    lower = score[score < threshold] if threshold is not None else score[:0]
    if threshold is None or not len(lower):
        return threshold
    middle = float(lower.max() + threshold) / 2
    return middle if middle > lower.max() else threshold


def _why_useless(name: str, up: np.ndarray, reached: dict[str, float | None]) -> str | None:
    if not up.any():
        return "even the highest score of validation, shared by many, misses the specificity"
    sensitivity, specificity = reached["sensitivity"], reached["specificity"]
    if name == "balanced" and sensitivity is not None and specificity is not None:
        return None if sensitivity + specificity > 1 else "no threshold does better than chance"
    return None
