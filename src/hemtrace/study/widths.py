"""How wide an interval is with so many of each class, and how many patients a width needs.

Sensitivity: exact binomial (Clopper and Pearson, Biometrika 1934;26:404-413). AUC: Hanley and
McNeil, Radiology 1982;143:29-36. Slices count by their effective number, that is, divided by the
design effect of their clustering in patients (Korn and Graubard, Survey Methodology
1998;24:193-201).
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import beta

_Z = 1.959963984540054
_MOST_PATIENTS = 1_000_000
_FEWEST_PATIENTS = 3


def exact_interval(found: float, total: float) -> tuple[float, float]:
    """Give Clopper and Pearson's 95 % interval of a share.

    Effective numbers need not be whole.

    Parameters
    ----------
    found, total
        0 <= found <= total, total > 0.
    """
    low = 0.0 if found <= 0 else float(beta.ppf(0.025, found, total - found + 1))
    high = 1.0 if found >= total else float(beta.ppf(0.975, found + 1, total - found))
    return low, high


def exact_width(found: float, total: float) -> float:
    """Give the width of `exact_interval`."""
    low, high = exact_interval(found, total)
    return high - low


def auc_width(auc: float, positives: float, negatives: float) -> float:
    """Give the width of Hanley and McNeil's 95 % interval of an AUC, cut off at 0 and 1.

    Parameters
    ----------
    auc
        0 to 1.
    positives, negatives
        How many of each, at least 1; effective numbers need not be whole.
    """
    both_positive, both_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (
        auc * (1 - auc)
        + (positives - 1) * (both_positive - auc**2)
        + (negatives - 1) * (both_negative - auc**2)
    ) / (positives * negatives)
    reach = _Z * float(np.sqrt(max(variance, 0.0)))
    return min(1.0, auc + reach) - max(0.0, auc - reach)


def patients_needed(width: Callable[[int], float], wanted: float) -> int | None:
    """Find the fewest patients whose interval is no wider than wanted; None: over a million.

    Parameters
    ----------
    width
        Of the interval with so many patients; falls with their number but for small steps, as
        those of the exact interval are.
    wanted
        The width.
    """
    high = 1
    while width(high) > wanted:
        high *= 2
        if high > _MOST_PATIENTS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if width(middle) <= wanted else (middle, high)
    # Whole numbers of found patients make the width jag: the first that fits may lie lower.
    reach = max(1, high - 25)
    return next(count for count in range(reach, high + 1) if width(count) <= wanted)


def design_effect(values: np.ndarray, clusters: np.ndarray) -> tuple[float | None, str | None]:
    """Estimate how much wider clustering makes the variance of a mean.

    The variance of a ratio estimate over clusters, by linearisation, divided by that of as many
    independent values; at least 1, as chance alone would not make the sample larger than it is.

    Parameters
    ----------
    values
        float (N,).
    clusters
        (N,): the patient of each value.

    Returns
    -------
    The design effect, or None and why.

    References
    ----------
    Kish, Survey Sampling, Wiley 1965, chapter 5.
    """
    names, member = np.unique(clusters, return_inverse=True)
    if len(names) < _FEWEST_PATIENTS:
        return None, f"fewer than {_FEWEST_PATIENTS} patients"
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        return None, "NaN among the predictions"
    residual = values - values.mean()
    spread = float((residual**2).mean())
    if spread == 0:
        return None, "all slices have the same answer"
    of_patient = np.bincount(member, residual)
    count = len(names)
    clustered = count / (count - 1) * float((of_patient**2).sum()) / len(values) ** 2
    return max(1.0, clustered / (spread / len(values))), None
