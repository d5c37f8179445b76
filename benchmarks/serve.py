"""`hemtrace serve` by the clock: its start, the first slice shown, a verdict with heat maps.

A server is started as a person would, and a study of 30 slices of 512 x 512 is sent over HTTP by
another process, as a browser would. Uses the model of the finished default run, or `--model`.

    python benchmarks/serve.py [--model models/model.safetensors] [--rounds 5]
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
from common import Figure, report

from hemtrace.phantom.dicomfile import (
    SeriesHeader,
    accept_short_identifiers,
    encode_slice,
)
from hemtrace.phantom.plan import PatientPlan
from hemtrace.phantom.scanner import scan_patient

API, HEADERS = "/api/v1", {"X-Hemtrace": "1"}
SLICES = 30
_COMMAND = "from hemtrace.cli import app; app()"
_WAIT_SECONDS = 120


def main() -> None:
    """Start, send, read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/model.safetensors"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runtime", default="auto")
    given = parser.parse_args()
    study = make_study()
    starts, readies, news = [], [], []
    for _ in range(3):
        with serving(given.model, given.runtime) as (address, started):
            starts.append(time.perf_counter() - started)
            wait_until_ready(address)
            readies.append(time.perf_counter() - started)
            with httpx2.Client(base_url=address, timeout=_WAIT_SECONDS) as client:
                news.append(send_and_read(client, study)[2])
    with serving(given.model, given.runtime) as (address, _):
        wait_until_ready(address)
        time.sleep(10)  # the sample study is made ahead meanwhile
        with httpx2.Client(base_url=address, timeout=_WAIT_SECONDS) as client:
            told = [send_and_read(client, study) for _ in range(given.rounds)]
            model = client.get(f"{API}/model").json()
    firsts, verdicts, maps = zip(*told, strict=True)
    middle = statistics.median
    report(
        "serve",
        [
            Figure(
                "start of hemtrace serve until its page answers", middle(starts), "s", at_most=5
            ),
            Figure("start until the model is ready", middle(readies), "s"),
            Figure("upload of 30 slices to the first slice shown", middle(firsts), "s", at_most=1),
            Figure("upload of 30 slices to the verdict", middle(verdicts), "s"),
            Figure("upload to the verdict with heat maps", middle(maps), "s", at_most=5),
            Figure("the same, sent at once when the model is ready", middle(news), "s"),
        ],
        f"{model['name']}, {model['runtime']}; medians of {given.rounds} studies and of 3 starts; "
        f"worst study {max(maps):.1f} s, worst first slice {max(firsts):.2f} s.",
    )


def make_study() -> dict[str, bytes]:
    """Scan a phantom of 30 slices with a bleed."""
    accept_short_identifiers()
    plan = PatientPlan(index=0, slices=SLICES, subtypes=("subdural",), faults={})
    scan = scan_patient(plan, 12.0, np.random.default_rng(1))
    header = SeriesHeader(
        "ID_0000000a",
        "ID_000000000a",
        "ID_000000000b",
        scan.orientation,
        scan.spacing_mm,
        scan.encoding,
        scan.window,
    )
    return {
        f"study/{n:02d}.dcm": encode_slice(
            scan.hu[n], scan.outside, header, f"ID_{n:09x}", scan.positions[n], None
        )
        for n in range(SLICES)
    }


@contextmanager
def serving(model: Path, runtime: str) -> Iterator[tuple[str, float]]:
    """Run the command; gives its address and when it was started, once its page answers."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        options = ["--model", str(model), "--port", "0", "--folder", folder, "--runtime", runtime]
        started = time.perf_counter()
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, "serve", *options], stderr=stream, env=os.environ
            )
        try:
            while not (found := re.search(r"at (http://\S+?)/ ", log.read_text())):
                if process.poll() is not None:
                    raise SystemExit(f"The server did not start: {log.read_text()}")
                time.sleep(0.01)
            httpx2.get(found[1], timeout=_WAIT_SECONDS).raise_for_status()
            yield found[1], started
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def wait_until_ready(address: str) -> None:
    """Wait for the model."""
    while httpx2.get(f"{address}{API}/health", timeout=_WAIT_SECONDS).json()["state"] != "ready":
        time.sleep(0.05)


def send_and_read(client: httpx2.Client, study: dict[str, bytes]) -> tuple[float, float, float]:
    """Send a study; seconds until its first slice is shown, its verdict read, its map fetched."""
    parts = [("files", (name, content)) for name, content in study.items()]
    started = time.perf_counter()
    study_id = client.post(f"{API}/studies", files=parts, headers=HEADERS).json()["id"]
    path, first, name = f"{API}/studies/{study_id}", 0.0, ""
    with client.stream("GET", f"{path}/events") as events:
        for line in events.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: ") and name == "slice" and not first:
                client.get(json.loads(line[6:])["preview"]).raise_for_status()
                first = time.perf_counter() - started
    if name != "done":
        raise SystemExit("The study was not predicted.")
    (told,) = client.get(path).raise_for_status().json()["studies"]
    verdict = time.perf_counter() - started
    if told["verdict"]["answer"] not in ("bleed", "no-bleed", "no-answer"):
        raise SystemExit("There is no verdict.")
    client.get(f"{path}/series/0/heat/any.nii").raise_for_status()
    mapped = time.perf_counter() - started
    client.delete(path, headers=HEADERS).raise_for_status()
    return first, verdict, mapped


if __name__ == "__main__":
    main()
