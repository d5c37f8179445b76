"""What a training tells, written to its journal as it comes."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hemtrace.errors import StoppedError
from hemtrace.model import ModelSpec
from hemtrace.provenance import file_digest
from hemtrace.tracking.journal import (
    RECORDS,
    Journal,
    create_id,
    is_pending,
    read_events,
    read_progress,
)
from hemtrace.tracking.origin import collect_origin, describe_origin, name_python
from hemtrace.tracking.send import send_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

# A server that is down must not hold up a training that is through: it waits no longer than this
# for the next thing to be sent.
_MOST_SECONDS_TO_SEND = 15.0


class NoTracker:
    """The record of a process that keeps none."""

    run_id: str | None = None

    def log_step(self, row: Mapping[str, float], step: int) -> None:
        """Say nothing."""

    def log_epoch(self, row: Mapping[str, float | None]) -> None:
        """Say nothing."""

    def finish(self, model: Path) -> None:
        """Say nothing."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End."""


class Tracker(NoTracker):
    """The record of one training; use it in a `with`, so that a failed training is marked.

    Nothing here waits for MLflow: a process of its own sends what the journal holds.

    Parameters
    ----------
    spec
        Logged as parameters and tags.
    run_name
        In MLflow's list.
    resume
        `run_id` of the record to go on with, where the training goes on.
    target
        The product that Snakemake is asked for to make this run again.
    root
        Folder of the project.
    """

    def __init__(
        self,
        spec: ModelSpec,
        run_name: str,
        resume: str | None = None,
        target: Path = Path("models/model.safetensors"),
        root: Path = Path(),
    ) -> None:
        self.run_id = resume or create_id()
        self._root = root
        self._journal: Journal | None = None
        self._sender: subprocess.Popen[bytes] | None = None
        # A training that goes on from a checkpoint tells again what it told after it.
        self._last: dict[str, int] = {}
        with _only_warn():
            self._journal = Journal(root / RECORDS / self.run_id)
            self._begin(spec, run_name, target, resume is not None)
            self._sender = _start_sender(root)

    def _begin(self, spec: ModelSpec, run_name: str, target: Path, is_resumed: bool) -> None:
        assert self._journal is not None
        times = 0
        for event, _ in read_events(self._journal.folder):
            times += event["kind"] == "start"
            if event["kind"] == "metrics":
                self._last[event["group"]] = event["step"]
        tags = {
            "git_commit": spec.git_commit,
            "data_digest": spec.data_digest,
            "synthetic": str(spec.synthetic).lower(),
            "python": name_python(),
            "target": target.as_posix() if not target.is_absolute() else target.name,
            **describe_origin(self._root),
        }
        shown = spec.model_dump(mode="json", exclude={"git_commit", "data_digest", "synthetic"})
        name = f"{run_name}: {spec.network.architecture} on "
        name += "phantom" if spec.synthetic else "real data"
        # Also where it goes on: the journal may be gone, and its run is found by its name.
        self._journal.append("start", name=name, tags=tags, params=_flatten(shown))
        place = "origin"
        if is_resumed:
            times = max(1, times)
            self._journal.append("resume", times=times)
            # What it began with stays; this may be another commit or machine.
            place = f"origin_resumed_{times}"
        for file, content in collect_origin(self._root):
            self._journal.keep_text(content, file, place)

    def log_step(self, row: Mapping[str, float], step: int) -> None:
        """Record figures of the moment; of a step that is recorded already nothing."""
        self._log("live", row, step)

    def log_epoch(self, row: Mapping[str, float | None]) -> None:
        """Record a row of the history; figures that do not exist are left out.

        Of an epoch that is recorded already nothing.
        """
        known = {name: value for name, value in row.items() if value is not None}
        self._log("epoch", known, int(known.pop("epoch", 0)))

    def _log(self, group: str, row: Mapping[str, float], step: int) -> None:
        if step > self._last.get(group, -1):
            self._last[group] = step
            self._append("metrics", group=group, values=dict(row), step=step)

    def finish(self, model: Path) -> None:
        """Keep the model, whose digest is the tag by which evaluation finds the run, and end."""
        with _only_warn():
            if self._journal is not None:
                self._journal.append("tags", tags={"model_sha256": file_digest(model)})
                kept = self._journal.make_room() / model.name
                kept.hardlink_to(model) if _can_link(model, kept) else _copy(model, kept)
                file = kept.relative_to(self._journal.folder)
                self._journal.append("model", file=str(file))
        self._end("FINISHED")

    def __exit__(self, *exception: object) -> None:
        """Mark a training that failed; one that was stopped goes on some day."""
        if self._journal is not None:
            self._end("KILLED" if isinstance(exception[1], StoppedError) else "FAILED")

    def _append(self, kind: str, **content: Any) -> None:
        with _only_warn():
            if self._journal is not None:
                self._journal.append(kind, **content)

    def _end(self, status: str) -> None:
        self._append("end", status=status)
        journal, self._journal = self._journal, None
        if self._sender is not None and journal is not None:
            _wait_for_sender(self._sender, journal.folder)
        if journal is not None and is_pending(journal.folder):
            print(
                f"hemtrace: MLflow has not taken the whole record of this training; it waits in "
                f"{journal.folder} and is sent with the next training, or by `hemtrace "
                "send-records`.",
                file=sys.stderr,
            )


