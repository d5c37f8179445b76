"""rerun: what a record says is what is run again."""

import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
import torch
from test_tracking import SPEC

from hemtrace.errors import HemtraceError
from hemtrace.model import create_net, load_model, save_model
from hemtrace.params import Params, render_params
from hemtrace.provenance import git_commit
from hemtrace.rerun import rerun
from hemtrace.tracking import Tracker
from hemtrace.tracking.origin import describe_environment

TARGET = Path("models/runs/fold0_seed5/model.safetensors")


def git(*arguments):
    name = ("-c", "user.name=t", "-c", "user.email=t@t")
    subprocess.run(["git", *name, *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose code was changed and not committed when its training ran."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (folder / "params.yaml").write_text(render_params(Params(seed=77)))
    (folder / "src/code.py").write_text("as committed\n")
    (folder / ".gitignore").write_text("/mlflow.db*\n/mlruns/\n/logs/\n/models/\n")
    git("init", "-q")
    git("add", "--all")
    git("commit", "-qm", "x")
    (folder / "src/code.py").write_text("changed\n")
    (folder / "src/more.py").write_text("new\n")
    return folder


def record(spec):
    save_model(TARGET, create_net(spec), spec)
    with Tracker(spec, "fold0_seed5", target=TARGET) as tracker:
        tracker.finish(TARGET)
    return tracker.run_id


def copy_model(project, change=None):
    def run(command, folder):
        assert command == ["snakemake", "--cores", "all", str(TARGET)]
        (folder / TARGET).parent.mkdir(parents=True)
        shutil.copy(project / TARGET, folder / TARGET)
        if change:
            net, spec = load_model(folder / TARGET)
            change(net)
            save_model(folder / TARGET, net, spec)

    return run


def test_commit_changes_and_parameters_of_the_run_are_those_that_run_again(project, tmp_path):
    run_id = record(SPEC.model_copy(update={"git_commit": git_commit()}))
    # What has been done since does not count.
    (project / "src/code.py").write_text("changed again\n")
    (project / "params.yaml").write_text(render_params(Params(seed=78)))
    git("add", "--all")
    git("commit", "-qm", "later")
    told = rerun(run_id, tmp_path / "again", [], copy_model(project))
    assert told[0] == "Slices, labels and partitions are the same."
    assert told[1] == "The model is the same, byte for byte."
    again = tmp_path / "again"
    assert (again / "src/code.py").read_text() == "changed\n"
    assert (again / "src/more.py").read_text() == "new\n"
    assert (again / "params.yaml").read_text() == render_params(Params(seed=77))


def test_weights_that_differ_are_told_with_how_far(project, tmp_path):
    def move(net):
        with torch.no_grad():
            net.classifier.bias[2] += 0.25

    run_id = record(SPEC.model_copy(update={"git_commit": git_commit()}))
    told = rerun(run_id, tmp_path / "again", [], copy_model(project, move))
    assert told[1].startswith("The weights differ, by 0.25 at most")
    assert len(told) == 2


def test_figures_and_machine_that_differ_are_told(project, tmp_path, monkeypatch):
    def move(net):
        with torch.no_grad():
            net.classifier.bias[2] += 0.25

    spec = SPEC.model_copy(update={"git_commit": git_commit()})
    save_model(TARGET, create_net(spec), spec)
    with Tracker(spec, "fold0_seed5", target=TARGET) as tracker:
        tracker.log_epoch({"epoch": 1, "val_loss": 0.75})
        tracker.log_epoch({"epoch": 2, "val_loss": 0.5})
        tracker.finish(TARGET)

    def run(command, folder):
        copy_model(project, move)(command, folder)
        history = pl.DataFrame({"epoch": [1, 2], "val_loss": [0.75, 0.5625], "val_auc": [None] * 2})
        history.write_parquet((folder / TARGET).with_name("history.parquet"))

    monkeypatch.setattr("hemtrace.rerun.describe_environment", another_machine)
    told = rerun(tracker.run_id, tmp_path / "again", [], run)
    assert "processor" in told[1]
    assert "torch 2.14.1 then, 0 now" in told[1]
    assert told[3] == "After the last epoch: val_loss 0.5000 then, 0.5625 now."


def another_machine():
    found = describe_environment()
    return found | {"processor": "an abacus", "packages": found["packages"] | {"torch": "0"}}


def test_where_data_lie_must_be_said_since_no_record_keeps_it(project, tmp_path):
    (tmp_path / "rsna").mkdir()
    tree = Params().model_copy(
        update={"ingest": Params().ingest.model_copy(update={"raw": str(tmp_path / "rsna")})}
    )
    (project / "params.yaml").write_text(render_params(tree))
    run_id = record(SPEC.model_copy(update={"git_commit": git_commit()}))
    with pytest.raises(HemtraceError, match=r"where ingest.raw \(rsna\) .* ingest.raw=/path/to/it"):
        rerun(run_id, tmp_path / "one", [], copy_model(project))
    with pytest.raises(HemtraceError, match="/nowhere are not there"):
        rerun(run_id, tmp_path / "two", ["ingest.raw=/nowhere"], copy_model(project))
    settings = [f"ingest.raw={tmp_path / 'rsna'}"]
    assert rerun(run_id, tmp_path / "three", settings, copy_model(project))


def test_a_server_that_is_down_is_a_sentence(project, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(HemtraceError, match="MLflow cannot be reached") as caught:
        rerun("0" * 32, tmp_path / "a", [])
    assert "secret" not in str(caught.value)


def test_a_wrong_id_commit_or_environment_is_a_sentence(project, tmp_path):
    with pytest.raises(HemtraceError, match="MLflow has no run 'nosuch'"):
        rerun("nosuch", tmp_path / "a", [])
    run_id = record(SPEC.model_copy(update={"git_commit": "0" * 40}))
    with pytest.raises(HemtraceError, match=r"commit 0{40} of the run is not in this repository"):
        rerun(run_id, tmp_path / "b", [])
    (project / "requirements.lock").write_text("one")
    run_id = record(SPEC.model_copy(update={"git_commit": git_commit()}))
    (project / "requirements.lock").write_text("another")
    with pytest.raises(HemtraceError, match=r"another requirements.lock than the run's"):
        rerun(run_id, tmp_path / "c", [])
