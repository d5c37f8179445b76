"""A network and the partitions it may be judged on -> the table of predictions."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.position import slice_depths
from hemtrace.evaluate.scored import PROBABILITIES
from hemtrace.inference import predict_probabilities
from hemtrace.labels import LABELS
from hemtrace.model import Ensemble, ModelSpec, Net
from hemtrace.shards import TestSlices, ValSlices, open_partition
from hemtrace.writing import write_table

# The key of the Parquet file's own metadata that says what the slices are, and its values.
_MARK = "synthetic"
_MARKS = {"true": True, "false": False}


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


def write_predictions(table: pl.DataFrame, path: Path, synthetic: bool | None) -> None:
    """Write predictions as Parquet, with a mark that says whether their slices are synthetic.

    Parameters
    ----------
    table
        As `predict_partitions` gives it.
    path
        The file, whole or not at all; the same table and mark give the same bytes.
    synthetic
        None: not known, and no mark is written.

    Raises
    ------
    HemtraceError
        If the disk is full.
    """
    marks = {} if synthetic is None else {_MARK: str(synthetic).lower()}
    write_table(table, path, marks)


def read_synthetic(path: Path) -> bool | None:
    """Read whether predictions are of synthetic slices; None where the file does not say.

    Raises
    ------
    HemtraceError
        If the file is no table of Parquet, or its mark is neither `true` nor `false`.
    """
    try:
        mark = pl.read_parquet_metadata(path).get(_MARK)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise HemtraceError(
            f"{path} is no table of Parquet ({type(error).__name__}); delete it and run again."
        ) from None
    if mark is not None and mark not in _MARKS:
        raise HemtraceError(
            f"{path} is marked {_MARK}={mark!r}, which is neither true nor false; delete it and "
            "run again."
        )
    return None if mark is None else _MARKS[mark]


def join_marks(marks: Iterable[bool | None]) -> bool | None:
    """Say whether predictions that are joined are synthetic: one synthetic part makes the whole so.

    None where no part is synthetic and one does not say.
    """
    told = list(marks)
    return True if True in told else None if None in told else False
