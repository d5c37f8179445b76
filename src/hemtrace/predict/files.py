"""DICOM files -> six probabilities a slice, by the same path as in ingest."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from hemtrace.dicom import PUBLIC_SALT, Rejected, Slice
from hemtrace.dicom.guard import GuardedReader
from hemtrace.inference import predict_probabilities
from hemtrace.ingest.listing import list_files
from hemtrace.ingest.series import place_in_series
from hemtrace.labels import LABELS
from hemtrace.model import Ensemble, ModelSpec, Net, load_model
from hemtrace.shards import ROW_SCHEMA, make_pictures
from hemtrace.shards.context import find_neighbours, read_context


def predict_folder(folder: Path, model: Path) -> tuple[pl.DataFrame, ModelSpec]:
    """Predict every CT slice below a folder.

    Parameters
    ----------
    folder
        Searched recursively; every file in it ends as a row.
    model
        A model file of the train stage.

    Returns
    -------
    What `predict_files` gives, and what the model is.

    Raises
    ------
    HemtraceError
        If the folder is missing or empty, or the model file is not one of hemtrace.
    """
    files = list_files(folder, 1)["file"].to_list()
    net, spec = load_model(model)
    with GuardedReader(folder, PUBLIC_SALT) as reader:
        return predict_files(reader.read, files, net, spec), spec


def predict_contents(
    contents: Mapping[str, bytes], net: Net | Ensemble, spec: ModelSpec
) -> pl.DataFrame:
    """Predict every CT slice of files that are in memory, given by name; as `predict_files`."""
    with GuardedReader(Path(), PUBLIC_SALT) as reader:

        def read(name: str) -> Iterable[Slice | Rejected]:
            return reader.read_content(contents[name])

        return predict_files(read, list(contents), net, spec, quiet=True)


def predict_files(
    read: Callable[[str], Iterable[Slice | Rejected]],
    files: Sequence[str],
    net: Net | Ensemble,
    spec: ModelSpec,
    quiet: bool = False,
) -> pl.DataFrame:
    """Predict every CT slice of some files.

    Parameters
    ----------
    read
        Gives the slices of a file.
    files
        Their names. With slice context a series must be whole to be judged as in training: where a
        neighbour is not among the files, the slice stands in for it.
    net, spec
        As loaded.
    quiet
        Show no progress.

    Returns
    -------
    file, frame (null but in a multi-frame file), slice, z_mm, one probability a label, and
    `reason`, which says of a file without probabilities why it has none. Sorted by series, then
    along the scan, files without probabilities last.
    """
    rows: list[dict[str, object]] = []
    pictures: list[np.ndarray] = []
    for row, picture in make_pictures(read, files, spec.view, PUBLIC_SALT, quiet=quiet):
        rows.append(row)
        if picture is not None:
            pictures.append(picture)
    table = pl.DataFrame(rows, schema=ROW_SCHEMA)
    slices = add_neighbours(table, pictures) if spec.has_context else pictures
    predicted = pl.DataFrame(predict_probabilities(net, slices, quiet=quiet), schema=list(LABELS))
    return (
        table.join(predicted.with_row_index("row").cast({"row": pl.Int32}), on="row", how="left")
        .sort(pl.col("reason").is_not_null(), "series", "z_mm", "file", "frame")
        .select("file", "frame", "slice", "z_mm", *LABELS, "reason")
    )


def add_neighbours(table: pl.DataFrame, pictures: Sequence[np.ndarray]) -> Iterable[np.ndarray]:
    """Put each picture between its neighbours: uint8 (3 windows, size, size), by row."""
    placed = place_in_series(table.with_columns(is_copy=pl.lit(False)))
    ours = placed.filter(pl.col("row").is_not_null()).sort("row")
    places = find_neighbours(placed, ours)
    for place in places:
        yield read_context(lambda _, row: pictures[row], place[None], pictures[0].shape)[0]
