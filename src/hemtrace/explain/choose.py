"""Which slices the galleries show: drawn by lot, errors included."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from hemtrace.labels import LABELS, SUBTYPES

POSITIVE_RULE = (
    "Drawn by lot among the test slices flagged as a bleed: up to a quarter false alarms, the rest "
    "true finds, taking the subtypes in turn and a patient again only when no other is left."
)
NEGATIVE_RULE = (
    "Drawn by lot among the test slices not flagged: up to half missed bleeds, the rest rightly "
    "clear, a patient again only when no other is left."
)


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
    truth = bleeds[:, LABELS.index("any")]
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
