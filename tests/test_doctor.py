"""The estimates are compared with what ingest makes of the same files."""

import shutil

import numpy as np
import polars as pl
import pytest
import timm
import torch
from conftest import small_head, write_slice
from typer.testing import CliRunner

from hemtrace import doctor, doctor_data
from hemtrace.cli import app
from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.doctor_data import examine_data, take_sample
from hemtrace.errors import HemtraceError
from hemtrace.params import EvaluateParams, IngestParams, Params, TrainParams, parse_params
from hemtrace.shards import make_pictures, write_shard


def by_check(findings):
    return {finding.check: finding for finding in findings}


def ingest(**changes):
    return Params(ingest=IngestParams(**changes))


def test_the_data_of_the_fixture_are_judged_sound(raw, tmp_path):
    found = by_check(examine_data(tmp_path, ingest(raw=str(raw)), cores=2))
    assert found["data"].verdict == "ok"
    assert "36 files" in found["data"].found
    assert "36 explicit-little" in found["data"].found
    assert {finding.verdict for finding in found.values()} == {"ok"}


def test_sizes_are_those_that_a_shard_takes(raw, tmp_path):
    params = IngestParams(raw=str(raw), format="parquet", size=48)
    sample = take_sample(raw / "stage_2_train", params)
    names = [f"ID_{number:09x}.dcm" for number in range(36)]
    with GuardedReader(raw / "stage_2_train", PUBLIC_SALT) as reader:
        pictures = make_pictures(reader.read, names, params.view, PUBLIC_SALT)
        images = tmp_path / "0000.images.parquet"
        write_shard(pictures, params.view, images, tmp_path / "0000.parquet")
    assert sample.pictures == 36
    assert sample.packed_bytes * 36 == pytest.approx(images.stat().st_size, rel=0.01)


def test_the_sample_is_bounded_and_spread_over_all_files(tmp_path, monkeypatch):
    for number in range(40):
        write_slice(tmp_path / f"ID_{number:09x}.dcm", small_head(number))
    monkeypatch.setattr(doctor_data, "SAMPLE", 5)
    sample = take_sample(tmp_path, IngestParams())
    assert sample.files == 40
    assert sample.names == [f"ID_{number:09x}.dcm" for number in (0, 9, 19, 29, 39)]


def test_counting_ends_in_time_and_says_so(raw, monkeypatch):
    monkeypatch.setattr(doctor_data, "_MOST_COUNT_SECONDS", -1)
    sample = take_sample(raw / "stage_2_train", IngestParams())
    assert not sample.is_complete
    assert sample.files == 1


