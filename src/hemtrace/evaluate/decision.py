"""What a reader gains: predictive values elsewhere, net benefit, and bleeds found sooner."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hemtrace.metrics import Estimate, Resamples, bound_share, estimate, why_not

# 14.3 % is the share of slices with a bleed in the RSNA set.
PREVALENCES: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.143, 0.2, 0.3, 0.5)
# Threshold probabilities of the decision curve.
CHANCES: tuple[float, ...] = tuple(round(0.01 * k, 2) for k in range(1, 61))
FOUND: tuple[float, ...] = (0.9, 0.95, 1.0)
BY_BAYES = "exact (Clopper-Pearson) bounds of sensitivity and specificity, put into Bayes' theorem"
_SHARES = np.linspace(0, 1, 101)
# Replicates times rows held in memory at once (float64): 32 MB an array.
_CHUNK_CELLS = 4_000_000


def apply_bayes(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute positive and negative predictive value at a prevalence; NaN where undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        hit, alarm = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
        missed, cleared = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
        return hit / (hit + alarm), cleared / (cleared + missed)


def predict_values(
    truth: np.ndarray,
    flagged: np.ndarray | None,
    resamples: Resamples,
    prevalences: Sequence[float] = PREVALENCES,
    unit: str = "slice",
) -> list[dict[str, Any]]:
    """Recompute the predictive values for other prevalences, by Bayes' theorem.

    It takes sensitivity and specificity as they are on these rows: where bleeds elsewhere are
    smaller or other, they are not.

    Parameters
    ----------
    truth
        bool (N,).
    flagged
        bool (N,); None: there is no threshold.
    resamples
        Of the patients of the rows.
    prevalences
        Each within 0..1.
    unit
        What a row is: `slice`, `study` or `patient`.

    Returns
    -------
    For each prevalence: prevalence, and ppv and npv, each value, low, high, why. Without a false
    alarm the positive value is 1 in every replicate, and without a miss the negative one: the
    interval is then what the exact bounds of sensitivity and specificity allow, and `why` says so;
    as it always is where each row is another patient's. Rows of a patient resemble each other, so
    that these bounds count patients, not rows.

    References
    ----------
    Altman and Bland, BMJ 1994;309:102.
    """
    truth = np.asarray(truth, dtype=bool)
    why = "no threshold could be chosen" if flagged is None else why_not(truth, unit=unit)
    up = np.zeros(len(truth), dtype=bool) if flagged is None else np.asarray(flagged, dtype=bool)
    sensitivity, specificity = _rates(truth, up, resamples)
    bounds = (
        None
        if why
        else _bound_rates(truth, float(sensitivity[0]), float(specificity[0]), resamples)
    )
    single = resamples.patients == len(truth)
    rows = []
    for prevalence in prevalences:
        values = apply_bayes(sensitivity, specificity, prevalence)
        exact = None if bounds is None else apply_bayes(*bounds, prevalence)
        row: dict[str, Any] = {"prevalence": prevalence}
        for k, (name, word) in enumerate((("ppv", "flagged"), ("npv", "cleared"))):
            found = estimate(
                np.nan if why else float(values[k][0]),
                values[k][1:],
                why or f"no {word} {unit}",
                lack=f"lack a class or have no {word} {unit}",
                patients=resamples.patients,
                bearers=_count_bearers(truth, up if name == "ppv" else ~up, resamples),
            )
            row[name] = _bound_by_bayes(
                found, None if exact is None else exact[k], single
            ).as_dict()
        rows.append(row)
    return rows


def _bound_rates(
    truth: np.ndarray, sensitivity: float, specificity: float, resamples: Resamples
) -> tuple[np.ndarray, np.ndarray]:
    """Bound sensitivity and specificity as shares of the patients with such rows: (2,) each."""
    return (
        np.array(bound_share(sensitivity, resamples.bearers(truth))),
        np.array(bound_share(specificity, resamples.bearers(~truth))),
    )


def _bound_by_bayes(found: Estimate, bounds: np.ndarray | None, single: bool) -> Estimate:
    """Give a predictive value its exact bounds where replicates do not serve.

    No replicate can move a value of 0 or 1; and where each patient has one row the bounds must be
    those of sensitivity and specificity, which are exact there.
    """
    stuck = found.low is None and found.value in (0.0, 1.0)
    if bounds is None or found.value is None or not (single or stuck):
        return found
    return Estimate(found.value, float(bounds[0]), float(bounds[1]), BY_BAYES)


def _count_bearers(truth: np.ndarray, told: np.ndarray, resamples: Resamples) -> int:
    """Count the patients on whom a predictive value rests: with either class, or told so."""
    return min(resamples.bearers_of_either(truth), resamples.bearers(told))


def _rates(
    truth: np.ndarray, flagged: np.ndarray, resamples: Resamples
) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity and specificity: on the data as they are, then in each replicate: (1 + R,)."""
    columns = np.column_stack([truth & flagged, truth, ~truth & ~flagged, ~truth])
    hit, positive, cleared, negative = np.vstack([columns.sum(axis=0), resamples.totals(columns)]).T
    with np.errstate(invalid="ignore"):
        return hit / positive, cleared / negative


