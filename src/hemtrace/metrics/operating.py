"""What happens at one threshold: how it is chosen, what it flags, the rates that follow."""

import numpy as np

from hemtrace.metrics.resample import Estimate, Resamples, bound_exactly, estimate, why_not

# What must be there for a rate to be defined; `{unit}` is what a row is.
_NEEDS: dict[str, tuple[str, ...]] = {
    "sensitivity": ("positive {unit}",),
    "specificity": ("negative {unit}",),
    "positive_predictive_value": ("flagged {unit}",),
    "negative_predictive_value": ("cleared {unit}",),
    "f1": ("positive or flagged {unit}",),
    "positive_likelihood_ratio": ("positive {unit}", "negative {unit}", "false positive"),
    "negative_likelihood_ratio": ("positive {unit}", "negative {unit}", "true negative"),
    "accuracy": (),
    "balanced_accuracy": ("positive {unit}", "negative {unit}"),
    "matthews_correlation": (
        "positive {unit}",
        "negative {unit}",
        "flagged {unit}",
        "cleared {unit}",
    ),
}
RATES: tuple[str, ...] = tuple(_NEEDS)
# Rates that are shares: the cells above, and those below the line.
_SHARES = {
    "sensitivity": (("tp",), ("tp", "fn")),
    "specificity": (("tn",), ("tn", "fp")),
    "positive_predictive_value": (("tp",), ("tp", "fp")),
    "negative_predictive_value": (("tn",), ("tn", "fn")),
    "accuracy": (("tp", "tn"), ("tp", "fp", "fn", "tn")),
}


def threshold_for_sensitivity(
    truth: np.ndarray, score: np.ndarray, sensitivity: float
) -> float | None:
    """Find the highest threshold that still flags the wanted share of the positives.

    Parameters
    ----------
    truth, score
        (N,), of validation slices, never of test slices.
    sensitivity
        Wanted share; a slice is flagged when its score is at least the threshold.

    Returns
    -------
    The threshold, or None where there is no positive, or a score is NaN.
    """
    positives = np.sort(score[np.asarray(truth, dtype=bool)])[::-1]
    if not len(positives) or np.isnan(score).any():
        return None
    return float(positives[max(1, _least_count(sensitivity, len(positives))) - 1])


def threshold_for_specificity(
    truth: np.ndarray, score: np.ndarray, specificity: float
) -> float | None:
    """Find the lowest threshold that leaves the wanted share of the negatives unflagged.

    Parameters
    ----------
    truth, score
        (N,), of validation slices, never of test slices.
    specificity
        Wanted share; a slice is flagged when its score is at least the threshold.

    Returns
    -------
    The lowest score that does it; where none does, since even the highest must stay unflagged, the
    next number above the highest. None where there is no negative, or a score is NaN.
    """
    score = np.asarray(score)
    negatives = np.sort(score[~np.asarray(truth, dtype=bool)])
    if not len(negatives) or np.isnan(score).any():
        return None
    cleared = _least_count(specificity, len(negatives))
    if not cleared:
        return float(score.min())
    above = score[score > negatives[cleared - 1]]
    if len(above):
        return float(above.min())
    # In the scores' own precision: the next float64 would be rounded back to a float32's value.
    return float(np.nextafter(score.max(), np.inf, dtype=np.result_type(score, np.float32)))


def threshold_balanced(truth: np.ndarray, score: np.ndarray) -> float | None:
    """Find the threshold of the highest sensitivity plus specificity.

    Of several, the one whose sensitivity and specificity are closest; of these, the lowest.

    Parameters
    ----------
    truth, score
        (N,), of validation slices, never of test slices.

    Returns
    -------
    One of the scores, or None where a class lacks, or a score is NaN.

    References
    ----------
    Youden, Cancer 1950;3(1):32-35.
    """
    if why_not(truth, score):
        return None
    score = np.asarray(score, dtype=np.float64)
    positive = np.asarray(truth, dtype=bool)
    thresholds = np.unique(score)
    hits = np.sort(score[positive])
    alarms = np.sort(score[~positive])
    found = len(hits) - np.searchsorted(hits, thresholds)
    cleared = np.searchsorted(alarms, thresholds)
    # Both shares times both class sizes: integers, so that ties are ties.
    sensitivity, specificity = found * len(alarms), cleared * len(hits)
    unlike = np.abs(sensitivity - specificity)
    best = np.lexsort((thresholds, unlike, -(sensitivity + specificity)))[0]
    return float(thresholds[best])


def _least_count(share: float, count: int) -> int:
    # The small term keeps 0.9 x 10 at 9 in spite of rounding.
    return int(np.ceil(share * count - 1e-9))


def confusion(truth: np.ndarray, flagged: np.ndarray) -> dict[str, int]:
    """Count true and false positives and negatives of (N,) truths and flags."""
    tp, fp, fn, tn = _cells(truth, flagged).sum(axis=0)
    return {"tp": int(tp), "fp": int(fp), "fn": int(fn), "tn": int(tn)}


