"""How far the volumes of regions lie from the true ones."""

from typing import Any

import numpy as np
import polars as pl

from hemtrace.labels import LABELS
from hemtrace.metrics import Resamples, estimate, estimate_share, resample_patients


def summarise_volumes(volumes: pl.DataFrame, replicates: int, seed: int) -> dict[str, Any]:
    """Compare volumes with true ones, per label.

    Parameters
    ----------
    volumes
        Of `survey.VOLUME_SCHEMA`.
    replicates, seed
        Of the patient bootstrap.

    Returns
    -------
    By label: `all` series and those `with_bleed` of the label. In each n, patients, unknown (series
    whose spacing or positions are not known), and estimates: absolute_error_ml, bias_ml (predicted
    less true), true_ml (which is the absolute error of a system that always says 0), predicted_ml,
    correlation (Pearson).
    """
    found = {}
    for label in LABELS:
        table = volumes.filter(pl.col("label") == label)
        bleeding = table.filter(pl.col("true_volume_ml") > 0)
        found[label] = {
            "all": _compare(table, replicates, seed),
            "with_bleed": _compare(bleeding, replicates, seed),
        }
    return found


def _compare(table: pl.DataFrame, replicates: int, seed: int) -> dict[str, Any]:
    known = table.drop_nulls(["volume_ml", "true_volume_ml"])
    truth = known["true_volume_ml"].to_numpy()
    predicted = known["volume_ml"].to_numpy()
    resamples = resample_patients(known["patient"].to_numpy(), replicates, seed)
    every = np.ones(len(truth))
    figures = {
        "absolute_error_ml": np.abs(predicted - truth),
        "bias_ml": predicted - truth,
        "true_ml": truth,
        "predicted_ml": predicted,
    }
    return {
        "n": known.height,
        "patients": resamples.patients,
        "unknown": table.height - known.height,
        **{
            name: estimate_share(values, every, resamples, "no series").as_dict()
            for name, values in figures.items()
        },
        "correlation": correlate(truth, predicted, resamples),
    }


def correlate(first: np.ndarray, second: np.ndarray, resamples: Resamples) -> dict[str, Any]:
    """Give Pearson's correlation with its interval, as plain JSON values."""
    powers = np.column_stack(
        [np.ones(len(first)), first, second, first**2, second**2, first * second]
    )
    values = _pearson(powers.sum(axis=0, keepdims=True))
    replicates = _pearson(resamples.totals(powers))
    why = "fewer than two series" if len(first) < 2 else "all volumes are equal"
    lack = "have volumes that are all equal"
    found = estimate(float(values[0]), replicates, why, lack=lack, patients=resamples.patients)
    return found.as_dict()


def _pearson(sums: np.ndarray) -> np.ndarray:
    count, first, second, first_2, second_2, both = sums.T
    covariance = count * both - first * second
    spread = (count * first_2 - first**2) * (count * second_2 - second**2)
    # Rounding leaves a little where all values are equal.
    known = spread > 1e-12 * np.maximum(count * first_2, 1) * np.maximum(count * second_2, 1)
    undefined = np.full(len(sums), np.nan)
    return np.divide(covariance, np.sqrt(np.abs(spread)), out=undefined, where=known)
