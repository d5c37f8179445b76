"""A node at work over real connections; the PACS is pynetdicom's, the model a stand-in."""

import contextlib
import errno
import logging
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from noding import (
    ACCESSION,
    NAME,
    PATIENT,
    Pacs,
    StandIn,
    encode,
    entries,
    free_port,
    let_time_pass,
    make_capture,
    make_config,
    make_scan,
    settle,
    states,
    store,
    to_pacs,
    wait_for,
)
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE
from starlette.testclient import TestClient
from typer.testing import CliRunner

from hemtrace.commands.node import app
from hemtrace.dicom import Rejected
from hemtrace.errors import HemtraceError
from hemtrace.node.answer import stop_after
from hemtrace.node.config import Tls, load_config
from hemtrace.node.intake import Intake, Source
from hemtrace.node.page import make_app
from hemtrace.node.queue import Queue
from hemtrace.node.receive import client_context
from hemtrace.node.run import Node
from hemtrace.node.schema import Database
from hemtrace.node.watch import Watcher
from hemtrace.node.web import Listed, WebError, split_part
from hemtrace.node.worklist import list_unfetched

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    with Pacs() as made:
        yield made


def test_names_of_objects_and_results_are_synced_with_every_folder_above(
    tmp_path: Path, pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path / "new", send=[to_pacs(pacs.port)])
    synced: set[Path] = set()

    def note(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        synced.update(path.iterdir() if path.is_dir() else ())  # the names that it holds by then

    monkeypatch.setattr("os.fsync", note)
    with Node(config, StandIn(config.folder)):
        store(make_scan("1.2.1", 2), config.listen.port)
        kept = set(config.folder.glob("studies/*/*.dcm"))
        assert len(kept) == 2
        assert kept | {path.parent for path in kept} <= synced  # before Success was answered
        settle(config)
    results = set(config.folder.glob("results/*/*.dcm"))
    assert len(results) == 1
    assert results | {path.parent for path in results} <= synced
    assert {tmp_path / "new", *(config.folder / name for name in ("studies", "results"))} <= synced


def test_studies_interleaved_over_two_connections_are_each_answered_once(
    tmp_path: Path, pacs: Pacs
) -> None:
    config = make_config(tmp_path, send=[to_pacs(pacs.port)])
    slices = [one for study in range(4) for one in make_scan(f"1.2.{study + 1}", 3)]
    random.Random(0).shuffle(slices)
    answers = StandIn(config.folder)
    with Node(config, answers):
        port = config.listen.port
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda part=part: results.extend(store(part, port)))
            for part in (slices[::2], slices[1::2], slices[::3])  # some come twice
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(results) == {0}
        settle(config)
    assert [len(task.files) for task in answers.tasks] == [3, 3, 3, 3]
    assert len(pacs.got) == 4
    assert set(pacs.got.values()) == {1}


def test_urgent_studies_are_predicted_and_bleeds_are_sent_first(tmp_path: Path, pacs: Pacs) -> None:
    listen = {"port": free_port(), "urgent_callers": ["ER"]}
    config = make_config(tmp_path, send=[to_pacs(pacs.port)], listen=listen)
    urgencies = {"1.2.1": 0.1, "1.2.2": 0.2, "1.2.3": 0.9, "1.2.4": 0.3}
    answers = StandIn(config.folder, urgencies.__getitem__)
    answers.go.clear()
    with Node(config, answers):
        store(make_scan("1.2.1", 1), listen["port"])
        let_time_pass(config)
        wait_for(lambda: answers.tasks)  # the others arrive while it is at work
        store(make_scan("1.2.2", 1), listen["port"])
        store(make_scan("1.2.3", 1), listen["port"], calling="ER")
        store(make_scan("1.2.4", 1), listen["port"], priority=1)
        settle(config, "predicting", "complete", "complete", "complete")
        answers.go.set()
        settle(config)
    assert [task.study for task in answers.tasks] == [1, 3, 4, 2]


def test_late_slice_is_answered_anew_and_own_results_that_come_back_are_not(
    tmp_path: Path, pacs: Pacs
) -> None:
    config = make_config(tmp_path, send=[to_pacs(pacs.port)])
    scan = make_scan("1.2.1", 4)
    answers = StandIn(config.folder)
    with Node(config, answers):
        port = config.listen.port
        store(scan[:3], port)
        settle(config)
        own = encode(make_capture("1.2.1", next(iter(pacs.got))))
        strange = encode(make_capture("1.2.77", "1.2.77.5"))
        assert store([own, strange, *scan[:3]], port) == [0] * 5
        assert states(config) == ["done"]
        assert len(answers.tasks) == 1
        store(scan[3:], port)
        assert states(config) == ["receiving"]
        settle(config)
    assert [(task.revision, task.late) for task in answers.tasks] == [(1, 0), (2, 1)]
    assert set(pacs.got.values()) == {1}
    assert len(entries(config)) == 1


