import getpass
import logging
import shutil
import socket
import sqlite3
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from hemtrace.model import ModelSpec
from hemtrace.params import DEFAULT_WINDOWS
from hemtrace.provenance import file_digest
from hemtrace.tracking import EXPERIMENT, Tracker, add_evaluation

SPEC = ModelSpec(
    architecture="test_efficientnet",
    weights="random weights",
    windows=DEFAULT_WINDOWS,
    size=32,
    synthetic=True,
    seed=5,
    train={"epochs": 2, "learning_rate": 0.001, "weights_file": "/home/someone/net.pth"},
    git_commit="0123abc",
    data_digest="4567def",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder in which one training and its evaluation were recorded."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("dvc.lock").write_text("stages: {}")
        Path("model.safetensors").write_bytes(b"weights")
        with Tracker(SPEC) as tracker:
            tracker.log_epoch({"epoch": 1, "train_loss": 0.5, "val_auc": None})
            tracker.log_epoch({"epoch": 2, "train_loss": 0.25, "val_auc": 0.75})
            figure, _ = plt.subplots()
            tracker.finish(Path("model.safetensors"), {"curves": figure})
            plt.close(figure)
        plt.figure().savefig("roc.png")
        metrics = {"auc": {"any": 0.875, "epidural": None}, "note": "synthetic"}
        assert add_evaluation(file_digest(Path("model.safetensors")), metrics, [Path("roc.png")])
    return folder


def read_run(folder: Path):  # type: ignore[no-untyped-def]
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def test_a_training_is_recorded_with_what_it_takes_to_explain_it(project: Path) -> None:
    client, run = read_run(project)
    assert run.info.status == "FINISHED"
    assert run.data.tags["git_commit"] == "0123abc"
    assert run.data.tags["data_digest"] == "4567def"
    assert run.data.tags["synthetic"] == "true"
    assert run.data.tags["dvc_lock"] == file_digest(project / "dvc.lock")
    assert run.data.tags["model_sha256"] == file_digest(project / "model.safetensors")
    assert run.data.params["train.learning_rate"] == "0.001"
    assert run.data.params["windows.0.width_hu"] == "80.0"
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in losses] == [(1, 0.5), (2, 0.25)]
    assert run.data.metrics["val_auc"] == 0.75


def test_the_evaluation_joins_the_run_of_its_model(project: Path) -> None:
    _, run = read_run(project)
    assert run.data.metrics["test_auc.any"] == 0.875
    assert "test_auc.epidural" not in run.data.metrics


def test_model_and_figures_are_kept_beside_the_project(project: Path) -> None:
    _, run = read_run(project)
    kept = project / "mlruns" / run.info.run_id / "artifacts"
    assert (kept / "model" / "model.safetensors").read_bytes() == b"weights"
    assert {path.name for path in (kept / "figures").iterdir()} == {"curves.png", "roc.png"}
    assert run.info.artifact_uri.startswith("./mlruns/")


def test_nothing_tells_of_user_machine_or_folder(project: Path) -> None:
    with sqlite3.connect(project / "mlflow.db") as database:
        text = "\n".join(database.iterdump())
    assert "'hemtrace'" in text
    for private in (str(project), socket.gethostname(), "/home/someone"):
        assert private not in text
    assert f"'{getpass.getuser()}'" not in text


@pytest.fixture
def empty(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database without runs: a copy, since MLflow takes seconds to make one."""
    shutil.copy(project / "mlflow.db", tmp_path / "mlflow.db")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("UPDATE runs SET lifecycle_stage = 'deleted'")
    database.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def test_a_training_that_fails_is_marked(empty: Path) -> None:
    with pytest.raises(ZeroDivisionError), Tracker(SPEC, empty / "no.lock"):
        raise ZeroDivisionError
    _, run = read_run(empty)
    assert run.info.status == "FAILED"
    assert run.data.tags["dvc_lock"] == "none"


@pytest.mark.usefixtures("empty")
def test_a_model_without_a_run_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert add_evaluation("f" * 64, {"auc": 1.0}) is False
    assert "no run that trained the model ffffffffffff" in caplog.text


def test_a_record_that_cannot_be_written_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_MAX_RETRIES", "0")
    with Tracker(SPEC) as tracker:
        tracker.log_epoch({"epoch": 1, "train_loss": 0.5})
        tracker.finish(tmp_path / "none.safetensors")
    assert "MLflow could not record this" in caplog.text
    assert add_evaluation("0" * 64, {}) is False
