"""What an upload may be: limits, damage and harmful zips end in a sentence, never in a path."""

import io
import stat
import struct
import time
import zipfile

import pytest
from serving import (
    API,
    HEADERS,
    follow,
    make_model,
    make_settings,
    make_study,
    make_zip,
    predict,
    send,
)
from starlette.testclient import TestClient

from hemtrace.dicom.reasons import QuarantineError
from hemtrace.serve import Limits, create_app
from hemtrace.serve.problems import Problem
from hemtrace.serve.unpack import list_contents
from hemtrace.serve.uploads import Uploaded, clean_name

SMALL = Limits(
    upload_bytes=200_000,
    file_bytes=100_000,
    files=5,
    seconds=1,
    uploads=2,
    waiting=2,
    kept=2,
    kept_bytes=400_000,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def client(model, folder):
    with TestClient(create_app(make_settings(model, folder, SMALL))) as client:
        yield client


def left_over(folder):
    """Files of studies that lie in the server's folder."""
    return [path for path in folder.glob("*/0*/*") if path.is_file()]


@pytest.mark.parametrize(
    ("files", "status", "said"),
    [
        ({"a": bytes(150_000)}, 413, "A file of the upload"),
        ({str(n): bytes(90_000) for n in range(3)}, 413, "larger than"),
        ({str(n): b"x" for n in range(6)}, 413, "more than the 5 files"),
    ],
)
def test_an_upload_beyond_a_limit_is_refused_and_leaves_nothing(
    client, folder, files, status, said
):
    answer = send(client, files)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]
    assert not left_over(folder)


