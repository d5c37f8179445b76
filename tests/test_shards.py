import errno
import os
import resource

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from conftest import make_products, read_hu

from hemtrace.dicom import Rejected
from hemtrace.dicom.guard import GuardedReader
from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.params import DEFAULT_WINDOWS, View
from hemtrace.shards import (
    ROW_SCHEMA,
    TestSlices,
    TrainSlices,
    ValSlices,
    check_digests,
    make_pictures,
    open_images,
    open_partition,
    write_shard,
)
from hemtrace.window import Square, preprocess

SALT = b"a salt of sixteen"
VIEW = View(windows=DEFAULT_WINDOWS, size=32, crop="none", pixel_mm=2)
SUFFIXES = ["npy", "images.parquet"]


def make(folder, files, path, suffix="npy", view=VIEW):
    """Make shard 0 of some files below `path`; returns its rows."""
    with GuardedReader(folder, SALT) as reader:
        pictures = make_pictures(reader.read, files, view, SALT)
        return write_shard(pictures, view, path / f"0000.{suffix}", path / "0000.parquet")


@pytest.fixture(params=SUFFIXES)
def products(raw, tmp_path, request):
    return make_products(raw, tmp_path, request.param, VIEW)


def open_(products, name):
    kind = {"train": TrainSlices, "val": ValSlices, "test": TestSlices}[name]
    tables = (pl.read_parquet(products / f"{name}.parquet") for name in ("catalog", "splits"))
    return open_partition(kind, *tables, products)


def test_partitions_hold_every_used_slice_once(products):
    parts = [open_(products, name) for name in ("train", "val", "test")]
    slices = [key for part in parts for key in part.slices]
    catalog = pl.read_parquet(products / "catalog.parquet")
    assert sorted(slices) == sorted(catalog["slice"])


def test_a_read_slice_has_the_digest_labels_and_square_of_its_catalog_row(products):
    catalog = pl.read_parquet(products / "catalog.parquet")
    part = open_(products, "train")
    order = np.random.default_rng(0).permutation(len(part))
    images = part.read(order)
    assert images.shape == (len(part), 3, 32, 32)
    for image, place in zip(images, order, strict=True):
        row = catalog.row(by_predicate=pl.col("slice") == part.slices[place], named=True)
        assert blake3(image.tobytes()).hexdigest() == row["image_blake3"]
        assert part.labels[place].tolist() == [row[label] for label in LABELS]
        square = [row["crop_top"], row["crop_left"], row["crop_side"]]
        assert part.squares[place].tolist() == square


