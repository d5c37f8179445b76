"""Bootstrap samples of whole patients, and figures with their intervals."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

# Replicates times patients held in memory at once as float64: 32 MB.
_CHUNK_CELLS = 4_000_000
# An interval is given where at least this share of the replicates defines the figure.
_DEFINED_SHARE = 0.95
# The replicates of two patients are three distinct values at most: no interval to speak of.
FEWEST_PATIENTS = 3
# Percentile intervals of fewer patients hold the truth in less than nine of ten samples, as
# `benchmarks/coverage.py` shows for the patients who bear a label.
FEW_BEARERS = 20
_BOUNDS = (2.5, 97.5)
EXACT = "exact binomial interval"


@dataclass(frozen=True)
class Resamples:
    """Bootstrap samples of patients, with all slices of each.

    Attributes
    ----------
    drawn
        Integer (R, P): how often each patient stands in each replicate.
    member
        Integer (N,): the patient of each slice, as a column of `drawn`.
    """

    drawn: np.ndarray
    member: np.ndarray

    def __len__(self) -> int:
        """Count the replicates."""
        return len(self.drawn)

    @property
    def patients(self) -> int:
        """Count the patients."""
        return self.drawn.shape[1]

    def bearers(self, rows: np.ndarray) -> int:
        """Count the patients who have one of the rows, bool (N,)."""
        return int(np.count_nonzero(np.bincount(self.member[np.asarray(rows, dtype=bool)])))

    def bearers_of_either(self, truth: np.ndarray) -> int:
        """Count the patients with a positive row, or with a negative, whichever are fewer."""
        truth = np.asarray(truth, dtype=bool)
        return min(self.bearers(truth), self.bearers(~truth))

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum a figure of (N,) slices over each replicate: (R,)."""
        return self.totals(np.asarray(values)[:, None])[:, 0]

    def totals(self, values: np.ndarray) -> np.ndarray:
        """Sum K figures of slices, (N, K), over each replicate: (R, K)."""
        values = np.asarray(values, dtype=np.float64)
        of_patient = np.empty((self.patients, values.shape[1]))
        for column, figure in enumerate(values.T):
            of_patient[:, column] = np.bincount(self.member, figure, minlength=self.patients)
        total = np.empty((len(self), values.shape[1]))
        rows = max(1, _CHUNK_CELLS // max(1, self.patients))
        for start in range(0, len(self), rows):
            chunk = slice(start, start + rows)
            total[chunk] = self.drawn[chunk].astype(np.float64) @ of_patient
        return total

    def ratio(self, above: np.ndarray, below: np.ndarray) -> np.ndarray:
        """Divide two sums over slices in each replicate: (R,), NaN where nothing is below."""
        dividend, divisor = self.totals(np.column_stack([above, below])).T
        undefined = np.full(len(divisor), np.nan)
        return np.divide(dividend, divisor, out=undefined, where=divisor > 0)


def resample_patients(patients: np.ndarray, replicates: int, seed: int) -> Resamples:
    """Draw as many patients as there are, with replacement, for each replicate.

    Slices of a patient resemble each other: drawing slices would give intervals far too narrow.

    Parameters
    ----------
    patients
        (N,): the patient of each slice; may be empty.
    replicates
        R; may be 0.
    seed
        Fixes the draw.

    References
    ----------
    Field and Welsh, Journal of the Royal Statistical Society B 2007;69:369-390.
    """
    names, member = np.unique(patients, return_inverse=True)
    if not len(names):
        return Resamples(np.zeros((replicates, 0), dtype=np.uint16), member)
    chance = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), chance, size=replicates)
    return Resamples(drawn.astype(np.uint16), member)


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; None where it is undefined.

    Attributes
    ----------
    value, low, high
        The figure on the data as they are, and the 2.5th and 97.5th percentile of its replicates,
        or the exact bounds.
    why
        Why the figure, or its interval, cannot be given, or that the interval is the exact one;
        None where both come from the data and their replicates.
    note
        What speaks against the interval that is given: that it rests on few patients.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    why: str | None = None
    note: str | None = None

    def as_dict(self) -> dict[str, float | str | None]:
        """Give it as plain JSON values; `note` stands there only where there is one."""
        told = {"value": self.value, "low": self.low, "high": self.high, "why": self.why}
        return told if self.note is None else told | {"note": self.note}