def test_a_body_without_a_length_is_counted_as_it_comes(client, folder):
    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield bytes(10_000)
        yield b"\r\n--x--\r\n"

    headers = HEADERS | {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post(f"{API}/studies", content=body(), headers=headers)
    assert answer.status_code == 413
    assert not left_over(folder)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        ("multipart/form-data; boundary=" + "b" * 300, b"", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
        ("multipart/form-data; boundary=x", b"nonsense", 400),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nabc',
            400,
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nabc\r\n--x--\r\n',
            422,
        ),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\n" + b"A: b\r\n" * 50 + b"\r\nabc\r\n--x--\r\n",
            400,
        ),
        ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"b" * 9000, 400),
    ],
)
def test_damaged_bodies_are_told_what_is_wanted(client, folder, kind, body, status):
    headers = HEADERS | {"Content-Type": kind}
    answer = client.post(f"{API}/studies", content=body, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert "multipart/form-data" in answer.json()["detail"]
    assert not left_over(folder)


def test_too_many_studies_wait_in_a_line_that_ends(client, monkeypatch):
    monkeypatch.setattr(client.app.state.service.jobs, "_work", lambda job: time.sleep(0.5))
    assert [send(client, {"a": b"x"}).status_code for _ in range(3)] == [202, 202, 429]
    time.sleep(0.7)
    answer = send(client, {"a": b"x"})
    assert answer.status_code == 503, "two are kept"
    assert answer.headers["retry-after"]


def test_all_studies_together_take_no_more_than_their_room(client):
    monkey = Limits(**{**vars(SMALL), "kept_bytes": 150_000})
    object.__setattr__(client.app.state.service.settings, "limits", monkey)
    assert send(client, {"a": bytes(90_000)}).status_code == 202
    answer = send(client, {"a": bytes(90_000)})
    assert answer.status_code == 503
    assert "room" in answer.json()["detail"]


def test_what_files_decode_to_counts_as_room_too(client):
    limits = Limits(**{**vars(Limits()), "kept_bytes": 1_400_000})
    object.__setattr__(client.app.state.service.settings, "limits", limits)
    study_id = send(client, {"study.zip": make_zip(make_study(10))}).json()["id"]
    name, data = follow(client, study_id)[-1]
    assert (name, "no room" in data) == ("failed", True)


def test_all_that_lies_on_the_disk_is_counted(client):
    object.__setattr__(client.app.state.service.settings, "limits", Limits())
    study_id = predict(client, {"study.zip": make_zip(make_study(8))})["id"]
    for path in ("series/0/volume.nii", "series/0/heat/any.nii", "results.dcm.zip"):
        assert client.get(f"{API}/studies/{study_id}/{path}").status_code == 200
    job = client.app.state.service.jobs.find(study_id)
    assert len(list(job.folder.glob("previews/*.png"))) == 8
    on_disk = sum(path.stat().st_size for path in job.folder.rglob("*") if path.is_file())
    # What stands between the parts of the body is counted, but not written.
    assert on_disk <= job.bytes < on_disk + 1000


def test_previews_that_have_no_room_end_a_study(client, monkeypatch):
    limits = Limits(**{**vars(Limits()), "kept_bytes": 10**7})
    object.__setattr__(client.app.state.service.settings, "limits", limits)
    monkeypatch.setattr("hemtrace.serve.prediction.encode_preview", lambda hu: bytes(10**7))
    study_id = send(client, {"study.zip": make_zip(make_study(3))}).json()["id"]
    name, data = follow(client, study_id)[-1]
    assert (name, "no room" in data) == ("failed", True)


@pytest.mark.parametrize(
    ("limit", "read", "reason", "said"),
    [
        ({"work_seconds": 0}, 0, "too-slow", "the time that the server gives to an upload"),
        ({"pictures": 2}, 2, "too-large", "more pictures than the server allows"),
        ({"picture_bytes": 3 * 2 * 64**2}, 3, "too-large", "more pictures than the server allows"),
    ],
)
def test_files_beyond_a_limit_of_reading_are_refused_by_themselves(
    client, limit, read, reason, said
):
    limits = Limits(**{**vars(Limits()), **limit})
    object.__setattr__(client.app.state.service.settings, "limits", limits)
    job = predict(client, make_study(5, side=64))
    slices = [one for study in job["studies"] for s in study["series"] for one in s["slices"]]
    assert len(slices) == read
    assert [one["reason"] for one in job["rejected"]] == [reason] * (5 - read)
    assert all(said in one["meaning"] for one in job["rejected"])


def test_a_deleted_study_makes_room_for_another(client):
    for _ in range(4):
        study_id = send(client, {"a": b"x"}).json()["id"]
        follow(client, study_id)
        assert client.delete(f"{API}/studies/{study_id}", headers=HEADERS).status_code == 204


# Zips ---------------------------------------------------------------------------------------------


def contents_of(tmp_path, content, name="a.zip", limits=SMALL):
    path = tmp_path / "000000"
    path.write_bytes(content)
    return list_contents([Uploaded(name, path, len(content))], limits)


def member(name, content=b"hello", mode=0o100644, **given):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    for key, value in given.items():
        setattr(info, key, value)
    return info, content


def pack(*members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        for info, content in members:
            packed.writestr(info, content, compress_type=method)
    return out.getvalue()


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (member("../../etc/passwd"), "leads out"),
        (member("/etc/passwd"), "leads out"),
        (member("C:\\windows\\x"), "leads out"),
        (member("a/..\\..\\b"), "leads out"),
        (member("link", b"/etc/passwd", stat.S_IFLNK | 0o777), "link"),
        (member("pipe", b"", stat.S_IFIFO | 0o666), "special file"),
        (member("inner.zip", make_zip({"a": b"b"})), "zip within a zip"),
        (member("inner.ZIP", b"x"), "zip within a zip"),
        (member("bomb", bytes(90_000)), None),
        (member("bomb", bytes(5_000_000)), "unpacks to more"),
    ],
)
def test_a_member_that_means_harm_is_refused_by_itself(tmp_path, info, said):
    contents = contents_of(tmp_path, pack(member("good.dcm"), info))
    assert contents.read("a.zip/good.dcm") == b"hello"
    if said is None:
        assert len(contents.names) == 2
        return
    assert contents.names == ("a.zip/good.dcm",)
    assert said in contents.refused[0].meaning


def test_a_member_of_a_thousand_times_its_size_is_no_image(tmp_path):
    limits = Limits(**{**vars(SMALL), "file_bytes": 10**9, "upload_bytes": 10**9})
    contents = contents_of(tmp_path, pack(member("blank", bytes(20_000_000))), limits=limits)
    assert "100 times its size" in contents.refused[0].meaning


def test_an_unnamed_zip_within_a_zip_is_found_by_its_bytes(tmp_path):
    contents = contents_of(tmp_path, make_zip({"innocent.dcm": make_zip({"a": b"b"})}))
    with pytest.raises(QuarantineError, match="zip within a zip"):
        contents.read("a.zip/innocent.dcm")


def test_a_zip_is_known_by_its_bytes_and_a_dicom_file_by_its_own(tmp_path):
    assert contents_of(tmp_path, make_zip({"a": b"b"}), "study").names == ("study/a",)
    two_faced = b"PK\x03\x04" + bytes(124) + b"DICM" + bytes(100)
    assert contents_of(tmp_path, two_faced, "a.dcm").names == ("a.dcm",)