def _cells(truth: np.ndarray, flagged: np.ndarray) -> np.ndarray:
    """Mark the cell of the confusion matrix that each row falls in: (N, 4)."""
    truth, flagged = np.asarray(truth, dtype=bool), np.asarray(flagged, dtype=bool)
    return np.column_stack([truth & flagged, ~truth & flagged, truth & ~flagged, ~truth & ~flagged])


def rates_of_counts(
    tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute every rate of `RATES` from counts of the confusion matrix.

    Parameters
    ----------
    tp, fp, fn, tn
        True and false positives, false and true negatives; scalars, or (R,) of replicates.

    Returns
    -------
    float64, NaN where a rate is undefined. A likelihood ratio with a positive dividend and no
    divisor is infinite.
    """
    tp, fp, fn, tn = (np.asarray(count, dtype=np.float64) for count in (tp, fp, fn, tn))
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        margins = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
        return {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "positive_predictive_value": tp / (tp + fp),
            "negative_predictive_value": tn / (tn + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "positive_likelihood_ratio": sensitivity / (fp / (tn + fp)),
            "negative_likelihood_ratio": (fn / (tp + fn)) / specificity,
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "matthews_correlation": (tp * tn - fp * fn) / margins,
        }


def estimate_rates(
    truth: np.ndarray, flagged: np.ndarray, resamples: Resamples, unit: str = "slice"
) -> dict[str, Estimate]:
    """Put an interval about every rate of `RATES`.

    Where each row is a patient of its own, shares have the exact binomial interval; all else has
    that of the bootstrap.

    Parameters
    ----------
    truth, flagged
        0 or 1, (N,).
    resamples
        Of the same rows.
    unit
        What a row is, for the sentences: `slice`, `study` or `patient`.
    """
    cells = _cells(truth, flagged)
    counts = dict(zip(("tp", "fp", "fn", "tn"), cells.sum(axis=0), strict=True))
    values = rates_of_counts(**counts)
    replicates = rates_of_counts(*resamples.totals(cells).T)
    nothing = why_not(truth, unit=unit) if not len(cells) else None
    found = {
        name: estimate(
            float(values[name]),
            replicates[name],
            nothing or _why_undefined(name, unit, **counts),
            lack=f"have no {' or no '.join(need.format(unit=unit) for need in needs)}",
            patients=resamples.patients,
            bearers=_count_bearers(needs, cells.astype(bool), resamples),
        )
        for name, needs in _NEEDS.items()
    }
    if resamples.patients == len(cells):
        for name, (above, below) in _SHARES.items():
            successes, total = (int(sum(counts[cell] for cell in part)) for part in (above, below))
            found[name] = bound_exactly(found[name], successes, total)
    return found


def _count_bearers(needs: tuple[str, ...], cells: np.ndarray, resamples: Resamples) -> int:
    """Count the patients on whom a rate rests: those with what it needs, the fewest of several."""
    tp, fp, fn, tn = cells.T
    rows = {
        "positive {unit}": tp | fn,
        "negative {unit}": tn | fp,
        "flagged {unit}": tp | fp,
        "cleared {unit}": tn | fn,
        "positive or flagged {unit}": tp | fp | fn,
        # A ratio's own zero is no class of patients: an infinite bound speaks for itself.
        "false positive": tn | fp,
        "true negative": tn | fp,
    }
    return min((resamples.bearers(rows[need]) for need in needs), default=resamples.patients)


def rates_at_threshold(
    truth: np.ndarray,
    score: np.ndarray,
    threshold: float | None,
    resamples: Resamples,
    unit: str = "slice",
) -> dict[str, Estimate]:
    """Put an interval about every rate of `RATES`, of rows flagged from a threshold on.

    Parameters are those of `estimate_rates`, and

    score
        (N,); a row is flagged when its score is at least the threshold. With NaN among them no
        rate is defined.
    threshold
        None: there is none, and no rate is defined.
    """
    score = np.asarray(score, dtype=np.float64)
    why = "no threshold could be chosen" if threshold is None else None
    if np.isnan(score).any():
        why = why_not(truth, score, unit)
    if threshold is None or why:
        return dict.fromkeys(RATES, Estimate(None, why=why))
    return estimate_rates(truth, score >= threshold, resamples, unit)


def _why_undefined(name: str, unit: str, *, tp: int, fp: int, fn: int, tn: int) -> str | None:
    counts = {
        "positive {unit}": tp + fn,
        "negative {unit}": tn + fp,
        "flagged {unit}": tp + fp,
        "cleared {unit}": tn + fn,
        "positive or flagged {unit}": tp + fp + fn,
        "false positive": fp,
        "true negative": tn,
    }
    for need in _NEEDS[name]:
        if not counts[need]:
            return f"no {need.format(unit=unit)}"
    return None
