"""How well several readers agree, beyond what chance would do."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from hemtrace.labels import LABELS
from hemtrace.metrics import Resamples, estimate, estimate_share, resample_patients

# Agreement that is exactly chance comes out as a trace of either sign.
_ROUNDING = 1e-12


def score_agreement(
    ratings: np.ndarray, readers: Sequence[str], replicates: int, seed: int
) -> list[dict[str, Any]]:
    """Score the agreement of readers on each label.

    Parameters
    ----------
    ratings
        bool (scans, readers, 6).
    readers
        Their names.
    replicates, seed
        Of the bootstrap, which draws whole scans.

    Returns
    -------
    A row a label: `label`, `scans`, `positives` by reader and by majority, `all_agree` (share of
    scans), `fleiss_kappa`, and `cohen_kappa` by pair of readers; estimates with their intervals.
    """
    count = len(ratings)
    resamples = resample_patients(np.arange(count), replicates, seed)
    once = Resamples(np.ones((1, count), dtype=np.uint16), np.arange(count))
    rows = []
    for column, label in enumerate(LABELS):
        seen = ratings[..., column]
        agree = (seen == seen[:, :1]).all(axis=1)
        majority = 2 * seen.sum(axis=1) > seen.shape[1]
        pairs = {
            f"{readers[one]}, {readers[other]}": _estimate_kappa(
                cohen_kappa(seen[:, one], seen[:, other], once),
                cohen_kappa(seen[:, one], seen[:, other], resamples),
                seen[:, [one, other]],
            )
            for one, other in combinations(range(len(readers)), 2)
        }
        rows.append(
            {
                "label": label,
                "scans": count,
                "positives": {
                    **dict(zip(readers, seen.sum(axis=0).tolist(), strict=True)),
                    "majority": int(majority.sum()),
                },
                "all_agree": estimate_share(agree, np.ones(count), resamples).as_dict(),
                "fleiss_kappa": _estimate_kappa(
                    fleiss_kappa(seen, once), fleiss_kappa(seen, resamples), seen
                ),
                "cohen_kappa": pairs,
            }
        )
    return rows


def _estimate_kappa(value: np.ndarray, replicates: np.ndarray, seen: np.ndarray) -> dict[str, Any]:
    found = estimate(
        float(value[0]),
        replicates,
        "all readers said the same of all scans",
        lack="hold scans of one answer only",
        # Scans stand for patients: of each there is one.
        patients=len(seen),
        bearers=int(min(seen.any(axis=1).sum(), (~seen).any(axis=1).sum())),
    )
    return found.as_dict()


def fleiss_kappa(seen: np.ndarray, resamples: Resamples) -> np.ndarray:
    """Compute the kappa of several readers in each replicate of scans.

    Parameters
    ----------
    seen
        bool (scans, readers): what each reader said.
    resamples
        Replicates of the scans.

    Returns
    -------
    (R,), NaN where all readers said the same of all scans.

    References
    ----------
    Fleiss, Psychological Bulletin 1971;76:378-382.
    """
    readers = seen.shape[1]
    positive = seen.sum(axis=1).astype(np.float64)
    negative = readers - positive
    pairs = readers * (readers - 1)
    agreeing = (positive * (positive - 1) + negative * (negative - 1)) / pairs
    every = np.ones(len(seen))
    share = resamples.ratio(positive, readers * every)
    return _beyond_chance(resamples.ratio(agreeing, every), share**2 + (1 - share) ** 2)


def cohen_kappa(one: np.ndarray, other: np.ndarray, resamples: Resamples) -> np.ndarray:
    """Compute the kappa of two readers, bool (scans,) each, in each replicate: (R,).

    References
    ----------
    Cohen, Educational and Psychological Measurement 1960;20:37-46.
    """
    every = np.ones(len(one))
    first, second = resamples.ratio(one, every), resamples.ratio(other, every)
    chance = first * second + (1 - first) * (1 - second)
    return _beyond_chance(resamples.ratio(one == other, every), chance)


def _beyond_chance(observed: np.ndarray, chance: np.ndarray) -> np.ndarray:
    undefined = np.full(len(observed), np.nan)
    excess = observed - chance
    excess[np.abs(excess) < _ROUNDING] = 0.0
    return np.divide(excess, 1 - chance, out=undefined, where=chance < 1)
