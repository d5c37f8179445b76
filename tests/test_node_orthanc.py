"""A node with a real model beside a real Orthanc: both ways in, both ways back, and SIGKILL.

Orthanc 1.10 listens on all addresses whatever it is told, so that these tests move into a network
namespace that has nothing but a loopback of its own, where every port is free.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from noding import (
    entries,
    let_time_pass,
    make_config,
    make_scan,
    settle,
    states,
    store,
    to_pacs,
    wait_for,
)
from serving import make_model

from hemtrace.node.answer import Answerer
from hemtrace.node.run import Node

ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
NEW_NETWORK = 0x40000000  # CLONE_NEWNET of sched.h
BASE, WEB = "http://127.0.0.1:8042", "http://127.0.0.1:8042/dicom-web"
SLICES = 10


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """Move this thread, and those it starts, into a network namespace of their own."""
    if not Path(ORTHANC).exists():
        pytest.skip("Orthanc is not installed")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("no network namespace may be made here, and Orthanc listens on all addresses")
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert libc.unshare(NEW_NETWORK) == 0
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        assert libc.setns(home, NEW_NETWORK) == 0
        os.close(home)


class Orthanc:
    """A server that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._config = folder / "orthanc.json"
        self._config.write_text(
            json.dumps(
                {
                    "StorageDirectory": str(folder / "db"),
                    "IndexDirectory": str(folder / "db"),
                    "HttpPort": 8042,
                    "DicomPort": 4242,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "DicomAet": "PACS",
                    "DicomAlwaysAllowStore": True,
                    "DicomModalities": {"node": ["HEMTRACE", "127.0.0.1", 11112]},
                    "Plugins": [str(PLUGIN)] if PLUGIN.exists() else [],
                    "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
                }
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [ORTHANC, str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        try:
            return bool(self.ask("/system"))
        except OSError:
            return False

    def ask(self, path: str, content: bytes | None = None) -> Any:
        with urlopen(Request(BASE + path, content), timeout=20) as answer:
            return json.loads(answer.read())

    def find(self, uid: str) -> list[dict[str, Any]]:
        """The objects of a study: their simplified tags."""
        query = {"Level": "Study", "Query": {"StudyInstanceUID": uid}}
        studies = self.ask("/tools/find", json.dumps(query).encode())
        return [
            self.ask(f"/instances/{one['ID']}/simplified-tags")
            for study in studies
            for one in self.ask(f"/studies/{study}/instances")
        ]

    def kinds(self, uid: str) -> Counter[str]:
        """Count the objects of a study by modality."""
        return Counter(one["Modality"] for one in self.find(uid))

    def post(self, scan: list[bytes]) -> str:
        """Put slices in; Orthanc's own name for their study."""
        answers = [self.ask("/instances", one) for one in scan]
        return answers[0]["ParentStudy"]


@pytest.fixture(scope="module")
def orthanc(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def test_orthanc_sends_and_gets_a_report_and_a_capture_into_the_same_study(
    orthanc: Orthanc, model: Path, tmp_path: Path
) -> None:
    uid = "1.2.826.0.1.3680043.10.1"
    scan = make_scan(uid, SLICES, 256)
    config = make_config(
        tmp_path, model=model, send=[to_pacs(4242)], listen={"port": 11112, "callers": ["PACS"]}
    )
    with Node(config, Answerer(config)):
        study = orthanc.post(scan[:-1])
        assert orthanc.ask("/modalities/node/store", study.encode())["FailedInstancesCount"] == 0
        settle(config)
        first = orthanc.find(uid)
        assert Counter(one["Modality"] for one in first) == {"CT": SLICES - 1, "SR": 1, "OT": 1}
        report = next(one for one in first if one["Modality"] == "SR")
        assert (report["Manufacturer"], report["SeriesNumber"]) == ("hemtrace", "9701")
        assert "SYNTHETIC" in json.dumps(report)
        # The results go back to the node with the rest of the study: nothing comes of it.
        orthanc.ask("/modalities/node/store", study.encode())
        assert states(config) == ["done"]
        assert orthanc.kinds(uid) == {"CT": SLICES - 1, "SR": 1, "OT": 1}
        # A slice that comes late makes a second answer, which says so.
        orthanc.post(scan[-1:])
        orthanc.ask("/modalities/node/store", study.encode())
        settle(config)
        assert orthanc.kinds(uid) == {"CT": SLICES, "SR": 2, "OT": 2}
        assert "answer 2 on this study: 1 more slices" in json.dumps(orthanc.find(uid))
    (entry,) = entries(config)
    assert (entry.answer, entry.kept, entry.not_kept, entry.revision) == ("bleed", SLICES, 0, 2)


def test_watched_server_is_fetched_from_once_and_gets_results_by_stow(
    orthanc: Orthanc, model: Path, tmp_path: Path
) -> None:
    if not PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb plug-in is not installed")
    uid = "1.2.826.0.1.3680043.10.2"
    watch = {"name": "orthanc", "url": WEB, "every_seconds": 0.3, "days": 0}
    back = {"kind": "dicomweb", "name": "web", "url": WEB}
    config = make_config(tmp_path, model=model, send=[back], watch=[watch], listen=None)
    for old in orthanc.ask("/studies"):
        with urlopen(Request(f"{BASE}/studies/{old}", method="DELETE")):
            pass
    orthanc.stop()
    with Node(config, Answerer(config)) as node:
        time.sleep(0.5)  # the server is down: it is asked again
        orthanc.start()
        scan = make_scan(uid, SLICES, 256)
        orthanc.post(scan[:4])
        time.sleep(1)  # it is seen, and not fetched while it grows
        assert not entries(config)
        orthanc.post(scan[4:])
        whole = {"CT": SLICES, "SR": 1, "OT": 1}
        settle(config)
        assert orthanc.kinds(uid) == whole
        time.sleep(1.5)  # its own results are no reason to fetch again
        assert orthanc.kinds(uid) == whole
    (entry,) = entries(config)
    assert (entry.kept, entry.not_kept, entry.revision, entry.source) == (SLICES, 0, 1, "orthanc")
    # What is forgotten here, and still lies there, is not fetched again.
    forgetful = config.model_copy(update={"keep_hours": 0.0})
    with Node(forgetful, Answerer(forgetful)) as node:
        wait_for(lambda: not entries(config))
        time.sleep(1)
        assert not entries(config)
        assert node.intake.has_room(1)
    assert not list(config.folder.glob("studies/*"))


def test_killed_at_each_step_it_answers_once(orthanc: Orthanc, tmp_path: Path) -> None:
    uid = "1.2.826.0.1.3680043.10.3"
    scan = make_scan(uid, SLICES)
    listen = {"port": 11112}
    config = make_config(tmp_path, send=[to_pacs(4242)], listen=listen)
    file = tmp_path / "node.yaml"
    file.write_text(config.model_dump_json())
    logs = []
    for point in ("received", "predicting", "sent", ""):
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("node_child.py")), str(file), point],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(lambda child=child: is_open(11112) or child.poll() is not None, 60)
            if point in ("received", "predicting"):
                statuses = store(scan, 11112)
                assert (-1 in statuses) is (point == "received")
            if point == "predicting":
                let_time_pass(config)
            if point:
                assert child.wait(60) == -signal.SIGKILL
                if point == "sent":  # it got there, and nobody here knows
                    assert orthanc.kinds(uid)["OT"] == 1
                    assert states(config) == ["sending"]
            else:
                settle(config)
                child.send_signal(signal.SIGTERM)
                assert child.wait(30) == 0
        finally:
            child.kill()
            logs.append(child.communicate()[1])
    (entry,) = entries(config)
    assert (entry.kept, entry.not_kept, entry.revision) == (SLICES, 0, 1)
    sent = [one for one in orthanc.find(uid) if one["Modality"] != "CT"]
    assert Counter(one["Modality"] for one in sent) == {"OT": 1}
    assert "1 predictions were broken off" in logs[2]
    assert not any(secret in "".join(logs) for secret in (uid, "Beeblebrox", "ACC-"))


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
