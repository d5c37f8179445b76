"""A folder of DICOM files -> six probabilities a slice, by the same path as in ingest."""

from pathlib import Path

import numpy as np
import polars as pl

from hemtrace.ingest import list_files
from hemtrace.labels import LABELS
from hemtrace.model import load_model
from hemtrace.shards import make_shard


class _Images:
    """Windowed slices in memory, in the form in which inference reads a partition."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self._images[indices]


def predict_folder(folder: Path, model: Path) -> pl.DataFrame:
    """Predict every CT slice below a folder.

    Parameters
    ----------
    folder
        Searched recursively; every file in it ends as a row.
    model
        A model file of the train stage.

    Returns
    -------
    Columns file, slice, z_mm, one probability a label, and `reason`, which says of a file
    without probabilities why it has none. Sorted by series, then along the scan.

    Raises
    ------
    HemtraceError
        If the folder is missing or empty, or the model file is not one of hemtrace.
    """
    from hemtrace.inference import predict_probabilities

    files = list_files(folder, 1)
    net, spec = load_model(model)
    images, rows = make_shard(folder, files["file"].to_list(), spec.windows, spec.size, 0)
    if len(images):
        probabilities = predict_probabilities(net, _Images(images))
    else:
        probabilities = np.empty((0, len(LABELS)))
    predicted = pl.DataFrame(probabilities, schema=list(LABELS)).with_columns(
        row=pl.int_range(len(images), dtype=pl.Int32)
    )
    return (
        rows.join(predicted, on="row", how="left")
        .sort("reason", "series", "z_mm", "file", nulls_last=False)
        .select("file", "slice", "z_mm", *LABELS, "reason")
    )
