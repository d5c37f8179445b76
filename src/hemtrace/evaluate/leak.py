"""Does a network that learned from others' labels know more than where in the scan a slice lies?"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from hemtrace.evaluate.position import look_up
from hemtrace.evaluate.scored import UNITS, Scored
from hemtrace.evaluate.shuffle import find_scans, give_labels
from hemtrace.labels import ANY
from hemtrace.metrics import Estimate, estimate, estimate_area, resample_patients, roc_auc

POWER = 0.8
PERMUTATIONS = 100
# Of each permutation: so few suffice, as there are many of these.
_REPLICATES = 200
# So many patients can pass their labels round in six ways at least.
_FEWEST_PATIENTS = 4


def find_leak(
    shuffled: Scored, position: pl.DataFrame, replicates: int, seed: int
) -> dict[str, Any]:
    """Ask whether a network that learned from others' labels knows more than the position.

    Parameters
    ----------
    shuffled
        Test slices with the labels and predictions of the shuffled run.
    position
        What `position.position_scores` gives: slice, series, depth, and the score of each label.
    replicates, seed
        Of the patient bootstrap, and of the permutations.

    Returns
    -------
    Plain values for JSON. `network`, `position`: AUC of `any` of slices; `difference`: first less
    second; each value, low, high, why. `passed`: whether its interval reaches zero; None where it
    has none. `detectable`: as `_find_detectable` gives it.
    """
    resamples = resample_patients(shuffled.patients, replicates, seed)
    by_position = replace(shuffled, probability=look_up(position, shuffled.keys))
    truth = shuffled.truth[:, ANY]
    network, place = (
        estimate_area(roc_auc, truth, one.probability[:, ANY], resamples, UNITS[one.level])
        for one in (shuffled, by_position)
    )
    beyond = Estimate(None, why=network.why or place.why)
    if network.value is not None and place.value is not None:
        draws = [
            roc_auc(truth, one.probability[:, ANY], resamples) for one in (shuffled, by_position)
        ]
        gain = network.value - place.value
        beyond = estimate(
            gain,
            draws[0] - draws[1],
            patients=resamples.patients,
            bearers=resamples.bearers_of_either(truth),
        )
    return {
        "network": network.as_dict(),
        "position": place.as_dict(),
        "difference": beyond.as_dict(),
        "passed": None if beyond.low is None else beyond.low <= 0,
        "detectable": _find_detectable(
            shuffled, by_position, position, beyond.why, min(replicates, _REPLICATES), seed
        ),
    }


def _find_detectable(
    shuffled: Scored,
    by_position: Scored,
    position: pl.DataFrame,
    why: str | None,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Find the smallest lift of the network's AUC that the test finds four times in five.

    The labels of the test patients are passed round among them again, at the same height: what the
    network then gains over the position is chance, and the test is made on it. The lift is what
    brings the lower end of four in five of these intervals to zero. It takes their width as it is:
    near an AUC of 1 intervals are narrower, and smaller lifts are found.

    Returns
    -------
    `shift` of the AUC; `power` that it is found with; `patients`; `bearers`: patients with a
    positive slice; `permutations`; `why`: None, or why there is no shift.
    """
    owners, truth = shuffled.patients, shuffled.truth[:, ANY]
    patients = len(np.unique(owners))
    told: dict[str, Any] = {
        "shift": None,
        "power": POWER,
        "patients": patients,
        "bearers": len(np.unique(owners[truth])),
        "permutations": PERMUTATIONS,
        "why": why,
    }
    if why is not None:
        return told
    if patients < _FEWEST_PATIENTS:
        return told | {"why": f"only {patients} patients, whose labels cannot be passed round"}
    resamples = resample_patients(owners, replicates, seed)
    # The patients as they are come first, so that scores are sorted once for both.
    as_they_are = np.ones((1, resamples.patients), dtype=resamples.drawn.dtype)
    resamples = replace(resamples, drawn=np.vstack([as_they_are, resamples.drawn]))
    pair = [one.probability[:, ANY] for one in (shuffled, by_position)]
    lows = []
    for moved in _pass_round(shuffled, position, seed):
        network, place = (roc_auc(moved, score, resamples) for score in pair)
        beyond = network - place
        found = estimate(float(beyond[0]), beyond[1:], patients=patients)
        if found.low is not None:
            lows.append(found.low)
    if len(lows) < POWER * PERMUTATIONS:
        missing = PERMUTATIONS - len(lows)
        return told | {"why": f"{missing} of {PERMUTATIONS} permutations have no interval"}
    return told | {"shift": max(0.0, -float(np.quantile(lows, 1 - POWER)))}


def _pass_round(shuffled: Scored, position: pl.DataFrame, seed: int) -> Iterator[np.ndarray]:
    """Pass the labels of `any` round among the patients, at the same height: bool (N,) each."""
    table = (
        pl.DataFrame(
            {
                "slice": shuffled.keys,
                "patient": shuffled.patients,
                "study": shuffled.studies,
                "place": np.arange(len(shuffled)),
            }
        )
        .join(position.select("slice", "series", "depth"), on="slice", how="left")
        .sort("patient", "study", "series", "depth", "slice")
    )
    order, truth = table["place"].to_numpy(), shuffled.truth[:, ANY]
    scans, rng = find_scans(table), np.random.default_rng([seed, 5])
    for _ in range(PERMUTATIONS):
        moved = np.empty_like(truth)
        moved[order] = truth[order][give_labels(scans, rng)]
        yield moved
