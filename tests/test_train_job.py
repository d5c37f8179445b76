"""A training as the pipeline runs it: from products on disk, in processes of its own."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
import torch
from conftest import make_products
from safetensors.torch import load_file

from hemtrace.errors import HemtraceError
from hemtrace.model import load_model
from hemtrace.params import DEFAULT_WINDOWS, TrainParams, View
from hemtrace.train.job import TrainJob, run_training

VIEW = View(windows=DEFAULT_WINDOWS, size=32, crop="none", pixel_mm=1.0)
TRAIN = {
    "architecture": "test_efficientnet",
    "weights": "scratch",
    "epochs": 3,
    "batch_size": 4,
    "learning_rate": 3e-3,
    "checkpoint_minutes": 1e-6,
    "ema": 0.9,
}
KILLS = 6


@pytest.fixture(scope="module")
def products(raw, tmp_path_factory):
    return make_products(raw, tmp_path_factory.mktemp("job"), "npy", VIEW)


def make_job(products: Path, out: Path, **train: object) -> TrainJob:
    return TrainJob(
        catalog=products / "catalog.parquet",
        splits=products / "splits.parquet",
        shards=products,
        seed=3,
        train=TrainParams(**(TRAIN | train)),
        view=VIEW,
        synthetic=True,
        model=out / "run/model.safetensors",
        other=out / "run/other.safetensors",
        history=out / "run/history.parquet",
        checkpoint=out / "checkpoints/run.pt",
        record=False,
    )


def start(job: TrainJob, out: Path) -> subprocess.Popen[bytes]:
    out.mkdir(exist_ok=True)
    path = out / "job.json"
    path.write_text(job.model_dump_json())
    command = [sys.executable, "-m", "hemtrace.train", str(path)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=(out / "stderr").open("wb"), env=one_thread()
    )


def one_thread() -> dict[str, str]:
    return dict(os.environ, OMP_NUM_THREADS="1")


@pytest.fixture(scope="module")
def undisturbed(products, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    assert start(make_job(products, out), out).wait() == 0
    return out


def test_a_training_leaves_its_products_and_no_checkpoint(undisturbed):
    _, spec = load_model(undisturbed / "run/model.safetensors")
    assert spec.train["epochs"] == 3
    assert spec.view == VIEW
    assert load_model(undisturbed / "run/other.safetensors")[1].network == spec.network
    history = pl.read_parquet(undisturbed / "run/history.parquet")
    assert history["epoch"].to_list() == [1, 2, 3]
    assert list((undisturbed / "checkpoints").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [1e-6, 60], ids=["each step", "each epoch"])
def test_a_training_killed_again_and_again_ends_with_the_same_bytes(
    products, undisturbed, tmp_path, minutes
):
    """SIGKILL at random moments after a new checkpoint, then once more to the end.

    Where only epochs are saved, several steps are lost and made again.
    """
    job, chance, kills = make_job(products, tmp_path), random.Random(1), 0
    job = job.model_copy(
        update={"train": job.train.model_copy(update={"checkpoint_minutes": minutes})}
    )
    while kills < KILLS:
        before = job.checkpoint.stat().st_mtime_ns if job.checkpoint.is_file() else 0
        process = start(job, tmp_path)
        while process.poll() is None and (
            not job.checkpoint.is_file() or job.checkpoint.stat().st_mtime_ns == before
        ):
            time.sleep(0.002)
        time.sleep(chance.random() * 0.1)
        process.kill()
        if process.wait() == 0:  # it was through already
            break
        kills += 1
    assert kills >= 3
    if job.checkpoint.is_file():  # killed before all was written
        assert start(job, tmp_path).wait() == 0
    assert not job.checkpoint.is_file()
    for name in ("model.safetensors", "other.safetensors"):
        ours, theirs = (load_file(folder / "run" / name) for folder in (tmp_path, undisturbed))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items()), name
    rows = [
        pl.read_parquet(f / "run/history.parquet").drop("seconds") for f in (tmp_path, undisturbed)
    ]
    assert rows[0].equals(rows[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_a_checkpoint_from_which_the_next_run_goes_on(products, tmp_path, number):
    whole, job = (make_job(products, tmp_path / name, epochs=40) for name in ("whole", "stopped"))
    process = start(job, tmp_path / "stopped")
    while not job.checkpoint.is_file():
        assert process.poll() is None, (tmp_path / "stopped/stderr").read_text()
        time.sleep(0.002)
    process.send_signal(number)
    assert process.wait() == 143
    assert "run again to go on" in (tmp_path / "stopped/stderr").read_text()
    assert not job.model.is_file()
    assert start(job, tmp_path / "stopped").wait() == 0
    assert start(whole, tmp_path / "whole").wait() == 0
    assert job.model.read_bytes() == whole.model.read_bytes()


def test_test_patients_have_no_part_in_the_weights(products, undisturbed, tmp_path):
    """Their labels turned round and their pixels replaced by noise: the same network to the bit."""
    folder = shutil.copytree(products, tmp_path / "products")
    splits = pl.read_parquet(folder / "splits.parquet")
    held_out = splits.filter(pl.col("partition") == "test").select("patient")
    catalog = pl.read_parquet(folder / "catalog.parquet")
    is_test = pl.col("patient").is_in(held_out["patient"].implode())
    labels = ["epidural", "subdural", "any"]
    catalog = catalog.with_columns(
        pl.when(is_test).then(1 - pl.col(label)).otherwise(pl.col(label)).alias(label)
        for label in labels
    )
    chance = np.random.default_rng(0)
    for shard, row in catalog.filter(is_test).select("shard", "row").iter_rows():
        images = np.load(folder / f"{shard:04d}.npy", mmap_mode="r+")
        images[row] = chance.integers(0, 255, images.shape[1:])
        images.flush()
    catalog.write_parquet(folder / "catalog.parquet")
    out = tmp_path / "out"
    job = make_job(folder, out)
    program = (
        "import sys, hemtrace.train.job as job\n"
        "job.check_digests = lambda *_: 0\n"  # which would notice, as another test shows
        "from pathlib import Path\n"
        "job.train_model(job.TrainJob.model_validate_json(Path(sys.argv[1]).read_text()))\n"
    )
    out.mkdir()
    (out / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-c", program, str(out / "job.json")]
    subprocess.run(command, check=True, env=one_thread(), stderr=subprocess.DEVNULL)
    ours, theirs = (
        load_model(path / "run/model.safetensors")[0].state_dict() for path in (out, undisturbed)
    )
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


PARENT = (
    "import sys\n"
    "from pathlib import Path\n"
    "from hemtrace.errors import StoppedError\n"
    "from hemtrace.train.job import TrainJob, run_training\n"
    "try:\n"
    "    run_training(TrainJob.model_validate_json(Path(sys.argv[1]).read_text()))\n"
    "except StoppedError as error:\n"
    "    sys.exit(f'stopped: {error}')\n"
)


def start_parent(job: TrainJob, out: Path) -> subprocess.Popen[bytes]:
    """Start what starts several processes, as the pipeline does; back when they train."""
    out.mkdir(exist_ok=True)
    (out / "job.json").write_text(job.model_dump_json())
    before = job.checkpoint.stat().st_mtime_ns if job.checkpoint.is_file() else 0
    command = [sys.executable, "-c", PARENT, str(out / "job.json")]
    parent = subprocess.Popen(command, stderr=(out / "stderr").open("wb"))
    while not job.checkpoint.is_file() or job.checkpoint.stat().st_mtime_ns == before:
        assert parent.poll() is None, (out / "stderr").read_text()
        time.sleep(0.002)
    return parent


@pytest.mark.slow
def test_two_processes_stopped_and_killed_end_with_the_same_bytes(products, tmp_path):
    """In two passes a step, whose gradients are sent once."""
    settings = {"processes": 2, "batch_size": 8, "accumulate": 2, "epochs": 10}
    whole, job = (make_job(products, tmp_path / name, **settings) for name in ("whole", "broken"))
    run_training(whole)
    parent = start_parent(job, tmp_path / "broken")
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(timeout=60) == 1
    assert "run again to go on" in (tmp_path / "broken/stderr").read_text()
    parent = start_parent(job, tmp_path / "broken")
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) == 2
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []  # they would write beside the next run
    assert not job.model.is_file()
    run_training(job)
    assert job.model.read_bytes() == whole.model.read_bytes()


@pytest.mark.slow
def test_two_processes_train_as_one_does(products, tmp_path):
    """The same loss curve within 1e-4 at equal total batch, batch norms included."""
    curves = []
    for count in (1, 2):
        job = make_job(products, tmp_path / str(count), processes=count, batch_size=8, epochs=4)
        run_training(job)
        curves.append(pl.read_parquet(job.history))
    for column in ("train_loss", "val_loss", "val_auc_any"):
        np.testing.assert_allclose(curves[0][column], curves[1][column], atol=1e-4)
    first, second = (load_model(tmp_path / f"{count}/run/model.safetensors")[0] for count in (1, 2))
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, atol=1e-2, rtol=1e-2)


def test_the_sentence_of_a_process_is_that_of_the_run(products, tmp_path):
    job = make_job(products, tmp_path, processes=2, batch_size=8, optimizer="nosuch")
    with pytest.raises(HemtraceError, match="timm knows no 'nosuch'"):
        run_training(job)


def test_another_program_may_start_the_processes(products, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job = make_job(products, tmp_path, launcher=f"nice -n 1 {sys.executable}")
    run_training(job)
    ours, theirs = (load_model(f / "run/model.safetensors")[0] for f in (tmp_path, undisturbed))
    other = theirs.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in ours.state_dict().items())
    with pytest.raises(HemtraceError, match=r"nosuch-launcher cannot be started .*train.launcher"):
        run_training(make_job(products, tmp_path, launcher="nosuch-launcher"))


def test_a_checkpoint_of_another_training_is_refused_naming_what_differs(products, tmp_path):
    job = make_job(products, tmp_path, epochs=40)
    process = start(job, tmp_path)
    while not job.checkpoint.is_file():
        assert process.poll() is None, (tmp_path / "stderr").read_text()
        time.sleep(0.002)
    process.kill()
    process.wait()
    other = make_job(products, tmp_path, architecture="test_resnet", epochs=9)
    sentence = (
        r"is of another training: train.architecture is 'test_efficientnet' in it and "
        r"'test_resnet' here; train.epochs is 40 in it and 9 here\. Put that back"
    )
    with pytest.raises(HemtraceError, match=sentence):
        run_training(other)
    windows = VIEW.model_copy(update={"windows": VIEW.windows[::-1]})
    with pytest.raises(HemtraceError, match="windows is"):
        run_training(job.model_copy(update={"view": windows}))
    job.checkpoint.write_bytes(job.checkpoint.read_bytes()[:5000])
    with pytest.raises(HemtraceError, match=r"cannot be read .* delete it"):
        run_training(job)


def test_a_damaged_shard_is_told_before_the_first_step(products, tmp_path):
    folder = shutil.copytree(products, tmp_path / "products")
    images = np.load(folder / "0000.npy", mmap_mode="r+")
    images[3, 0, 5, 5] ^= 255
    images.flush()
    with pytest.raises(HemtraceError, match=r"0000.npy is damaged: the picture of row 3"):
        run_training(make_job(folder, tmp_path))


def test_labels_that_cannot_be_learned_are_told(products, tmp_path, capsys):
    run_training(make_job(products, tmp_path / "a", epochs=1))
    said = capsys.readouterr().err
    assert "the partition train has no slice with: epidural" in said
    folder = shutil.copytree(products, tmp_path / "products")
    catalog = pl.read_parquet(folder / "catalog.parquet")
    catalog.with_columns(any=pl.lit(0, pl.UInt8)).write_parquet(folder / "catalog.parquet")
    with pytest.raises(HemtraceError, match="No training slice has a bleed"):
        run_training(make_job(folder, tmp_path / "b", epochs=1))


@pytest.mark.parametrize("classifier", ["svm", "forest"])
def test_a_classifier_on_the_features_is_part_of_the_model(products, tmp_path, classifier):
    job = make_job(products, tmp_path, classifier=classifier, epochs=1)
    run_training(job)
    net, spec = load_model(job.model)
    assert spec.network.classifier == classifier
    assert load_model(job.other)[1].network.classifier == "network"
    with torch.inference_mode():
        logits = net(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert logits.shape == (2, 6)
    assert torch.isfinite(logits).all()


def test_a_job_survives_its_way_through_json(products, tmp_path):
    job = make_job(products, tmp_path)
    assert TrainJob.model_validate_json(job.model_dump_json()) == job
    assert json.loads(job.model_dump_json())["train"]["epochs"] == 3