def decision_curve(
    truth: np.ndarray,
    probability: np.ndarray,
    resamples: Resamples,
    chances: Sequence[float] = CHANCES,
    unit: str = "slice",
) -> dict[str, Any]:
    """Compute the net benefit of acting on the model, on everyone and on nobody.

    Whoever acts from a probability of t on holds a bleed missed to be (1 - t) / t times as bad as a
    false alarm. The net benefit is the share of rows rightly acted on, less the share acted on in
    vain times t / (1 - t).

    Parameters
    ----------
    truth
        bool (N,).
    probability
        float64 (N,), calibrated for rows of this kind: the highest of many slices is not the
        probability of a patient.
    resamples
        Of the patients of the rows.
    chances
        Threshold probabilities t, ascending, each within (0, 1).
    unit
        What a row is: `slice`, `study` or `patient`.

    Returns
    -------
    n, positives, prevalence, chances; `model` and `gain` (over the better of everyone and nobody,
    paired), each with the lists value, low, high; `all`: list; `useful`: the ranges [from, to] of
    chances with a gain above 0; `why`: None, or why there is no curve, the lists then being None.

    References
    ----------
    Vickers and Elkin, Medical Decision Making 2006;26:565-574.
    """
    truth = np.asarray(truth, dtype=bool)
    counts = {"n": len(truth), "positives": int(truth.sum()), "chances": list(chances)}
    why = why_not(truth, probability, unit)
    if why is not None:
        nothing = dict.fromkeys(("prevalence", "model", "gain", "all", "useful"))
        return {**counts, **nothing, "why": why}
    grid = np.asarray(chances, dtype=np.float64)
    # A row is acted on at as many chances as lie at or below its probability.
    reach = np.searchsorted(grid, probability, side="right")
    sums = _sum_by_place(resamples, reach, len(grid) + 1, (truth, ~truth))
    acted = np.cumsum(sums[..., ::-1], axis=-1)[..., ::-1]
    total = acted[:, :, 0].sum(axis=1)[:, None]
    odds = grid / (1 - grid)
    model = (acted[:, 0, 1:] - acted[:, 1, 1:] * odds) / total
    everyone = (acted[:, 0, :1] - acted[:, 1, :1] * odds) / total
    gain = model - np.maximum(everyone, 0)
    return {
        **counts,
        "prevalence": float(truth.mean()),
        "model": _band(model, resamples),
        "gain": _band(gain, resamples),
        "all": everyone[0].tolist(),
        "useful": _ranges(list(chances), gain[0] > 1e-12),
        "why": None,
    }


def _sum_by_place(
    resamples: Resamples, place: np.ndarray, places: int, columns: Sequence[np.ndarray]
) -> np.ndarray:
    """Sum columns of rows by their place, on the data and in each replicate: (1 + R, K, places)."""
    patients = resamples.patients
    cell = resamples.member * places + place
    of_patient = np.stack(
        [np.bincount(cell, column, minlength=patients * places) for column in columns]
    ).reshape(len(columns), patients, places)
    flat = of_patient.transpose(1, 0, 2).reshape(patients, -1)
    drawn = resamples.drawn.astype(np.float64) @ flat
    return np.vstack([flat.sum(axis=0), drawn]).reshape(-1, len(columns), places)


def _band(rows: np.ndarray, resamples: Resamples) -> dict[str, list[float | None]]:
    """Give the first row as value, and percentiles of the others as a pointwise band."""
    found = [
        estimate(float(column[0]), column[1:], patients=resamples.patients) for column in rows.T
    ]
    return {
        "value": [of.value for of in found],
        "low": [of.low for of in found],
        "high": [of.high for of in found],
    }


