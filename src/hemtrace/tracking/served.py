"""What `mlflow.pyfunc` calls: DICOM files in a table -> a table of probabilities."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemtrace.labels import LABELS

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]


class ServedModel:
    """A model of hemtrace with the face that MLflow wants.

    Parameters
    ----------
    path
        A model file of the train stage.
    """

    def __init__(self, path: Path) -> None:
        from hemtrace.model import load_model

        self.net, self.spec = load_model(path)

    def predict(self, model_input: "pd.DataFrame", params: dict[str, Any] | None = None) -> Any:
        """Predict slices as `hemtrace predict` does.

        A model that sees the neighbours of a slice must be given all slices of a series at once.

        Parameters
        ----------
        model_input
            Columns dicom (the bytes of a file) and, if wanted, name.
        params
            Unused.

        Returns
        -------
        A pandas table, a row a picture in the order of the input: name (the place of the row where
        none was given), frame (1 for a file of one picture), a probability a label, and reason,
        which says why a picture has none.
        """
        import polars as pl

        from hemtrace.predict import predict_contents

        contents = [bytes(content) for content in model_input["dicom"]]
        names = [str(place) for place in range(len(contents))]
        if "name" in model_input:
            given = model_input["name"].tolist()
            names = [n if isinstance(n, str) else p for n, p in zip(given, names, strict=True)]
        # Names may stand twice, places do not.
        places = [f"{place:09d}" for place in range(len(contents))]
        table = predict_contents(dict(zip(places, contents, strict=True)), self.net, self.spec)
        return (
            table.with_columns(pl.col("frame").fill_null(1).cast(pl.Int64))
            .sort("file", "frame")
            .with_columns(pl.col("file").replace_strict(places, names, return_dtype=pl.String))
            .select(pl.col("file").alias("name"), "frame", *LABELS, "reason")
            .to_pandas()
        )


def _load_pyfunc(path: str) -> ServedModel:
    """Load a model for MLflow, which has put the code beside it into the path of this process."""
    # The process that decodes pictures must find the same code.
    code = str(Path(__file__).parents[2])
    known = os.environ.get("PYTHONPATH")
    if code not in (known or "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [code, known]))
    return ServedModel(Path(path))
