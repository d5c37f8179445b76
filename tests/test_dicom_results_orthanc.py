"""Results go through a real Orthanc, by C-STORE and by POST, and come back unchanged."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from test_dicom_results import MADE, MODEL, make_study

from hemtrace.dicom_results import write_results

ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
# Orthanc 1.10 listens on all addresses whatever it is told: it and its client live in a network
# namespace that has nothing but a loopback of its own, where every port is free.
CLIENT = """
import json, subprocess, sys, time, urllib.request
from pathlib import Path
from pydicom import dcmread
from pynetdicom import AE

folder = Path(sys.argv[1])
base = "http://127.0.0.1:8042"

def ask(path, content=None):
    with urllib.request.urlopen(urllib.request.Request(base + path, content), timeout=10) as answer:
        return answer.read()

server = subprocess.Popen([sys.argv[2], str(folder / "orthanc.json")])
try:
    for _ in range(150):
        try:
            ask("/system")
            break
        except OSError:
            time.sleep(0.1)
    status = {}
    for path in sorted((folder / "store").glob("*.dcm")):
        dataset = dcmread(path)
        entity = AE()
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        link = entity.associate("127.0.0.1", 4242)
        status[path.name] = link.send_c_store(dataset).Status if link.is_established else -1
        link.release()
    posted = [
        json.loads(ask("/instances", path.read_bytes()))["Status"]
        for _ in range(2)
        for path in sorted((folder / "post").glob("*.dcm"))
    ]
    for name in json.loads(ask("/instances")):
        (folder / "back" / name).write_bytes(ask(f"/instances/{name}/file"))
    studies = len(json.loads(ask("/studies")))
    (folder / "said.json").write_text(json.dumps([status, posted, studies]))
finally:
    server.terminate()
    server.wait(30)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with Orthanc's configuration."""
    pytest.importorskip("pynetdicom")
    if not Path(ORTHANC).exists():
        pytest.skip("Orthanc is not installed")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("no network namespace may be made here, and Orthanc listens on all addresses")
    for name in ("store", "post", "back", "db"):
        (tmp_path / name).mkdir()
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "orthanc.json").write_text(
        json.dumps(
            {
                "StorageDirectory": str(tmp_path / "db"),
                "IndexDirectory": str(tmp_path / "db"),
                "HttpPort": 8042,
                "DicomPort": 4242,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomAet": "ORTHANC",
                "DicomAlwaysAllowStore": True,
            }
        )
    )
    return tmp_path


def test_orthanc_takes_every_object_and_gives_it_back_with_equal_pixels(place: Path) -> None:
    # The first study goes by C-STORE, the other one by POST, twice.
    name = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "<b>王^小东</b>"}
    stored = write_results(
        *make_study(headers=name), MODEL, place / "store", parametric=True, made=MADE
    )
    other = {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.99"}
    study, headers = make_study(headers=other)
    for number, header in enumerate(headers):
        header.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.98.{number}"
    posted = write_results(study, headers, MODEL, place / "post", parametric=True, made=MADE)
    command = f'ip link set lo up && exec "{sys.executable}" client.py . "{ORTHANC}"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", command],
        cwd=place,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    status, answers, studies = json.loads((place / "said.json").read_text())
    assert set(status) == {path.name for path in stored}
    assert set(status.values()) == {0}
    # What is sent again is known already: the same UIDs.
    assert answers == ["Success"] * len(posted) + ["AlreadyStored"] * len(posted)
    assert studies == 2
    back = {read.SOPInstanceUID: read for read in map(pydicom.dcmread, (place / "back").iterdir())}
    assert len(back) == len(stored) + len(posted)
    for path in stored + posted:
        sent = pydicom.dcmread(path)
        assert without_padding(back[sent.SOPInstanceUID]) == without_padding(sent)
        for keyword in ("PixelData", "FloatPixelData"):
            assert back[sent.SOPInstanceUID].get(keyword) == sent.get(keyword)


def without_padding(one: Dataset) -> str:
    return one.to_json(bulk_data_threshold=64, bulk_data_element_handler=lambda _: "pixels")