def _ranges(chances: list[float], good: np.ndarray) -> list[list[float]]:
    edges = np.flatnonzero(np.diff(np.r_[False, good, False].astype(int)))
    return [[chances[a], chances[b - 1]] for a, b in edges.reshape(-1, 2).tolist()]


def workload_curve(
    truth: np.ndarray, score: np.ndarray, resamples: Resamples, unit: str = "study"
) -> dict[str, Any]:
    """Compute how soon bleeds are found when scans are read in order of their score.

    Scans of equal score are read in any order: the curve is straight between them.

    Parameters
    ----------
    truth
        bool (N,): scans with a bleed.
    score
        float64 (N,): the highest is read first.
    resamples
        Of the patients of the scans.
    unit
        What a scan is: `study` or `patient`.

    Returns
    -------
    n, positives; `read`: shares of the list, 0 to 1; `found`: share of the bleeds found by then,
    lists value, low, high; `ideal`: the same if all bleeds came first (read in any order, it is
    `read` itself); `to_read`: share of the list to read until 90, 95 and 100 % of the bleeds are
    found, by "0.9", ...; `position`: mean place of a scan with a bleed, as a share of the list (0.5
    in any order); `saved`: how much sooner that is than in order of arrival. Each of the last three
    value, low, high, why. `why`: None, or why there is no curve.
    """
    truth = np.asarray(truth, dtype=bool)
    score = np.asarray(score, dtype=np.float64)
    counts = {"n": len(truth), "positives": int(truth.sum()), "read": _SHARES.tolist()}
    why = why_not(truth, score, unit)
    if why is not None:
        nothing = Estimate(None, why=why).as_dict()
        return {
            **counts,
            "found": None,
            "ideal": None,
            "to_read": {str(share): dict(nothing) for share in FOUND},
            "position": dict(nothing),
            "saved": dict(nothing),
            "why": why,
        }
    found, to_read, position = _read_in_order(truth, score, resamples)

    def tell(values: np.ndarray) -> dict[str, Any]:
        return estimate(
            float(values[0]),
            values[1:],
            lack="have no bleed",
            patients=resamples.patients,
            bearers=resamples.bearers(truth),
        ).as_dict()

    return {
        **counts,
        "found": _band(found, resamples),
        "ideal": np.minimum(_SHARES / truth.mean(), 1).tolist(),
        "to_read": {str(share): tell(to_read[:, k]) for k, share in enumerate(FOUND)},
        "position": tell(position),
        "saved": tell(0.5 - position),
        "why": None,
    }


def _read_in_order(
    truth: np.ndarray, score: np.ndarray, resamples: Resamples
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the data as they are, then each replicate: found (1 + R, shares), to_read, position."""
    order = np.argsort(-score, kind="stable")
    ranked, bleeds = score[order], truth[order].astype(np.float64)
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    member = resamples.member[order]
    once = np.ones((1, resamples.patients), dtype=resamples.drawn.dtype)
    drawn = np.vstack([once, resamples.drawn])
    rows = max(1, _CHUNK_CELLS // len(truth))
    parts: list[tuple[np.ndarray, np.ndarray, float]] = []
    for start in range(0, len(drawn), rows):
        weight = drawn[start : start + rows, member].astype(np.float64)
        scans = np.add.reduceat(weight, starts, axis=1)
        hits = np.add.reduceat(weight * bleeds, starts, axis=1)
        parts.extend(_read_one(*pair) for pair in zip(scans, hits, strict=True))
    found, to_read, position = zip(*parts, strict=True)
    return np.array(found), np.array(to_read), np.array(position)


def _read_one(scans: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Read a list whose steps hold so many scans, and so many with a bleed."""
    read, found = np.cumsum(scans), np.cumsum(hits)
    total, bleeds = read[-1], found[-1]
    if not bleeds:
        return np.full(len(_SHARES), np.nan), np.full(len(FOUND), np.nan), np.nan
    curve = np.interp(_SHARES * total, np.r_[0, read], np.r_[0, found]) / bleeds
    # The small term keeps 0.95 x 20 at 19 in spite of rounding.
    wanted = np.ceil(np.array(FOUND) * bleeds - 1e-9)
    step = np.searchsorted(found, wanted)
    into = (wanted - (found[step] - hits[step])) / hits[step]
    needed = (read[step] - scans[step] + into * scans[step]) / total
    position = float((hits * (read - scans / 2)).sum() / bleeds / total)
    return curve, needed, position
