"""How far probabilities can be taken at their word, before and after calibration."""

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from hemtrace.evaluate.calibrate import Calibration, apply_unseen, to_logits
from hemtrace.evaluate.logistic import fit_logistic
from hemtrace.evaluate.scored import Scored
from hemtrace.labels import LABELS
from hemtrace.metrics import Resamples, estimate, why_not

# Bins of equal counts for the plot, the calibration error and the decomposition (Guo 2017: 15).
BINS = 15
# Slope and intercept are fitted anew in this many replicates, the first; the rest take all.
SLOPE_REPLICATES = 200
# There, logits closer than a thousandth of their range stand at their mean; fewer stand as they
# are. The figure itself is always fitted on the logits as they are.
_LOGIT_CELLS = 1000
_HISTOGRAM = np.linspace(0, 1, 21)

FIGURES: dict[str, str] = {
    "slope": "slope of the truth's log-odds over the predicted log-odds; 1 is right, below 1 the "
    "probabilities are too extreme",
    "intercept": "intercept of the same line; 0 is right",
    "in_the_large": "shift of the log-odds that makes mean probability and share equal, with the "
    "slope held at 1; above 0 the probabilities are too low",
    "observed_expected": "number of positives over the sum of the probabilities; 1 is right",
    "ece": f"expected calibration error: mean distance of share and mean probability over {BINS} "
    "bins of equal counts; too high in small samples",
    "maximum_error": "the greatest such distance in a bin",
    "brier": "mean squared distance of probability and truth",
    "reliability": "part of the Brier score from bins whose share differs from their probability; "
    "0 is right",
    "resolution": "part by which the bins' shares differ from the prevalence, which lowers it",
    "uncertainty": "prevalence times its complement: the Brier score of always saying prevalence",
    "within_bin_variance": "spread of the probabilities within bins",
    "within_bin_covariance": "twice the covariance of truth and probability within bins, which "
    "lowers the score: Brier = reliability - resolution + uncertainty + variance - covariance",
    "brier_scaled": "1 - Brier / uncertainty: 0 is no better than always saying the prevalence, "
    "1 is perfect",
}
# Distances between share and probability grow with noise, and a replicate has the noise twice: its
# percentiles could leave out the figure. Such replicates are first shifted, until it is their mean.
_NOISE_GROWS = ("ece", "maximum_error", "reliability", "resolution")
_LOGISTIC = ("slope", "intercept", "in_the_large")
_BINNED = tuple(name for name in FIGURES if name not in _LOGISTIC)


def assess_calibration(
    calibration: Calibration, scored: Scored, resamples: Resamples
) -> dict[str, dict[str, Any]]:
    """Measure reliability before and after calibration, on patients on whom it was not fitted.

    Parameters
    ----------
    calibration
        As fitted on validation.
    scored
        Rows before calibration.
    resamples
        Of their patients.

    Returns
    -------
    By label: `before` and `after`, as `measure_reliability` gives them, and `fit`, the parameters.

    Raises
    ------
    HemtraceError
        If a patient took part in the fit.
    """
    after = apply_unseen(calibration, scored)
    return {
        label: {
            "before": measure_reliability(
                scored.truth[:, column], scored.probability[:, column], resamples
            ),
            "after": measure_reliability(
                after.truth[:, column], after.probability[:, column], resamples
            ),
            "fit": calibration.labels[label].model_dump(exclude={"thresholds", "values"}),
        }
        for column, label in enumerate(LABELS)
    }


