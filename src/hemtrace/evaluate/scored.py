"""What is true and what is predicted: of slices, of studies, of patients."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS

PROBABILITIES: tuple[str, ...] = tuple(f"p_{label}" for label in LABELS)
SCORED_PARTITIONS = ("val", "test")
LEVELS = ("slices", "studies", "patients")
UNITS = {"slices": "slice", "studies": "study", "patients": "patient"}
Rule = Literal["highest", "mean-of-3"]
LabelLevel = Literal["slice", "series", "study", "patient", "scan"]

# What has one set of labels -> the levels that it lets be scored: a study's label says nothing of
# one slice of it, and a patient's nothing of one study.
LEVELS_OF: dict[LabelLevel, tuple[str, ...]] = {
    "slice": ("patients", "studies", "slices"),
    "series": ("patients", "studies"),
    "study": ("patients", "studies"),
    "scan": ("patients", "studies"),
    "patient": ("patients",),
}

# One score of many slices, in words.
SCORE_RULES: dict[str, str] = {
    "highest": "the highest probability over its slices",
    "mean-of-3": "the mean of its three highest slice probabilities",
}
_KEYS = ("slice", "patient", "study", "partition")


def check_predictions(predictions: pl.DataFrame) -> None:
    """Refuse a table that lacks a column or a partition, or holds what is no probability.

    NaN is let through: a label with NaN is reported as not estimable.

    Raises
    ------
    HemtraceError
        Naming what is missing, or the first slice whose value is out of range.
    """
    missing = [
        name for name in (*_KEYS, *PROBABILITIES, *LABELS) if name not in predictions.columns
    ]
    if missing:
        raise HemtraceError(f"The predictions lack the columns {', '.join(missing)}; train again.")
    for name in SCORED_PARTITIONS:
        if predictions.filter(pl.col("partition") == name).is_empty():
            raise HemtraceError(f"The predictions hold no slice of the partition {name!r}.")
    probability = predictions.select(PROBABILITIES).to_numpy().astype(np.float64)
    wrong = ((probability < 0) | (probability > 1)).any(axis=1)
    if wrong.any():
        first = predictions["slice"][int(np.argmax(wrong))]
        raise HemtraceError(
            f"{int(wrong.sum())} slices have a probability outside 0..1, first {first}; "
            "data/predictions.parquet is damaged: delete it and run again."
        )


@dataclass(frozen=True)
class Scored:
    """Truth and prediction of a partition at one level, a row a slice, study or patient.

    Attributes
    ----------
    partition
        `val` or `test`.
    level
        One of `LEVELS`.
    keys
        str (N,): slice, study or patient, ascending.
    patients, studies
        str (N,): whose row it is. `studies` is empty at the level of patients.
    truth
        bool (N, 6), in the order of `labels.LABELS`.
    probability
        float64 (N, 6); may hold NaN.
    """

    partition: str
    level: str
    keys: np.ndarray
    patients: np.ndarray
    studies: np.ndarray
    truth: np.ndarray
    probability: np.ndarray

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.keys)

    def at_level(self, level: str, rule: Rule = "highest") -> "Scored":
        """Make one row of each study or patient from the rows of its slices.

        A label is true where a slice bears it; its probability follows the rule. NaN in a slice
        makes the whole NaN.

        Parameters
        ----------
        level
            One of `LEVELS`.
        rule
            `highest`, or `mean-of-3`: the mean of the three highest, which a single odd slice
            moves less. A study of fewer slices takes the mean of those.
        """
        if level == "slices":
            return self
        groups = self.patients if level == "patients" else self.studies
        names, first, member = np.unique(groups, return_index=True, return_inverse=True)
        truth = np.zeros((len(names), len(LABELS)), dtype=bool)
        np.logical_or.at(truth, member, self.truth)
        columns = [_score_groups(column, member, rule) for column in self.probability.T]
        of_study = level == "studies"
        return Scored(
            partition=self.partition,
            level=level,
            keys=names,
            patients=self.patients[first] if of_study else names,
            studies=names if of_study else names[:0],
            truth=truth,
            probability=np.column_stack(columns),
        )

    def by_patient(self) -> "Scored":
        """Keep the highest truth and probability over each patient's slices."""
        return self.at_level("patients")


def _score_groups(values: np.ndarray, member: np.ndarray, rule: Rule) -> np.ndarray:
    """Score each group: (groups,). NaN sorts last, so that it stands among the highest."""
    order = np.lexsort((values, member))[::-1]
    sizes = np.bincount(member)
    rank = np.empty(len(values), dtype=np.intp)
    # The groups stand in descending order, each from its highest value on.
    rank[order] = np.arange(len(values)) - np.repeat(
        np.r_[0, np.cumsum(sizes[::-1])[:-1]], sizes[::-1]
    )
    kept = rank < (1 if rule == "highest" else 3)
    sums = np.bincount(member[kept], values[kept], minlength=len(sizes))
    return sums / np.bincount(member[kept], minlength=len(sizes))


def scored_partition(predictions: pl.DataFrame, partition: str) -> Scored:
    """Take the slices of `val` or `test`, in order of their keys."""
    table = predictions.filter(pl.col("partition") == partition).sort("slice")
    return Scored(
        partition=partition,
        level="slices",
        keys=table["slice"].to_numpy(),
        patients=table["patient"].to_numpy(),
        studies=table["study"].to_numpy(),
        truth=table.select(LABELS).to_numpy().astype(bool),
        probability=table.select(PROBABILITIES).to_numpy().astype(np.float64),
    )
