"""The predictions of several trainings -> one table."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from hemtrace.evaluate.scored import PROBABILITIES
from hemtrace.labels import ANY, LABELS
from hemtrace.metrics import roc_auc, weighted_log_loss


def combine_predictions(runs: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Average the probabilities of the trainings that predicted a slice.

    A validation slice was predicted by those trainings alone that did not learn from its patient
    (out of fold); a test slice by all.

    Parameters
    ----------
    runs
        Of each training: what `predictions.predict_partitions` gives.

    Returns
    -------
    The same columns, a row a slice.
    """
    if len(runs) == 1:
        return runs[0]
    keys = ["slice", "patient", "study", "series", "depth", "partition"]
    return (
        pl.concat(runs)
        .group_by(keys, maintain_order=True)
        .agg(pl.col(PROBABILITIES).mean(), pl.col(LABELS).first())
        .sort(pl.col("partition") == "test", maintain_order=True)
    )


def score_runs(runs: dict[str, pl.DataFrame], clip: float) -> list[dict[str, object]]:
    """Score each training by itself, to show how they spread.

    Returns
    -------
    A row a training: run, and for `val` and `test` roc_auc of any and weighted_log_loss.
    """
    rows: list[dict[str, object]] = []
    for name, table in runs.items():
        row: dict[str, object] = {"run": name}
        for partition in ("val", "test"):
            part = table.filter(pl.col("partition") == partition)
            truth = part.select(LABELS).to_numpy().astype(bool)
            probability = part.select(PROBABILITIES).to_numpy()
            row[f"{partition}_roc_auc_any"] = _area(truth[:, ANY], probability[:, ANY])
            loss = weighted_log_loss(truth, probability, clip)
            row[f"{partition}_weighted_log_loss"] = loss if np.isfinite(loss) else None
        rows.append(row)
    return rows


def _area(truth: np.ndarray, probability: np.ndarray) -> float | None:
    area = float(roc_auc(truth, probability)[0])
    return area if np.isfinite(area) else None
