"""What is found and removed before a run, whatever happened to the last one."""

import os
import time
from base64 import urlsafe_b64encode

import numpy as np
import polars as pl
import pytest

from hemtrace.dicom.source import newest_change
from hemtrace.leftovers import (
    drop_cut_json,
    drop_damaged,
    drop_incomplete,
    drop_outdated,
    drop_phantom,
    find_lost,
    prepare_run,
)
from hemtrace.lock import enter_folder


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


def test_a_list_is_outdated_by_what_came_or_went(tmp_path):
    listing, deep = tmp_path / "files.parquet", tmp_path / "raw/a/b"
    deep.mkdir(parents=True)
    (deep / "x.zip").write_bytes(b"")
    assert drop_outdated(listing, newest_change(tmp_path / "raw")) == []  # it must be made anyway
    listing.touch()
    assert drop_outdated(listing, newest_change(tmp_path / "raw")) == []

    def add() -> None:
        (deep / "new.dcm").touch()
        os.utime(deep, (0, 0))  # as tools do that keep times

    def grow() -> None:
        (deep / "x.zip").write_bytes(b"more")

    for change in (add, (deep / "new.dcm").unlink, grow):
        listing.touch()
        time.sleep(0.01)
        change()
        (told,) = drop_outdated(listing, newest_change(tmp_path / "raw"))
        assert "listed again" in told
        assert not listing.exists()


def test_what_a_killed_job_was_writing_is_removed(tmp_path):
    """Snakemake's own note of it is a file named by the path in base 64."""
    for name in ("data/shards/0001.npy", "models/runs/a/model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
        note = tmp_path / ".snakemake/incomplete" / urlsafe_b64encode(name.encode()).decode()
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
    (told,) = drop_incomplete(tmp_path)
    assert "data/shards/0001.npy was being written" in told
    assert not (tmp_path / "data/shards/0001.npy").exists()
    assert (tmp_path / "models/runs/a/model.safetensors").exists()
    assert drop_incomplete(tmp_path) == []


def test_a_phantom_that_lost_a_file_is_made_again(tmp_path):
    images = tmp_path / "data/raw/stage_2_train"
    assert drop_phantom(tmp_path) == []
    images.mkdir(parents=True)
    for name in "ab":
        (images / name).touch()
    table = images.parent / "phantom.parquet"
    pl.DataFrame({"slice": ["a", "b"]}).write_parquet(table)
    assert drop_phantom(tmp_path) == []
    (images / "a").unlink()
    (told,) = drop_phantom(tmp_path)
    assert "has 1 files, not all of its own" in told
    assert not table.exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"used": 1}'])
def test_damaged_counts_are_removed(tmp_path, content):
    (tmp_path / "ingest.json").write_text(content)
    (told,) = drop_damaged(tmp_path)
    assert "ingest.json is damaged" in told


def test_a_folder_in_the_place_of_a_table_is_no_matter(tmp_path):
    (tmp_path / "x.parquet").mkdir()
    assert drop_damaged(tmp_path) == []


def test_beside_a_living_run_nothing_is_removed(tmp_path):
    write_shard(tmp_path / "data/shards", "0000")
    (tmp_path / "data/shards/0000.npy").write_bytes(b"")
    with enter_folder(tmp_path):
        pass  # this process stands for the living run
    assert prepare_run(tmp_path, 0) == []
    assert (tmp_path / "data/shards/0000.npy").exists()


def test_json_that_was_cut_short_is_removed_and_no_other(tmp_path):
    for folder in ("reports", "models"):
        (tmp_path / folder).mkdir()
    whole, cut = tmp_path / "reports/study.json", tmp_path / "reports/evaluation.json"
    other = tmp_path / "models/operating.json"
    whole.write_text('{"a": 1}')
    cut.write_text('{"a": [1, 2')
    other.write_text("")
    assert len(drop_cut_json(tmp_path)) == 2
    assert whole.is_file()
    assert not cut.exists()
    assert not other.exists()
