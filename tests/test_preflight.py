import os

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
    drop_damaged,
    drop_outdated,
    find_lost,
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
    shards = tmp_path / "shards"
    for name in ("0000", "0001", "0002"):
        write_shard(shards, name)
    cut = shards / f"0001.{suffix}"
    cut.write_bytes(cut.read_bytes()[:kept])
    (told,) = drop_damaged(tmp_path)
    assert f"0001.{suffix} is cut short" in told
    left = sorted(path.name for path in shards.iterdir())
    assert left == ["0000.npy", "0000.parquet", "0002.npy", "0002.parquet"]


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_half_a_shard_is_removed(tmp_path, suffix):
    write_shard(tmp_path / "shards", "0000")
    (tmp_path / f"shards/0000.{suffix}").unlink()
    (told,) = drop_damaged(tmp_path)
    assert "has lost the other file of its shard" in told
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_table_that_was_cut_short_is_removed_and_no_other(tmp_path):
    for name in ("catalog", "splits"):
        pl.DataFrame({"row": [1]}).write_parquet(tmp_path / f"{name}.parquet")
    os.truncate(tmp_path / "catalog.parquet", 20)
    (told,) = drop_damaged(tmp_path)
    assert "catalog.parquet is cut short" in told
    assert [path.name for path in tmp_path.iterdir()] == ["splits.parquet"]


def test_sound_shards_of_both_formats_and_foreign_files_stay(tmp_path):
    shards = tmp_path / "shards"
    write_shard(shards, "0000")
    write_shard(shards, "0001")
    (shards / "0001.npy").unlink()
    pl.DataFrame({"image": [b"x"]}).write_parquet(shards / "0001.images.parquet")
    (shards / "notes.parquet").write_text("not a shard")
    before = sorted(shards.iterdir())
    assert drop_damaged(tmp_path) == []
    assert sorted(shards.iterdir()) == before
    assert drop_damaged(tmp_path / "nowhere") == []


def test_lost_is_what_later_products_were_made_from(tmp_path):
    stages = [[tmp_path / name for name in stage] for stage in ("a", "bc", "d")]
    assert find_lost(stages) == []  # nothing was made yet
    (tmp_path / "a").touch()
    assert find_lost(stages) == []
    (tmp_path / "c").touch()
    assert find_lost(stages) == []  # b may be on its way
    (tmp_path / "d").touch()
    assert find_lost(stages) == [str(tmp_path / "b")]
    (tmp_path / "a").unlink()
    assert find_lost(stages) == [str(tmp_path / "a")]  # b when a is there again


def test_a_list_is_outdated_by_what_came_into_a_folder_or_left_it(tmp_path):
    listing, deep = tmp_path / "files.parquet", tmp_path / "raw/a/b"
    deep.mkdir(parents=True)
    assert drop_outdated(listing, tmp_path / "raw") == []  # it must be made anyway
    listing.touch()
    os.utime(listing, (2_000_000_000, 2_000_000_000))
    assert drop_outdated(listing, tmp_path / "raw") == []
    os.utime(deep, (2_000_000_001, 2_000_000_001))
    (told,) = drop_outdated(listing, tmp_path / "raw")
    assert "listing them again" in told
    assert not listing.exists()


def test_beside_a_living_run_nothing_is_removed(tmp_path):
    write_shard(tmp_path / "data/shards", "0000")
    (tmp_path / "data/shards/0000.npy").write_bytes(b"")
    with enter_folder(tmp_path):
        pass  # this process stands for the living run
    assert prepare_run(tmp_path, IngestParams()) == []
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