def measure_reliability(
    truth: np.ndarray, probability: np.ndarray, resamples: Resamples, unit: str = "slice"
) -> dict[str, Any]:
    """Measure how far the probabilities of a label can be taken at their word.

    Parameters
    ----------
    truth
        bool (N,).
    probability
        float64 (N,).
    resamples
        Of the patients of the rows. Bins are made once, on the data as they are.
    unit
        What a row is, for the sentences: `slice`, `study` or `patient`.

    Returns
    -------
    n, positives; the `FIGURES`, each value, low, high, why; `bins` with the lists stated (mean
    probability), share, low, high, n, patients, why (of no interval); `histogram` with edges,
    positives, negatives; `why`: None, or why nothing of this is estimable.

    References
    ----------
    Cox, Biometrika 1958;45:562-565 (slope, intercept). Van Calster et al., BMC Medicine
    2019;17:230 (in the large). Stephenson, Coelho and Jolliffe, Weather and Forecasting
    2008;23:752-757 (decomposition).
    """
    truth = np.asarray(truth, dtype=bool)
    probability = np.asarray(probability, dtype=np.float64)
    positives = int(truth.sum())
    counts = {"n": len(truth), "positives": positives, "bins_wanted": BINS}
    why = why_not(truth, probability, unit)
    if why is not None:
        nothing = {name: _tell(np.nan, np.empty(0), resamples, why) for name in FIGURES}
        return {**counts, **nothing, "bins": None, "histogram": None, "why": why}
    figures = _fit_lines(truth, to_logits(probability), resamples)
    sums, drawn_sums, patients = _sum_bins(truth, probability, resamples)
    once, often = _binned_figures(sums[None]), _binned_figures(drawn_sums)
    for name in _BINNED:
        value, replicates = float(once[name][0]), often[name]
        if name in _NOISE_GROWS and len(replicates):
            replicates = np.maximum(0, replicates - np.mean(replicates) + value)
        figures[name] = _tell(value, replicates, resamples)
    return {
        **counts,
        **{name: figures[name] for name in FIGURES},
        "bins": _describe_bins(sums, drawn_sums, patients),
        "histogram": {
            "edges": _HISTOGRAM.tolist(),
            "positives": np.histogram(probability[truth], _HISTOGRAM)[0].tolist(),
            "negatives": np.histogram(probability[~truth], _HISTOGRAM)[0].tolist(),
        },
        "why": None,
    }


def _tell(
    value: float, replicates: np.ndarray, resamples: Resamples, why: str | None = None
) -> dict[str, Any]:
    return {**estimate(value, replicates, why, patients=resamples.patients).as_dict()}


def _fit_lines(truth: np.ndarray, logits: np.ndarray, resamples: Resamples) -> dict[str, Any]:
    """Slope, intercept and calibration in the large, with intervals."""
    hits, total = truth[None].astype(np.float64), np.ones((1, len(truth)))
    large = fit_logistic(_ones(logits), hits, total, offset=logits)[0]
    cells, cell_hits, cell_total = _gather_logits(truth, logits, resamples)
    mixed = (cell_hits.sum(axis=1) > 0) & (cell_hits.sum(axis=1) < cell_total.sum(axis=1))
    many_large = np.full(len(cell_hits), np.nan)
    many_large[mixed] = fit_logistic(
        _ones(cells), cell_hits[mixed], cell_total[mixed], offset=cells, start=large
    )[:, 0]
    figures = {"in_the_large": _tell(float(large[0]), many_large, resamples)}
    order = np.argsort(logits, kind="stable")
    if _are_separated(hits[:, order], total, logits[order])[0]:
        why = "the scores part positives from negatives completely"
        return {
            **figures,
            **{name: _tell(np.nan, np.empty(0), resamples, why) for name in _LOGISTIC[:2]},
        }
    both = fit_logistic(_line(logits), hits, total)[0]
    joined = ~_are_separated(cell_hits, cell_total, cells)
    many = np.full((len(cell_hits), 2), np.nan)
    many[joined] = fit_logistic(_line(cells), cell_hits[joined], cell_total[joined], start=both)
    for place, name in enumerate(_LOGISTIC[:2]):
        figures[name] = _tell(float(both[place]), many[:, place], resamples)
    return figures


def _ones(logits: np.ndarray) -> np.ndarray:
    return np.ones((len(logits), 1))


def _line(logits: np.ndarray) -> np.ndarray:
    return np.column_stack([logits, np.ones(len(logits))])


