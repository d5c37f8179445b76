"""Which slices are shown and scored: drawn by lot, errors included."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemtrace.explain.cases import Cases
from hemtrace.labels import ANY, SUBTYPES

POSITIVE_RULE = (
    "Sampled at random among the test slices flagged as a bleed: up to a quarter false "
    "positives, the rest true finds, taking the subtypes in turn and a patient again "
    "only when no other is left."
)
NEGATIVE_RULE = (
    "Sampled at random among the test slices not flagged: up to half missed bleeds, the rest "
    "rightly clear, a patient again only when no other is left."
)
SUBTYPE_RULE = (
    "Sampled at random of each subtype: finds (the slice bears the subtype and is flagged as it), "
    "misses (it bears it and is not) and false alarms (it does not and is), a patient again only "
    "when no other is left. The heat map is that of the subtype."
)
WORST_RULE = (
    "False alarms from the highest probability of any bleed down, and missed bleeds from the "
    "lowest up: one of each patient, then a second of each, and so on. The heat map is that of any "
    "bleed."
)
KINDS = ("found", "missed", "false alarm")


@dataclass(frozen=True)
class Choice:
    """Places of slices in the partition, in the order in which they are shown."""

    positives: list[int]
    negatives: list[int]


def choose_slices(
    labels: np.ndarray,
    flagged: np.ndarray,
    patients: np.ndarray,
    positives: int,
    negatives: int,
    seed: int,
) -> Choice:
    """Choose the slices of both galleries.

    Parameters
    ----------
    labels
        (N, 6), what is true.
    flagged
        bool (N,), whether `any` is predicted.
    patients
        (N,).
    positives, negatives
        At most so many with and without a predicted bleed.
    seed
        Fixes the lot.
    """
    bleeds = np.asarray(labels, dtype=bool)
    truth = bleeds[:, ANY]
    order = np.random.default_rng(seed).permutation(len(truth))
    found, alarms, missed, clear = (
        [int(place) for place in order if of_kind[place]]
        for of_kind in (truth & flagged, ~truth & flagged, truth & ~flagged, ~truth & ~flagged)
    )
    wrong = min(len(alarms), max(positives // 4, positives - len(found)))
    lost = min(len(missed), max(negatives // 2, negatives - len(clear)))
    queues = [[p for p in found if bleeds[p, column]] for column in range(len(SUBTYPES))]
    return Choice(
        _take(queues, patients, positives - wrong) + _take([alarms], patients, wrong),
        _take([missed], patients, lost) + _take([clear], patients, negatives - lost),
    )


def choose_by_subtype(
    labels: np.ndarray, flagged: np.ndarray, patients: np.ndarray, each: int, seed: int
) -> dict[str, dict[str, list[int]]]:
    """Choose finds, misses and false alarms of every subtype, by `SUBTYPE_RULE`.

    Parameters
    ----------
    labels
        (N, 6), what is true.
    flagged
        bool (N, 6), what is predicted.
    patients
        (N,).
    each
        At most so many of each kind and subtype.
    seed
        Fixes the lot.

    Returns
    -------
    By subtype and kind (`KINDS`): places of slices.
    """
    truth, found = np.asarray(labels, dtype=bool), np.asarray(flagged, dtype=bool)
    order = np.random.default_rng(seed).permutation(len(truth))
    chosen = {}
    for column, label in enumerate(SUBTYPES):
        bears, called = truth[:, column], found[:, column]
        groups = (bears & called, bears & ~called, ~bears & called)
        chosen[label] = {
            kind: _take([[int(place) for place in order if group[place]]], patients, each)
            for kind, group in zip(KINDS, groups, strict=True)
        }
    return chosen


def choose_worst(
    labels: np.ndarray,
    flagged: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    each: int,
) -> dict[str, list[int]]:
    """Choose the worst errors in `any`, by `WORST_RULE`.

    Parameters
    ----------
    labels
        (N, 6), what is true.
    flagged
        bool (N,), whether `any` is predicted.
    probability
        float (N,), of `any`; what is NaN is not chosen.
    patients
        (N,).
    each
        At most so many of each kind.

    Returns
    -------
    Places of slices, the worst first: `false alarm`, `missed`.
    """
    truth = np.asarray(labels, dtype=bool)[:, ANY]
    known = ~np.isnan(probability)
    rising = np.argsort(probability, kind="stable")
    missed = [int(place) for place in rising if known[place] and truth[place] & ~flagged[place]]
    alarms = [int(p) for p in rising[::-1] if known[p] and ~truth[p] & flagged[p]]
    return {
        "false alarm": _take([alarms], patients, each),
        "missed": _take([missed], patients, each),
    }


def choose_by_lot(
    places: list[int], patients: np.ndarray, count: int, rng: np.random.Generator
) -> list[int]:
    """Draw places by lot, a patient again only when no other is left."""
    order = [places[k] for k in rng.permutation(len(places))]
    return _take([order], patients, count)


def draw_scored(
    cases: Cases, lesions: Mapping[str, np.ndarray], count: int, seed: int
) -> tuple[list[int], str]:
    """Draw the slices with a mask that are scored."""
    masked = [k for k, name in enumerate(cases.slices.slices) if name in lesions]
    rng = np.random.default_rng([seed, 3])
    places = sorted(choose_by_lot(masked, cases.slices.patients, count, rng))
    rule = f"every {cases.slices.name} slice with a lesion mask"
    if len(places) < len(masked):
        rule = (
            f"{len(places)} of the {len(masked)} {cases.slices.name} slices with a lesion mask, by "
            "lot, of each patient as many"
        )
    return places, rule


def draw_series(cases: Cases, count: int, seed: int) -> tuple[list[int], str]:
    """Draw whole series with so many flagged slices at most: places of all their slices.

    A series that would go beyond the limit is left out, and the next ones in the lot that fit are
    taken.

    Parameters
    ----------
    cases
        Test slices.
    count
        Most flagged slices.
    seed
        Fixes the lot.

    Returns
    -------
    Places, ascending, and the rule in words, with how many series and flagged slices were left out.
    """
    keys = cases.table.select("patient", "study", "series").rows()
    members: dict[tuple[Any, ...], list[int]] = {}
    for place, key in enumerate(keys):
        members.setdefault(key, []).append(place)
    names = sorted(members, key=str)
    places: list[int] = []
    taken = flagged = 0
    for k in np.random.default_rng([seed, 4]).permutation(len(names)):
        own = members[names[k]]
        more = int(cases.flagged[own, ANY].sum())
        if flagged + more > count:
            continue
        places += own
        taken, flagged = taken + 1, flagged + more
    rule = "every flagged test slice"
    if taken < len(names):
        left = int(cases.flagged[:, ANY].sum()) - flagged
        rule = (
            f"the flagged slices of {taken} of {len(names)} test series, sampled at random; "
            f"{len(names) - taken} series with {left} flagged slices were left out, each of which "
            f"would have made it more than {count} slices"
        )
    return sorted(places), rule


def _take(queues: list[list[int]], patients: np.ndarray, count: int) -> list[int]:
    """Take from the queues in turn, from each the first slice of the patient shown least."""
    taken: list[int] = []
    shown: dict[str, int] = defaultdict(int)
    while len(taken) < count:
        before = len(taken)
        for queue in queues:
            left = [place for place in queue if place not in taken]
            if left and len(taken) < count:
                place = min(left, key=lambda p: shown[str(patients[p])])
                taken.append(place)
                shown[str(patients[place])] += 1
        if len(taken) == before:
            break
    return taken
