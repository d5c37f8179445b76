import os
import zipfile

import pytest

from hemtrace.dicom.reasons import QuarantineError
from hemtrace.dicom.source import NO_SIZE, read_source, walk_files
from hemtrace.errors import HemtraceError


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
    assert read_source(tmp_path, found) == name.encode()


def test_a_name_that_is_no_utf_8_leads_back_to_the_file(tmp_path):
    write(tmp_path / os.fsdecode(b"M\xfcller.dcm"), b"latin")
    (found,) = names(tmp_path)
    assert found == "M%FCller.dcm"
    assert read_source(tmp_path, found) == b"latin"


def test_links_are_followed_and_loops_end(tmp_path):
    write(tmp_path / "elsewhere/x.dcm")
    folder = tmp_path / "folder"
    write(folder / "a.dcm")
    (folder / "link.dcm").symlink_to(tmp_path / "elsewhere/x.dcm")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    assert names(folder) == ["a.dcm", "link.dcm", "linked/x.dcm"]
    assert read_source(folder, "linked/x.dcm") == b"x"


def test_what_is_no_file_is_named_and_never_opened(tmp_path):
    (tmp_path / "nowhere.dcm").symlink_to(tmp_path / "gone")
    (tmp_path / "itself.dcm").symlink_to(tmp_path / "itself.dcm")
    os.mkfifo(tmp_path / "pipe.dcm")
    assert dict(walk_files(tmp_path)) == dict.fromkeys(
        ["nowhere.dcm", "itself.dcm", "pipe.dcm"], NO_SIZE
    )
    for name in names(tmp_path):
        with pytest.raises(QuarantineError, match="unreadable"):
            read_source(tmp_path, name)


def test_a_file_that_is_gone_is_no_verdict_on_it(tmp_path):
    with pytest.raises(HemtraceError, match=r"was listed, and is gone.*--forcerun ingest_list"):
        read_source(tmp_path, "gone.dcm")


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
        read_source(tmp_path, "a.dcm")


def make_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def test_members_of_a_zip_are_files(tmp_path):
    make_zip(tmp_path / "P1.ZIP", [("s/1.dcm", b"one"), ("s/2.dcm", b"two"), ("empty/", b"")])
    assert dict(walk_files(tmp_path)) == {"P1.ZIP/s/1.dcm": 3, "P1.ZIP/s/2.dcm": 3}
    assert read_source(tmp_path, "P1.ZIP/s/2.dcm") == b"two"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_strange_names_in_a_zip_stay_apart_and_inside(tmp_path):
    members = [("../../up.dcm", b"1"), ("/root.dcm", b"2"), ("a.dcm", b"3"), ("a.dcm", b"4")]
    make_zip(tmp_path / "p.zip", members)
    found = names(tmp_path)
    assert len(set(found)) == 4
    assert sorted(read_source(tmp_path, name) for name in found) == [b"1", b"2", b"3", b"4"]


def test_a_damaged_or_empty_zip_is_a_file_that_cannot_be_read(tmp_path):
    write(tmp_path / "a.zip", b"no zip")
    make_zip(tmp_path / "b.zip", [])
    assert names(tmp_path) == ["a.zip", "b.zip"]
    assert read_source(tmp_path, "a.zip") == b"no zip"  # which then is no DICOM


def test_damaged_and_encrypted_members_have_a_reason(tmp_path):
    path = make_zip(tmp_path / "p.zip", [("1.dcm", os.urandom(5000))], zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[100] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(QuarantineError, match=r"damaged member of a zip"):
        read_source(tmp_path, "p.zip/1.dcm")
    locked = make_zip(tmp_path / "q.zip", [("1.dcm", b"secret")])
    content = bytearray(locked.read_bytes())
    place = content.find(b"PK\x01\x02")
    content[place + 8] |= 1
    locked.write_bytes(content)
    with pytest.raises(QuarantineError, match="encrypted"):
        read_source(tmp_path, "q.zip/1.dcm")


def test_files_and_members_beyond_the_bound_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("hemtrace.dicom.source.LARGEST_FILE", 1000)
    write(tmp_path / "big.dcm", bytes(1001))
    make_zip(tmp_path / "p.zip", [("1.dcm", bytes(100_000))])
    for name in ("big.dcm", "p.zip/1.dcm"):
        with pytest.raises(QuarantineError, match="too-large"):
            read_source(tmp_path, name)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(HemtraceError, match="was not found"):
        list(walk_files(tmp_path / "nowhere"))
