"""Decoding children, one a study, started before they are asked for."""

import threading
from contextlib import suppress
from pathlib import Path

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.errors import HemtraceError
from hemtrace.serve.settings import Limits


class Readers:
    """Keeps a spare child ready, which takes a second to start.

    A child reads the files of one study and is then ended: what a file may have done to it reaches
    no other patient's.

    Parameters
    ----------
    limits
        Of time and memory.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._spare: GuardedReader | None = None
        self._closed = False

    def take(self) -> GuardedReader:
        """Give a reader, to be used in a `with` block."""
        with self._lock:
            spare, self._spare = self._spare, None
        return spare or self._make()

    def refill(self) -> None:
        """Start a spare in a thread, where there is none."""
        threading.Thread(target=self._start, name="hemtrace-reader", daemon=True).start()

    def close(self) -> None:
        """End the spare, and start no other."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.__exit__(None, None, None)

    def _make(self) -> GuardedReader:
        seconds, memory = self._limits.read_seconds, self._limits.read_memory_gb
        return GuardedReader(Path(), PUBLIC_SALT, seconds, memory)

    def _start(self) -> None:
        with self._lock:
            if self._closed or self._spare is not None:
                return
        fresh = self._make()
        with suppress(HemtraceError, OSError):  # the next study will tell
            fresh.start()
        with self._lock:
            if not self._closed and self._spare is None:
                self._spare = fresh
                return
        fresh.__exit__(None, None, None)
