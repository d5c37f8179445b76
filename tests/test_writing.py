"""Products on a full disk: a sentence, and nothing half written."""

import errno
import os
import resource
from contextlib import contextmanager

import polars as pl
import pytest
from conftest import make_products

from hemtrace.errors import HemtraceError
from hemtrace.ingest.flow import count_flow, write_flow
from hemtrace.ingest.labels_csv import read_labels
from hemtrace.ingest.listing import list_files
from hemtrace.params import DEFAULT_WINDOWS, View
from hemtrace.writing import write_table, write_whole

VIEW = View(windows=DEFAULT_WINDOWS, size=32, crop="none", pixel_mm=2)


@contextmanager
def full_disk(most=200):
    """A limit on the size of files answers like a full disk, at the same places."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(params=["list", "labels", "catalog", "splits", "flow"])
def write(request, raw, tmp_path):
    """A function that writes one of the products to a path."""
    (tmp_path / "made").mkdir()
    made = make_products(raw, tmp_path / "made", "npy", VIEW)
    labels = read_labels(raw / "stage_2_train.csv")
    tables = {name: pl.read_parquet(made / f"{name}.parquet") for name in ("catalog", "splits")}
    tables["list"] = list_files(raw / "stage_2_train", 2)
    if request.param == "labels":
        return labels.write
    if request.param == "flow":
        return lambda path: write_flow(count_flow(tables["catalog"], labels), path)
    return lambda path: write_table(tables[request.param], path)


def test_a_full_disk_is_told_and_what_stood_there_stays(write, tmp_path):
    path = tmp_path / "out/product"
    path.parent.mkdir()
    path.write_text("of an earlier run")
    with full_disk(), pytest.raises(HemtraceError, match=r"The disk of .*/out is full"):
        write(path)
    assert [file.name for file in path.parent.iterdir()] == ["product"]
    assert path.read_text() == "of an earlier run"
    write(path)
    assert path.read_bytes() != b"of an earlier run"


def fail(path, error):
    with write_whole(path) as part:
        part.write_text("x")
        raise error


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
        pl.exceptions.ComputeError("no such column"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_keep_their_name_and_leave_no_part(tmp_path, error):
    with pytest.raises(type(error)) as caught:
        fail(tmp_path / "a", error)
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []
