import os
import re
import resource
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hemtrace.dicom import slice_key
from hemtrace.dicom.reasons import QuarantineError
from hemtrace.dicom.source import NO_SIZE, read_source, walk_files
from hemtrace.errors import HemtraceError

SALT = b"a salt of sixteen"


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(folder):
    return sorted(name for name, _ in walk_files(folder))


def test_every_file_below_a_folder_is_named_with_its_size(tmp_path):
    write(tmp_path / "a/b/c.dcm", b"123")
    write(tmp_path / "no suffix")
    assert dict(walk_files(tmp_path)) == {"a/b/c.dcm": 3, "no suffix": 1}


@pytest.mark.parametrize(
    "name",
    ["Doe Jane.dcm", "Müller.dcm", "日本.dcm", "100%.dcm", "a%20b", "new\nline", "tab\t.dcm"],
)
def test_a_name_is_one_line_of_text_and_leads_back_to_the_file(tmp_path, name):
    write(tmp_path / name, name.encode())
    (found,) = names(tmp_path)
    assert found.isprintable()
    assert read_source(tmp_path, found, SALT) == name.encode()


def test_a_name_that_is_no_utf_8_leads_back_to_the_file(tmp_path):
    write(tmp_path / os.fsdecode(b"M\xfcller.dcm"), b"latin")
    (found,) = names(tmp_path)
    assert found == "M%FCller.dcm"
    assert read_source(tmp_path, found, SALT) == b"latin"


def test_links_are_followed_and_loops_end(tmp_path):
    write(tmp_path / "elsewhere/x.dcm")
    folder = tmp_path / "folder"
    write(folder / "a.dcm")
    (folder / "link.dcm").symlink_to(tmp_path / "elsewhere/x.dcm")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    assert names(folder) == ["a.dcm", "link.dcm", "linked/x.dcm"]
    assert read_source(folder, "linked/x.dcm", SALT) == b"x"


def test_a_folder_has_its_own_name_where_a_link_leads_to_it_too(tmp_path):
    write(tmp_path / "b/x.dcm")
    write(tmp_path / "b/c/y.dcm")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    assert names(tmp_path) == ["b/c/y.dcm", "b/x.dcm"]


def test_what_is_no_file_is_named_and_never_opened(tmp_path):
    (tmp_path / "nowhere.dcm").symlink_to(tmp_path / "gone")
    (tmp_path / "itself.dcm").symlink_to(tmp_path / "itself.dcm")
    os.mkfifo(tmp_path / "pipe.dcm")
    assert dict(walk_files(tmp_path)) == dict.fromkeys(
        ["nowhere.dcm", "itself.dcm", "pipe.dcm"], NO_SIZE
    )
    for name in names(tmp_path):
        with pytest.raises(QuarantineError, match="unreadable"):
            read_source(tmp_path, name, SALT)


def test_a_file_that_is_gone_is_no_verdict_on_it(tmp_path):
    with pytest.raises(HemtraceError, match=r"was listed, and is gone.*--forcerun ingest_list"):
        read_source(tmp_path, "gone.dcm", SALT)


