"""Studies that were sent: their states, their events, and how long they are kept."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hemtrace.errors import HemtraceError
from hemtrace.serve.problems import Problem, describe, log_defect
from hemtrace.serve.settings import Settings
from hemtrace.serve.store import Store
from hemtrace.serve.unpack import Contents

State = Literal["waiting", "reading", "done", "failed"]
_ID_BYTES = 32
_BUSY = {"Retry-After": "30"}
_LONGEST_MAKING = 120.0
_LOG = logging.getLogger("hemtrace.serve")


class CancelledError(Exception):
    """A study was deleted while it was at work."""


class Job:
    """What was sent together.

    Attributes
    ----------
    id
        Random; whoever knows it may see the study.
    folder
        Private; all that is kept of the study lies in it.
    contents
        The files.
    bytes
        On disk.
    sample
        Whether it is the phantom.
    state, files, read, predicted, mapped, maps
        How far it is: files and those read, slices predicted, heat maps made and wanted.
    events
        Name and data of what was told, but progress, which is told as it is.
    result
        What was predicted (`prediction.Result`); None until it is done.
    problem
        Problem details of why it failed.
    finished
        When it was done.
    take_room
        Called with bytes that are about to be written for it; may raise a `Problem`.
    """

    def __init__(self, folder: Path) -> None:
        self.id = secrets.token_urlsafe(_ID_BYTES)
        self.folder = folder
        self.contents: Contents | None = None
        self.bytes = 0
        self.sample = False
        self.state: State = "waiting"
        self.files = self.read = self.predicted = self.mapped = self.maps = 0
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.result: Any = None
        self.problem: dict[str, Any] | None = None
        self.finished: datetime | None = None
        self.seen = time.monotonic()
        self.take_room: Callable[[int], None] = lambda count: None
        self._locks: dict[str, threading.Lock] = {}
        self._cancelled = threading.Event()

    @property
    def is_over(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.state in ("done", "failed") or self.is_cancelled

    @property
    def is_cancelled(self) -> bool:
        """Whether it was deleted."""
        return self._cancelled.is_set()

    @contextmanager
    def making(self, what: str) -> Iterator[None]:
        """Let one thread at a time make a thing that is asked for.

        Raises
        ------
        Problem
            503 where another thread takes too long for it.
        """
        lock = self._locks.setdefault(what, threading.Lock())
        if not lock.acquire(timeout=_LONGEST_MAKING):
            text = "What you asked for is still being made. Ask again in half a minute."
            raise Problem(503, text, _BUSY)
        try:
            yield
        finally:
            lock.release()

    def cancel(self) -> None:
        """Let its worker stop."""
        self._cancelled.set()

    def check(self) -> None:
        """Stop the worker where the study was deleted.

        Raises
        ------
        CancelledError
            Then.
        """
        if self.is_cancelled:
            raise CancelledError

    def progress(self) -> dict[str, int]:
        """Tell how far it is."""
        names = ("files", "read", "predicted", "mapped", "maps")
        return {name: getattr(self, name) for name in names}


class Jobs:
    """All studies of a server, and the threads that predict them.

    Parameters
    ----------
    settings
        Limits, and how long a study is kept.
    store
        Makes and wipes folders.
    work
        Predicts a job in a thread; sets its `result`.
    """

    def __init__(self, settings: Settings, store: Store, work: Callable[[Job], None]) -> None:
        self._settings, self._store, self._work = settings, store, work
        self._jobs: dict[str, Job] = {}
        self._arriving: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(settings.limits.workers, thread_name_prefix="hemtrace-job")

    @contextmanager
    def admit(self) -> Iterator[Job]:
        """Let an upload in, and wipe what came of it when anything is raised.

        Raises
        ------
        Problem
            429 where too many arrive or wait, 503 where too many are kept.
        """
        limits = self._settings.limits
        with self._lock:
            waiting = sum(not job.is_over for job in self._jobs.values())
            arriving = len(self._arriving)
            if arriving >= limits.uploads or waiting + arriving >= limits.waiting:
                text = "Too many studies are on their way. Wait half a minute and send it again."
                raise Problem(429, text, _BUSY)
            if len(self._jobs) + arriving >= limits.kept:
                raise Problem(
                    503,
                    "The server keeps as many studies as it can. Delete one that is finished, or "
                    "wait until one is deleted.",
                    _BUSY,
                )
            job = Job(self._store.create_folder())
            job.take_room = partial(self.take_room, job)
            self._arriving[job.id] = job
        try:
            yield job
        except BaseException:
            self._store.wipe_folder(job.folder)
            raise
        finally:
            with self._lock:
                del self._arriving[job.id]

    def take_room(self, job: Job, count: int) -> None:
        """Count bytes that are about to be written for a study.

        Raises
        ------
        Problem
            503 where all studies together would take more than the server may.
        """
        with self._lock:
            everyone = {**self._jobs, **self._arriving}.values()
            if sum(one.bytes for one in everyone) + count > self._settings.limits.kept_bytes:
                raise Problem(
                    503,
                    "The server has no room left for this study. Delete one that is finished, or "
                    "wait until one is deleted.",
                    _BUSY,
                )
            job.bytes += count

    def start(self, job: Job) -> None:
        """Keep an admitted study, and predict it when a thread is free."""
        if job.contents is not None:
            job.files = len(job.contents.names) + len(job.contents.refused)
        with self._lock:
            self._jobs[job.id] = job
        self._pool.submit(self._run, job)

    def find(self, job_id: str) -> Job:
        """Find a study, which is then kept for its time anew.

        Raises
        ------
        Problem
            404 where there is none of that id.
        """
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise Problem(404, "The server has no study of this id, or no longer. Send it again.")
        job.seen = time.monotonic()
        return job

    def delete(self, job_id: str) -> None:
        """Forget a study and wipe its folder.

        Raises
        ------
        Problem
            As `find`.
        """
        job = self.find(job_id)
        with self._lock:
            self._jobs.pop(job_id, None)
        self._wipe(job)

    def expire(self) -> int:
        """Wipe the studies that nobody has looked at for their time, and count them."""
        oldest = time.monotonic() - 60 * self._settings.keep_minutes
        with self._lock:
            old = [job for job in self._jobs.values() if job.is_over and job.seen < oldest]
            for job in old:
                del self._jobs[job.id]
        for job in old:
            self._wipe(job)
        return len(old)

    def close(self) -> None:
        """Stop all work and wipe everything."""
        with self._lock:
            jobs = list(self._jobs.values())
            self._jobs.clear()
        for job in jobs:
            job.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for job in jobs:
            self._wipe(job)

    def _wipe(self, job: Job) -> None:
        job.cancel()
        if job.contents is not None:
            job.contents.close()
        self._store.wipe_folder(job.folder)
        # A thread that answers a request may hold the job a moment longer, its pixels not.
        if job.result is not None:
            job.result.pixels.close()
        job.events.clear()

    def _run(self, job: Job) -> None:
        try:
            job.check()
            self._work(job)
            job.check()
            job.finished = datetime.now()
            job.state = "done"
        except CancelledError:
            pass
        except HemtraceError as error:
            self._fail(job, str(error))
        except Problem as problem:
            self._fail(job, problem.detail)
        except Exception as error:  # the thread must live on
            if not job.is_cancelled:
                log_defect(error)
                self._fail(
                    job,
                    "The server met an error of its own on this study. Send it again; if it stays, "
                    "report it.",
                )
        finally:
            job.seen = time.monotonic()
            if job.is_cancelled:
                # What was written after the deletion.
                self._wipe(job)
            elif job.state == "done":
                _LOG.info("a study is done: %d files, %d slices", job.files, job.predicted)

    def _fail(self, job: Job, sentence: str) -> None:
        job.problem = describe(500, sentence)
        job.state = "failed"
        _LOG.info("a study has failed")
