"""A folder of DICOM files -> six probabilities a slice, by the same path as in ingest."""

from pathlib import Path

import numpy as np
import polars as pl

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.inference import predict_probabilities
from hemtrace.ingest.listing import list_files
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, load_model
from hemtrace.shards import ROW_SCHEMA, make_pictures


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
    files = list_files(folder, 1)["file"].to_list()
    net, spec = load_model(model)
    rows: list[dict[str, object]] = []
    pictures: list[np.ndarray] = []
    with GuardedReader(folder, PUBLIC_SALT) as reader:
        for row, picture in make_pictures(reader.read, files, spec.view, PUBLIC_SALT):
            rows.append(row)
            if picture is not None:
                pictures.append(picture)
    predicted = pl.DataFrame(predict_probabilities(net, pictures), schema=list(LABELS))
    table = (
        pl.DataFrame(rows, schema=ROW_SCHEMA)
        .join(predicted.with_row_index("row").cast({"row": pl.Int32}), on="row", how="left")
        .sort(pl.col("reason").is_not_null(), "series", "z_mm", "file")
        .select("file", "slice", "z_mm", *LABELS, "reason")
    )
    return table, spec