def _gather_logits(
    truth: np.ndarray, logits: np.ndarray, resamples: Resamples
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gather equal, or nearly equal, logits: their values, ascending, positives and all: (R, C)."""
    values, cell = np.unique(logits, return_inverse=True)
    if len(values) > _LOGIT_CELLS:
        ends = np.linspace(values[0], values[-1], _LOGIT_CELLS + 1)[1:-1]
        cell = np.unique(np.searchsorted(ends, logits, side="right"), return_inverse=True)[1]
        values = np.bincount(cell, logits) / np.bincount(cell)
    first = resamples.drawn[:SLOPE_REPLICATES].astype(np.float64)
    shape = (len(values), resamples.drawn.shape[1])
    # Most patients have no slice in most cells.
    of_all = csr_matrix((np.ones(len(truth)), (cell, resamples.member)), shape=shape)
    of_hits = csr_matrix((truth.astype(np.float64), (cell, resamples.member)), shape=shape)
    return values, np.asarray(of_hits @ first.T).T, np.asarray(of_all @ first.T).T


def _are_separated(hits: np.ndarray, total: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Tell where a threshold parts the classes, or one is missing: bool (R,).

    No line of maximum likelihood exists there. `values` are ascending and may repeat.
    """
    low, high = np.full(len(hits), np.inf), np.full(len(hits), -np.inf)

    def ends(present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        some = present.any(axis=1)
        first = values[np.argmax(present, axis=1)]
        last = values[present.shape[1] - 1 - np.argmax(present[:, ::-1], axis=1)]
        return np.where(some, first, low), np.where(some, last, high)

    lowest_hit, highest_hit = ends(hits > 0)
    lowest_rest, highest_rest = ends(total - hits > 0)
    separated: np.ndarray = (lowest_hit >= highest_rest) | (lowest_rest >= highest_hit)
    return separated


def _sum_bins(
    truth: np.ndarray, probability: np.ndarray, resamples: Resamples
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum n, p, y, p^2 and p y over bins of equal counts: (bins, 5), and (R, bins, 5).

    And count the patients with a row in each bin: (bins,).

    Equal probabilities stay in one bin, so that there may be fewer than wanted.
    """
    # Cuts are probabilities that occur: an average of two, rounded, could fall on either side, and
    # calibration move a row to another bin.
    cuts = np.unique(np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    bins = np.unique(np.searchsorted(cuts, probability, side="left"), return_inverse=True)[1]
    count = int(bins.max()) + 1
    patients = resamples.drawn.shape[1]
    place = resamples.member * count + bins
    columns = (None, probability, truth, probability**2, probability * truth)
    of_patient = np.stack(
        [np.bincount(place, column, minlength=patients * count) for column in columns], axis=-1
    ).reshape(patients, count * len(columns))
    drawn = resamples.drawn.astype(np.float64) @ of_patient
    shape = (count, len(columns))
    owners = (of_patient.reshape(patients, *shape)[..., 0] > 0).sum(axis=0)
    return of_patient.sum(axis=0).reshape(shape), drawn.reshape(-1, *shape), owners


def _binned_figures(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the figures that need sums over bins alone: each (R,), NaN where undefined."""
    n, p, y, pp, py = np.moveaxis(sums, -1, 0)
    total, positives = n.sum(axis=1), y.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, share = p / n, y / n
        prevalence = positives / total
        uncertainty = prevalence * (1 - prevalence)
        brier = (pp - 2 * py + y).sum(axis=1) / total
        gap = np.where(n > 0, np.abs(mean - share), 0)
        spread = np.where(n > 0, (share - prevalence[:, None]) ** 2, 0)
        square, product = np.where(n > 0, p * mean, 0), np.where(n > 0, y * mean, 0)
        return {
            "observed_expected": positives / p.sum(axis=1),
            "ece": (n * gap).sum(axis=1) / total,
            "maximum_error": gap.max(axis=1),
            "brier": brier,
            "reliability": (n * gap**2).sum(axis=1) / total,
            "resolution": (n * spread).sum(axis=1) / total,
            "uncertainty": uncertainty,
            "within_bin_variance": (pp - square).sum(axis=1) / total,
            "within_bin_covariance": 2 * (py - product).sum(axis=1) / total,
            "brier_scaled": np.where(uncertainty > 0, 1 - brier / uncertainty, np.nan),
        }


def _describe_bins(
    sums: np.ndarray, drawn_sums: np.ndarray, patients: np.ndarray
) -> dict[str, list[Any]]:
    n, p, y = sums[:, 0], sums[:, 1], sums[:, 2]
    drawn_n, drawn_y = drawn_sums[..., 0], drawn_sums[..., 2]
    shares = np.divide(drawn_y, drawn_n, out=np.full_like(drawn_y, np.nan), where=drawn_n > 0)
    found = [
        estimate(float(y[k] / n[k]), shares[:, k], lack="hold no row", patients=int(patients[k]))
        for k in range(len(n))
    ]
    return {
        "stated": (p / n).tolist(),
        "share": [of_bin.value for of_bin in found],
        "low": [of_bin.low for of_bin in found],
        "high": [of_bin.high for of_bin in found],
        "n": n.astype(int).tolist(),
        "patients": patients.tolist(),
        "why": [of_bin.why for of_bin in found],
    }
