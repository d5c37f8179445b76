"""The model as MLflow serves it: the same code as `hemtrace predict`, under `models:/hemtrace`."""

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

NAME = "hemtrace"
PLACE = "model"
# What predicting imports; pinned to what trained.
_PACKAGES = (
    "torch",
    "timm",
    "torchvision",
    "numpy",
    "polars",
    "pydicom",
    "pylibjpeg",
    "safetensors",
)


def register_model(client: "MlflowClient", run: str, model: Path) -> None:
    """Log a model file in MLflow's format, and register it as a version of `hemtrace`; once.

    Parameters
    ----------
    client, run
        Where to.
    model
        A safetensors file of hemtrace.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    from hemtrace.model import load_spec

    if client.search_model_versions(f"name = '{NAME}' and run_id = '{run}'"):
        return
    with tempfile.TemporaryDirectory(prefix="hemtrace-") as name:
        folder = Path(name) / PLACE
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"model": str(model)},
            signature=make_signature(),
            pip_requirements=[f"{package}=={version(package)}" for package in _PACKAGES],
        )
        client.log_artifacts(run, str(folder), PLACE)
    try:
        client.create_registered_model(NAME)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = client.get_run(run).info.artifact_uri + f"/{PLACE}"
    synthetic = str(load_spec(model).synthetic).lower()
    client.create_model_version(NAME, source, run_id=run, tags={"synthetic": synthetic})


def make_signature() -> "ModelSignature":
    """One row a DICOM file in; one row a slice out, six probabilities or a reason."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    from hemtrace.labels import LABELS

    given = [ColSpec("binary", "dicom"), ColSpec("string", "name", required=False)]
    found = [
        ColSpec("string", "name"),
        ColSpec("long", "frame", required=False),
        *(ColSpec("double", label, required=False) for label in LABELS),
        ColSpec("string", "reason", required=False),
    ]
    return ModelSignature(inputs=Schema(given), outputs=Schema(found))
