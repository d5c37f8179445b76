"""tracking: a record that is whole, sent once, and never in the way."""

import contextlib
import getpass
import json
import os
import shutil
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
import polars as pl
import pydicom
import pytest
from conftest import small_head, write_slice
from pydicom.uid import RLELossless

from hemtrace.errors import StoppedError
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, create_net, save_model
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams
from hemtrace.predict import predict_folder
from hemtrace.provenance import file_digest
from hemtrace.tracking import Tracker, add_evaluation, send_records
from hemtrace.tracking import send as send_module
from hemtrace.tracking.journal import RECORDS, Journal, list_records
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

LOCK = """\
# made by uv
--index-url https://somewhere.example/simple
torch==2.14.1 \\
    --hash=sha256:00
    # via timm
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:11
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project folder in which one training and its evaluation were recorded."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("dvc.lock").write_text("stages: {}")
        Path("params.yaml").write_text("ingest:\n  raw: /home/someone/rsna\n")
        Path("requirements.lock").write_text(LOCK)
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


def test_the_version_that_the_report_tells_of_has_an_alias(project):
    client, run = read_run(project)
    version = client.get_model_version_by_alias("hemtrace", "reported")
    assert version.run_id == run.info.run_id
    assert version.tags["training"] == run.info.run_name


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
    text += "".join(p.read_text() for p in (project / "mlruns").rglob("MLmodel"))
    assert "'hemtrace'" in text
    code = str(Path(send_module.__file__).parents[1])
    for private in (str(project), code, socket.gethostname(), "/home/someone"):
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
    table = table.sort("file")  # a served model answers in the order of what it was given
    assert found["name"].tolist() == table["file"].to_list()
    np.testing.assert_array_equal(
        found[list(LABELS)].to_numpy(dtype=float), table.select(LABELS).to_numpy()
    )
    assert found["reason"].fillna("").tolist() == ["not-dicom", "", "", ""]
    assert [field.name for field in model.metadata.signature.inputs] == ["dicom", "name"]


def test_the_registered_model_needs_what_the_lock_names_and_nothing_else(project):
    _, run = read_run(project)
    model = project / "mlruns" / run.info.run_id / "artifacts/model"
    required = set((model / "requirements.txt").read_text().splitlines())
    assert "torch==2.14.1" in required
    assert 'colorama==0.4.6; sys_platform == "win32"' in required
    assert {line.split("==")[0] for line in required} == {"torch", "colorama", "mlflow"}
    assert not any("http" in path.read_text() for path in model.glob("*.*"))


PREDICT = """
import sys, mlflow, pandas as pd
from pathlib import Path
model = mlflow.pyfunc.load_model(sys.argv[1])
files = [Path(path) for path in sys.argv[3:]]
table = pd.DataFrame({"dicom": [f.read_bytes() for f in files], "name": ["same"] * len(files)})
model.predict(table).to_json(sys.argv[2], orient="records", double_precision=15)
import hemtrace
print(hemtrace.__file__)
"""


def test_the_registered_model_brings_its_own_code(project, tmp_path):
    """In a process of its own, a compressed file too, and names that stand twice."""
    path = write_slice(tmp_path / "one.dcm", small_head(1))
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(tmp_path / "two.dcm")
    _, run = read_run(project)
    model = project / "mlruns" / run.info.run_id / "artifacts/model"
    command = [sys.executable, "-c", PREDICT, str(model), "out.json", "one.dcm", "two.dcm"]
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == str(model / "code/hemtrace/__init__.py")
    rows = json.loads((tmp_path / "out.json").read_text())
    table, _ = predict_folder(tmp_path, project / "model.safetensors")
    wanted = table.filter(pl.col("file") == "one.dcm")["any"].item()
    assert [row["name"] for row in rows] == ["same", "same"]
    assert [row["frame"] for row in rows] == [1, 1]
    np.testing.assert_allclose([row["any"] for row in rows], wanted, rtol=1e-7)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database without runs, which MLflow takes seconds to make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("database"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        send_module.connect()
        return Path("mlflow.db").resolve()


@pytest.fixture
def empty(database, tmp_path, monkeypatch):
    shutil.copy(database, tmp_path / "mlflow.db")
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


def test_a_training_that_went_on_after_a_kill_has_each_step_once(empty):
    tracker = Tracker(SPEC, "run")
    for step in (1, 2, 3):
        tracker.log_step({"live_loss": 1 / step}, step)
    tracker.log_epoch({"epoch": 1, "train_loss": 0.5})
    tracker._sender.stdin.close()  # as the kernel does for a training that was killed
    tracker._sender.wait()
    with Tracker(SPEC, "run", resume=tracker.run_id) as again:
        for step in (2, 3, 4):
            again.log_step({"live_loss": 1 / step}, step)
        again.log_epoch({"epoch": 1, "train_loss": 0.5})
        again.log_epoch({"epoch": 2, "train_loss": 0.25})
    client, run = read_run(empty)
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "live_loss")]
    assert steps == [1, 2, 3, 4]
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train_loss")]
    assert steps == [1, 2]


@pytest.mark.parametrize("is_journal_lost", [False, True])
def test_a_training_that_failed_and_goes_on_continues_its_run(empty, is_journal_lost):
    tracker = Tracker(SPEC, "run")
    tracker.log_epoch({"epoch": 1, "train_loss": 0.5})
    with pytest.raises(ZeroDivisionError), tracker:
        raise ZeroDivisionError
    if is_journal_lost:
        shutil.rmtree(empty / RECORDS)
    with Tracker(SPEC, "run", resume=tracker.run_id) as again:
        again.log_epoch({"epoch": 2, "train_loss": 0.25})
        save_model(Path("model.safetensors"), create_net(SPEC), SPEC)
        again.finish(Path("model.safetensors"))
    client, run = read_run(empty)
    assert run.info.status == "FINISHED"
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in losses] == [(1, 0.5), (2, 0.25)]
    assert client.search_model_versions("name = 'hemtrace'")


UNKNOWN = (
    "MLflow does not know the training of the model ffffffffffff; its figures stand in reports/ "
    "alone."
)


def test_a_model_without_a_run_is_said_once_and_holds_nothing_else_up(empty, capsys):
    write_record(empty, {"a": 1})
    figures = [Path(f"{name}.png") for name in ("roc", "calibration", "decision")]
    for path in figures:
        path.write_bytes(b"a picture")
    add_evaluation("f" * 64, {"auc": 1.0}, figures)
    assert capsys.readouterr().err.splitlines() == [f"hemtrace: {UNKNOWN}"]
    assert read_run(empty)[1].data.metrics == {"loss": 0.5}
    assert not list_records(empty)


def test_figures_that_come_after_an_unknown_model_was_told_of_say_nothing_more(empty):
    journal = Journal(empty / RECORDS / "a record")
    journal.append("join", model_sha256="f" * 64)
    assert send_records(empty) == [UNKNOWN]
    journal.append("metrics", group="test", values={"test_auc": 1.0}, step=0)
    journal.append("end", status=None)
    assert send_records(empty) == []
    assert not list_records(empty)


def test_a_kill_between_sending_and_noting_it_sends_nothing_twice(empty, monkeypatch):
    journal = Journal(empty / RECORDS / "a record")
    journal.append("start", name="n", tags={}, params={"a": 1})
    for step in range(5):
        journal.append("metrics", group="live", values={"loss": 1 / (step + 1)}, step=step)
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


def write_record(folder, params):
    journal = Journal(folder / RECORDS / "a record")
    journal.append("start", name="n", tags={}, params=params)
    journal.append("metrics", group="live", values={"loss": 0.5}, step=1)
    journal.append("end", status="FINISHED")
    return journal.folder


@pytest.mark.parametrize(
    ("error_code", "kind"),
    [("REQUEST_LIMIT_EXCEEDED", "metrics"), ("PERMISSION_DENIED", "params")],
)
def test_what_a_server_does_not_take_now_is_sent_later(empty, monkeypatch, error_code, kind):
    from mlflow import MlflowClient
    from mlflow.exceptions import RestException

    log_batch = MlflowClient.log_batch

    def refuse(self, run_id, **what):
        if kind in what:
            raise RestException({"error_code": error_code, "message": "not now"})
        log_batch(self, run_id, **what)

    write_record(empty, {f"p{k}": k for k in range(250)})  # more than one request takes
    monkeypatch.setattr(MlflowClient, "log_batch", refuse)
    (told,) = send_records(empty)
    assert "not now" in told
    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    assert send_records(empty) == []
    _, run = read_run(empty)
    assert run.data.metrics == {"loss": 0.5}
    assert run.data.params == {f"p{k}": str(k) for k in range(250)}


def test_what_a_server_will_never_take_holds_nothing_else_up(empty):
    folder = empty / RECORDS / "a record"
    journal = Journal(folder)
    journal.append("start", name="n", tags={}, params={})
    journal.append("metrics", group="live", values={"a name; too odd!": 0.5}, step=1)
    journal.append("metrics", group="live", values={"loss": 0.5}, step=1)
    journal.append("end", status="FINISHED")
    (told,) = send_records(empty)
    assert "did not take a part" in told
    assert read_run(empty)[1].data.metrics == {"loss": 0.5}


def test_a_record_begun_with_one_mlflow_goes_whole_to_another(empty, monkeypatch):
    journal = Journal(empty / RECORDS / "a record")
    journal.append("start", name="n", tags={}, params={})
    journal.append("metrics", group="live", values={"loss": 0.5}, step=1)
    assert send_records(empty) == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty / 'other.db'}")
    journal.append("metrics", group="live", values={"loss": 0.25}, step=2)
    assert send_records(empty) == []
    client = client_of(f"sqlite:///{empty / 'other.db'}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]


def test_processes_that_first_touch_a_database_at_once_all_succeed(empty):
    (empty / "mlflow.db").unlink()
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
