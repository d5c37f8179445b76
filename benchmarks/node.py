"""50 studies sent to a node at once: all answered, none lost, in order, memory flat.

The node runs in a process of its own with the model of the finished default run (or `--model`), and
a PACS of pynetdicom takes its results. Several senders send at once, as scanners do. The node's
memory is read twice a second, with that of its children; flat: the highest of the last third of the
studies against that of the first. The urgent caller's studies are to be predicted before others.

    python benchmarks/node.py [--studies 50] [--slices 30] [--side 512] [--model FILE]
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from common import Figure, report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from noding import Pacs, entries, free_port, make_config, make_scan, store, to_pacs

SENDERS, URGENT = 8, 5
_MOST_SECONDS = 3600


@dataclass
class Watched:
    """Memory of the node over time, MB: (seconds, studies answered, resident)."""

    rows: list[tuple[float, int, float]] = field(default_factory=list)

    def add(self, process: psutil.Process, answered: int, began: float) -> None:
        """Read once."""
        total = 0
        for one in [process, *process.children(recursive=True)]:
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.rows.append((time.perf_counter() - began, answered, total / 2**20))

    def highest(self, low: float, high: float, studies: int) -> float:
        """Find the highest while the answered share of the studies was within two bounds."""
        part = [mb for _, done, mb in self.rows if low * studies <= done <= high * studies]
        return max(part, default=float("nan"))


def send_all(studies: int, slices: int, side: int, port: int) -> Counter[int]:
    """Send studies by several senders at once; count the statuses."""
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def send(numbers: range) -> None:
        for number in numbers:
            # Each tenth comes from the emergency room.
            caller = "ER" if number % 10 == URGENT else "CT1"
            scan = make_scan(f"1.2.826.0.1.3680043.10.9.{number + 1}", slices, side)
            got = store(scan, port, calling=caller)
            with lock:
                statuses.update(got)

    threads = [
        threading.Thread(target=send, args=(range(first, studies, SENDERS),))
        for first in range(SENDERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def main() -> None:
    """Send, wait, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--slices", type=int, default=30)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--model", type=Path, default=Path("models/model.safetensors"))
    parser.add_argument("--runtime", default="auto")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, Pacs() as pacs:
        folder = Path(place)
        config = make_config(
            folder,
            model=given.model.resolve(),
            runtime=given.runtime,
            threads=None,
            send=[to_pacs(pacs.port)],
            listen={"port": free_port(), "urgent_callers": ["ER"], "associations": 20},
            complete_after_seconds=2,
            limits={"free_bytes": 0},
        )
        file = folder / "node.yaml"
        file.write_text(config.model_dump_json())
        log = (folder / "log").open("w")
        node = subprocess.Popen(
            [sys.executable, "-c", "from hemtrace.commands.node import app; app()", "run", file],
            stderr=log,
            env=os.environ,
        )
        try:
            wait_until_open(node, folder / "log")
            figures = measure(given, config, node, pacs)
        finally:
            node.send_signal(signal.SIGTERM)
            node.wait(60)
            log.close()
    report(
        "node",
        figures,
        f"{given.studies} studies of {given.slices} slices, {given.side} x {given.side}, "
        f"{SENDERS} senders at once; model {given.model}.",
    )


def wait_until_open(node: Any, log: Path) -> None:
    """Wait until the node listens."""
    give_up = time.perf_counter() + 300
    while "\nListening as" not in "\n" + log.read_text():
        if node.poll() is not None or time.perf_counter() > give_up:
            raise SystemExit(f"The node did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def measure(given: Any, config: Any, node: Any, pacs: Pacs) -> list[Figure]:
    """Send all, and watch until all is answered and delivered."""
    began, watched = time.perf_counter(), Watched()
    statuses: list[Counter[int]] = []
    told = (given.studies, given.slices, given.side, config.listen.port)
    sender = threading.Thread(target=lambda: statuses.append(send_all(*told)))
    sender.start()
    process, sent_after = psutil.Process(node.pid), 0.0
    while True:
        found = entries(config)
        watched.add(process, sum(one.answer is not None for one in found), began)
        if not sender.is_alive() and not sent_after:
            sent_after = watched.rows[-1][0]
        settled = sum(one.state in ("done", "dead") for one in found)
        if (settled == given.studies and sent_after) or watched.rows[-1][0] > _MOST_SECONDS:
            break
        time.sleep(0.5)
    took = time.perf_counter() - began
    kept = sum(one.kept for one in found)
    delivered = sum(any(sent.state == "done" for sent in one.sent) for one in found)
    answered = sorted((one for one in found if one.answered_at), key=lambda one: one.answered_at)
    urgent = [place for place, one in enumerate(answered) if one.urgent]
    place_of_urgent, place_of_all = sum(urgent) / max(len(urgent), 1), (len(answered) - 1) / 2
    first, last = (watched.highest(*part, given.studies) for part in ((0.05, 1 / 3), (2 / 3, 1)))
    return [
        Figure("slices promised", statuses[0][0], "", at_least=given.studies * given.slices),
        Figure("slices kept", kept, "", at_least=given.studies * given.slices),
        Figure("studies answered", len(answered), "", at_least=given.studies),
        Figure("studies delivered", delivered, "", at_least=given.studies),
        Figure("results sent twice", sum(count > 1 for count in pacs.got.values()), "", at_most=0),
        Figure("objects at the PACS", len(pacs.got), ""),
        Figure("all sent after", sent_after, "s"),
        Figure("all delivered after", took, "s"),
        Figure("a study", took / given.studies, "s"),
        Figure("urgent studies answered", len(urgent), "", at_least=given.studies // 10),
        Figure("mean place of the urgent", place_of_urgent, ""),
        Figure("mean place of all", place_of_all, ""),
        # In the order of arrival it would be near 1.
        Figure("urgent / all places", place_of_urgent / max(place_of_all, 0.5), "", at_most=0.9),
        Figure("memory, first third", first, "MB"),
        Figure("memory, last third", last, "MB"),
        Figure("memory, last / first third", last / first, "", at_most=1.1),
    ]


if __name__ == "__main__":
    main()
