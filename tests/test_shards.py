import numpy as np
import polars as pl
import pytest
from conftest import read_hu, small_head, write_slice

from hemtrace.errors import HemtraceError
from hemtrace.ingest import build_catalog, list_files, read_labels
from hemtrace.labels import LABELS
from hemtrace.params import DEFAULT_WINDOWS, SplitParams
from hemtrace.shards import make_shard, open_partition, write_shard
from hemtrace.split import split_patients
from hemtrace.window import preprocess


@pytest.fixture
def products(raw, tmp_path):
    """Shards, catalog and splits of the small raw folder."""
    files = list_files(raw / "stage_2_train", 2)
    tables = []
    for shard in range(2):
        names = files.filter(pl.col("shard") == shard)["file"].to_list()
        images, rows = make_shard(raw / "stage_2_train", names, DEFAULT_WINDOWS, 32, shard)
        write_shard(images, rows, tmp_path / f"{shard:04d}.npy", tmp_path / f"{shard:04d}.parquet")
        tables.append(rows)
    catalog = build_catalog(pl.concat(tables), read_labels(raw / "stage_2_train.csv"))
    catalog.write_parquet(tmp_path / "catalog.parquet")
    params = SplitParams(val_share=0.25, test_share=0.25)
    split_patients(catalog, params, 1).write_parquet(tmp_path / "splits.parquet")
    return tmp_path


def open_(products, name):
    return open_partition(products / "catalog.parquet", products / "splits.parquet", products, name)


def test_partitions_hold_every_used_slice_once(products):
    parts = [open_(products, name) for name in ("train", "val", "test")]
    slices = [key for part in parts for key in part.slices]
    catalog = pl.read_parquet(products / "catalog.parquet")
    assert sorted(slices) == sorted(catalog["slice"])


def test_a_read_slice_has_the_digest_and_labels_of_its_catalog_row(products):
    import hashlib

    catalog = pl.read_parquet(products / "catalog.parquet")
    part = open_(products, "train")
    images = part.read(np.arange(len(part)))
    for image, key, labels in zip(images, part.slices, part.labels, strict=True):
        row = catalog.row(by_predicate=pl.col("slice") == key, named=True)
        assert hashlib.sha256(image.tobytes()).hexdigest() == row["image_sha256"]
        assert labels.tolist() == [row[label] for label in LABELS]


def test_same_files_give_the_same_bytes(raw, tmp_path):
    files = list_files(raw / "stage_2_train", 1)["file"].to_list()
    for name in ("a", "b"):
        images, rows = make_shard(raw / "stage_2_train", files, DEFAULT_WINDOWS, 32, 0)
        write_shard(images, rows, tmp_path / f"{name}.npy", tmp_path / f"{name}.parquet")
    for suffix in ("npy", "parquet"):
        first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
        assert first.read_bytes() == second.read_bytes()


def test_unreadable_file_becomes_a_row_with_its_reason(raw, tmp_path):
    good = sorted((raw / "stage_2_train").iterdir())[0]
    (tmp_path / "good.dcm").write_bytes(good.read_bytes())
    (tmp_path / "cut.dcm").write_bytes(good.read_bytes()[:-1000])
    (tmp_path / "note.txt").write_text("hello")
    images, rows = make_shard(tmp_path, ["cut.dcm", "good.dcm", "note.txt"], DEFAULT_WINDOWS, 32, 0)
    assert rows["reason"].to_list() == ["truncated", None, "not-dicom"]
    assert rows["row"].to_list() == [None, 0, None]
    assert len(images) == 1


def test_a_damaged_shard_is_named(products):
    path = products / "0000.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(HemtraceError, match=r"0000\.npy is missing or damaged"):
        open_(products, "train")


def test_shards_hold_what_preprocess_makes_of_a_file(raw):
    """Ingest and `hemtrace predict` both go through make_shard, and that through preprocess."""
    name = "ID_000000004.dcm"
    images, _ = make_shard(raw / "stage_2_train", [name], DEFAULT_WINDOWS, 32, 0)
    hu = read_hu(raw / "stage_2_train" / name)
    np.testing.assert_array_equal(images[0], preprocess(hu, DEFAULT_WINDOWS, 32))


def test_a_persons_name_goes_no_further_than_the_path_in_the_catalog(tmp_path):
    header = {"PatientID": "DOE-4711", "PatientName": "DOE^JANE", "StudyInstanceUID": "1.2.4711"}
    write_slice(tmp_path / "DOE_JANE.dcm", small_head(1), **header)
    (tmp_path / "DOE_JANE.txt").write_text("DOE")
    files = ["DOE_JANE.dcm", "DOE_JANE.txt"]
    _, rows = make_shard(tmp_path, files, DEFAULT_WINDOWS, 32, 0)
    text = rows.drop("file").write_csv()
    assert "DOE" not in text
    assert "4711" not in text