def test_object_that_is_no_ct_is_told_and_answered_nothing(tmp_path: Path, pacs: Pacs) -> None:
    config = make_config(tmp_path, send=[to_pacs(pacs.port)])
    other = make_capture("1.2.5", "1.2.5.1")
    other.Manufacturer = "somebody"
    with Node(config, StandIn(config.folder)):
        assert store([encode(other)], config.listen.port) == [0]
        settle(config)
    (entry,) = entries(config)
    assert (entry.kept, entry.not_kept, entry.answer) == (0, 1, "no-answer")
    assert not pacs.got
    assert not list(config.folder.glob("studies/*/*"))


def test_unknown_callers_and_other_titles_are_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path, listen={"port": free_port(), "callers": ["CT1"]})
    scan = make_scan("1.2.1", 1)
    with Node(config, StandIn(config.folder)):
        port = config.listen.port
        assert store(scan, port, calling="CT2") == [-1]
        assert store(scan, port, called="OTHER") == [-1]
        assert not entries(config)
        assert store(scan, port) == [0]


def test_garbage_on_the_port_does_not_stop_the_node(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    chance = random.Random(1)
    with Node(config, StandIn(config.folder)):
        port = config.listen.port
        for size in (0, 1, 6, 100, 5000):
            with socket.create_connection(("127.0.0.1", port)) as link:
                link.sendall(chance.randbytes(size))
        assert store(make_scan("1.2.1", 1), port) == [0]


def test_no_room_is_told_and_nothing_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = make_scan("1.2.1", 3)
    limits = {"kept_bytes": len(scan[0]) * 2 + 100}
    config = make_config(tmp_path, limits=limits)
    with Node(config, StandIn(config.folder)):
        port = config.listen.port
        assert store(scan, port) == [0, 0, 0xA700]
        (entry,) = entries(config)
        assert entry.kept == 2

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        with monkeypatch.context() as patch:
            patch.setattr("hemtrace.node.intake.os.fsync", full)
            assert store(make_scan("1.2.2", 1)[:1], port) == [0xA700]
        assert len(entries(config)) == 1
        assert not list((config.folder / "arriving").iterdir())


def test_object_that_grows_beyond_its_limit_ends_its_connection(tmp_path: Path) -> None:
    config = make_config(tmp_path, limits={"file_bytes": 100_000})
    with Node(config, StandIn(config.folder)):
        port = config.listen.port
        assert store(make_scan("1.2.1", 1, side=512), port)[0] in (-1, 0xA700)
        assert store(make_scan("1.2.2", 1), port) == [0]
        assert [one.kept for one in entries(config)] == [1]


def test_objects_that_arrive_at_once_and_free_disk_have_limits(tmp_path: Path) -> None:
    scan = make_scan("1.2.1", 1, side=256)
    for number, (limit, size, wanted) in enumerate(
        [
            ("arriving_bytes", len(scan[0]) // 2, -1),
            ("arriving_bytes", len(scan[0]) * 2, 0),
            ("free_bytes", 10**18, 0xA700),
        ]
    ):
        config = make_config(tmp_path / str(number), limits={limit: size})
        with Node(config, StandIn(config.folder)):
            assert store(scan, config.listen.port) == [wanted]


def test_connections_are_few_and_a_silent_one_ends(tmp_path: Path) -> None:
    listen = {"port": free_port(), "associations": 1, "idle_seconds": 3}
    config = make_config(tmp_path, listen=listen)
    entity = AE("CT1")
    entity.add_requested_context(CT_CLASS)
    with Node(config, StandIn(config.folder)):
        silent = entity.associate("127.0.0.1", listen["port"], ae_title="HEMTRACE")
        assert silent.is_established
        assert entity.associate("127.0.0.1", listen["port"], ae_title="HEMTRACE").is_rejected
        wait_for(lambda: not silent.is_established, 20)
        wait_for(lambda: store(make_scan("1.2.1", 1), listen["port"]) == [0], 20)


def test_deflated_data_sets_are_not_accepted(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    entity = AE("CT1")
    entity.add_requested_context(CT_CLASS, DeflatedExplicitVRLittleEndian)
    entity.add_requested_context(CT_CLASS, ExplicitVRLittleEndian)
    with Node(config, StandIn(config.folder)):
        link = entity.associate("127.0.0.1", config.listen.port, ae_title="HEMTRACE")
        accepted = [one.transfer_syntax for one in link.accepted_contexts]
        refused = [one.transfer_syntax for one in link.rejected_contexts]
        link.release()
    assert accepted == [[ExplicitVRLittleEndian]]
    assert refused == [[DeflatedExplicitVRLittleEndian]]


def test_destination_that_is_down_makes_a_dead_letter_and_retry_delivers(
    tmp_path: Path, pacs: Pacs
) -> None:
    down = free_port()
    config = make_config(tmp_path, send=[to_pacs(pacs.port), to_pacs(down, "archive")])
    with Node(config, StandIn(config.folder)):
        store(make_scan("1.2.1", 2), config.listen.port)
        settle(config, "dead")
        (entry,) = entries(config)
        assert [(one.destination, one.state) for one in entry.sent] == [
            ("pacs", "done"),
            ("archive", "dead"),
        ]
        assert "could not be reached" in next(entry.faults)
        file = write_yaml(tmp_path, config)
        told = CliRunner().invoke(app, ["list", str(file), "--dead"])
        assert "archive, after 3 attempts" in told.output
        assert "SYNTHETIC" in told.output
        with Pacs(down) as archive:
            assert CliRunner().invoke(app, ["retry", str(file), "7"]).exit_code == 1
            assert CliRunner().invoke(app, ["retry", str(file)]).exit_code == 0
            settle(config)
            assert set(archive.got.values()) == {1}
    assert set(pacs.got.values()) == {1}


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def write_yaml(folder: Path, config: Any) -> Path:
    file = folder / "node.yaml"
    file.write_text(config.model_dump_json())
    return file


def test_refused_result_is_retried_and_given_up(tmp_path: Path, pacs: Pacs) -> None:
    config = make_config(tmp_path, send=[to_pacs(pacs.port)])
    pacs.status = 0xA700
    with Node(config, StandIn(config.folder)):
        store(make_scan("1.2.1", 1), config.listen.port)
        settle(config, "dead")
    assert list(pacs.got.values()) == [3]
    assert "0xA700" in next(entries(config)[0].faults)


def test_study_that_cannot_be_predicted_holds_up_no_other(tmp_path: Path, pacs: Pacs) -> None:
    config = make_config(tmp_path, send=[to_pacs(pacs.port)])
    answers = StandIn(config.folder)
    answers.fault = ValueError(f"{NAME} has no pixels")
    with Node(config, answers):
        store(make_scan("1.2.1", 1), config.listen.port)
        settle(config, "dead")
        answers.fault = None
        store(make_scan("1.2.2", 1), config.listen.port)
        settle(config, "dead", "done")
    fault = next(one for one in entries(config) if one.is_dead).error
    assert fault is not None
    assert "ValueError" in fault
    assert NAME not in fault


def test_files_that_hang_their_decoder_take_a_study_no_longer_than_its_time() -> None:
    now, asked = [0.0], []

    def read(name: str) -> Iterator[Rejected]:
        asked.append(name)
        now[0] += 20  # the guarded child's own limit
        yield Rejected("too-slow", "it hung")

    reading = stop_after(read, 50, lambda: now[0])
    found = [one for number in range(1000) for one in reading(str(number))]
    assert len(found) == 1000  # none is passed over in silence
    assert {one.reason for one in found} == {"too-slow"}
    assert len(asked) == 3


def test_logs_hold_no_identifier(
    tmp_path: Path, pacs: Pacs, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    down = to_pacs(free_port(), "archive")
    config = make_config(tmp_path, send=[to_pacs(pacs.port), down])
    answers = StandIn(config.folder)
    uid = "1.2.826.99.7"
    with Node(config, answers):
        port = config.listen.port
        store(make_scan(uid, 2), port)
        store([encode(make_capture(uid, "1.2.826.99.8"))], port)
        store([b"\0" * 128 + b"DICM" + encode(make_capture(uid, "1.2.3"))[132:500]], port)
        settle(config, "dead")
        answers.fault = RuntimeError(f"{NAME} {uid}")
        store(make_scan(uid + "1", 1), port)
        settle(config, "dead", "dead")
    printed = capfd.readouterr()
    ours = [one for one in caplog.records if one.name == "hemtrace.node"]
    assert len(ours) > 5
    text = caplog.text + printed.out + printed.err
    for secret in (NAME, "Beeblebrox", PATIENT, ACCESSION, "1.2.826.99"):
        assert secret not in text
    database = b"".join(path.read_bytes() for path in config.folder.glob("queue.sqlite*"))
    for secret in (NAME, PATIENT, "1.2.826.99.7"):
        assert secret.encode() not in database


def test_worklist_escapes_what_a_header_says_and_shows_a_name_only_where_asked(
    tmp_path: Path, pacs: Pacs
) -> None:
    evil = "<script>alert(1)</script>^<b>Eve</b>"
    for show in ("number", "accession", "name"):
        folder = tmp_path / show
        page = {"port": free_port(), "show": show}
        config = make_config(folder, send=[to_pacs(pacs.port)], page=page)
        with Node(config, StandIn(config.folder)):
            scan = make_scan("1.2.1", 1, PatientName=evil, AccessionNumber="<i>7")
            store(scan, config.listen.port)
            settle(config)
            with urlopen(f"http://127.0.0.1:{page['port']}/") as answer:
                text = answer.read().decode()
                policy = answer.headers["Content-Security-Policy"]
        assert "script-src" not in policy
        assert "default-src 'none'" in policy
        assert "<script" not in text
        assert "<i>7" not in text
        assert ("&lt;script&gt;" in text) is (show == "name")
        assert ("&lt;i&gt;7" in text) is (show != "number")
        assert "Research use only" in text
        assert "SYNTHETIC MODEL" in text
        assert "Bleed suspected" in text


def test_object_and_what_its_study_is_called_are_noted_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path, page={"port": free_port()})
    scan = [make_scan(f"1.2.{number}", 1)[0] for number in (1, 2)]
    database = Database(config.folder, create=True)
    intake = Intake(Queue(database, config.retries), config)
    commits: list[tuple[str | None, int]] = []
    arrive = Queue.arrive

    @contextlib.contextmanager
    def watched(*told: Any) -> Iterator[str | None]:
        with arrive(*told) as file:
            yield file
        (entry,) = entries(config)  # as a process that starts after a crash here
        commits.append((entry.accession, entry.kept))

    with monkeypatch.context() as patch:
        patch.setattr(Queue, "arrive", watched)
        assert intake.take(scan[0], CT_CLASS, Source("CT1")) == "kept"
    assert commits == [(ACCESSION, 1)]

    def broken(*_: Any) -> Any:
        raise ValueError(NAME)

    monkeypatch.setattr(Intake, "_identify", broken)
    assert intake.take(scan[1], CT_CLASS, Source("CT1")) == "kept"
    assert [one.accession for one in entries(config)] == [ACCESSION, None]
    intake.close()
    database.close()


def test_killed_between_a_file_and_its_row_it_answers_once(tmp_path: Path, pacs: Pacs) -> None:
    config = make_config(tmp_path, send=[to_pacs(pacs.port)])
    file, scan = write_yaml(tmp_path, config), make_scan("1.2.1", 2)
    for point, statuses, left in (("moved", [-1, -1], "studies"), ("written", [0, 0], "results")):
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("node_child.py")), str(file), point],
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: is_open(config.listen.port))
            assert store(scan, config.listen.port) == statuses
            let_time_pass(config)
            assert child.wait(60) == -signal.SIGKILL
        finally:
            child.kill()
            child.wait()
        assert len(list(config.folder.glob(f"{left}/*/*.dcm"))) == 1
    with Node(config, StandIn(config.folder)):
        settle(config)
    (entry,) = entries(config)
    assert (entry.kept, entry.revision) == (2, 1)
    assert list(pacs.got.values()) == [1]
    assert len(list(config.folder.glob("studies/*/*"))) == 2
    assert len(list(config.folder.glob("results/*/*"))) == 1


