"""Fit to training slices, fix the threshold on validation patients, count the test studies."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hemtrace.engine import Engine
from hemtrace.engine.passes import run_slices
from hemtrace.familiar.count import count_unlike
from hemtrace.familiar.score import Familiar, fit_shape, score_units
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
    patients = len(np.unique(val.patients))
    if patients < FEWEST:
        return (
            f"{patients} validation patients are too few to tell a usual distance from an "
            f"unusual one; {FEWEST} or more are needed."
        )
    places = _draw_patients(val, chance)
    features = _features(engine, val, places)
    assert features is not None
    try:
        shape = fit_shape(known)
        rows = _rows(val, catalog, places, shape.distance(features))
        scores = score_units(rows, "patient")["distance"].to_numpy()
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
    places = _draw_patients(test, np.random.default_rng(seed))
    answers = run_slices(engine, test, "distances of test", places)
    distances = [familiar.distance(told.features) for told in answers if told.features is not None]
    found = count_unlike(familiar, _rows(test, catalog, places, np.concatenate(distances)))
    drawn, patients = (len(np.unique(names)) for names in (test.patients[places], test.patients))
    if drawn < patients:
        found["drawn"] = {"patients": drawn, "of": patients}
    return found


def _draw(count: int, most: int, chance: np.random.Generator) -> np.ndarray:
    """Draw places by lot, ascending; all where there are not more."""
    return np.sort(chance.permutation(count)[:most])


def _draw_patients(partition: Partition, chance: np.random.Generator) -> np.ndarray:
    """Draw patients by lot, and give the places of all their slices."""
    names, member = np.unique(partition.patients, return_inverse=True)
    return np.flatnonzero(np.isin(member, _draw(len(names), MOST_PATIENTS, chance)))


def _features(engine: Engine, partition: Partition, places: np.ndarray) -> np.ndarray | None:
    """Compute features (n, F) of slices; None where the network has none."""
    parts = []
    for told in run_slices(engine, partition, f"features of {partition.name}", places):
        if told.features is None:
            return None
        parts.append(told.features)
    return np.concatenate(parts)


def _rows(
    partition: Partition, catalog: pl.DataFrame, places: np.ndarray, distances: np.ndarray
) -> pl.DataFrame:
    """Put beside distances whose they are: patient, study, series, any.

    Without identifiers of study and series a patient is one study.
    """
    study = pl.coalesce("study", "series", "patient").alias("study")
    known = catalog.select("slice", "patient", study, "series", "any").unique("slice")
    slices = pl.DataFrame({"slice": np.array(partition.slices)[places], "distance": distances})
    return slices.join(known, on="slice", how="left", maintain_order="left")
