"""A file that kills, hangs or fills its decoder costs a process, not the run."""

import io
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pydicom
import pytest
from conftest import make_dataset, small_head
from transcode import make_seeds, multi_frame, to_bytes

from hemtrace.dicom import Rejected, Slice
from hemtrace.dicom.guard import GuardedReader
from hemtrace.dicom.reasons import QuarantineError
from hemtrace.dicom.unpickle import load_answer
from hemtrace.errors import HemtraceError
from hemtrace.predict.headers import read_headers

SALT = b"a salt of sixteen"

# Stands for a defect of a decoder: run by the child's interpreter as it starts.
DEFECT = """
import os, time, hemtrace.dicom.read as read, hemtrace.dicom.whose as whose
def strike_header(content):
    if content.startswith(b"crash"): os.kill(os.getpid(), 11)
    if content.startswith(b"hang"): time.sleep(60)
    if content.startswith(b"fill"): bytearray(2**40)
    return sound(content)
sound, whose.identify, whose.copy_header = whose.identify, strike_header, strike_header
class Own:
    def __reduce__(self): return os.mkdir, ("taken over",)
def strike(content, salt):
    if content.startswith(b"crash"): os.kill(os.getpid(), 11)
    if content.startswith(b"hang"): time.sleep(60)
    if content.startswith(b"fill"): bytearray(2**40)
    if content.startswith(b"grow"):
        rows = []
        while True: rows.append(bytearray(2**26))
    if content.startswith(b"exit"): os._exit(3)
    if content.startswith(b"own"): return iter([Own()])
    if content.startswith(b"drip"): return drip(content, salt)
    return healthy(content, salt)
def drip(content, salt):
    for found in healthy(content[4:], salt):
        time.sleep(0.4)
        yield found
healthy, read.read_bytes = read.read_bytes, strike
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files whose first bytes name the defect that they bring about, and sound ones."""
    (tmp_path / "defect").mkdir()
    (tmp_path / "defect/sitecustomize.py").write_text(DEFECT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "defect"))
    files = tmp_path / "files"
    files.mkdir()
    for name in ("crash", "hang", "fill", "grow", "exit", "own"):
        (files / name).write_bytes(name.encode() + bytes(200))
    many = to_bytes(multi_frame([make_dataset(small_head(i, 32)) for i in range(12)]))
    (files / "drip").write_bytes(b"drip" + many)
    for name, content in make_seeds().items():
        (files / name).write_bytes(content)
    return files


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("crash", "decoder-died", "SIGSEGV"),
        ("exit", "decoder-died", "exit status 3"),
        ("hang", "too-slow", "longer than 2 s"),
        ("fill", "too-large", "memory"),
        ("grow", "too-large", "memory"),
    ],
)
def test_a_defect_is_a_reason_and_the_next_file_is_read(folder, name, reason, detail):
    seconds = 2 if name == "hang" else 30
    with GuardedReader(folder, SALT, seconds, memory_gb=0.5) as reader:
        for _ in range(2):
            (found,) = reader.read(name)
            assert (found.reason, detail in found.detail) == (reason, True)
            (sound,) = reader.read("jpeg2000")
            np.testing.assert_array_equal(sound.hu, small_head(9) - 1024)


def test_a_child_that_was_taken_over_makes_its_parent_do_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with GuardedReader(folder, SALT) as reader:
        (found,) = reader.read("own")
        assert (found.reason, found.detail) == (
            "decoder-died",
            "its answer holds what no picture does",
        )
        assert not (tmp_path / "taken over").exists()
        (sound,) = reader.read("jpeg2000")
        assert isinstance(sound, Slice)


@pytest.mark.parametrize("answer", [b"", b"junk", pickle.dumps([1, 2])[:-3]])
def test_an_answer_that_is_none_is_a_reason(answer):
    with pytest.raises(QuarantineError, match="makes no sense"):
        load_answer(answer)


def test_the_time_limit_is_that_of_a_file_and_not_of_each_of_its_pictures(folder):
    with GuardedReader(folder, SALT, seconds=2) as reader:
        found = list(reader.read("drip"))
    assert found[-1].reason == "too-slow"
    assert 3 <= len(found) <= 6  # 0.4 s a picture, of which 0.02 are given back


def test_the_time_that_the_caller_takes_is_not_the_files(folder):
    with GuardedReader(folder, SALT, seconds=1) as reader:
        for found in reader.read("multi-frame rle"):
            assert isinstance(found, Slice)
            time.sleep(1.2)


def test_pictures_are_the_same_from_the_child(folder):
    with GuardedReader(folder, SALT) as reader:
        for name in make_seeds():
            for found in reader.read(name):
                assert isinstance(found, Slice), name
        frames = list(reader.read("multi-frame rle"))
    assert [one.frame for one in frames] == [1, 2, 3]
    for i, one in enumerate(frames):
        np.testing.assert_array_equal(one.hu, small_head(i) - 1024)


