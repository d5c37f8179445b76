"""A network and the partitions it may be judged on -> the table of predictions."""

from pathlib import Path

import polars as pl

from hemtrace.evaluate.position import slice_depths
from hemtrace.evaluate.scored import PROBABILITIES
from hemtrace.inference import predict_probabilities
from hemtrace.labels import LABELS
from hemtrace.model import Ensemble, ModelSpec, Net
from hemtrace.shards import TestSlices, ValSlices, open_partition


def predict_partitions(
    net: Net | Ensemble,
    spec: ModelSpec,
    catalog: pl.DataFrame,
    splits: pl.DataFrame,
    shards: Path,
) -> pl.DataFrame:
    """Predict the slices of the validation and test patients.

    Parameters
    ----------
    net, spec
        As loaded.
    catalog, splits
        Products of ingest and split, the latter for the network's fold.
    shards
        Folder of the shards.

    Returns
    -------
    slice, patient, study, series, depth (as `position.slice_depths` says), partition (`val`,
    `test`), `p_<label>`, `<label>`: a row a slice.
    """
    depths = slice_depths(catalog)
    tables = []
    for kind in (ValSlices, TestSlices):
        partition = open_partition(kind, catalog, splits, shards, spec.has_context)
        probabilities = predict_probabilities(net, partition, label=kind.name)
        tables.append(
            pl.DataFrame({"slice": partition.slices})
            .join(depths, on="slice", how="left", maintain_order="left")
            .with_columns(partition=pl.lit(kind.name))
            .hstack(pl.DataFrame(probabilities, schema=list(PROBABILITIES)))
            .hstack(pl.DataFrame(partition.labels, schema=list(LABELS)))
        )
    return pl.concat(tables)
