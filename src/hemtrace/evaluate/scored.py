"""The slices of a partition: what is true and what is predicted."""

import numpy as np
import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS

PROBABILITIES: tuple[str, ...] = tuple(f"p_{label}" for label in LABELS)
SCORED_PARTITIONS = ("val", "test")


def check_predictions(predictions: pl.DataFrame) -> None:
    """Refuse a table that lacks a column or a partition, or holds what is no probability."""
    wanted = ("slice", "patient", "partition", *PROBABILITIES, *LABELS)
    missing = [name for name in wanted if name not in predictions.columns]
    if missing:
        raise HemtraceError(f"The predictions lack the columns {', '.join(missing)}; train again.")
    for name in SCORED_PARTITIONS:
        if predictions.filter(pl.col("partition") == name).is_empty():
            raise HemtraceError(f"The predictions hold no slice of the partition {name!r}.")
    probability = predictions.select(PROBABILITIES).to_numpy()
    # Written so that NaN, which compares false, is refused too.
    wrong = ~((probability >= 0) & (probability <= 1)).all(axis=1)
    if wrong.any():
        first = predictions["slice"][int(np.argmax(wrong))]
        raise HemtraceError(
            f"{int(wrong.sum())} slices have a probability outside 0..1, first {first}; "
            "the training has probably diverged: lower train.learning_rate."
        )


class Scored:
    """The slices of a partition, in order of their keys.

    Attributes
    ----------
    truth, probability
        (N, 6).
    patients
        (N,).
    """

    def __init__(self, table: pl.DataFrame) -> None:
        table = table.sort("slice")
        self.truth = table.select(LABELS).to_numpy().astype(bool)
        self.probability = table.select(PROBABILITIES).to_numpy().astype(np.float64)
        self.patients = table["patient"].to_numpy()

    def by_patient(self) -> "Scored":
        """Keep the highest truth and probability over each patient's slices: one row a patient."""
        names, member = np.unique(self.patients, return_inverse=True)
        patient = object.__new__(Scored)
        patient.truth = np.zeros((len(names), len(LABELS)), dtype=bool)
        patient.probability = np.zeros((len(names), len(LABELS)))
        np.logical_or.at(patient.truth, member, self.truth)
        np.maximum.at(patient.probability, member, self.probability)
        patient.patients = names
        return patient


def scored_partition(predictions: pl.DataFrame, partition: str) -> Scored:
    """Take the slices of `val` or `test`."""
    return Scored(predictions.filter(pl.col("partition") == partition))