def test_page_goes_by_no_other_name(tmp_path: Path) -> None:
    config = make_config(tmp_path, page={"port": free_port()})
    database = Database(config.folder, create=True)
    client = TestClient(make_app(database, config.page), base_url="http://evil.example")
    assert client.get("/").status_code == 400
    client = TestClient(make_app(database, config.page), base_url="http://localhost")
    assert client.get("/").status_code == 200
    assert client.get("/worklist.css").headers["content-type"].startswith("text/css")
    assert client.post("/").status_code == 405
    database.close()


def test_receiver_speaks_tls_to_those_with_a_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    tls = {"certificate": certificate, "key": key, "authorities": certificate}
    port = free_port()
    # The result comes back to the node itself, over TLS too.
    back = {**to_pacs(port, "self"), "ae_title": "HEMTRACE", "tls": tls, "host": "localhost"}
    config = make_config(tmp_path, listen={"port": port, "tls": tls}, send=[back])
    scan = make_scan("1.2.1", 1)
    with Node(config, StandIn(config.folder)):
        assert store(scan, port) == [-1]
        context = client_context(Tls.model_validate(tls))
        assert store(scan, port, tls_args=(context, "localhost")) == [0]
        settle(config)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = subprocess.run(
        [*command, *names, "-keyout", str(key), "-out", str(certificate)], capture_output=True
    )
    if made.returncode:
        pytest.skip("openssl made no certificate")
    return certificate, key


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("folder: [", "no YAML"),
        ("folder: x\nfoldr: y", "line 2: `foldr` is not a parameter; known here are folder, model"),
        ("folder: x\nlisten: {host: 0.0.0.0}", "callers"),
        ("folder: x\npage: {host: 0.0.0.0}", "stays on loopback"),
        ("folder: x\nlisten: null", "no study would come in"),
        ("folder: x\nlisten: {ae_title: SEVENTEEN_LETTERS}", "at most 16"),
        ("folder: x\nwatch: [{name: a, url: 'http://u:p@h/'}]", "url"),
        (
            "folder: x\nsend:\n- {kind: fax, name: a}",
            "line 3: `send.0`: `kind` must be one of 'dicom', 'dicomweb'.",
        ),
        ("folder: x\nsend:\n- {name: a}", "line 3: `send.0`: `kind` is missing"),
        (
            "folder: x\nsend:\n- kind: dicom\n  name: a\n  ae_title: A\n  host: h\n  prt: 4",
            "line 7: `send.0.dicom.prt` is not a parameter; known here are kind, name, ae_title",
        ),
        (
            "folder: x\nsend:\n- kind: dicomweb\n  name: a\n  urll: http://h/",
            "line 5: `send.0.dicomweb.urll` is not a parameter; known here are name, url, login",
        ),
        (
            "folder: x\nsend:\n- kind: dicomweb\n  name: a\n  login: {usr: a}",
            "`send.0.dicomweb.login.usr` is not a parameter; known here are user, secret_variable",
        ),
        ("folder: x\nlisten:\n\n  port: many", "line 4: `listen.port`: Input should be a valid"),
        (
            "folder: x\nwatch: [{name: a, url: 'http://h/', login: {user: u}}]",
            "secret_variable",
        ),
    ],
)
def test_configuration_that_does_not_fit_is_refused_in_a_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(text)
    with pytest.raises(HemtraceError, match=re.escape(sentence)):
        load_config(file)