def test_both_formats_hold_the_same_pixels(raw, tmp_path):
    files = sorted(path.name for path in (raw / "stage_2_train").iterdir())
    tables, readers = [], []
    for suffix in SUFFIXES:
        folder = tmp_path / suffix
        folder.mkdir()
        tables.append(make(raw / "stage_2_train", files, folder, suffix))
        readers.append(open_images(folder / f"0000.{suffix}"))
    assert tables[0].equals(tables[1])
    assert readers[0].shape == readers[1].shape == (len(files), 3, 32, 32)
    for row in range(len(files)):
        np.testing.assert_array_equal(readers[0].read(row), readers[1].read(row))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_files_give_the_same_bytes(raw, tmp_path, suffix):
    files = sorted(path.name for path in (raw / "stage_2_train").iterdir())
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make(raw / "stage_2_train", files, tmp_path / name, suffix)
    for file in (f"0000.{suffix}", "0000.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_npy_shards_are_what_numpy_itself_reads(raw, tmp_path):
    files = sorted(path.name for path in (raw / "stage_2_train").iterdir())
    rows = make(raw / "stage_2_train", files, tmp_path)
    images = np.load(tmp_path / "0000.npy")
    assert images.shape == (rows.height, 3, 32, 32)
    assert blake3(images[7].tobytes()).hexdigest() == rows["image_blake3"][7]


def test_a_slice_of_a_parquet_shard_is_a_row_group_of_its_own(raw, tmp_path):
    files = sorted(path.name for path in (raw / "stage_2_train").iterdir())
    make(raw / "stage_2_train", files, tmp_path, "images.parquet")
    metadata = pq.ParquetFile(tmp_path / "0000.images.parquet").metadata
    assert metadata.num_row_groups == metadata.num_rows == len(files)
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_parquet_shards_take_a_third_of_a_real_head(ge_head, tmp_path):
    files = sorted(path.name for path in ge_head.glob("*.dcm"))
    raw_bytes = sum((ge_head / name).stat().st_size for name in files)
    for size in (256, 380):
        view = VIEW.model_copy(update={"size": size})
        make(ge_head, files, tmp_path, "images.parquet", view)
        assert (tmp_path / "0000.images.parquet").stat().st_size < raw_bytes / 3


def test_a_file_that_cannot_be_used_becomes_a_row_with_its_reason(raw, tmp_path):
    good = sorted((raw / "stage_2_train").iterdir())[0]
    (tmp_path / "good.dcm").write_bytes(good.read_bytes())
    (tmp_path / "cut.dcm").write_bytes(good.read_bytes()[:-1000])
    (tmp_path / "note.txt").write_text("hello")
    rows = make(tmp_path, ["cut.dcm", "good.dcm", "note.txt"], tmp_path)
    assert rows["reason"].to_list() == ["truncated", None, "not-dicom"]
    assert rows["row"].to_list() == [None, 0, None]
    assert len(np.load(tmp_path / "0000.npy")) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_shard_without_pictures_is_one_all_the_same(tmp_path, suffix):
    for files in ([], ["a.txt"]):
        (tmp_path / "a.txt").write_text("no DICOM")
        rows = make(tmp_path, files, tmp_path, suffix)
        assert rows.height == len(files)
        assert open_images(tmp_path / f"0000.{suffix}").shape == (0, 3, 32, 32)
        open_images.cache_clear()


def test_shards_hold_what_preprocess_makes_of_a_file(raw, tmp_path):
    """Ingest and `hemtrace predict` both go through make_pictures, and that through preprocess."""
    name = "ID_000000004.dcm"
    make(raw / "stage_2_train", [name], tmp_path)
    hu = read_hu(raw / "stage_2_train" / name).astype(np.int16)
    wanted = preprocess(hu, Square(0, 0, 64), DEFAULT_WINDOWS, 32)
    np.testing.assert_array_equal(np.load(tmp_path / "0000.npy")[0], wanted)


def test_a_cropped_shard_shows_the_square_that_its_row_names(raw, tmp_path):
    view = VIEW.model_copy(update={"crop": "head", "pixel_mm": 6})
    name = "ID_000000004.dcm"
    rows = make(raw / "stage_2_train", [name], tmp_path, view=view)
    square = Square(*rows.select("crop_top", "crop_left", "crop_side").row(0))
    assert square.side == round(32 * 6 / (250 / 64))
    hu = read_hu(raw / "stage_2_train" / name).astype(np.int16)
    wanted = preprocess(hu, square, DEFAULT_WINDOWS, 32)
    np.testing.assert_array_equal(np.load(tmp_path / "0000.npy")[0], wanted)


def test_memory_does_not_grow_with_a_shard(tmp_path):
    """Pictures are written as they come: the maker is never a picture ahead of the disk."""
    view = VIEW.model_copy(update={"size": 64})
    picture = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    sizes = []

    def pictures():
        for row in range(200):
            yield {"slice": str(row), "file": str(row), "shard": 0, "row": row}, picture
            sizes.append((tmp_path / "0000.npy.part").stat().st_size)

    write_shard(pictures(), view, tmp_path / "0000.npy", tmp_path / "0000.parquet")
    assert 200 * picture.nbytes - sizes[-1] < 10 * picture.nbytes


def no_pictures_left(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith("0000")]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_told_and_leaves_nothing(raw, tmp_path, suffix):
    """A limit on the size of files answers like a full disk, at the same places."""
    files = sorted(path.name for path in (raw / "stage_2_train").iterdir())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(HemtraceError, match=r"The disk of .* is full"):
            make(raw / "stage_2_train", files, tmp_path, suffix)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert no_pictures_left(tmp_path) == []


def test_a_stop_in_the_middle_leaves_nothing_under_the_final_names(tmp_path):
    def pictures():
        yield {"slice": "a", "file": "a", "shard": 0, "row": 0}, np.zeros((3, 32, 32), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(pictures(), VIEW, tmp_path / "0000.npy", tmp_path / "0000.parquet")
    assert no_pictures_left(tmp_path) == []


def test_other_errors_of_the_disk_keep_their_name(tmp_path):
    def pictures():
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        yield

    with pytest.raises(PermissionError):
        write_shard(pictures(), VIEW, tmp_path / "0000.npy", tmp_path / "0000.parquet")


@pytest.mark.parametrize("length", [0, 5, 100, 3000])
def test_a_damaged_shard_is_named(products, length):
    (path,) = [path for path in products.iterdir() if path.name.startswith("0000.") and
               path.name != "0000.parquet"]  # fmt: skip
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(HemtraceError, match=r"0000.* is missing or damaged .*verify --repair"):
        open_(products, "train")


def test_a_shard_in_two_formats_is_refused(products):
    for suffix in SUFFIXES:
        (products / f"0000.{suffix}").touch()
    with pytest.raises(HemtraceError, match="has 2 files of pictures"):
        open_(products, "train")


def test_what_the_reader_refuses_keeps_its_words():
    ((row, picture),) = make_pictures(
        lambda _: [Rejected("truncated", "5 of 9")], ["x"], VIEW, SALT
    )
    assert picture is None
    assert (row["reason"], row["detail"], row["file"]) == ("truncated", "5 of 9", "x")


def test_a_picture_with_another_digest_is_told_before_it_is_used(products):
    catalog = pl.read_parquet(products / "catalog.parquet")
    assert check_digests(catalog, products) == catalog.filter(pl.col("status") == "used").height
    path = products / ("0001.npy" if (products / "0001.npy").is_file() else "0001.images.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # what is mapped already stays as it was
    path.write_bytes(content)
    open_images.cache_clear()
    with pytest.raises(
        HemtraceError, match=r"shard .*0001.* (is damaged|cannot be read).*--repair"
    ):
        check_digests(catalog, products)


def test_what_the_header_of_a_refused_file_told_stands_in_its_row():
    facts = {"patient": "p", "series": "s", "z_mm": 5.0, "bits_stored": 12, "may_show": False}
    refused = Rejected("implausible-hu", "too bright", facts=facts)
    ((row, picture),) = make_pictures(lambda _: [refused], ["x"], VIEW, SALT)
    assert picture is None
    assert (row["reason"], row["detail"]) == ("implausible-hu", "too bright")
    assert {name: row[name] for name in facts if name in ROW_SCHEMA} == {
        name: value for name, value in facts.items() if name != "may_show"
    }
    assert set(row) <= set(ROW_SCHEMA)