def add_evaluation(
    model_sha256: str,
    metrics: Mapping[str, Any],
    figures: "Sequence[Path] | Mapping[str, Figure]" = (),
    root: Path = Path(),
) -> None:
    """Log test figures to the run that trained a model.

    Parameters
    ----------
    model_sha256
        Digest of the model file.
    metrics
        Numbers, in a tree of any depth; they get `test_` before their name, what is no number is
        left out.
    figures
        Files, or matplotlib figures by name.
    root
        Folder of the project.
    """
    with _only_warn():
        journal = Journal(root / RECORDS / create_id())
        journal.append("join", model_sha256=model_sha256)
        numbers = {
            f"test_{name}": value
            for name, value in _flatten(metrics).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        journal.append("metrics", group="test", values=numbers, step=0)
        if isinstance(figures, Mapping):
            for name, figure in figures.items():
                kept = journal.make_room() / f"{name}.png"
                figure.savefig(kept)
                file = str(kept.relative_to(journal.folder))
                journal.append("artifact", file=file, place="figures")
        else:
            for path in figures:
                journal.keep_file(path, "figures")
        journal.append("end", status=None)
        for sentence in send_records(root):
            print(f"hemtrace: {sentence}", file=sys.stderr)


def _start_sender(root: Path) -> subprocess.Popen[bytes]:
    """Start the process that sends while this one lives."""
    log = (root / RECORDS / "send.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "hemtrace.tracking", str(root)],
        stdin=subprocess.PIPE,  # closed when this process ends, however it ends
        stdout=log,
        stderr=log,
        start_new_session=True,  # a Ctrl-C is the training's, which then has an end to record
    )


def _wait_for_sender(sender: subprocess.Popen[bytes], folder: Path) -> None:
    """Let it send the rest, as long as it gets on; it ends by itself if left alone."""
    assert sender.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        sender.stdin.close()
    place, deadline = read_progress(folder), time.monotonic() + _MOST_SECONDS_TO_SEND
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            sender.wait(0.2)
            return
        if (now := read_progress(folder)) != place:
            place, deadline = now, time.monotonic() + _MOST_SECONDS_TO_SEND


@contextlib.contextmanager
def _only_warn() -> Any:
    """Let nothing that a record may run into stop a training: a disk that is full, say."""
    try:
        yield
    except Exception as error:
        print(
            f"hemtrace: this could not be recorded ({type(error).__name__}: {error}); everything "
            "else goes on without it.",
            file=sys.stderr,
        )


def _can_link(source: Path, target: Path) -> bool:
    return source.stat().st_dev == target.parent.stat().st_dev


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def _flatten(tree: object, name: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping):
        branches: list[tuple[object, object]] = list(tree.items())
    elif isinstance(tree, list | tuple) and tree and isinstance(tree[0], Mapping):
        branches = list(enumerate(tree))
    else:
        is_path = isinstance(tree, str) and Path(tree).is_absolute()
        return {name: Path(str(tree)).name if is_path else tree}
    leaves: dict[str, Any] = {}
    for key, branch in branches:
        leaves |= _flatten(branch, f"{name}.{key}" if name else str(key))
    return leaves
