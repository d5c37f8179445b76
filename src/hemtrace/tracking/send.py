"""From the journals to MLflow: every event once, in order, whatever happens in between."""

import contextlib
import hashlib
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemtrace.errors import HemtraceError
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
from hemtrace.tracking.registry import mark_reported, register_model

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
_MOST_PARAMS = 100  # of a request
_MOST_SECONDS_TO_WAIT = 30.0  # for another process that is sending
# What MLflow will not take at any other time either. Whatever else goes wrong may pass: a password
# that has run out, a limit of requests, a full disk.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST")
# After these a record gets no more events; a training that failed or was stopped may go on.
_LAST_ENDS = ("FINISHED", None)


class DownError(HemtraceError):
    """MLflow cannot be reached, or not now: try again later."""


class UnknownModelError(LookupError):
    """No run of this MLflow trained the model: it came by `dvc pull`, say, or as a copy."""


def send_records(root: Path = Path()) -> list[str]:
    """Send what the journals of a project hold and MLflow has not.

    MLflow is the database in the project's folder, or the server of MLFLOW_TRACKING_URI. A server
    that does not answer within seconds leaves the rest for the next time.

    Returns
    -------
    A sentence for each thing that a user should know.
    """
    if not list_records(root):
        return []
    told: list[str] = []
    # One process sends at a time: what it has sent is not sent by another.
    with (
        contextlib.chdir(root),
        lock_file(RECORDS / "lock", seconds=_MOST_SECONDS_TO_WAIT) as is_alone,
    ):
        if not is_alone:
            return [f"Another process is sending the records in {RECORDS}; it may take a while."]
        for folder in list_records(Path()):
            _drop_if_over(folder)  # where a kill came in between
        waiting = [folder for folder in list_records(Path()) if is_pending(folder)]
        try:
            if waiting:
                client = connect()
                for folder in waiting:
                    told += _send_record(client, folder)
        except DownError as error:
            left = sum(map(is_pending, waiting))
            told.append(
                f"{str(error).removesuffix('.')}; {left} records wait in {RECORDS} and are "
                "sent with the next training, or by `hemtrace send-records`."
            )
    return told


def _send_record(client: "MlflowClient", folder: Path) -> list[str]:
    """Send the events of one record; remove it when its end has been sent."""
    told = []
    progress = _find_place(client, folder)
    for event, end in read_events(folder, progress["bytes"]):
        try:
            if not progress.get("is_unknown"):
                with told_apart():
                    progress["run"] = _send_event(client, folder, event, progress["run"])
        except DownError:
            raise
        except UnknownModelError as error:
            # Said once: what follows in this record has no run to go to either.
            progress["is_unknown"] = True
            told.append(str(error))
        except Exception as error:  # one event that MLflow refuses must not hold up the others
            told.append(
                f"MLflow did not take a part of {folder.name} ({event['kind']}: "
                f"{type(error).__name__}: {_first_line(error)})."
            )
        progress["bytes"] = end
        progress["is_over"] = event["kind"] == "end" and event["status"] in _LAST_ENDS
        write_progress(folder, progress)
    _drop_if_over(folder)
    return told


def _drop_if_over(folder: Path) -> None:
    if read_progress(folder).get("is_over") and not is_pending(folder):
        drop_record(folder)


def _find_place(client: "MlflowClient", folder: Path) -> dict[str, Any]:
    """Tell how far a record was sent; from its start where this MLflow does not have its run."""
    from mlflow.exceptions import MlflowException

    # Tells one MLflow from another; the address itself may hold a password.
    server = hashlib.sha256(_tracking_uri().encode()).hexdigest()[:16]
    start = {"bytes": 0, "run": None, "server": server}
    progress = read_progress(folder)
    if progress.get("server") != server:
        return start
    with told_apart():
        try:
            if progress["run"] is not None:
                client.get_run(progress["run"])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return start
            raise
    return progress


def _send_event(client: "MlflowClient", folder: Path, event: Event, run: str | None) -> str | None:
    """Send an event; the MLflow run that the next ones belong to."""
    from mlflow.entities import Metric

    kind = event["kind"]
    if kind == "start":
        return _find_or_create(client, folder.name, event)
    if kind == "join":
        run = _find_by_model(client, event["model_sha256"])
        mark_reported(client, run)
        return run
    if run is None:
        raise ValueError("it belongs to no run")
    if kind == "resume":
        client.update_run(run, status="RUNNING")
        client.set_tag(run, "resumed", str(event["times"]))
    elif kind == "metrics":
        values = event["values"].items()
        metrics = [Metric(name, value, event["time"], event["step"]) for name, value in values]
        client.log_batch(run, metrics=metrics)
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
        run = found[0]
    else:
        tags = ANONYMOUS | event["tags"] | {RECORD_TAG: record}
        run = client.create_run(experiment, event["time"], tags, run_name=event["name"])
    # A run that was found may lack some: a kill came in between.
    params = [
        Param(name, str(value)[:_LONGEST_PARAM])
        for name, value in event["params"].items()
        if name not in run.data.params
    ]
    for start in range(0, len(params), _MOST_PARAMS):
        client.log_batch(run.info.run_id, params=params[start : start + _MOST_PARAMS])
    return str(run.info.run_id)


def _find_by_model(client: "MlflowClient", digest: str) -> str:
    runs = client.search_runs([_experiment(client)], f"tags.model_sha256 = '{digest}'")
    if not runs:
        raise UnknownModelError(
            f"MLflow does not know the training of the model {digest[:12]}; its figures stand in "
            "reports/ alone."
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

    uri = _tracking_uri()
    # Of several processes that first touch a new database all but one would fail.
    first = lock_file(Path(f"{DATABASE}.lock"), seconds=_MOST_SECONDS_TO_WAIT)
    with first if uri.startswith("sqlite") else contextlib.nullcontext(), told_apart():
        client = MlflowClient(tracking_uri=uri)
        _experiment(client)
    return client


def _tracking_uri() -> str:
    # Absolute, since MLflow keeps what it opened by this name, whatever the folder is then.
    return os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd() / DATABASE}")


def name_store() -> str:
    """Name where records go, without the password that an address may hold."""
    return _first_line(Exception(os.environ.get("MLFLOW_TRACKING_URI", DATABASE)))


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
def told_apart() -> Iterator[None]:
    """Tell what may pass, such as a server that is down, from an event that is refused."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (HemtraceError, FileNotFoundError):  # the latter: an artifact that somebody deleted
        raise
    except MlflowException as error:
        if error.error_code in _REFUSALS:
            raise
        raise DownError(f"MLflow cannot be reached ({_first_line(error)}).") from None
    except Exception as error:
        # Those of requests are OSErrors, even where they are ValueErrors too.
        if isinstance(error, ValueError | LookupError | TypeError) and not isinstance(
            error, OSError
        ):
            raise
        raise DownError(f"MLflow cannot be reached ({_first_line(error)}).") from None


def _first_line(error: BaseException) -> str:
    """Say an error in a line, without the password that an address may hold."""
    return re.sub(r"://[^/@\s]*@", "://", (str(error).splitlines() or [""])[0][:200])
