"""The code of the registered model; MLflow runs this file when it loads one."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel


class ServedModel(PythonModel):  # type: ignore[misc,name-defined]
    """Six probabilities for each slice of some DICOM files, by the path of `hemtrace predict`."""

    def load_context(self, context: Any) -> None:
        """Read the model file."""
        from hemtrace.model import load_model

        self.net, self.spec = load_model(Path(context.artifacts["model"]))

    # Without type hints, which MLflow would take for the signature.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Predict files: column `dicom` (bytes), and `name`, by which rows are told apart."""
        from hemtrace.labels import LABELS
        from hemtrace.predict import predict_contents

        contents = model_input["dicom"].tolist()
        names = (
            model_input["name"].astype(str).tolist()
            if "name" in model_input
            else [str(place) for place in range(len(contents))]
        )
        table = predict_contents(dict(zip(names, contents, strict=True)), self.net, self.spec)
        shown = table.rename({"file": "name"}).select("name", "frame", *LABELS, "reason")
        return pd.DataFrame(shown.to_dict(as_series=False))


mlflow.models.set_model(ServedModel())
