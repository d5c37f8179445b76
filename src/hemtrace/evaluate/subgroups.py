"""Who fails: the figures of `any` by what the bleed and the scan are like.

Every cut point is fixed here, in the units a reader thinks in, and none is tuned to a result.
Facts of the scan split all slices. Facts of the bleed split the positive slices alone: each group
of them is ranked against all negative slices.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from hemtrace.labels import ANY, LABELS, SUBTYPES
from hemtrace.metrics import (
    FEWEST_PATIENTS,
    Estimate,
    estimate_area,
    estimate_share,
    resample_patients,
    roc_auc,
)

# Names beyond the most frequent ones are one group.
_MOST_NAMES = 8
_OTHER = "other"
_UNTOLD = "not told"
UNTOLD_WHY = "not told by these files"
SAME_WHY = "the same everywhere"


@dataclass(frozen=True)
class Fact:
    """What slices are grouped by.

    Attributes
    ----------
    column
        Of the table of facts (`gather_facts`).
    title
        With the unit.
    cuts
        Upper bounds of the groups but for the last, which is open; empty: a group a value.
    of_bleeds
        Whether only positive slices are split.
    absolute
        Whether the sign is dropped before the cuts.
    """

    column: str
    title: str
    cuts: tuple[float, ...] = ()
    of_bleeds: bool = False
    absolute: bool = False


FACTS: tuple[Fact, ...] = (
    # 30 mL is where surgery and prognosis turn: Bullock, Neurosurgery 2006;58:S2-7 (epidural);
    # Hemphill, Stroke 2001;32:891-897 (intracerebral).
    Fact("volume_ml", "bleeding of the patient, mL", (1, 10, 30), of_bleeds=True),
    Fact("area_mm2", "bleeding on the slice, mm²", (50, 200, 1000), of_bleeds=True),
    Fact("subtype", "subtype on the slice", of_bleeds=True),
    Fact("subtypes", "number of subtypes on the slice", (1, 2), of_bleeds=True),
    Fact("depth", "place in the scan", (1 / 3, 2 / 3)),
    Fact("thickness_mm", "slice thickness, mm", (1.5, 3.5)),
    Fact("spacing_mm", "pixel spacing, mm", (0.4, 0.5)),
    Fact("tilt_deg", "gantry tilt, degrees", (1, 15), absolute=True),
    Fact("intercept", "rescale intercept"),
    Fact("encoding", "transfer syntax"),
    Fact("bits_stored", "bits stored"),
    Fact("signed", "signed pixels"),
    Fact("repaired", "12-bit fault repaired"),
    Fact("lossy", "lossy compression"),
    Fact("manufacturer", "manufacturer"),
    Fact("kernel", "kernel"),
)
_OF_CATALOG = (
    "thickness_mm", "spacing_mm", "tilt_deg", "intercept", "encoding", "bits_stored", "signed",
    "repaired", "lossy", "manufacturer", "kernel",
)  # fmt: skip
_THIRDS = ("lower third", "middle third", "upper third")


def gather_facts(
    predictions: pl.DataFrame, catalog: pl.DataFrame, lesions: pl.DataFrame | None
) -> pl.DataFrame:
    """Put beside the test slices what they are grouped by.

    Parameters
    ----------
    predictions
        slice, patient, depth, partition, probabilities and labels.
    catalog
        Product of ingest.
    lesions
        As `lesions.measure_lesions` gives them; None: there are no masks.

    Returns
    -------
    The test slices, by their keys, with a column for each of `FACTS` but `subtype`.
    """
    test = predictions.filter(pl.col("partition") == "test").sort("slice")
    facts = test.join(
        catalog.select("slice", *_OF_CATALOG), on="slice", how="left", maintain_order="left"
    )
    if lesions is None:
        nothing = pl.lit(None, pl.Float64)
        facts = facts.with_columns(area_mm2=nothing, volume_ml=nothing)
    else:
        facts = facts.join(lesions, on="slice", how="left", maintain_order="left")
    return facts.with_columns(subtypes=pl.sum_horizontal(pl.col(SUBTYPES).cast(pl.Int64)))


def measure_subgroups(
    facts: pl.DataFrame, threshold: float | None, *, replicates: int = 500, seed: int = 0
) -> dict[str, Any]:
    """Score `any` in every group of test slices.

    Parameters
    ----------
    facts
        As `gather_facts` gives them.
    threshold
        Of `any`, fixed on validation patients; None: no sensitivity and specificity.
    replicates, seed
        Of the patient bootstrap within each group.

    Returns
    -------
    threshold; whole: the figures of all slices; groups: a dict each with column, fact (title),
    group, splits (`slices` or `positives`), slices, positives, patients, positive_patients, and
    auc, sensitivity and specificity as `Estimate.as_dict`. Of a group of fewer than three
    patients the figures have no bootstrap interval, as everywhere, and `why` says so. untold,
    same: facts that tell no groups apart: column, fact, why, and for `same` the value.
    """
    judge = _Judge(facts, threshold, replicates, seed)
    groups: list[dict[str, Any]] = []
    untold, same = [], []
    positive = facts[LABELS[ANY]].to_numpy() == 1
    for fact in FACTS:
        head = {"column": fact.column, "fact": fact.title}
        members = _find_groups(facts, fact, positive)
        told = [name for name, _ in members if name != _UNTOLD]
        if not told:
            why = UNTOLD_WHY if facts.height and (positive.any() or not fact.of_bleeds) else None
            untold.append(head | {"why": why or "no positive slice"})
        elif len(members) == 1:
            same.append(head | {"why": SAME_WHY, "value": told[0]})
        else:
            splits = "positives" if fact.of_bleeds else "slices"
            groups += [
                head | {"group": name, "splits": splits, **judge.score(inside, fact.of_bleeds)}
                for name, inside in members
            ]
    return {
        "threshold": threshold,
        "fewest_patients": FEWEST_PATIENTS,
        "whole": judge.score(np.ones(facts.height, dtype=bool), of_bleeds=False),
        "groups": groups,
        "untold": untold,
        "same": same,
    }


def _find_groups(
    facts: pl.DataFrame, fact: Fact, positive: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    """Name the groups of a fact that hold a slice, with bool (N,): who is in them."""
    split = positive if fact.of_bleeds else np.ones(facts.height, dtype=bool)
    if fact.column == "subtype":
        bears = [(name, facts[name].to_numpy() == 1) for name in SUBTYPES]
        return [(name, inside & split) for name, inside in bears if (inside & split).any()]
    values = facts[fact.column]
    known = values.is_not_null().to_numpy()
    if fact.cuts:
        numbers = values.cast(pl.Float64).fill_null(0).to_numpy()
        numbers = np.abs(numbers) if fact.absolute else numbers
        place = np.searchsorted(fact.cuts, numbers, side="left")
        found = [(name, known & (place == k)) for k, name in enumerate(name_bins(fact))]
    else:
        found = _group_by_value(values, split & known)
    found = [(name, inside & split) for name, inside in found]
    found.append((_UNTOLD, split & ~known))
    return [(name, inside) for name, inside in found if inside.any()]


def name_bins(fact: Fact) -> list[str]:
    """Name the groups of a fact with cut points: each includes its upper bound."""
    if fact.column == "depth":
        return list(_THIRDS)
    if fact.column == "subtypes":
        return ["1", "2", "3 or more"]
    bounds = [f"{cut:,g}" for cut in fact.cuts]
    middle = [f"{low} to {high}" for low, high in pairwise(bounds)]
    return [f"up to {bounds[0]}", *middle, f"above {bounds[-1]}"]


def _group_by_value(values: pl.Series, inside: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Make a group of each of the most frequent values, and one of the rest."""
    counts = values.filter(pl.Series(inside)).alias("value").value_counts(name="count")
    ordered = counts.sort("count", "value", descending=[True, False])["value"].to_list()
    shown = ordered if len(ordered) <= _MOST_NAMES else ordered[: _MOST_NAMES - 1]
    groups = [(_show(value), (values == value).fill_null(False).to_numpy()) for value in shown]
    if len(shown) < len(ordered):
        rest = values.is_in(ordered[len(shown) :]).fill_null(False).to_numpy()
        groups.append((_OTHER, rest))
    return groups


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tell_few(people: int) -> str | None:
    """Say of a group what `metrics.estimate` holds of every figure: that of two has no interval."""
    if people >= FEWEST_PATIENTS:
        return None
    number = f"{people} patient{'s' if people != 1 else ''}"
    return f"{number}, fewer than {FEWEST_PATIENTS}: no bootstrap interval"


