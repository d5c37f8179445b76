"""The journal of a record: a folder with its events, a line each, and what it keeps of files.

Knows nothing of MLflow. Only the process whose record it is writes events, only one process at a
time sends them; how far sending has come is a file beside them.
"""

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

RECORDS = Path("logs/records")
Event = Mapping[str, Any]
_EVENTS = "events.jsonl"
_SENT = "sent.json"


class Journal:
    """The events of one record.

    Parameters
    ----------
    folder
        Made where it is missing. Half a line, which a kill left at the end, is cut off.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / _EVENTS
        folder.mkdir(parents=True, exist_ok=True)
        if self._path.is_file():
            with self._path.open("rb+") as stream:
                stream.truncate(stream.read().rfind(b"\n") + 1)

    def append(self, kind: str, **content: Any) -> None:
        """Write an event; it is in the hands of the kernel when this returns."""
        line = json.dumps({"kind": kind, "time": time.time_ns() // 1_000_000} | content)
        with self._path.open("a") as stream:
            stream.write(line + "\n")

    def make_room(self) -> Path:
        """Make an empty folder for files that an event names."""
        folder = self.folder / "files" / uuid4().hex[:12]
        folder.mkdir(parents=True)
        return folder

    def keep_file(self, path: Path, place: str = "", name: str | None = None) -> None:
        """Keep a copy of a file, as an artifact in the folder `place` of the record."""
        kept = self.make_room() / (name or path.name)
        shutil.copyfile(path, kept)
        self.append("artifact", file=str(kept.relative_to(self.folder)), place=place)

    def keep_text(self, text: str | bytes, name: str, place: str = "") -> None:
        """Keep a text as an artifact of that name."""
        kept = self.make_room() / name
        kept.write_bytes(text.encode() if isinstance(text, str) else text)
        self.append("artifact", file=str(kept.relative_to(self.folder)), place=place)


def create_id() -> str:
    """Name a record; names sort by the time of their making."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + uuid4().hex[:8]


def list_records(root: Path) -> list[Path]:
    """List the folders of the records of a project, the oldest first."""
    return sorted(path.parent for path in (root / RECORDS).glob(f"*/{_EVENTS}"))


def read_events(folder: Path, start: int = 0) -> Iterator[tuple[Event, int]]:
    """Read events from a byte of the file on; each with the byte after it.

    A line that is not complete yet is left for later. One that is no JSON, which only a failing
    disk can leave, is passed over.
    """
    path = folder / _EVENTS
    if not path.is_file():
        return
    with path.open("rb") as stream:
        stream.seek(start)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            try:
                yield json.loads(line), start
            except ValueError:
                continue


def read_progress(folder: Path) -> dict[str, Any]:
    """Read how far sending has come: what `write_progress` wrote, or nothing."""
    try:
        return dict(json.loads((folder / _SENT).read_text()))
    except (OSError, ValueError):
        return {}


def write_progress(folder: Path, progress: Mapping[str, Any]) -> None:
    """Write how far sending has come, at one stroke: `bytes` of the events were sent."""
    part = folder / f"{_SENT}.part"
    part.write_text(json.dumps(progress))
    part.replace(folder / _SENT)


def is_pending(folder: Path) -> bool:
    """Whether any event has not been sent."""
    events = folder / _EVENTS
    return events.is_file() and events.stat().st_size > read_progress(folder).get("bytes", 0)


def drop_record(folder: Path) -> None:
    """Remove a record that has been sent; a kill in the middle leaves no event to send again."""
    (folder / _EVENTS).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lock_file(path: Path, seconds: float = 0) -> Iterator[bool]:
    """Hold a lock of the kernel, which ends with this process; wait for it so long at most.

    Yields
    ------
    Whether it is held. True also where the disk knows no locks: nothing would be sent otherwise.
    """
    with path.open("a") as stream:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                yield False
                return
            except OSError:
                pass
            break
        yield True