def guards():
    """The children of this process that decode; other tests may have left other ones."""
    return [one for one in psutil.Process().children() if "hemtrace.dicom.guard" in one.cmdline()]


def test_plain_files_need_no_child(folder):
    with GuardedReader(folder, SALT) as reader:
        assert isinstance(next(iter(reader.read("explicit-little"))), Slice)
        assert not guards()


def test_a_file_of_more_than_a_picture_is_read_under_the_limits(folder):
    dataset = make_dataset(small_head(3))
    dataset.add_new(0x00091010, "OB", bytes(41 * 2**20))
    with GuardedReader(folder, SALT) as reader:
        (found,) = reader.read_content(to_bytes(dataset))
        np.testing.assert_array_equal(found.hu, small_head(3) - 1024)
        assert reader._child is not None


def test_the_child_is_gone_after_the_work(folder):
    with GuardedReader(folder, SALT) as reader:
        list(reader.read("rle"))
        assert guards()
    assert not guards()


def test_the_child_does_not_outlive_a_killed_parent(folder):
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from hemtrace.dicom.guard import GuardedReader\n"
        f"reader = GuardedReader(Path({str(folder)!r}), b'x' * 16, 60)\n"
        "list(reader.read('rle'))\nprint(reader._child.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_bad_file_is_one_rejected(folder):
    (folder / "empty").touch()
    with GuardedReader(folder, SALT) as reader:
        assert [found.reason for found in reader.read("empty")] == ["not-dicom"]


def test_a_file_that_is_gone_stops_the_run(folder):
    with GuardedReader(folder, SALT) as reader, pytest.raises(HemtraceError, match="is gone"):
        list(reader.read("gone"))


def test_a_claim_of_many_frames_fills_no_memory(folder):
    whole = multi_frame([make_dataset(small_head(0))])
    whole.NumberOfFrames = 1000
    whole.Rows = whole.Columns = 4000
    (folder / "claim").write_bytes(to_bytes(whole))
    with GuardedReader(folder, SALT) as reader:
        before = psutil.Process().memory_info().rss
        (found,) = reader.read("claim")
        assert isinstance(found, Rejected)
        assert psutil.Process().memory_info().rss - before < 2**27


def test_decoders_say_nothing_on_the_screen(folder, capfd):
    content = bytearray((folder / "jpeg2000").read_bytes())
    content[-300:-100] = os.urandom(200)
    (folder / "noisy").write_bytes(content)
    with GuardedReader(folder, SALT) as reader:
        list(reader.read("noisy"))
    assert capfd.readouterr() == ("", "")


def test_an_answer_left_half_read_is_not_taken_for_the_next_files(tmp_path):
    (tmp_path / "many").write_bytes(make_seeds()["multi-frame"])
    (tmp_path / "one").write_bytes(make_seeds()["rle"])
    with GuardedReader(tmp_path, SALT) as reader:
        alone = [found.pixel_blake3 for found in reader.read("one")]
        left = reader.read("many")
        next(left)
        assert [found.pixel_blake3 for found in reader.read("one")] == alone
        left.close()
        assert [found.pixel_blake3 for found in reader.read("one")] == alone


@pytest.mark.parametrize("name", ["crash", "hang", "fill"])
def test_a_header_that_kills_its_parser_tells_nothing_and_the_next_one_is_read(folder, name):
    with GuardedReader(folder, SALT, seconds=2, memory_gb=0.5) as reader:
        content = (folder / name).read_bytes()
        assert reader.identify(content) == {}
        with pytest.raises(QuarantineError):
            reader.read_header(content)
        told = reader.identify((folder / "rle").read_bytes())
        assert told["patient_id"] == "ID_0000000a"


def test_headers_and_pictures_are_asked_of_one_child_in_turn(tmp_path):
    content = make_seeds()["rle"]
    (tmp_path / "one").write_bytes(content)
    with GuardedReader(tmp_path, SALT) as reader:
        reader.start()
        (child,) = guards()
        left = reader.read("one")
        next(left)
        assert reader.identify(content)["patient_id"] == "ID_0000000a"
        copied = pydicom.dcmread(io.BytesIO(reader.read_header(content)))
        assert (copied.Modality, "PixelData" in copied) == ("CT", False)
        (found,) = reader.read("one")
        assert isinstance(found, Slice)
    assert not child.is_running()


def test_headers_of_frames_are_parsed_once_a_file(tmp_path):
    content, asked = make_seeds()["multi-frame"], []

    def read_content(name):
        asked.append(name)
        return content

    first, second, other = read_headers(read_content, ["a", "a", "b"])
    assert first is second
    assert first is not other
    assert (asked, first.PatientID) == (["a", "b"], "ID_0000000a")
