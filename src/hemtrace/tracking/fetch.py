"""What MLflow holds of a training, to make it again."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hemtrace.errors import HemtraceError
from hemtrace.tracking.send import RECORD_TAG, connect, send_records, told_apart

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class TrainingRecord:
    """A training, as its record tells of it.

    Attributes
    ----------
    run
        Id in MLflow.
    tags
        git_commit, data_digest, model_sha256, requirements_sha256, target and others.
    files
        What it was made from: `params.yaml`, `code.patch`, `environment.json`, in one folder.
    model
        The model file; None where the record has none.
    metrics
        The last value of each.
    """

    run: str
    tags: dict[str, str]
    files: Path
    model: Path | None
    metrics: dict[str, float]


def fetch_record(run_id: str, into: Path) -> TrainingRecord:
    """Fetch the record of a training.

    Parameters
    ----------
    run_id
        MLflow's, or that of the journal.
    into
        Folder for its files.

    Raises
    ------
    HemtraceError
        If MLflow cannot be reached, has no such run, or it tells nothing of what it was made from.
    """
    send_records()
    client = connect()
    with told_apart():
        run = _find_run(client, run_id)
        return _fetch(client, run, into)


def _find_run(client: "MlflowClient", run_id: str) -> "Run":
    unknown = HemtraceError(
        f"MLflow has no run {run_id!r}; `make ui` shows the runs and their ids."
    )
    if not re.fullmatch("[0-9a-z-]+", run_id):
        raise unknown
    experiments = [one.experiment_id for one in client.search_experiments()]
    for key in ("attributes.run_id", f"tags.`{RECORD_TAG}`"):
        if found := client.search_runs(experiments, f"{key} = '{run_id}'"):
            return found[0]
    raise unknown


def _fetch(client: "MlflowClient", run: "Run", into: Path) -> TrainingRecord:
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    if "origin" not in names:
        raise HemtraceError(
            f"The run {run.info.run_id} tells nothing of what it was made from: it is no training, "
            "or one of an older version of hemtrace."
        )
    into.mkdir(parents=True, exist_ok=True)
    files = Path(client.download_artifacts(run.info.run_id, "origin", str(into)))
    model = None
    if "model" in names:
        folder = Path(client.download_artifacts(run.info.run_id, "model", str(into)))
        model = next(iter(sorted(folder.rglob("*.safetensors"))), None)
    return TrainingRecord(
        run.info.run_id, dict(run.data.tags), files, model, dict(run.data.metrics)
    )
