"""A share of benchmarks/fuzz.py: no file, however damaged, ends otherwise than as rows."""

import random
import zipfile

import pytest
from conftest import make_dataset, small_head
from fuzzing import (
    SALT,
    _decimal,
    ingest_folder,
    make_seeds,
    mutate,
    mutate_zip,
    write_mutants,
)
from transcode import deflate_bomb, to_bytes

from hemtrace.dicom import REASONS, Slice
from hemtrace.dicom.guard import GuardedReader

FILES = 400


def outcomes(folder, content):
    (folder / "a.dcm").write_bytes(content)
    with GuardedReader(folder, SALT, 10, 1) as reader:
        return list(reader.read("a.dcm"))


def test_folders_of_mutated_files_and_zips_go_through_ingest(tmp_path):
    seeds = make_seeds()
    folder = tmp_path / "images"
    folder.mkdir()
    told = write_mutants(folder, range(FILES), seeds)
    with GuardedReader(folder, SALT, 10, 1) as reader:
        catalog = ingest_folder(folder, reader.read, tmp_path)
    listed = {name.partition(".zip/")[0].removesuffix(".zip") for name in catalog["file"]}
    assert listed == {name.removesuffix(".zip") for name in told}
    assert catalog["reason"].drop_nulls().is_in(list(REASONS)).all()
    assert 20 < catalog["row"].count() < FILES  # some are read, not all


@pytest.mark.parametrize("encoding", ["explicit-little", "implicit-little", "explicit-big", "rle"])
def test_strange_decimal_strings_end_as_rows(tmp_path, encoding):
    """Every one of them in every element, in a file that is else well formed."""
    seed = make_seeds()[encoding]
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(120):
        data = bytearray(seed)
        _decimal(data, random.Random(number))
        (folder / f"{number}.dcm").write_bytes(data)
    with GuardedReader(folder, SALT, 10, 1) as reader:
        catalog = ingest_folder(folder, reader.read, tmp_path)
    assert catalog["file"].n_unique() == 120
    assert {"damaged-header", None} <= set(catalog["reason"])


def test_a_mutation_is_the_same_every_time():
    seeds = make_seeds()
    assert mutate(7, seeds) == mutate(7, seeds)
    assert mutate_zip(7, seeds) == mutate_zip(7, seeds)
    assert len({mutate(number, seeds)[1] for number in range(50)}) > 45


def test_a_claim_of_65535_x_65535_x_1000_frames_is_refused(tmp_path):
    dataset = make_dataset(small_head(1), NumberOfFrames=1000, Rows=65535, Columns=65535)
    (found,) = outcomes(tmp_path, to_bytes(dataset))
    assert found.reason == "too-large"


def test_a_deflate_bomb_is_refused(tmp_path):
    (found,) = outcomes(tmp_path, deflate_bomb(2**29 + 2**21))
    assert found.reason == "too-large"


@pytest.mark.parametrize("depth", [20, 100_000])
def test_sequences_nested_deep_are_refused_or_stepped_over(tmp_path, depth):
    content = to_bytes(make_dataset(small_head(1)))
    place = content.find(b"\x28\x00\x02\x00")
    one = b"\x20\x00\x00\x40SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    (found,) = outcomes(tmp_path, content[:place] + one * depth + content[place:])
    assert isinstance(found, Slice) or found.reason in REASONS


def test_a_member_of_a_zip_without_a_name_is_a_row(tmp_path):
    """Found by benchmarks/fuzz.py."""
    folder = tmp_path / "images"
    folder.mkdir()
    with zipfile.ZipFile(folder / "a.zip", "w") as packed:
        packed.writestr("x", to_bytes(make_dataset(small_head(1))))
    content = (folder / "a.zip").read_bytes()
    for mark, start in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):
        place = content.find(mark)
        length = place + start
        end = place + (30 if mark[2] == 3 else 46)
        content = content[:length] + bytes(2) + content[length + 2 : end] + content[end + 1 :]
    # The directory begins a byte earlier, and is a byte shorter.
    end = content.find(b"PK\x05\x06")
    sizes = (int.from_bytes(content[end + at : end + at + 4], "little") - 1 for at in (12, 16))
    content = content[: end + 12] + b"".join(n.to_bytes(4, "little") for n in sizes) + bytes(2)
    (folder / "a.zip").write_bytes(content)
    with GuardedReader(folder, SALT, 10, 1) as reader:
        catalog = ingest_folder(folder, reader.read, tmp_path)
    assert catalog.select("file", "status").rows() == [("a.zip/", "used")]
