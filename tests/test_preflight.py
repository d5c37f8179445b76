import numpy as np
import polars as pl
import pytest
from conftest import write_labels

from hemtrace import preflight
from hemtrace.errors import HemtraceError
from hemtrace.lock import enter_folder
from hemtrace.params import IngestParams, TrainParams
from hemtrace.preflight import (
    check_architecture,
    check_inputs,
    check_place,
    check_room,
    drop_damaged_shards,
    prepare_run,
)


def test_sound_inputs_pass(raw):
    check_inputs(IngestParams(raw=str(raw)))
    check_inputs(IngestParams())


def test_missing_raw_folder_is_told(tmp_path):
    with pytest.raises(HemtraceError, match=r"nowhere was not found; check ingest\.raw"):
        check_inputs(IngestParams(raw=str(tmp_path / "nowhere")))


def test_missing_images_folder_is_told(tmp_path):
    with pytest.raises(HemtraceError, match=r"stage_2_train was not found; check ingest\.images"):
        check_inputs(IngestParams(raw=str(tmp_path)))


def test_empty_images_folder_is_told(tmp_path):
    (tmp_path / "stage_2_train").mkdir()
    with pytest.raises(HemtraceError, match="is empty"):
        check_inputs(IngestParams(raw=str(tmp_path)))


def test_missing_and_wrong_label_files_are_told(tmp_path):
    (tmp_path / "stage_2_train").mkdir()
    (tmp_path / "stage_2_train/a.dcm").touch()
    with pytest.raises(HemtraceError, match=r"stage_2_train\.csv was not found"):
        check_inputs(IngestParams(raw=str(tmp_path)))
    csv = write_labels(tmp_path / "stage_2_train.csv", {"a": [0] * 6})
    csv.write_text(csv.read_text().replace("ID,Label", "id,target"))
    with pytest.raises(HemtraceError, match="must have the columns"):
        check_inputs(IngestParams(raw=str(tmp_path)))


def test_too_little_room_is_told(tmp_path):
    with pytest.raises(HemtraceError, match=r"GB left and .* GB are needed"):
        check_room(tmp_path, 10**18)


def test_a_folder_without_write_permission_is_told(tmp_path, monkeypatch):
    """Root may write anywhere, so the answer of the system is replaced here."""
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: path.name != "models")
    with pytest.raises(HemtraceError, match="models cannot be written to"):
        check_place(tmp_path)


def write_shard(folder, name, count=3):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", np.zeros((count, 1, 8, 8), np.uint8))
    pl.DataFrame({"row": range(count)}).write_parquet(folder / f"{name}.parquet")


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
@pytest.mark.parametrize("kept", [0, 7, -1])
def test_a_shard_that_was_cut_short_is_removed_and_no_other(tmp_path, suffix, kept):
    for name in ("0000", "0001", "0002"):
        write_shard(tmp_path, name)
    cut = tmp_path / f"0001.{suffix}"
    cut.write_bytes(cut.read_bytes()[:kept])
    told = drop_damaged_shards(tmp_path)
    assert len(told) == 1
    assert f"0001.{suffix} is cut short" in told[0]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["0000.npy", "0000.parquet", "0002.npy", "0002.parquet"]


def test_sound_shards_of_both_formats_and_foreign_files_stay(tmp_path):
    write_shard(tmp_path, "0000")
    write_shard(tmp_path, "0001")
    (tmp_path / "0001.npy").unlink()
    pl.DataFrame({"image": [b"x"]}).write_parquet(tmp_path / "0001.images.parquet")
    (tmp_path / "notes.parquet").write_text("not a shard")
    before = sorted(tmp_path.iterdir())
    assert drop_damaged_shards(tmp_path) == []
    assert sorted(tmp_path.iterdir()) == before
    assert drop_damaged_shards(tmp_path / "nowhere") == []


def test_beside_a_living_run_nothing_is_removed(tmp_path):
    write_shard(tmp_path / "data/shards", "0000")
    (tmp_path / "data/shards/0000.npy").write_bytes(b"")
    with enter_folder(tmp_path):
        pass  # this process stands for the living run
    assert prepare_run(tmp_path) == []
    assert (tmp_path / "data/shards/0000.npy").exists()


def test_an_unknown_architecture_is_told_with_names_like_it():
    with pytest.raises(HemtraceError, match=r"similar names:.*tf_efficientnet_b4"):
        check_architecture(TrainParams(architecture="tf_eficientnet_b4"))
    check_architecture(TrainParams())


def test_no_labels_need_no_csv(tmp_path):
    (tmp_path / "stage_2_train").mkdir()
    (tmp_path / "stage_2_train/a.dcm").touch()
    check_inputs(IngestParams(raw=str(tmp_path), labels=None))


def test_a_missing_or_short_salt_file_is_told(tmp_path):
    with pytest.raises(HemtraceError, match=r"check ingest\.salt_file"):
        check_inputs(IngestParams(salt_file=str(tmp_path / "salt")))
    (tmp_path / "salt").write_bytes(b"short")
    with pytest.raises(HemtraceError, match="5 bytes"):
        check_inputs(IngestParams(salt_file=str(tmp_path / "salt")))


def test_a_square_that_cuts_heads_is_told():
    with pytest.raises(HemtraceError, match=r"150 mm, which cuts heads.*pixel_mm to 2\.00"):
        check_inputs(IngestParams(crop="head", size=100, pixel_mm=1.5))
    check_inputs(IngestParams(crop="head", size=100, pixel_mm=2))
    check_inputs(IngestParams(crop="none", size=100, pixel_mm=1.5))


@pytest.mark.parametrize("architecture", ["alexnet", "tf_efficientnet_b4"])
def test_networks_that_can_be_trained_pass(architecture):
    check_architecture(TrainParams(architecture=architecture))
