"""From the journals to MLflow: every event once, in order, whatever happens in between."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hemtrace.tracking.journal import (
    RECORDS,
    Event,
    drop_record,
    is_pending,
    list_records,
    lock_file,
    read_events,
    read_progress,
    write_progress,
)
from hemtrace.tracking.registry import register_model

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "hemtrace"
DATABASE = "mlflow.db"
ARTIFACTS = "./mlruns"
# Names a run by its record, so that it is made once.
RECORD_TAG = "hemtrace.record"
# What MLflow would otherwise fill in itself: the login name, and the script's full path.
ANONYMOUS = {
    "mlflow.user": "hemtrace",
    "mlflow.source.name": "hemtrace",
    "mlflow.source.type": "LOCAL",
}
_LONGEST_PARAM = 6000


class _DownError(Exception):
    """The server cannot be reached: try again later."""


def send_records(root: Path = Path()) -> list[str]:
    """Send what the journals of a project hold and MLflow has not.

    MLflow is the database in the project's folder, or the server of MLFLOW_TRACKING_URI. A server
    that does not answer within seconds leaves the rest for the next time.

    Returns
    -------
    A sentence for each thing that a user should know.
    """
    if not any(map(is_pending, list_records(root))):
        return []
    told: list[str] = []
    # One process sends at a time: what it has sent is not sent by another.
    with contextlib.chdir(root), lock_file(RECORDS / "lock", wait=True):
        waiting = [folder for folder in list_records(Path()) if is_pending(folder)]
        try:
            if waiting:
                client = connect()
                for folder in waiting:
                    told += _send_record(client, folder)
        except _DownError as error:
            left = sum(map(is_pending, waiting))
            told.append(
                f"MLflow cannot be reached ({error}); {left} records wait in {RECORDS} and are "
                "sent with the next training, or by `hemtrace send-records`."
            )
    return told


def _send_record(client: "MlflowClient", folder: Path) -> list[str]:
    """Send the events of one record; remove it when its end has been sent."""
    told = []
    progress = read_progress(folder) or {"bytes": 0, "run": None}
    for event, end in read_events(folder, progress["bytes"]):
        try:
            with _told_apart():
                progress["run"] = _send_event(client, folder, event, progress["run"])
        except _DownError:
            raise
        except Exception as error:  # one event that MLflow refuses must not hold up the others
            told.append(
                f"MLflow did not take a part of {folder.name} ({event['kind']}: "
                f"{type(error).__name__}: {_first_line(error)})."
            )
        progress["bytes"] = end
        write_progress(folder, progress)
        if event["kind"] == "end" and event["status"] != "KILLED" and not is_pending(folder):
            drop_record(folder)
    return told


def _send_event(client: "MlflowClient", folder: Path, event: Event, run: str | None) -> str | None:
    """Send an event; the MLflow run that the next ones belong to."""
    from mlflow.entities import Metric, Param

    kind = event["kind"]
    if kind == "start":
        return _find_or_create(client, folder.name, event)
    if kind == "join":
        return _find_by_model(client, event["model_sha256"])
    if run is None:
        raise ValueError("it belongs to no run")
    if kind == "resume":
        client.update_run(run, status="RUNNING")
        times = int(client.get_run(run).data.tags.get("resumed", 0))
        client.set_tag(run, "resumed", str(times + 1))
    elif kind == "metrics":
        values = event["values"].items()
        metrics = [Metric(name, value, event["time"], event["step"]) for name, value in values]
        client.log_batch(run, metrics=metrics)
    elif kind == "params":
        client.log_batch(run, params=[Param(*pair) for pair in event["params"].items()])
    elif kind == "tags":
        for name, value in event["tags"].items():
            client.set_tag(run, name, value)
    elif kind == "artifact":
        client.log_artifact(run, str(folder / event["file"]), event["place"])
    elif kind == "model":
        register_model(client, run, folder / event["file"])
    elif kind == "end" and event["status"] is not None:
        client.set_terminated(run, event["status"], end_time=event["time"])
    return run


def _find_or_create(client: "MlflowClient", record: str, event: Event) -> str:
    from mlflow.entities import Param

    experiment = _experiment(client)
    found = client.search_runs([experiment], f"tags.`{RECORD_TAG}` = '{record}'")
    if found:
        return str(found[0].info.run_id)
    tags = ANONYMOUS | event["tags"] | {RECORD_TAG: record}
    run = client.create_run(experiment, event["time"], tags, run_name=event["name"]).info.run_id
    params = [Param(name, str(v)[:_LONGEST_PARAM]) for name, v in event["params"].items()]
    client.log_batch(run, params=params)
    return str(run)


def _find_by_model(client: "MlflowClient", digest: str) -> str:
    runs = client.search_runs([_experiment(client)], f"tags.model_sha256 = '{digest}'")
    if not runs:
        raise LookupError(
            f"no run trained the model {digest[:12]}...: its figures are in the report alone"
        )
    return str(runs[0].info.run_id)


def connect() -> "MlflowClient":
    """Connect to MLflow, without statistics sent anywhere, and without long waits."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    # Absolute, since MLflow keeps what it opened by this name, whatever the folder is then.
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd() / DATABASE}")
    # Of several processes that first touch a new database all but one would fail.
    first = lock_file(Path(f"{DATABASE}.lock"), wait=True) if uri.startswith("sqlite") else None
    with first or contextlib.nullcontext(), _told_apart():
        client = MlflowClient(tracking_uri=uri)
        _experiment(client)
    return client


def _experiment(client: "MlflowClient") -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    if "MLFLOW_TRACKING_URI" in os.environ:
        return str(client.create_experiment(EXPERIMENT))
    made = str(client.create_experiment(EXPERIMENT, artifact_location=ARTIFACTS))
    # MLflow makes the location absolute: that would record the user's home, and lose the artifacts
    # of a project that is moved.
    with contextlib.closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute(
            "UPDATE experiments SET artifact_location = replace(artifact_location, ?, '.')",
            (str(Path.cwd()),),
        )
    return made


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    """Tell a server that is down, or a database that is locked, from an event that is refused."""
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        down = ("failed with exception", "OperationalError", "ConnectionError", "Timeout", " 5")
        is_server = "API request" in text and any(word in text for word in down)
        if is_server or any(word in text for word in down[1:4]):
            raise _DownError(_first_line(error)) from None
        raise


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200]