def test_zips_that_claim_more_than_an_upload_may_hold_are_refused_whole(tmp_path):
    many = {str(n): bytes([n]) * 90_000 for n in range(4)}
    with pytest.raises(Problem, match="unpacks to more"):
        contents_of(tmp_path, make_zip(many))
    with pytest.raises(Problem, match="more than the 5 files"):
        contents_of(tmp_path, make_zip({str(n): b"x" for n in range(6)}))


def test_a_member_never_unpacks_to_more_than_it_claims(tmp_path):
    """Deflate of 90,000 bytes whose headers say 100: the old lie of a zip bomb."""
    content = bytearray(make_zip({"a": bytes(range(250)) * 360}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + offset, 100)
    contents = contents_of(tmp_path, bytes(content))
    with pytest.raises(QuarantineError, match="damaged member"):
        contents.read("a.zip/a")


def test_overlapping_members_are_refused(tmp_path):
    """Fifield's bomb: many entries of the table of contents over one block of data."""
    content = make_zip({"a": bytes(80_000)})
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry = content[start:end]
    tail = bytearray(content[end:])
    struct.pack_into("<HHI", tail, 8, 4, 4, 4 * len(entry))
    with pytest.raises(Problem, match="unpacks to more"):
        contents_of(tmp_path, content[:start] + entry * 4 + bytes(tail))


def test_an_encrypted_member_is_refused(tmp_path):
    content = bytearray(make_zip({"a": b"hello"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    assert "password" in contents_of(tmp_path, bytes(content)).refused[0].meaning


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_rare_methods_of_packing_are_refused(tmp_path, method):
    content = make_zip({"a": bytes(1000)}, method)
    assert "ordinary zip" in contents_of(tmp_path, content).refused[0].meaning


def test_names_with_backslashes_and_names_that_stand_twice_are_kept_apart(tmp_path):
    content = pack(member("folder\\a"), member("folder/a", b"other"), member("folder/", b""))
    contents = contents_of(tmp_path, content)
    assert contents.names == ("a.zip/folder/a", "a.zip/folder/a (2)")
    assert contents.read("a.zip/folder/a (2)") == b"other"


@pytest.mark.parametrize("cut", [10, 40, 70, 100])
def test_a_zip_cut_short_is_a_damaged_zip(tmp_path, cut):
    contents = contents_of(tmp_path, make_zip({"a": b"hello" * 10})[:-cut])
    assert contents.names == ()
    assert "damaged zip" in contents.refused[0].meaning


def test_a_table_of_contents_that_is_too_long_is_not_read(tmp_path):
    """A million members take a gigabyte of objects once they are parsed."""
    start = make_zip({"a": b"b"})
    place = start.index(b"PK\x01\x02")
    entry = start[place : start.index(b"PK\x05\x06")]
    table = entry * 60_000
    tail = bytearray(start[start.index(b"PK\x05\x06") :])
    struct.pack_into("<I", tail, 12, len(table))
    contents = contents_of(tmp_path, start[:place] + table + bytes(tail))
    assert "damaged zip" in contents.refused[0].meaning


def test_an_empty_zip_is_told(tmp_path):
    assert contents_of(tmp_path, make_zip({})).refused[0].meaning == "a zip without a file"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("scan/a.dcm", "scan/a.dcm"),
        ("scan\\a.dcm", "scan/a.dcm"),
        ("/etc/passwd", "etc/passwd"),
        ("", "(no name)"),
        ("a\nb\x00\u202ec", "a%0Ab%00%E2%80%AEc"),
        ("x" * 1000, "x" * 200),
    ],
)
def test_names_are_one_printable_line(name, shown):
    assert clean_name(name) == shown


def test_a_refused_member_is_listed_beside_the_answer(client):
    limits = Limits()
    object.__setattr__(client.app.state.service.settings, "limits", limits)
    packed = pack(
        *[member(name, content) for name, content in make_study(8).items()],
        member("../evil.dcm"),
    )
    answer = send(client, {"study.zip": packed})
    study_id = answer.json()["id"]
    assert follow(client, study_id)[-1][0] == "done"
    job = client.get(f"{API}/studies/{study_id}").json()
    assert len(job["studies"]) == 1
    (lost,) = job["rejected"]
    assert "leads out" in lost["meaning"]
