"""The record of each training in MLflow: the only module that imports it.

A record that cannot be written never costs a finished training: it ends in a warning. No name of a
user or a machine, no path and nothing of a patient goes into it.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from hemtrace.model import ModelSpec
from hemtrace.provenance import file_digest

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

EXPERIMENT = "hemtrace"
DATABASE = Path("mlflow.db")
ARTIFACTS = "./mlruns"
# What MLflow would otherwise fill in itself: the login name, and the script's full path.
ANONYMOUS = {
    "mlflow.user": "hemtrace",
    "mlflow.source.name": "hemtrace",
    "mlflow.source.type": "LOCAL",
}

P = ParamSpec("P")
T = TypeVar("T")


def _go_on_without(act: Callable[P, T]) -> Callable[P, T | None]:
    @wraps(act)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return act(*args, **kwargs)
        except Exception as error:
            # MLflow raises what its database, its server or the disk raise; none of it may stop us.
            log.warning(
                "MLflow could not record this (%s: %s); everything else goes on without it.",
                type(error).__name__,
                str(error).split("\n")[0],
            )
            return None

    return guarded


class Tracker:
    """The MLflow run of one training; use it in a `with`, so that a failed training is marked.

    Parameters
    ----------
    spec
        Logged as parameters and tags.
    dvc_lock
        Its digest is a tag; "none" where it is missing.
    """

    def __init__(self, spec: ModelSpec, dvc_lock: Path = Path("dvc.lock")) -> None:
        self.run_id: str | None = None
        self._start(spec, dvc_lock)

    @_go_on_without
    def _start(self, spec: ModelSpec, dvc_lock: Path) -> None:
        tags = ANONYMOUS | {
            "git_commit": spec.git_commit,
            "data_digest": spec.data_digest,
            "dvc_lock": file_digest(dvc_lock) if dvc_lock.is_file() else "none",
            "synthetic": str(spec.synthetic).lower(),
        }
        name = f"{spec.architecture} on {'phantom' if spec.synthetic else 'real'} data"
        self._client = _connect()
        run = self._client.create_run(_experiment(self._client), tags=tags, run_name=name)
        self.run_id = run.info.run_id
        shown = spec.model_dump(mode="json", exclude={"git_commit", "data_digest", "synthetic"})
        for key, value in _flatten(shown).items():
            self._client.log_param(self.run_id, key, value)

    @_go_on_without
    def log_epoch(self, row: Mapping[str, float | None]) -> None:
        """Log a row of the history; figures that do not exist are left out."""
        if self.run_id is None:
            return
        step = int(row["epoch"] or 0)
        for name, value in row.items():
            if value is not None and name != "epoch":
                self._client.log_metric(self.run_id, name, value, step=step)

    @_go_on_without
    def finish(self, model: Path, figures: "Sequence[Path] | Mapping[str, Figure]" = ()) -> None:
        """Keep the model file and figures (files, or matplotlib figures by name), and end the run.

        The model's digest becomes the tag by which its evaluation finds the run.
        """
        if self.run_id is None:
            return
        self._client.set_tag(self.run_id, "model_sha256", file_digest(model))
        _keep_figures(self._client, self.run_id, figures)
        self._client.log_artifact(self.run_id, str(model), "model")
        self._client.set_terminated(self.run_id, "FINISHED")
        self.run_id = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Mark a run that was not finished as failed."""
        if self.run_id is not None:
            _go_on_without(self._client.set_terminated)(self.run_id, "FAILED")


def add_evaluation(
    model_sha256: str,
    metrics: Mapping[str, Any],
    figures: "Sequence[Path] | Mapping[str, Figure]" = (),
) -> bool:
    """Log test figures to the run that trained a model.

    Parameters
    ----------
    model_sha256
        Digest of the model file.
    metrics
        Numbers, in a tree of any depth; they get `test_` before their name, what is no number is
        left out.
    figures
        Files, or matplotlib figures by name.

    Returns
    -------
    Whether the run was found and has them; where not, a warning says so.
    """
    return bool(_add_evaluation(model_sha256, metrics, figures))


@_go_on_without
def _add_evaluation(
    model_sha256: str,
    metrics: Mapping[str, Any],
    figures: "Sequence[Path] | Mapping[str, Figure]",
) -> bool:
    client = _connect()
    runs = client.search_runs([_experiment(client)], f"tags.model_sha256 = '{model_sha256}'")
    if not runs:
        log.warning(
            "MLflow has no run that trained the model %s..., so its test figures are in the report "
            "alone.",
            model_sha256[:12],
        )
        return False
    run_id = runs[0].info.run_id
    for name, value in _flatten(metrics).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            client.log_metric(run_id, f"test_{name}", value)
    _keep_figures(client, run_id, figures)
    return True


def _connect() -> "MlflowClient":
    # Its usage statistics go over the network.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Importing mlflow costs 4.8 s, which nobody but a training should wait for.
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{DATABASE}"))


def _experiment(client: "MlflowClient") -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    if "MLFLOW_TRACKING_URI" in os.environ:
        return str(client.create_experiment(EXPERIMENT))
    made = str(client.create_experiment(EXPERIMENT, artifact_location=ARTIFACTS))
    # MLflow makes the location absolute: that would record the user's home, and lose the artifacts
    # of a project that is moved.
    with sqlite3.connect(DATABASE) as database:
        database.execute(
            "UPDATE experiments SET artifact_location = replace(artifact_location, ?, '.')",
            (str(Path.cwd()),),
        )
    database.close()
    return made


def _keep_figures(
    client: "MlflowClient", run_id: str, figures: "Sequence[Path] | Mapping[str, Figure]"
) -> None:
    if isinstance(figures, Mapping):
        for name, figure in figures.items():
            client.log_figure(run_id, figure, f"figures/{name}.png")
    else:
        for path in figures:
            client.log_artifact(run_id, str(path), "figures")


def _flatten(tree: object, name: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping):
        branches: list[tuple[object, object]] = list(tree.items())
    elif isinstance(tree, list | tuple) and tree and isinstance(tree[0], Mapping):
        branches = list(enumerate(tree))
    else:
        is_path = isinstance(tree, str) and Path(tree).is_absolute()
        return {name: Path(str(tree)).name if is_path else tree}
    leaves: dict[str, Any] = {}
    for key, branch in branches:
        leaves |= _flatten(branch, f"{name}.{key}" if name else str(key))
    return leaves
