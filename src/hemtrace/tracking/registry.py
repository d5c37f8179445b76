"""The model as MLflow serves it: the same code as `hemtrace predict`, under `models:/hemtrace`."""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import hemtrace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

NAME = "hemtrace"
PLACE = "model"
# Alias of the version that was evaluated last: `models:/hemtrace@reported`.
REPORTED = "reported"
# Of no use to a prediction, and large.
_LEFT_OUT = ("__pycache__", "atlas.npz")


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
        code = Path(name) / "hemtrace"
        source = Path(hemtrace.__file__).parent
        shutil.copytree(source, code, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an input example, which would be a patient's
            # By a module's name: MLflow would keep the absolute path of a script.
            mlflow.pyfunc.save_model(
                folder,
                loader_module="hemtrace.tracking.served",
                data_path=str(model),
                code_paths=[str(code)],
                signature=make_signature(),
                pip_requirements=read_requirements(Path("requirements.lock"))
                or [f"mlflow=={mlflow.__version__}"],
            )
        client.log_artifacts(run, str(folder), PLACE)
    try:
        client.create_registered_model(NAME)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    info = client.get_run(run).info
    tags = {"synthetic": str(load_spec(model).synthetic).lower(), "training": info.run_name}
    client.create_model_version(NAME, f"{info.artifact_uri}/{PLACE}", run_id=run, tags=tags)


def mark_reported(client: "MlflowClient", run: str) -> None:
    """Let the version that a training registered be the one of which the report tells."""
    for version in client.search_model_versions(f"name = '{NAME}' and run_id = '{run}'"):
        client.set_registered_model_alias(NAME, REPORTED, version.version)


def read_requirements(lock: Path) -> list[str]:
    """Read the packages of a lock file with versions and markers; none where it is missing."""
    if not lock.is_file():
        return []
    lines = (line.rstrip(" \\") for line in lock.read_text().splitlines())
    return [line for line in lines if line and not line[0].isspace() and line[0] not in "#-"]


def make_signature() -> "ModelSignature":
    """One row a DICOM file in; one row a slice out, six probabilities or a reason."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    from hemtrace.labels import LABELS

    given = [ColSpec("binary", "dicom"), ColSpec("string", "name", required=False)]
    found = [
        ColSpec("string", "name"),
        ColSpec("long", "frame"),
        *(ColSpec("double", label, required=False) for label in LABELS),
        ColSpec("string", "reason", required=False),
    ]
    return ModelSignature(inputs=Schema(given), outputs=Schema(found))