def test_a_fault_does_not_repeat_what_could_be_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("folder: x\nwatch: [{name: a, url: 'http://u:secretpass@h/'}]")
    with pytest.raises(HemtraceError, match="url") as told:
        load_config(file)
    assert "secretpass" not in str(told.value)


def test_a_missing_secret_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    login = "{secret_variable: HEMTRACE_TEST_UNSET}"
    file.write_text(f"folder: x\nwatch: [{{name: pacs, url: 'http://h/', login: {login}}}]")
    found = CliRunner().invoke(app, ["run", str(file)])
    assert isinstance(found.exception, HemtraceError)
    sentence = "Of the server pacs: There is no secret in the environment variable HEMTRACE_TEST"
    assert str(found.exception).startswith(sentence)


def test_example_configuration_is_sound() -> None:
    config = load_config(Path(__file__).parents[1] / "docs/node.yaml")
    assert config.listen is not None
    assert {one.kind for one in config.send} == {"dicom", "dicomweb"}
    assert config.watch


def test_study_that_a_server_does_not_give_is_told_and_fetched_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uid, scan = "1.2.826.55", make_scan("1.2.826.55", 2)
    fails: set[str] = {"series"}

    class Server:
        def __init__(self, web: Any) -> None:
            pass

        def list_studies(self, dates: str | None, most: int) -> list[Listed]:
            return [Listed(uid, 2)]

        def list_series(self, study: str) -> list[Listed]:
            if "series" in fails:
                raise WebError("It does not list.")
            return [Listed(f"{uid}.1", 2, "CT"), Listed(f"{uid}.2", 1, "SR")]

        def list_objects(self, study: str, series: str) -> list[Listed]:
            assert series == f"{uid}.1"
            return [Listed(f"{uid}.1.{n}", None, CT_CLASS) for n in (1, 2)]

        def fetch(self, study: str, series: str, one: str, most: int) -> bytes:
            if "objects" in fails and one.endswith("2"):
                raise WebError("It does not give.")
            return scan[int(one[-1]) - 1]

    monkeypatch.setattr("hemtrace.node.watch.WebServer", Server)
    config = make_config(tmp_path, watch=[{"name": "web", "url": "http://h/"}], listen=None)
    database = Database(config.folder, create=True)
    now = [1000.0]
    intake = Intake(Queue(database, config.retries), config)
    watcher = Watcher(config.watch[0], config, intake, database, lambda: now[0])
    assert watcher.look() == 0
    assert list_unfetched(database) == [("web", 1, "It does not list.")]
    fails.clear()
    fails.add("objects")
    assert watcher.look() == 0  # it may still grow
    now[0] += 901
    assert watcher.look() == 0
    assert list_unfetched(database)[0][2] == "It does not give."
    assert states(config) == ["receiving"]
    fails.clear()
    assert watcher.look() == 0  # not at once
    now[0] += 60
    assert watcher.look() == 1
    assert list_unfetched(database) == []
    assert [one.kept for one in entries(config)] == [2]
    now[0] += 9999
    assert watcher.look() == 0
    assert uid not in caplog.text
    intake.close()
    database.close()


