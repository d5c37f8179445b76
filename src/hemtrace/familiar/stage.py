"""Fit to training slices, fix the threshold on validation patients, count the test studies."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hemtrace.engine import Engine
from hemtrace.engine.passes import run_slices
from hemtrace.familiar.count import count_unlike
from hemtrace.familiar.score import Familiar, fit_shape, score_series
from hemtrace.familiar.threshold import FEWEST, choose_threshold
from hemtrace.shards import TestSlices, TrainSlices, ValSlices, open_partition
from hemtrace.shards.partition import Partition

# Training slices that are enough: three for each of B4's 1,792 features, and then shrunk.
MOST_SLICES = 6_000
# Validation patients that are enough: of 500 the fifth highest is the limit for 0.99. And test
# patients that are: a share of 500 is known to 0.05 and better.
MOST_PATIENTS = 500

log = logging.getLogger(__name__)


def make_familiar(
    engine: Engine,
    catalog: pl.DataFrame,
    splits: pl.DataFrame,
    shards: Path,
    share: float,
    seed: int,
) -> Familiar | str:
    """Make what knows the features of a model's training slices.

    Parameters
    ----------
    engine
        The model; of an ensemble the features are those of its first network.
    catalog, splits
        Products of ingest and split, the latter as that network was trained.
    shards
        Folder of the shards.
    share
        Of studies like the validation ones that are to pass.
    seed
        Of the lot by which slices and patients are chosen where there are many.

    Returns
    -------
    Or a sentence on why nothing could be measured.

    Raises
    ------
    HemtraceError
        If a shard is missing or damaged, or a partition is empty.
    """
    has_context = engine.spec.has_context
    train = open_partition(TrainSlices, catalog, splits, shards, has_context)
    val = open_partition(ValSlices, catalog, splits, shards, has_context)
    chance = np.random.default_rng(seed)
    known = _features(engine, train, _draw(len(train), MOST_SLICES, chance))
    if known is None:
        return "The network does not pool its last map into features that could be compared."
    names, member = np.unique(val.patients, return_inverse=True)
    if len(names) < FEWEST:
        return (
            f"{len(names)} validation patients are too few to tell a usual distance from an "
            f"unusual one; {FEWEST} or more are needed."
        )
    chosen = _draw(len(names), MOST_PATIENTS, chance)
    places = np.flatnonzero(np.isin(member, chosen))
    features = _features(engine, val, places)
    assert features is not None
    try:
        shape = fit_shape(known)
        distances = shape.distance(features)
        scores = _score_patients(distances, _series_of(val, catalog, places), member[places])
        threshold = choose_threshold(scores, share)
    except ValueError as error:
        return f"The features of this model cannot be compared: {error}."
    return Familiar(
        shape=shape,
        threshold=threshold,
        share=share,
        slices=len(known),
        patients=len(scores),
        highest=float(scores.max()),
        synthetic=engine.spec.synthetic,
    )


def count_unlike_test(
    engine: Engine,
    familiar: Familiar | str,
    catalog: pl.DataFrame,
    splits: pl.DataFrame,
    shards: Path,
    seed: int,
) -> dict[str, Any]:
    """Count the test studies that lie beyond the limit.

    Parameters and what is raised are those of `make_familiar`, whose threshold is fixed by then.

    Returns
    -------
    As `count_unlike`, with `drawn` where not all test patients were looked at: how many were drawn
    by lot, and of how many.
    """
    test = open_partition(TestSlices, catalog, splits, shards, engine.spec.has_context)
    if isinstance(familiar, str):
        return count_unlike(None, pl.DataFrame()) | {"why": familiar.rstrip(".")}
    names, member = np.unique(test.patients, return_inverse=True)
    chosen = _draw(len(names), MOST_PATIENTS, np.random.default_rng(seed))
    places = np.flatnonzero(np.isin(member, chosen))
    answers = run_slices(engine, test, "distances of test", places)
    distances = [familiar.distance(told.features) for told in answers if told.features is not None]
    study = pl.coalesce("study", "series", "patient").alias("study")
    known = catalog.select("slice", study, "series", "any").unique("slice")
    rows = pl.DataFrame(
        {"slice": np.array(test.slices)[places], "distance": np.concatenate(distances)}
    ).join(known, on="slice", how="left", maintain_order="left")
    found = count_unlike(familiar, rows)
    if len(chosen) < len(names):
        found["drawn"] = {"patients": len(chosen), "of": len(names)}
    return found


def _draw(count: int, most: int, chance: np.random.Generator) -> np.ndarray:
    """Draw places by lot, ascending; all where there are not more."""
    return np.sort(chance.permutation(count)[:most])


def _features(engine: Engine, partition: Partition, places: np.ndarray) -> np.ndarray | None:
    """Compute features (n, F) of slices; None where the network has none."""
    parts = []
    for told in run_slices(engine, partition, f"features of {partition.name}", places):
        if told.features is None:
            return None
        parts.append(told.features)
    return np.concatenate(parts)


def _series_of(partition: Partition, catalog: pl.DataFrame, places: np.ndarray) -> np.ndarray:
    """Name the series of each slice; those without one are of one series."""
    names = pl.DataFrame({"slice": np.array(partition.slices)[places]})
    table = catalog.select("slice", "series").unique("slice")
    joined = names.join(table, on="slice", how="left", maintain_order="left")
    return joined["series"].fill_null("").to_numpy()


def _score_patients(
    distances: np.ndarray, series: Sequence[str] | np.ndarray, patients: np.ndarray
) -> np.ndarray:
    """Score each patient as prediction scores a series; of several series by the highest."""
    table = pl.DataFrame({"distance": distances, "series": series, "patient": patients})
    scores = [
        (key[0], score_series(part["distance"].to_numpy()))
        for key, part in table.group_by("patient", "series", maintain_order=True)
    ]
    of_patient = pl.DataFrame(scores, schema=["patient", "score"], orient="row")
    return (
        of_patient.group_by("patient", maintain_order=True).agg(pl.max("score"))["score"].to_numpy()
    )
