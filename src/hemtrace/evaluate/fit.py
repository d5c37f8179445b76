"""Fit a calibration to validation patients, each label by itself."""

import numpy as np
from scipy.optimize import isotonic_regression

from hemtrace.evaluate.calibrate import (
    Calibration,
    LabelCalibration,
    Method,
    digest_patients,
    require_validation,
    to_logits,
)
from hemtrace.evaluate.logistic import fit_logistic
from hemtrace.evaluate.scored import Scored
from hemtrace.labels import LABELS


def fit_calibration(validation: Scored, method: Method) -> Calibration:
    """Fit each label on validation rows.

    Temperature and Platt are of maximum likelihood without regularisation. Where the classes are
    separated, so that none exists, 0 and 1 are replaced by Platt's targets, 1 / (negatives + 2) and
    (positives + 1) / (positives + 2), which bound it; isotonic values are held within them. A fit
    that would turn the order round is refused: such a label, as one without both classes or with
    NaN, stays as it is, with a `why`.

    Parameters
    ----------
    validation
        Usually of slices.
    method
        One of `METHODS`.

    Raises
    ------
    HemtraceError
        If the rows are not those of validation patients.

    References
    ----------
    Guo et al., ICML 2017 (temperature). Platt, Advances in Large Margin Classifiers 1999, 61-74.
    Zadrozny and Elkan, KDD 2002, 694-699 (isotonic).
    """
    require_validation(validation, "The calibration")
    labels = {
        label: _fit_label(
            validation.truth[:, column], validation.probability[:, column], method, validation.level
        )
        for column, label in enumerate(LABELS)
    }
    return Calibration(
        method=method,
        level=validation.level,
        labels=labels,
        fitted_on=digest_patients(validation.patients),
    )


def _fit_label(
    truth: np.ndarray, probability: np.ndarray, method: Method, level: str
) -> LabelCalibration:
    positives, negatives = int(truth.sum()), int((~truth).sum())

    def left(why: str | None) -> LabelCalibration:
        return LabelCalibration(positives=positives, negatives=negatives, why=why)

    if method == "none":
        return left(None)
    if np.isnan(probability).any():
        return left("not calibrated: its scores hold NaN")
    if not positives or not negatives:
        lacking = "positive" if not positives else "negative"
        return left(f"not calibrated: none of the validation {level} is {lacking}")
    if np.ptp(probability) == 0:
        return left(f"not calibrated: all validation {level} have the same score")
    found = (
        _fit_steps(truth, probability)
        if method == "isotonic"
        else _fit_line(truth, to_logits(probability), method)
    )
    if found is None:
        return left(f"not calibrated: its scores rank the validation {level} no better than chance")
    return LabelCalibration(positives=positives, negatives=negatives, **found)


def _fit_steps(truth: np.ndarray, probability: np.ndarray) -> dict[str, tuple[float, ...]] | None:
    scores, place, counts = np.unique(probability, return_inverse=True, return_counts=True)
    shares = np.bincount(place, truth) / counts
    steps = np.asarray(isotonic_regression(shares, weights=counts).x)
    if np.ptp(steps) == 0:
        return None
    # The ends of a step say all of it.
    starts = np.r_[True, steps[1:] != steps[:-1]]
    kept = starts | np.r_[starts[1:], True]
    # A finite sample shows no chance of 0 or 1, and the log loss of a mistake would be infinite.
    held = np.clip(steps[kept], *_smooth_targets(int(truth.sum()), int((~truth).sum())))
    return {"thresholds": tuple(scores[kept].tolist()), "values": tuple(held.tolist())}


def _smooth_targets(positives: int, negatives: int) -> tuple[float, float]:
    """What stands in for 0 and for 1, after Platt."""
    return 1 / (negatives + 2), (positives + 1) / (positives + 2)


def _fit_line(
    truth: np.ndarray, logits: np.ndarray, method: Method
) -> dict[str, float | bool] | None:
    only_scale = method == "temperature"
    positive, negative = logits[truth], logits[~truth]
    if only_scale:
        separated = positive.min() >= 0 and negative.max() <= 0
    else:
        separated = positive.min() >= negative.max()
        if positive.max() <= negative.min() and not separated:
            return None
    target = truth.astype(np.float64)
    if separated:
        ends = _smooth_targets(len(positive), len(negative))
        target = np.where(truth, ends[1], ends[0])
    one = np.ones(len(logits))
    design = logits[:, None] if only_scale else np.column_stack([logits, one])
    found = fit_logistic(design, target[None], one[None])[0]
    if not found[0] > 0:
        return None
    if only_scale:
        return {"temperature": float(1 / found[0]), "smoothed": bool(separated)}
    return {
        "slope": float(found[0]),
        "intercept": float(found[1]),
        "smoothed": bool(separated),
    }