@pytest.mark.parametrize("end", ["it gives no more", "it lists no more", "it is down"])
def test_study_of_which_a_part_was_fetched_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    uid, scan, faults = "1.2.826.56", make_scan("1.2.826.56", 2), {"it gives no more"}

    class Server:
        def __init__(self, web: Any) -> None:
            pass

        def list_studies(self, dates: str | None, most: int) -> list[Listed]:
            if "it is down" in faults:
                raise WebError("It is down.")
            return [] if "it lists no more" in faults else [Listed(uid, 2)]

        def list_series(self, study: str) -> list[Listed]:
            return [Listed(f"{uid}.1", 2, "CT")]

        def list_objects(self, study: str, series: str) -> list[Listed]:
            return [Listed(f"{uid}.1.{n}", None, CT_CLASS) for n in (1, 2)]

        def fetch(self, study: str, series: str, one: str, most: int) -> bytes:
            if "it gives no more" in faults and one.endswith("2"):
                raise ValueError(f"{uid} of {NAME}")
            return scan[int(one[-1]) - 1]

    monkeypatch.setattr("hemtrace.node.watch.WebServer", Server)
    config = make_config(tmp_path, watch=[{"name": "web", "url": "http://h/"}], listen=None)
    database = Database(config.folder, create=True)
    queue, now = Queue(database, config.retries), [1000.0]
    intake = Intake(queue, config)
    watcher = Watcher(config.watch[0], config, intake, database, lambda: now[0])

    def look() -> None:
        now[0] += 901
        with contextlib.suppress(WebError):
            watcher.look()

    look()
    look()
    assert states(config) == ["receiving"]
    faults.add(end)
    for _ in range(3):
        look()
    (entry,) = entries(config)
    assert (entry.state, entry.kept) == ("dead", 1)
    assert entry.error is not None
    assert entry.error.startswith("Only a part of it was fetched: ")
    assert uid not in entry.error
    faults.clear()
    look()
    look()  # what its server gives after all is answered
    assert [(one.state, one.kept, one.error) for one in entries(config)] == [("receiving", 2, None)]
    assert queue.close_quiet(900) == 1
    intake.close()
    database.close()


def test_multipart_answers_are_taken_apart() -> None:
    content = b"DICM\r\n--other\r\n\r\n--"
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b--\r\n"
    for kind in ('multipart/related; boundary="b"', "multipart/related; boundary=b; type=x"):
        assert split_part(body, kind) == content
    assert split_part(b"x", "application/dicom") == b"x"
    for cut in (b"", body[:20], body[:-9]):
        with pytest.raises(WebError, match="cut short"):
            split_part(cut, "multipart/related; boundary=b")
    with pytest.raises(WebError, match="not multipart"):
        split_part(body, "text/html")
