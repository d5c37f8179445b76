"""How often "95 %" intervals of few bearing patients hold the truth: by simulation.

Patients without a bleed are many, as in a real test set; those who bear the label are few. Slices
of a patient share a part of their score: some patients' bleeds are harder to see than others'. The
truth is that of very many patients drawn in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from common import Figure, report

from hemtrace.metrics import (
    FEW_BEARERS,
    Estimate,
    estimate_area,
    estimate_share,
    resample_patients,
    roc_auc,
)

BEARERS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30)
CLEAR_PATIENTS, SLICES, SHOWN = 80, 8, 4
SAMPLES, REPLICATES = 400, 300
# Spread of patients in units of the spread of slices within one; mean of a visible bleed.
SPREAD, LIFT = 0.8, 2.0
# A slice is flagged from here on.
THRESHOLD = 1.0
# A "95 %" interval that holds the truth in fewer samples than this is no such thing.
WANTED = 0.90


@dataclass(frozen=True)
class Sample:
    """Slices of some patients."""

    truth: np.ndarray
    score: np.ndarray
    owner: np.ndarray


def draw(bearers: int, clear: int, rng: np.random.Generator) -> Sample:
    """Draw patients; of each bearer `SHOWN` of `SLICES` slices show the bleed."""
    owner = np.repeat(np.arange(bearers + clear), SLICES)
    truth = (owner < bearers) & (np.tile(np.arange(SLICES), bearers + clear) < SHOWN)
    of_patient = rng.normal(0, SPREAD, bearers + clear)
    return Sample(truth, rng.normal(size=len(owner)) + of_patient[owner] + LIFT * truth, owner)


def find_truth() -> tuple[float, float]:
    """Give AUC and sensitivity of so many patients that chance no longer matters."""
    many = draw(40_000, 40_000, np.random.default_rng(0))
    area = float(roc_auc(many.truth, many.score)[0])
    return area, float((many.score[many.truth] >= THRESHOLD).mean())


def estimate_both(sample: Sample, seed: int) -> tuple[Estimate, Estimate]:
    """Give AUC and sensitivity of a sample with their intervals."""
    draws = resample_patients(sample.owner, REPLICATES, seed)
    area = estimate_area(roc_auc, sample.truth, sample.score, draws)
    found = sample.truth & (sample.score >= THRESHOLD)
    return area, estimate_share(found, sample.truth, draws)


def measure_coverage(bearers: int, truth: Sequence[float]) -> list[tuple[float, float]]:
    """Give, of AUC and sensitivity, the coverage, and the share of samples with an interval."""
    held: list[list[bool]] = [[], []]
    for seed in range(SAMPLES):
        sample = draw(bearers, CLEAR_PATIENTS, np.random.default_rng([bearers, seed]))
        for figure, (one, true) in enumerate(zip(estimate_both(sample, seed), truth, strict=True)):
            if one.low is not None and one.high is not None:
                held[figure].append(one.low <= true <= one.high)
    return [(float(np.mean(one)) if one else np.nan, len(one) / SAMPLES) for one in held]


def main() -> None:
    """Measure, and report."""
    truth = find_truth()
    figures = []
    for bearers in BEARERS:
        (area, _), (share, given) = measure_coverage(bearers, truth)
        goal = WANTED if bearers >= FEW_BEARERS else None
        for name, value in (("AUC", area), ("sensitivity", share)):
            if np.isfinite(value):
                figures.append(
                    Figure(f"{name}, {bearers} bearing patients", value, "", at_least=goal)
                )
        figures.append(Figure(f"interval given, {bearers} bearing patients", given, ""))
    report(
        "coverage",
        figures,
        f"{SAMPLES} samples of {CLEAR_PATIENTS} clear patients and so many bearers, {REPLICATES} "
        f"replicates; AUC {truth[0]:.3f}, sensitivity {truth[1]:.3f}; a coverage from "
        f"{SAMPLES} samples is good to 2 to 3 hundredths. Fewer than {FEW_BEARERS} get a note.",
    )


if __name__ == "__main__":
    main()
