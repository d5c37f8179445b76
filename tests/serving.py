"""A tiny model with operating points, studies to send, and requests as the page makes them."""

import hashlib
import io
import socket
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn
from conftest import make_dataset, small_head
from fastapi import FastAPI
from held import SPEC

from hemtrace.evaluate.calibrate import Calibration, LabelCalibration
from hemtrace.evaluate.operating import POINTS, Operating, Point, write_operating
from hemtrace.labels import LABELS
from hemtrace.model import create_net, save_model
from hemtrace.serve import Limits, Settings

API = "/api/v1"
HEADERS = {"X-Hemtrace": "1"}
# The tiny network says about one half of everything.
FLAGGED = ("subdural", "any")
THRESHOLDS = {"rule-out": 0.05, "balanced": 0.1, "rule-in": 0.95}


def make_model(folder: Path) -> Path:
    """Write a tiny model: its balanced point calls everything a bleed, its rule-in nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    torch.manual_seed(0)
    save_model(path, create_net(SPEC).eval(), SPEC)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    known = LabelCalibration(positives=20, negatives=20, temperature=0.8)
    points = {
        level: {
            name: {
                label: Point(
                    threshold=THRESHOLDS[name] if label in FLAGGED else 0.99,
                    positives=20,
                    negatives=20,
                    sensitivity=0.9,
                    specificity=0.8,
                )
                for label in LABELS
            }
            for name in POINTS
        }
        for level in ("slices", "studies", "patients")
    }
    operating = Operating(
        model_sha256=sha256,
        synthetic=True,
        calibration=Calibration(
            method="temperature",
            level="slices",
            labels=dict.fromkeys(LABELS, known),
            fitted_on=("0" * 64,),
        ),
        score_rule="highest",
        aims={"sensitivity": 0.95, "specificity": 0.95},
        default_point="balanced",
        points=points,
        validation_slices=800,
        validation_patients=40,
    )
    write_operating(operating, folder / "operating.json")
    return path


def make_study(
    count: int = 10, side: int = 256, seed: int = 0, uid: str = "1.2.3.4", **header: object
) -> dict[str, bytes]:
    """A head CT of slices 10 mm apart, by file name."""
    return {
        f"scan/slice{number:02d}.dcm": encode(
            make_dataset(
                small_head(seed + number, side),
                **{
                    "PatientID": "P-1",
                    "PatientName": "Doe^Jane",
                    "StudyInstanceUID": uid,
                    "SeriesInstanceUID": f"{uid}.1",
                    "SOPInstanceUID": f"{uid}.1.{number + 1}",
                    "FrameOfReferenceUID": f"{uid}.9",
                    "StudyDate": "20240131",
                    "SliceThickness": 10.0,
                    "ImagePositionPatient": [-125.0, -125.0, 10.0 * number],
                }
                | header,
            )
        )
        for number in range(count)
    }


def encode(dataset: Any) -> bytes:
    """Write a data set as a file's content."""
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def make_zip(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Pack files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return out.getvalue()


def as_parts(files: Mapping[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """Files as the client takes them."""
    return [("files", (name, content)) for name, content in files.items()]


def make_settings(
    model: Path, folder: Path, limits: Limits | None = None, **given: Any
) -> Settings:
    """Settings of a server in the tests: its name is that of the test client too."""
    hosts = given.pop("hosts", ("testserver", "127.0.0.1", "localhost"))
    return Settings(
        model=model,
        folder=folder,
        hosts=hosts,
        limits=limits or Limits(),
        runtime="torch",
        threads=1,
        map_threshold=0.8,  # the network knows nothing, and its maps have many hills
        **given,
    )


def send(client: Any, files: Mapping[str, bytes], **options: Any) -> Any:
    """Send files as a study."""
    headers = HEADERS | options.pop("headers", {})
    return client.post(f"{API}/studies", files=as_parts(files), headers=headers, **options)


def follow(client: Any, study_id: str, **options: Any) -> list[tuple[str, str]]:
    """Follow a study to its end: name and data of each event."""
    events = []
    with client.stream("GET", f"{API}/studies/{study_id}/events", **options) as answer:
        assert answer.status_code == 200, answer.status_code
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                events.append((name, line[6:]))
    return events


def predict(client: Any, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Send a study and give its job when it is done."""
    answer = send(client, files)
    assert answer.status_code == 202, answer.text
    study_id = answer.json()["id"]
    assert follow(client, study_id)[-1][0] == "done"
    told: dict[str, Any] = client.get(f"{API}/studies/{study_id}").json()
    return told


@contextmanager
def serve_here(app: FastAPI) -> Iterator[str]:
    """Serve an application in a thread of this process; gives its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