def test_files_that_are_no_ct_fail(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("no DICOM")
    found = by_check(examine_data(tmp_path, ingest(raw=str(tmp_path), images="."), cores=2))
    assert found["data"].verdict == "fail"
    assert "3 not-dicom" in found["data"].found


def test_a_missing_folder_fails_in_a_sentence(tmp_path):
    found = by_check(examine_data(tmp_path, ingest(raw=str(tmp_path / "nowhere")), cores=2))
    assert found["data"].verdict == "fail"
    assert "was not found" in found["data"].found


def test_the_phantom_is_announced(tmp_path):
    found = by_check(examine_data(tmp_path, Params(), cores=2))
    assert "2,400 to 3,360 synthetic slices" in found["data"].found


def test_foreign_names_without_a_salt_are_warned_of(tmp_path):
    write_slice(tmp_path / "raw/DOE_JANE/1.dcm", small_head(1))
    params = {"raw": str(tmp_path / "raw"), "images": "."}
    found = by_check(examine_data(tmp_path, ingest(**params), cores=2))
    assert found["identifiers"].verdict == "warn"
    assert "DOE" not in found["identifiers"].found
    (tmp_path / "salt").write_bytes(bytes(range(32)))
    params["salt_file"] = str(tmp_path / "salt")
    assert "identifiers" not in by_check(examine_data(tmp_path, ingest(**params), cores=2))


@pytest.mark.parametrize(
    ("free_share", "kind", "verdict", "advice"),
    [
        (1.5, "npy", "ok", ""),
        (0.9, "npy", "fail", "set ingest.format: parquet"),
        (0.9, "parquet", "ok", ""),
        (0.2, "npy", "fail", "ingest.size: "),
    ],
)
def test_the_disk_decides_format_and_size(tmp_path, monkeypatch, free_share, kind, verdict, advice):
    """Room as a share of what npy takes; the sample packs to half."""
    params = IngestParams(size=256, format=kind)
    plain = 1000 * 3 * 256**2
    sample = doctor_data.Sample(
        1000, True, ["a"] * 64, 64, 1.0, 1.0, {}, {}, packed_bytes=3 * 256**2 / 2
    )
    usage = shutil.disk_usage(tmp_path)._replace(free=int(free_share * plain))
    monkeypatch.setattr(doctor_data.shutil, "disk_usage", lambda path: usage)
    finding = doctor_data._judge_room(tmp_path, params, sample)
    assert finding.verdict == verdict
    assert advice in finding.advice
    if "ingest.size" in finding.advice:
        size = int(finding.advice.split("ingest.size: ")[1].split(",")[0])
        assert 0.5 * 1000 * 3 * size**2 < 0.9 * usage.free


@pytest.mark.parametrize(
    ("files", "shards", "verdict"),
    [
        (752_803, 753, "ok"),  # two seconds of start for each 1,000 files of 25 ms
        (752_803, 9_999, "warn"),
        (752_803, 4, "warn"),
        (3_000, 4, "ok"),
    ],
)
def test_shards_are_judged_by_what_their_start_costs(files, shards, verdict):
    sample = doctor_data.Sample(files, True, ["a"] * 64, 64, 25.0, 5.0, {}, {}, 1.0)
    _, shards_found = doctor_data._judge_time(IngestParams(shards=shards), sample, cores=4)
    assert shards_found.verdict == verdict
    if verdict == "warn":  # the advice must itself be judged sound
        best = int(shards_found.advice.split(": ")[1])
        _, again = doctor_data._judge_time(IngestParams(shards=best), sample, cores=4)
        assert again.verdict == "ok"


def test_packages_are_compared_with_the_lock(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"numpy=={np.__version__} \\\n    --hash=sha256:00\n"
        f"polars=={pl.__version__} ; python_version < '3'\n"
        "absent-package==1.0 ; sys_platform == 'win32'\n"
    )
    assert doctor._examine_packages(lock).found.startswith("1 as in")
    lock.write_text("numpy==0.1 \\\n    --hash=sha256:00\nno-such-package==1\n")
    finding = doctor._examine_packages(lock)
    assert finding.verdict == "warn"
    assert f"numpy {np.__version__} instead of ==0.1; no-such-package is missing" in finding.found


NO_LEAK_TEST = EvaluateParams(shuffled=None)


def test_the_leak_test_is_tried_too(tmp_path):
    wrong = EvaluateParams(shuffled={"architecture": "resnet_18"})
    findings = doctor._examine_trainings(Params(evaluate=wrong), tmp_path)
    assert {f.check: f.verdict for f in findings}["evaluate.shuffled"] == "fail"
    unknown = EvaluateParams(shuffled={"epoch": 1})
    findings = list(doctor._examine_trainings(Params(evaluate=unknown), tmp_path))
    assert "`train.epoch` is not a parameter" in findings[0].found


def test_a_heat_map_finer_than_the_network_has_fails(tmp_path):
    fine = Params(ingest=IngestParams(size=96), explain={"fewest_cells": 60}, evaluate=NO_LEAK_TEST)
    found = by_check(doctor._examine_trainings(fine, tmp_path))
    assert found["heat map"].verdict == "fail"
    assert "has 48 x 48" in found["heat map"].found
    coarse = fine.model_copy(
        update={"explain": fine.explain.model_copy(update={"fewest_cells": 48})}
    )
    assert "heat map" not in by_check(doctor._examine_trainings(coarse, tmp_path))


@pytest.mark.parametrize(
    ("train", "verdict", "text"),
    [
        ({"weights": "inflate"}, "ok", "offline"),
        ({"weights": "scratch"}, "warn", "random"),
        ({"weights": "timm"}, "warn", "not on this disk"),
        ({"weights": "file", "weights_file": "nowhere.pt"}, "fail", "nowhere.pt was not found"),
        ({"weights": "inflate", "architecture": "resnet18"}, "fail", "resnet18"),
        ({"architecture": "resnet_18"}, "fail", "similar names"),
        ({"optimizer": "adamm"}, "fail", "it knows"),
        ({"device": "cuda"}, "fail", "torch sees no GPU"),
    ],
)
def test_trainings_are_tried_before_the_run(train, verdict, text, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    params = Params(train=TrainParams(**train), evaluate=NO_LEAK_TEST)
    *_, finding = doctor._examine_trainings(params, tmp_path)
    assert finding.verdict == verdict
    assert text in finding.found


def test_a_weights_file_that_fits_not_fails(tmp_path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    (tmp_path / "junk.pth").write_text("junk")
    for name in ("resnet18.pth", "junk.pth"):
        train = TrainParams(
            architecture="tf_efficientnet_lite0",
            weights="file",
            weights_file=str(tmp_path / name),
        )
        (finding,) = doctor._examine_trainings(Params(train=train, evaluate=NO_LEAK_TEST), tmp_path)
        assert finding.verdict == "fail"
        assert name in finding.found


def test_every_system_that_is_compared_is_tried(tmp_path):
    systems = [{"name": "one", "train": {"architecture": "resnet18", "weights": "scratch"}}]
    systems += [{"name": "two", "train": {"architecture": "resnet18", "weights": "inflate"}}]
    train = {"architecture": "tf_efficientnet_lite0"}
    params = parse_params({"train": train, "compare": {"systems": systems}})
    verdicts = {f.check: f.verdict for f in doctor._examine_trainings(params, tmp_path)}
    assert verdicts == {
        "train": "ok", "evaluate.shuffled": "ok", "one": "ok", "two": "fail", "weights": "warn",
    }  # fmt: skip
    assert doctor._examine_gpu(TrainParams(device="cuda")).verdict == "fail"


def test_a_damaged_tracking_database_fails(tmp_path):
    assert doctor._examine_tracking(tmp_path / "mlflow.db").verdict == "ok"
    (tmp_path / "mlflow.db").write_text("no database")
    assert doctor._examine_tracking(tmp_path / "mlflow.db").verdict == "fail"


def test_the_command_fails_with_the_data_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("ingest:\n  raw: nowhere\n")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "nowhere was not found" in result.output
    assert "-> check ingest.raw" in result.output
    (tmp_path / "params.yaml").write_text("{}\n")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output


def test_a_real_head_ct_is_read(ge_head):
    sample = take_sample(ge_head, IngestParams())
    assert sample.pictures == 28
    with pytest.raises(HemtraceError, match="was not found"):
        take_sample(ge_head / "nowhere", IngestParams())
