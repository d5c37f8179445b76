"""Two models on the same slices: is the difference more than chance?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hemtrace.metrics.resample import Estimate, Resamples, estimate, why_not

_Figure = Callable[[np.ndarray, np.ndarray, Resamples | None], np.ndarray]
# Of the normal distribution, two-sided: 95 %.
_Z = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Difference:
    """First figure less second, with its 95 % interval and a test of no difference.

    Attributes
    ----------
    estimate
        The difference.
    p
        Two-sided; None where no interval can be given.
    """

    estimate: Estimate
    p: float | None = None

    def as_dict(self) -> dict[str, float | str | None]:
        """Give it as plain JSON values."""
        return self.estimate.as_dict() | {"p": self.p}


def difference(
    first: float,
    second: float,
    first_replicates: np.ndarray,
    second_replicates: np.ndarray,
    why: str | None = None,
    *,
    patients: int | None = None,
    bearers: int | None = None,
) -> Difference:
    """Compare two figures by their replicates, which must stem from the same draws.

    The p value is twice the smaller share of replicates on either side of zero, one replicate added
    to each (Davison and Hinkley 1997, section 4.2): it is never below 2 / (R + 1).

    Parameters
    ----------
    first, second
        The figures on the data as they are; NaN where undefined.
    first_replicates, second_replicates
        (R,), of the same draws in the same order; NaN where undefined.
    why, patients, bearers
        As in `estimate`.
    """
    changes = np.asarray(first_replicates) - np.asarray(second_replicates)
    found = estimate(first - second, changes, why, patients=patients, bearers=bearers)
    if found.low is None:
        return Difference(found)
    changes = changes[~np.isnan(changes)]
    rarer = min((changes <= 0).sum(), (changes >= 0).sum())
    return Difference(found, min(1.0, 2 * float(rarer + 1) / (len(changes) + 1)))


def compare_figures(
    figure: _Figure,
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    resamples: Resamples,
    unit: str = "slice",
) -> Difference:
    """Compare any figure of two models by the paired bootstrap of whole patients.

    Parameters
    ----------
    figure
        Gives a figure of truth and scores on replicates, as `roc_auc` does: (R,), or (1,) of the
        data as they are where the replicates are None.
    truth
        (N,).
    first, second
        Scores of the two models, (N,).
    resamples
        Of the same rows.
    unit
        What a row is: `slice`, `study` or `patient`.
    """
    why = why_not(truth, first, unit) or why_not(truth, second, unit)
    if why:
        return Difference(Estimate(None, why=why))
    return difference(
        float(figure(truth, first, None)[0]),
        float(figure(truth, second, None)[0]),
        figure(truth, first, resamples),
        figure(truth, second, resamples),
        patients=resamples.patients,
        bearers=resamples.bearers_of_either(truth),
    )


def compare_means(first: np.ndarray, second: np.ndarray, resamples: Resamples) -> Difference:
    """Compare the mean losses of two models by the paired bootstrap of whole patients.

    Parameters
    ----------
    first, second
        A loss of each row, (N,), e.g. of `log_losses`; or whether each model is right.
    resamples
        Of the same rows.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    holes = int((np.isnan(first) | np.isnan(second)).sum())
    if holes or not len(first):
        why = f"{holes:,} of {len(first):,} values are NaN" if holes else "nothing to compare"
        return Difference(Estimate(None, why=why))
    every = np.ones(len(first))
    return difference(
        float(first.mean()),
        float(second.mean()),
        resamples.ratio(first, every),
        resamples.ratio(second, every),
        patients=resamples.patients,
    )


