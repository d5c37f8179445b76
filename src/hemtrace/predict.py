"""A folder of DICOM files -> six probabilities a slice, by the same path as in ingest."""

from pathlib import Path

import numpy as np
import polars as pl

from hemtrace.inference import predict_probabilities
from hemtrace.ingest import list_files
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, load_model
from hemtrace.shards import make_shard


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
    A table and what the model is. The table's columns: file, slice, z_mm, one probability a label,
    and `reason`, which says of a file without probabilities why it has none. Sorted by series, then
    along the scan, files without probabilities last.

    Raises
    ------
    HemtraceError
        If the folder is missing or empty, or the model file is not one of hemtrace.
    """
    files = list_files(folder, 1)
    net, spec = load_model(model)
    images, rows = make_shard(folder, files["file"].to_list(), spec.windows, spec.size, 0)
    if len(images):
        probabilities = predict_probabilities(net, images)
    else:
        probabilities = np.empty((0, len(LABELS)))
    predicted = pl.DataFrame(probabilities, schema=list(LABELS)).with_columns(
        row=pl.int_range(len(images), dtype=pl.Int32)
    )
    table = (
        rows.join(predicted, on="row", how="left")
        .sort(pl.col("reason").is_not_null(), "series", "z_mm", "file")
        .select("file", "slice", "z_mm", *LABELS, "reason")
    )
    return table, spec
