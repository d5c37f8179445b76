"""Patient-clustered replicates of ranking figures: hemtrace against scikit-learn in a loop.

A table of the size of a real test set, of synthetic scores: 120,000 slices of 3,500 patients, six
labels at the prevalences of the RSNA set; and `any` of a table of the size of the whole set. The
loop does a few of the replicates, and its time is extrapolated to all.
"""

import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from common import Figure, report, time_rounds
from sklearn.metrics import average_precision_score, roc_auc_score

from hemtrace.metrics import Resamples, average_precision, resample_patients, roc_auc

SLICES, PATIENTS, REPLICATES = 120_000, 3_500, 2_000
# The whole RSNA set.
MANY_SLICES, MANY_PATIENTS = 750_000, 19_000
# Share of slices with each label in the RSNA set; `any` stands last.
PREVALENCES = (0.0041, 0.0483, 0.0352, 0.0476, 0.0630, 0.1440)
# Of the patients with a bleed, this share of the slices shows it.
SHOWN = 0.35
LOOPED, CHECKED = 4, 10

Column = tuple[np.ndarray, np.ndarray]
Area = Callable[[np.ndarray, np.ndarray, Resamples | None], np.ndarray]
PEERS: dict[str, tuple[Area, Callable[[np.ndarray, np.ndarray], float]]] = {
    "ROC AUC": (roc_auc, roc_auc_score),
    "average precision": (average_precision, average_precision_score),
}


def make_table(
    slices: int, patients: int, prevalences: Sequence[float], seed: int
) -> tuple[list[Column], np.ndarray]:
    """Draw truth and score of each label, and the patient of each slice.

    Scores are float32 probabilities; a patient's slices share a part of their noise.
    """
    rng = np.random.default_rng(seed)
    owner = np.sort(rng.integers(0, patients, slices))
    columns = []
    for prevalence in prevalences:
        bleeds = rng.random(patients) < prevalence / SHOWN
        truth = bleeds[owner] & (rng.random(slices) < SHOWN)
        of_patient = 0.5 * rng.normal(size=patients)
        logit = rng.normal(size=slices) + of_patient[owner] + 2.5 * truth - 2
        columns.append((truth, (1 / (1 + np.exp(-logit))).astype(np.float32)))
    return columns, owner


def compute_all(area: Area, columns: list[Column], resamples: Resamples) -> int:
    """Compute all replicates of all labels; how many replicates that were."""
    for truth, score in columns:
        area(truth, score, resamples)
    return len(resamples)


def loop(peer: Callable, columns: list[Column], resamples: Resamples, replicates: int) -> int:
    """Do the first replicates of all labels by repeating slices, one by one."""
    every = np.arange(len(resamples.member))
    for drawn in resamples.drawn[:replicates]:
        rows = np.repeat(every, drawn[resamples.member])
        for truth, score in columns:
            peer(truth[rows], score[rows])
    return replicates


def worst_difference(
    area: Area, peer: Callable, columns: list[Column], resamples: Resamples
) -> float:
    """Compare the first replicates of every label with those of the peer."""
    few = Resamples(resamples.drawn[:CHECKED], resamples.member)
    every = np.arange(len(few.member))
    worst = 0.0
    for truth, score in columns:
        for drawn, made in zip(few.drawn, area(truth, score, few), strict=True):
            rows = np.repeat(every, drawn[few.member])
            worst = max(worst, abs(float(made - peer(truth[rows], score[rows]))))
    return worst


def measure_memory(call: Callable[[], object]) -> float:
    """Give what a call holds at most at once, in MB."""
    tracemalloc.start()
    call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 1e6


def measure_figure(name: str, columns: list[Column], resamples: Resamples) -> list[Figure]:
    """Time one figure and its peer, turn by turn, and compare what they give."""
    area, peer = PEERS[name]
    speed = time_rounds(
        {
            "own": partial(compute_all, area, columns, resamples),
            "loop": partial(loop, peer, columns, resamples, LOOPED),
        },
        rounds=3,
    )
    own, looped = REPLICATES / speed["own"], REPLICATES / speed["loop"]
    worst = worst_difference(area, peer, columns, resamples)
    most = measure_memory(partial(area, *columns[-1], resamples))
    goal = 10 if name == "ROC AUC" else None
    return [
        Figure(f"{name}: hemtrace, 6 labels", own, "s", at_most=goal),
        Figure(f"{name}: scikit-learn in a loop, extrapolated", looped, "s"),
        Figure(f"{name}: against the loop", looped / own, "x"),
        Figure(f"{name}: farthest from scikit-learn", worst, "", at_most=1e-12),
        Figure(f"{name}: memory", most, "MB", at_most=128),
    ]


def measure_whole_set() -> list[Figure]:
    """Time `any` on a table of the size of the whole RSNA set."""
    [(truth, score)], owner = make_table(MANY_SLICES, MANY_PATIENTS, PREVALENCES[-1:], seed=9)
    resamples = resample_patients(owner, REPLICATES, seed=1)
    figures = []
    for name, (area, _) in PEERS.items():
        started = time.perf_counter()
        area(truth, score, resamples)
        taken = time.perf_counter() - started
        few = Resamples(resamples.drawn[:100], resamples.member)
        most = measure_memory(partial(area, truth, score, few))
        figures += [
            Figure(f"{MANY_SLICES:,} slices, one label: {name}", taken, "s"),
            Figure(f"{MANY_SLICES:,} slices, one label: {name}, memory", most, "MB"),
        ]
    return figures


def main() -> None:
    """Measure, and report."""
    columns, owner = make_table(SLICES, PATIENTS, PREVALENCES, seed=0)
    started = time.perf_counter()
    resamples = resample_patients(owner, REPLICATES, seed=1)
    drawing = time.perf_counter() - started
    figures = [Figure("drawing the patients", drawing, "s")]
    for name in PEERS:
        figures += measure_figure(name, columns, resamples)
    report(
        "bootstrap",
        [*figures, *measure_whole_set()],
        f"{SLICES:,} slices, {PATIENTS:,} patients, {REPLICATES:,} replicates; the loop did "
        f"{LOOPED} of them, its time is extrapolated; compared on {CHECKED} of each label.",
    )


if __name__ == "__main__":
    main()