def area_covariance(
    truth: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute ROC AUCs on the same rows, and how they vary together.

    After DeLong in the fast form of Sun and Xu, and with `patients` after Obuchowski, whose
    variance lets rows of a patient depend on each other. DeLong's alone, without `patients`, holds
    only where every row is another patient: of slices it is far too small.

    Parameters
    ----------
    truth
        0 or 1, (N,); both classes must be there.
    scores
        (K, N): of K models.
    patients
        (N,): the patient of each row; None: each row is one.

    Returns
    -------
    Areas (K,) and covariance (K, K), which is NaN where fewer than two patients have a positive, or
    fewer than two a negative.

    References
    ----------
    DeLong et al., Biometrics 1988;44:837-845. Sun and Xu, IEEE Signal Processing Letters
    2014;21(11):1389-1393. Obuchowski, Biometrics 1997;53:567-578.
    """
    positive = np.asarray(truth, dtype=bool)
    scores = np.asarray(scores, dtype=np.float64)
    hits, alarms = scores[:, positive], scores[:, ~positive]
    count = positive.sum(), (~positive).sum()
    if patients is None:
        patients = np.arange(len(positive))
    names, member = np.unique(patients, return_inverse=True)

    # Share of the other class that each row ranks above (positives) or below (negatives).
    ranks = stats.rankdata(scores, axis=1)
    won_by_hit = (ranks[:, positive] - stats.rankdata(hits, axis=1)) / count[1]
    won_by_alarm = 1 - (ranks[:, ~positive] - stats.rankdata(alarms, axis=1)) / count[0]
    areas = won_by_hit.mean(axis=1)

    excess = [won - areas[:, None] for won in (won_by_hit, won_by_alarm)]
    owner = [member[positive], member[~positive]]
    # What a patient's rows of a class add to an area beyond its mean: (K, P) each.
    sums = [
        np.array([np.bincount(own, row, minlength=len(names)) for row in rows]) / number
        for rows, own, number in zip(excess, owner, count, strict=True)
    ]
    bearers = [len(np.unique(own)) for own in owner]
    if min(bearers) < 2:
        return areas, np.full((len(scores), len(scores)), np.nan)
    within = [
        number / (number - 1) * part @ part.T for number, part in zip(bearers, sums, strict=True)
    ]
    across = len(names) / (len(names) - 1) * sums[0] @ sums[1].T
    return areas, within[0] + within[1] + across + across.T


def compare_areas(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    patients: np.ndarray | None = None,
    unit: str = "slice",
) -> Difference:
    """Compare the ROC AUCs of two models by DeLong's test, or Obuchowski's for clustered rows.

    Parameters
    ----------
    truth
        0 or 1, (N,).
    first, second
        Scores of the two models, (N,).
    patients
        (N,): the patient of each row; None only where every row is another patient.
    unit
        What a row is: `slice`, `study` or `patient`.

    Raises
    ------
    ValueError
        If rows that are no patients come without theirs: DeLong's test would take slices of a
        patient for independent.
    """
    if patients is None and unit != "patient":
        raise ValueError(f"a test of rows that are each a {unit} needs the patient of each row")
    why = why_not(truth, first, unit) or why_not(truth, second, unit)
    if why:
        return Difference(Estimate(None, why=why))
    areas, covariance = area_covariance(truth, np.stack([first, second]), patients)
    change = float(areas[0] - areas[1])
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if np.isnan(variance):
        return Difference(Estimate(change, why="a class with a single patient"))
    # Rounding leaves a trace of variance where the models order all pairs alike.
    error = float(np.sqrt(max(variance, 0.0)))
    if error < 1e-12:
        return Difference(Estimate(change, why="the difference does not vary"))
    p = float(2 * stats.norm.sf(abs(change) / error))
    return Difference(Estimate(change, change - _Z * error, change + _Z * error), p)


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """Test whether two models are right equally often, exactly; only of independent rows.

    Of patients, not of slices: rows of a patient are wrong together. For sensitivities give the
    positives alone, for specificities the negatives.

    Parameters
    ----------
    first_right, second_right
        bool (N,): whether each model is right on a row.

    Returns
    -------
    Two-sided p; 1 where both are right on the same rows.

    References
    ----------
    McNemar, Psychometrika 1947;12:153-157.
    """
    first_right = np.asarray(first_right, dtype=bool)
    second_right = np.asarray(second_right, dtype=bool)
    gained = int((first_right & ~second_right).sum())
    lost = int((second_right & ~first_right).sum())
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