class _Judge:
    """Scores `any` on some of the slices."""

    def __init__(
        self, facts: pl.DataFrame, threshold: float | None, replicates: int, seed: int
    ) -> None:
        self.truth = facts[LABELS[ANY]].to_numpy() == 1
        self.score_of = facts[f"p_{LABELS[ANY]}"].to_numpy().astype(np.float64)
        self.patients = facts["patient"].to_numpy()
        self.threshold = threshold
        self.replicates, self.seed = replicates, seed

    def score(self, inside: np.ndarray, of_bleeds: bool) -> dict[str, Any]:
        """Score a group, bool (N,); positives alone are ranked against all negatives."""
        people = np.unique(self.patients[inside])
        bearers = np.unique(self.patients[inside & self.truth])
        row: dict[str, Any] = {
            "slices": int(inside.sum()),
            "positives": int((inside & self.truth).sum()),
            "patients": len(people),
            "positive_patients": len(bearers),
            "why": _tell_few(len(people)),
        }
        ranked = inside | ~self.truth if of_bleeds else inside
        draws = resample_patients(self.patients[ranked], self.replicates, self.seed)
        area = estimate_area(roc_auc, self.truth[ranked], self.score_of[ranked], draws)
        specificity = Estimate(None, why="only positive slices are split")
        if not of_bleeds:
            specificity = self._share(inside, truth=False)
        return row | {
            "auc": area.as_dict(),
            "sensitivity": self._share(inside, truth=True).as_dict(),
            "specificity": specificity.as_dict(),
        }

    def _share(self, inside: np.ndarray, *, truth: bool) -> Estimate:
        """Take the share of a group's slices of one class that the threshold puts there."""
        if self.threshold is None:
            return Estimate(None, why="`any` has no threshold")
        score, of = self.score_of[inside], self.truth[inside] == truth
        holes = int(np.isnan(score).sum())
        if holes:
            return Estimate(None, why=f"{holes:,} of {len(score):,} scores are NaN")
        right = (score >= self.threshold) == truth
        draws = resample_patients(self.patients[inside], self.replicates, self.seed)
        name = "positive" if truth else "negative"
        lack = f"have no {name} slice"
        return estimate_share(right & of, of, draws, f"no {name} slice", lack=lack)