def estimate(
    value: float,
    replicates: np.ndarray,
    why: str | None = None,
    *,
    lack: str = "lack a class",
    patients: int | None = None,
    bearers: int | None = None,
) -> Estimate:
    """Put a percentile interval about a figure, or say why there is none.

    No interval is given where it would promise too much: of fewer than three patients; where more
    than one replicate in twenty leaves the figure undefined, as happens when fewer than three
    patients have what it needs; where all replicates agree, as they do when nothing in the sample
    is wrong; and where a bound is infinite.

    Parameters
    ----------
    value
        The figure on the data as they are; NaN or infinite where undefined.
    replicates
        (R,), NaN where a replicate leaves it undefined; may hold infinities.
    why
        Said where the value is undefined, e.g. what `why_not` gives.
    lack
        What is amiss in replicates that leave it undefined, e.g. `have no positive slice`.
    patients
        How many patients the replicates are drawn from, where the caller knows it.
    bearers
        On how many of them the figure rests, such as those with a positive slice for a sensitivity:
        an interval that rests on fewer than `FEW_BEARERS` gets a note.
    """
    if not np.isfinite(value):
        return Estimate(None, why=why or "undefined on these data")
    replicates = np.asarray(replicates, dtype=np.float64)
    defined = np.sort(replicates[~np.isnan(replicates)])
    amiss = _why_no_interval(defined, len(replicates), lack, patients)
    if amiss:
        return Estimate(float(value), why=amiss)
    low, high = np.percentile(defined, _BOUNDS)
    return Estimate(float(value), float(low), float(high), note=_note_few(bearers))


def _note_few(bearers: int | None) -> str | None:
    if bearers is None or bearers >= FEW_BEARERS:
        return None
    return (
        f"rests on {bearers} patients: intervals of fewer than {FEW_BEARERS} are too narrow, and "
        "hold the truth less often than they say"
    )


def _why_no_interval(
    defined: np.ndarray, replicates: int, lack: str, patients: int | None
) -> str | None:
    """Say what speaks against an interval; `defined` ascends."""
    if patients is not None and patients < FEWEST_PATIENTS:
        return "a single patient" if patients == 1 else f"only {patients} patients"
    if not replicates:
        return "no replicates were drawn"
    undefined = replicates - len(defined)
    if len(defined) < _DEFINED_SHARE * replicates:
        return (
            f"{undefined:,} of {replicates:,} replicates {lack}: too few patients for an interval"
        )
    if defined[0] == defined[-1]:
        return "all replicates agree"
    below, above = (bound / 100 * (len(defined) - 1) for bound in _BOUNDS)
    # The percentile lies between two neighbours: both must be finite.
    if np.isinf(defined[[int(np.floor(below)), int(np.ceil(above))]]).any():
        infinite = int(np.isinf(defined).sum())
        return f"{infinite:,} of {replicates:,} replicates are infinite: no upper bound"
    return None


def estimate_share(
    above: np.ndarray,
    below: np.ndarray,
    resamples: Resamples,
    why: str = "nothing to take a share of",
    *,
    lack: str = "have nothing to take a share of",
) -> Estimate:
    """Divide two sums over slices, with an interval.

    Of rows that are each another patient's, all counted or not, the interval is the exact one.

    Parameters
    ----------
    above, below
        (N,); with `below` all one, it is the mean of `above`.
    resamples
        The replicates.
    why
        Said where nothing is below.
    lack
        As in `estimate`.
    """
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    if np.isnan(above).any() or np.isnan(below).any():
        holes = int((np.isnan(above) | np.isnan(below)).sum())
        return Estimate(None, why=f"{holes:,} of {len(above):,} values are NaN")
    value = above.sum() / below.sum() if below.sum() > 0 else np.nan
    replicates = resamples.ratio(above, below)
    counts = {"patients": resamples.patients, "bearers": resamples.bearers(below > 0)}
    found = estimate(float(value), replicates, why, lack=lack, **counts)
    if resamples.patients == len(above) and _are_counts(above) and _are_counts(below):
        return bound_exactly(found, int(above.sum()), int(below.sum()))
    return found


def _are_counts(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def bound_exactly(share: Estimate, successes: int, total: int) -> Estimate:
    """Give a share of independent rows its exact interval in place of the bootstrap's.

    The percentiles of so many of 13 patients are too narrow, and can reach 1 in spite of misses
    that were seen; where nothing is wrong all replicates agree, which says little all the same.
    """
    if share.value is None:
        return share
    return Estimate(share.value, *bound_share(successes / total, total), EXACT)


def bound_share(share: float, total: float) -> tuple[float, float]:
    """Compute the exact 95 % interval of a share of so many independent rows.

    `share * total` need not be whole: of rows that resemble each other, `total` may be the number
    of patients that they stand for.

    References
    ----------
    Clopper and Pearson, Biometrika 1934;26:404-413.
    """
    hits, misses = share * total, (1 - share) * total
    low = float(stats.beta.ppf(0.025, hits, misses + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, misses)) if misses > 0 else 1.0
    return low, high


def why_not(truth: np.ndarray, score: np.ndarray | None = None, unit: str = "slice") -> str | None:
    """Say why truth and scores allow no ranking; None where they do.

    Parameters
    ----------
    truth
        0 or 1, (N,).
    score
        (N,); None: only the truth is looked at.
    unit
        What a row is: `slice`, `study` or `patient`.
    """
    truth = np.asarray(truth, dtype=bool)
    if not len(truth):
        return f"no {_plural(unit)}"
    holes = 0 if score is None else int(np.isnan(np.asarray(score, dtype=np.float64)).sum())
    if holes:
        return f"{holes:,} of {len(truth):,} scores are NaN"
    if not truth.any():
        return f"no positive {unit}"
    return f"no negative {unit}" if truth.all() else None


def _plural(unit: str) -> str:
    return f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"
