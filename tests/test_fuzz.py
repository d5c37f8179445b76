"""A share of benchmarks/fuzz.py: no file, however damaged, ends otherwise than as rows."""

import pytest
from conftest import make_dataset, small_head
from fuzzing import make_seeds, mutate
from transcode import deflate_bomb, to_bytes

from hemtrace.dicom import REASONS, Slice
from hemtrace.dicom.guard import GuardedReader

FILES = 400


def outcomes(folder, content):
    (folder / "a.dcm").write_bytes(content)
    with GuardedReader(folder, b"x" * 16, 10, 1) as reader:
        return list(reader.read("a.dcm"))


def test_mutated_files_end_as_slices_or_reasons(tmp_path):
    seeds = make_seeds()
    with GuardedReader(tmp_path, b"x" * 16, 10, 1) as reader:
        for number in range(FILES):
            done, content = mutate(number, seeds)
            (tmp_path / "a.dcm").write_bytes(content)
            found = list(reader.read("a.dcm"))
            assert found, (number, done)
            for one in found:
                assert isinstance(one, Slice) or one.reason in REASONS, (number, done)


def test_a_mutation_is_the_same_every_time():
    seeds = make_seeds()
    assert mutate(7, seeds) == mutate(7, seeds)
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
