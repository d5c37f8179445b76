"""A PACS that counts what it gets, studies to send to a node, and stand-ins for its model."""

import hashlib
import io
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from conftest import make_dataset, small_head
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt

from hemtrace.node.config import NodeConfig
from hemtrace.node.records import Answer, Task, Told
from hemtrace.node.schema import Database
from hemtrace.node.worklist import Entry, list_studies

NAME, PATIENT, ACCESSION = "Zaphod^Beeblebrox", "PID-ZZ-77", "ACC-4711"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Pacs:
    """Takes everything by C-STORE, and counts it by its SOP Instance UID.

    Attributes
    ----------
    status
        What it answers.
    order
        Study Instance UIDs in the order in which results came.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.status = 0x0000
        self.got: Counter[str] = Counter()
        self.order: list[str] = []
        self._server: Any = None

    def __enter__(self) -> "Pacs":
        entity = AE("PACS")
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax)
        handlers = [(evt.EVT_C_STORE, self._take)]
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _take(self, event: evt.Event) -> int:
        self.got[str(event.request.AffectedSOPInstanceUID)] += 1
        self.order.append(str(event.dataset.StudyInstanceUID))
        return self.status


class StandIn:
    """Answers with one small capture a study; its UID is made of the slices, as hemtrace's are."""

    def __init__(self, folder: Path, urgency: Callable[[str], float] = lambda uid: 0.8) -> None:
        self._folder, self._urgency = folder, urgency
        self.tasks: list[Task] = []
        self.go = threading.Event()
        self.go.set()
        self.fault: Exception | None = None

    def describe(self) -> str:
        return json.dumps(
            {
                "name": "stand-in",
                "sha256": "0" * 64,
                "synthetic": True,
                "trained_on": "nothing",
                "point": "balanced",
                "runtime": "none",
                "version": "0",
            }
        )

    def answer(self, task: Task) -> Answer:
        self.tasks.append(task)
        assert self.go.wait(90)
        if self.fault is not None:
            raise self.fault
        if not task.files:
            return Answer(Told("no-answer", "No slices.", None, 0.5))
        slices = [dcmread(self._folder / file) for file in task.files]
        uids = "\n".join(sorted(one.SOPInstanceUID for one in slices))
        number = int(hashlib.sha256(uids.encode()).hexdigest()[:30], 16)
        urgency = self._urgency(slices[0].StudyInstanceUID)
        told = Told("bleed", f"{len(slices)} slices.", urgency, urgency)
        return Answer(told, (make_capture(slices[0].StudyInstanceUID, f"2.25.{number}"),))


def make_capture(study: str, uid: str) -> Dataset:
    """A small result: not CT, made by hemtrace."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID = SecondaryCaptureImageStorage, uid
    one.StudyInstanceUID, one.SeriesInstanceUID = study, f"{uid}.1"
    one.Modality, one.Manufacturer, one.SeriesNumber = "OT", "hemtrace", 9702
    one.PatientName, one.PatientID = NAME, PATIENT
    return one


def make_scan(uid: str, count: int, side: int = 64, **header: Any) -> list[bytes]:
    """Slices of a head, 10 mm apart, of one patient; UIDs that are valid."""
    scan = []
    for number in range(count):
        told = {
            "PatientID": PATIENT,
            "PatientName": NAME,
            "AccessionNumber": ACCESSION,
            "StudyInstanceUID": uid,
            "SeriesInstanceUID": f"{uid}.1",
            "SOPInstanceUID": f"{uid}.1.{number + 1}",
            "FrameOfReferenceUID": f"{uid}.9",
            "StudyDate": "20240131",
            "SliceThickness": 10.0,
            "ImagePositionPatient": [-125.0, -125.0, 10.0 * number],
        }
        scan.append(encode(make_dataset(small_head(number, side), **(told | header))))
    return scan


def encode(dataset: Dataset) -> bytes:
    """Write a data set as a file's content."""
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def make_config(folder: Path, **given: Any) -> NodeConfig:
    """Settings of a node in the tests, with no page unless told.

    No study is complete before `let_time_pass`, so that a slow machine changes no test.
    """
    quick = {
        "folder": folder / "node",
        "complete_after_seconds": 900,
        "retries": {"times": 3, "first_seconds": 0.05, "most_seconds": 0.2},
        "page": None,
        "runtime": "torch",
        "threads": 1,
        "listen": {"port": free_port()},
    }
    return NodeConfig.model_validate(quick | given)


def to_pacs(port: int, name: str = "pacs") -> dict[str, Any]:
    """A destination of a configuration."""
    return {
        "kind": "dicom",
        "name": name,
        "ae_title": "PACS",
        "host": "127.0.0.1",
        "port": port,
        "timeout_seconds": 20,
    }


def store(
    files: Iterable[bytes],
    port: int,
    called: str = "HEMTRACE",
    calling: str = "CT1",
    priority: int = 2,
    **options: Any,
) -> list[int]:
    """Send files by C-STORE in one connection; statuses, -1 where none came."""
    datasets = [dcmread(io.BytesIO(content)) for content in files]
    entity = AE(calling)
    kinds = {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in datasets}
    for sop_class, syntax in kinds:
        entity.add_requested_context(sop_class, syntax)
    link = entity.associate("127.0.0.1", port, ae_title=called, **options)
    if not link.is_established:
        return [-1] * len(datasets)
    statuses = []
    for one in datasets:
        if not link.is_established:
            statuses.append(-1)
            continue
        statuses.append(link.send_c_store(one, priority=priority).get("Status", -1))
    link.release()
    return statuses


def wait_for(is_true: Callable[[], Any], seconds: float = 90) -> Any:
    """Wait until something holds; what it gave."""
    give_up = time.monotonic() + seconds
    while not (found := is_true()):
        assert time.monotonic() < give_up, "it does not come to hold"
        time.sleep(0.05)
    return found


def entries(config: NodeConfig) -> list[Entry]:
    """The worklist of a node, as another process reads it."""
    database = Database(config.folder)
    try:
        return list_studies(database)
    finally:
        database.close()


def states(config: NodeConfig) -> list[str]:
    """The states of all studies, by number."""
    return [one.state for one in sorted(entries(config), key=lambda one: one.number)]


def let_time_pass(config: NodeConfig) -> None:
    """Let the last slice of every study have come long ago."""
    database = Database(config.folder)
    with database.transaction() as link:
        link.execute("UPDATE studies SET last_at = 0")
        link.execute("UPDATE watched SET since = 0")
    database.close()


def settle(config: NodeConfig, *wanted: str) -> None:
    """Let time pass until the studies are in some states, by number; all done unless told."""

    def is_settled() -> bool:
        let_time_pass(config)
        found = states(config)
        return found == list(wanted) if wanted else bool(found) and set(found) == {"done"}

    wait_for(is_settled)