def test_errors_end_in_logs_and_do_not_tell_the_names_of_persons(tmp_path, monkeypatch):
    make_zip(tmp_path / "DOE.zip", [("JANE.dcm", b"1")])
    key = slice_key("DOE/JANE.dcm", None, SALT)
    with pytest.raises(HemtraceError, match=f"The file {key} of") as gone:
        read_source(tmp_path, "DOE/JANE.dcm", SALT)
    with pytest.raises(HemtraceError, match="its zip has changed") as changed:
        read_source(tmp_path, "DOE.zip/JOHN.dcm", SALT)
    with pytest.raises(HemtraceError, match=r"The file ID_0123abcde\.dcm of"):
        read_source(tmp_path, "a/ID_0123abcde.dcm", SALT)
    (tmp_path / "DOE").mkdir()
    scandir = os.scandir

    def refuse(path):
        if path == tmp_path / "DOE":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(HemtraceError, match="Find it by") as locked:
        list(walk_files(tmp_path))
    for error in (gone, changed, locked):
        assert not {"DOE", "JANE", "JOHN"} & set(re.findall("[A-Z]+", str(error.value)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_told(tmp_path):
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(HemtraceError, match="cannot be read"):
        list(walk_files(tmp_path))


def test_a_folder_or_file_that_the_system_refuses_is_told(tmp_path, monkeypatch):
    """Root may read everything, so the system's answer is replaced here."""
    write(tmp_path / "a.dcm")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", refuse)
        with pytest.raises(HemtraceError, match=r"cannot be read \(Permission denied\)"):
            list(walk_files(tmp_path))
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(QuarantineError, match="Permission denied"):
        read_source(tmp_path, "a.dcm", SALT)


def make_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def test_members_of_a_zip_are_files(tmp_path):
    make_zip(tmp_path / "P1.ZIP", [("s/1.dcm", b"one"), ("s/2.dcm", b"two"), ("empty/", b"")])
    assert dict(walk_files(tmp_path)) == {"P1.ZIP/s/1.dcm": 3, "P1.ZIP/s/2.dcm": 3}
    assert read_source(tmp_path, "P1.ZIP/s/2.dcm", SALT) == b"two"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_strange_names_in_a_zip_stay_apart_and_inside(tmp_path):
    members = [("../../up.dcm", b"1"), ("/root.dcm", b"2"), ("a.dcm", b"3"), ("a.dcm", b"4")]
    make_zip(tmp_path / "p.zip", members)
    found = names(tmp_path)
    assert len(set(found)) == 4
    assert sorted(read_source(tmp_path, name, SALT) for name in found) == [b"1", b"2", b"3", b"4"]


def test_a_damaged_or_empty_zip_is_a_file_that_cannot_be_read(tmp_path):
    write(tmp_path / "a.zip", b"no zip")
    make_zip(tmp_path / "b.zip", [])
    assert names(tmp_path) == ["a.zip", "b.zip"]
    assert read_source(tmp_path, "a.zip", SALT) == b"no zip"  # which then is no DICOM


def test_damaged_and_encrypted_members_have_a_reason(tmp_path):
    path = make_zip(tmp_path / "p.zip", [("1.dcm", os.urandom(5000))], zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[100] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(QuarantineError, match=r"damaged member of a zip"):
        read_source(tmp_path, "p.zip/1.dcm", SALT)
    locked = make_zip(tmp_path / "q.zip", [("1.dcm", b"secret")])
    content = bytearray(locked.read_bytes())
    place = content.find(b"PK\x01\x02")
    content[place + 8] |= 1
    locked.write_bytes(content)
    with pytest.raises(QuarantineError, match="encrypted"):
        read_source(tmp_path, "q.zip/1.dcm", SALT)


def test_a_folder_that_is_called_like_a_zip_is_a_folder(tmp_path):
    write(tmp_path / "x.zip/a.dcm", b"a")
    make_zip(tmp_path / "x.zip/y.zip", [("b.zip/b.dcm", b"b")])
    assert names(tmp_path) == ["x.zip/a.dcm", "x.zip/y.zip/b.zip/b.dcm"]
    assert [read_source(tmp_path, name, SALT) for name in names(tmp_path)] == [b"a", b"b"]


def test_a_zip_that_the_system_refuses_is_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    make_zip(tmp_path / "p.zip", [("1.dcm", b"one")])
    make_zip(tmp_path / "q.zip", [("1.dcm", b"one")])

    class Refusing(zipfile.ZipFile):
        def __init__(self, path):
            if path.name == "p.zip":
                raise PermissionError(13, "Permission denied")
            super().__init__(path)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zipfile.ZipFile", Refusing)
    assert names(tmp_path) == ["p.zip", "q.zip/1.dcm"]
    monkeypatch.setattr("pathlib.Path.open", refuse)
    for name in ("p.zip", "p.zip/1.dcm"):
        with pytest.raises(QuarantineError, match="unreadable: Permission denied"):
            read_source(tmp_path, name, SALT)


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_members_of_any_compression_are_read_and_their_damage_has_a_reason(tmp_path, compression):
    whole = np.random.default_rng(0).integers(0, 16, 3_000_000).astype(np.uint8).tobytes()
    path = make_zip(tmp_path / "p.zip", [("1.dcm", whole)], compression)
    assert read_source(tmp_path, "p.zip/1.dcm", SALT) == whole
    for start in (38, 45, 60, 5000):
        content = bytearray(path.read_bytes())
        for place in range(start, start + 300):
            content[place] ^= 0x5A
        write(tmp_path / f"q{start}.zip", content)
        with pytest.raises(QuarantineError, match="a damaged member of a zip"):
            read_source(tmp_path, f"q{start}.zip/1.dcm", SALT)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("claim", [None, 1000])
def test_a_bomb_in_a_zip_fills_no_memory(tmp_path, compression, claim):
    """In a child, whose memory is limited; the size that a zip claims may be a lie."""
    path = make_zip(tmp_path / "p.zip", [("1.dcm", bytes(600 * 2**20))], compression)
    if claim:
        content = bytearray(path.read_bytes())
        place = content.find(b"PK\x01\x02") + 24
        content[place : place + 4] = claim.to_bytes(4, "little")
        path.write_bytes(content)
    child = os.fork()
    if not child:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
        try:
            read_source(tmp_path, "p.zip/1.dcm", SALT)
        except QuarantineError as error:
            os._exit(["too-large", "unreadable"].index(error.reason))
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (1 if claim else 0)


def test_a_zip_of_many_members_is_listed_and_read_in_linear_time(tmp_path):
    make_zip(tmp_path / "p.zip", [(f"s/{i}.dcm", b"x") for i in range(20_000)], zipfile.ZIP_STORED)
    started = time.process_time()
    found = names(tmp_path)
    for name in found[:200]:
        read_source(tmp_path, name, SALT)
    assert time.process_time() - started < 5


def test_files_and_members_beyond_the_bound_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("hemtrace.dicom.source.LARGEST_FILE", 1000)
    monkeypatch.setattr("hemtrace.dicom.source.LARGEST_MEMBER", 1000)
    write(tmp_path / "big.dcm", bytes(1001))
    make_zip(tmp_path / "p.zip", [("1.dcm", bytes(100_000))])
    for name in ("big.dcm", "p.zip/1.dcm"):
        with pytest.raises(QuarantineError, match="too-large"):
            read_source(tmp_path, name, SALT)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(HemtraceError, match="was not found"):
        list(walk_files(tmp_path / "nowhere"))
