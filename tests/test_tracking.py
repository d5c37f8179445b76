"""tracking: a record that is whole, sent once, and never in the way."""

import contextlib
import getpass
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import small_head, write_slice

from hemtrace.errors import StoppedError
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, create_net, save_model
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams
from hemtrace.predict import predict_folder
from hemtrace.provenance import file_digest
from hemtrace.tracking import Tracker, add_evaluation, send_records
from hemtrace.tracking import send as send_module
from hemtrace.tracking.journal import RECORDS, Journal
from hemtrace.tracking.send import EXPERIMENT

SPEC = ModelSpec(
    network=NetworkParams(architecture="test_efficientnet"),
    weights="random weights",
    windows=DEFAULT_WINDOWS,
    size=32,
    crop="none",
    synthetic=True,
    seed=5,
    train={"epochs": 2, "learning_rate": 0.001, "weights_file": "/home/someone/net.pth"},
    git_commit="0123abc",
    data_digest="4567def",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project folder in which one training and its evaluation were recorded."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("dvc.lock").write_text("stages: {}")
        Path("params.yaml").write_text("ingest:\n  raw: /home/someone/rsna\n")
        save_model(Path("model.safetensors"), create_net(SPEC), SPEC)
        with Tracker(SPEC, "fold0_seed5") as tracker:
            tracker.log_epoch({"epoch": 1, "train_loss": 0.5, "val_auc": None})
            tracker.log_step({"live_loss": 0.3}, 17)
            tracker.log_epoch({"epoch": 2, "train_loss": 0.25, "val_auc": 0.75})
            tracker.finish(Path("model.safetensors"))
        plt.figure().savefig("roc.png")
        metrics = {"auc": {"any": 0.875, "epidural": None}, "note": "synthetic"}
        figure, _ = plt.subplots()
        digest = file_digest(Path("model.safetensors"))
        add_evaluation(digest, metrics, [Path("roc.png")])
        add_evaluation(digest, {}, {"curves": figure})
        plt.close(figure)
    return folder


def client_of(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def read_run(folder):
    client = client_of(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def test_a_training_is_recorded_with_what_it_takes_to_explain_it(project):
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
    (live,) = client.get_metric_history(run.info.run_id, "live_loss")
    assert (live.step, live.value) == (17, 0.3)


def test_the_evaluation_joins_the_run_of_its_model(project):
    _, run = read_run(project)
    assert run.data.metrics["test_auc.any"] == 0.875
    assert "test_auc.epidural" not in run.data.metrics


def test_what_it_was_made_from_model_and_figures_are_kept_beside_the_project(project):
    _, run = read_run(project)
    kept = project / "mlruns" / run.info.run_id / "artifacts"
    (model,) = (kept / "model").rglob("*.safetensors")
    assert file_digest(model) == run.data.tags["model_sha256"]
    assert {path.name for path in (kept / "figures").iterdir()} == {"curves.png", "roc.png"}
    origin = {path.name for path in (kept / "origin").iterdir()}
    assert {"params.yaml", "dvc.lock", "environment.json"} <= origin
    assert run.info.artifact_uri.startswith("./mlruns/")
    assert not list((project / RECORDS).glob("*/events.jsonl"))  # all was sent


def test_nothing_tells_of_user_machine_or_folder(project):
    with sqlite3.connect(project / "mlflow.db") as database:
        text = "\n".join(database.iterdump())
    text += "".join(p.read_text() for p in (project / "mlruns").rglob("*.yaml"))
    text += "".join(p.read_text() for p in (project / "mlruns").rglob("*.json"))
    assert "'hemtrace'" in text
    for private in (str(project), socket.gethostname(), "/home/someone"):
        assert private not in text
    assert f"'{getpass.getuser()}'" not in text


def test_the_registered_model_predicts_what_hemtrace_predict_does(project, tmp_path, monkeypatch):
    import mlflow

    for k in range(3):
        position = [-125.0, -125.0, 5.0 * k]
        write_slice(tmp_path / f"slice {k}.dcm", small_head(k), ImagePositionPatient=position)
    (tmp_path / "notes.txt").write_text("no DICOM")
    table, _ = predict_folder(tmp_path, project / "model.safetensors")
    monkeypatch.chdir(project)
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    (version,) = client_of(f"sqlite:///{project}/mlflow.db").search_model_versions(
        "name = 'hemtrace'"
    )
    assert version.tags["synthetic"] == "true"
    model = mlflow.pyfunc.load_model(f"models:/hemtrace/{version.version}")
    files = [path for path in sorted(tmp_path.iterdir()) if path.is_file()]
    given = pd.DataFrame(
        {"dicom": [p.read_bytes() for p in files], "name": [p.name for p in files]}
    )
    found = model.predict(given)
    assert found["name"].tolist() == table["file"].to_list()
    np.testing.assert_array_equal(
        found[list(LABELS)].to_numpy(dtype=float), table.select(LABELS).to_numpy()
    )
    assert found["reason"].tolist()[-1] == "not-dicom"
    assert [field.name for field in model.metadata.signature.inputs] == ["dicom", "name"]


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_a_training_that_fails_is_marked(empty):
    with pytest.raises(ZeroDivisionError), Tracker(SPEC, "run"):
        raise ZeroDivisionError
    _, run = read_run(empty)
    assert run.info.status == "FAILED"
    assert run.data.tags["dvc_lock"] == "none"


def test_a_training_that_goes_on_continues_its_run(empty):
    tracker = Tracker(SPEC, "run")
    tracker.log_epoch({"epoch": 1, "train_loss": 0.5})
    with pytest.raises(StoppedError), tracker:
        raise StoppedError
    assert read_run(empty)[1].info.status == "KILLED"
    with Tracker(SPEC, "run", resume=tracker.run_id) as again:
        again.log_epoch({"epoch": 2, "train_loss": 0.25})
        save_model(Path("model.safetensors"), create_net(SPEC), SPEC)
        again.finish(Path("model.safetensors"))
    client, run = read_run(empty)
    assert run.info.status == "FINISHED"
    assert run.data.tags["resumed"] == "1"
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    assert [metric.value for metric in losses] == [0.5, 0.25]


def test_a_model_without_a_run_is_said(empty, capsys):
    add_evaluation("f" * 64, {"auc": 1.0})
    assert "no run trained the model ffffffffffff" in capsys.readouterr().err


def test_a_kill_between_sending_and_noting_it_sends_nothing_twice(empty, monkeypatch):
    journal = Journal(empty / RECORDS / "a record")
    journal.append("start", name="n", tags={}, params={"a": 1})
    for step in range(5):
        journal.append("metrics", values={"loss": 1 / (step + 1)}, step=step)
    journal.append("end", status="FINISHED")
    write, left = send_module.write_progress, [1, 3, 2, 100]

    class KilledError(BaseException):
        pass

    def write_some(folder, progress):
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        write(folder, progress)

    monkeypatch.setattr(send_module, "write_progress", write_some)
    while len(left) > 1:
        with pytest.raises(KilledError):
            send_records(empty)
        left.pop(0)
    assert send_records(empty) == []
    client, run = read_run(empty)
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert [metric.step for metric in losses] == [0, 1, 2, 3, 4]
    assert run.info.status == "FINISHED"


def test_processes_that_first_touch_a_database_at_once_all_succeed(empty):
    program = (
        "from hemtrace.tracking.journal import Journal, RECORDS\n"
        "from hemtrace.tracking import send_records\n"
        "from pathlib import Path\nimport sys\n"
        "journal = Journal(Path(RECORDS) / sys.argv[1])\n"
        "journal.append('start', name='n', tags={}, params={})\n"
        "journal.append('end', status='FINISHED')\n"
        "print(send_records())\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(k)], stderr=subprocess.PIPE)
        for k in range(3)
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    client = client_of(f"sqlite:///{empty / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert len(client.search_runs([experiment.experiment_id])) == 3


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture
def servers():
    """Servers that a test starts, ended with it however it ends."""
    started = []
    yield started
    for server in started:
        stop_server(server)


def start_server(folder, port, servers):
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder}/server.db", "--workers", "1"),
        *("--artifacts-destination", str(folder / "store")),
    ]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    servers.append(server)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
            return server
        except OSError:
            assert server.poll() is None
            time.sleep(0.2)
    raise AssertionError("the server did not start")


def stop_server(server):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@pytest.mark.slow
def test_a_server_that_dies_costs_nothing_and_gets_everything_once_it_is_back(
    empty, monkeypatch, servers
):
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    save_model(Path("model.safetensors"), create_net(SPEC), SPEC)
    server = start_server(empty, port, servers)
    with Tracker(SPEC, "run") as tracker:
        tracker.log_epoch({"epoch": 1, "train_loss": 0.5})
        client = client_of(uri)
        for _ in range(150):  # until the first events have arrived
            experiment = client.get_experiment_by_name(EXPERIMENT)
            runs = client.search_runs([experiment.experiment_id]) if experiment else []
            if runs and "train_loss" in runs[0].data.metrics:
                break
            time.sleep(0.2)
        assert runs
        stop_server(server)
        started = time.monotonic()
        tracker.log_epoch({"epoch": 2, "train_loss": 0.25})
        assert time.monotonic() - started < 5  # no waiting for an answer
        tracker.finish(Path("model.safetensors"))
    assert list((empty / RECORDS).glob("*/events.jsonl"))
    assert "MLflow cannot be reached" in "".join(send_records(empty))
    start_server(empty, port, servers)
    assert send_records(empty) == []
    (run,) = client.search_runs([experiment.experiment_id])
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in losses] == [(1, 0.5), (2, 0.25)]
    assert run.info.status == "FINISHED"
    assert client.search_model_versions("name = 'hemtrace'")


def test_a_server_that_never_answers_holds_nothing_up(empty, monkeypatch):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(50)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with Tracker(SPEC, "run") as tracker:
            started = time.monotonic()
            for step in range(100):
                tracker.log_step({"live_loss": 0.5}, step)
            assert time.monotonic() - started < 5  # no waiting for answers
            tracker.finish(Path("nowhere.safetensors"))
        assert "MLflow cannot be reached" in "".join(send_records(empty))
    assert list((empty / RECORDS).glob("*/events.jsonl"))
