"""Micro-batching: the slices of several requests go through the network together."""

import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np

from hemtrace.engine.contract import CHUNK, Answers, Engine, check_pictures
from hemtrace.errors import HemtraceError


@dataclass(frozen=True)
class _Request:
    pictures: np.ndarray
    future: "Future[Answers]" = field(default_factory=Future)


class Batcher:
    """One thread that gathers requests for a short while, and runs them as one.

    Parameters
    ----------
    engine
        What predicts.
    most
        Slices after which it waits for no more.
    wait_s
        Longest time that a request waits for others, seconds. A busy engine gathers those that come
        while it computes, so that waiting matters only where it is idle.
    """

    def __init__(self, engine: Engine, most: int = CHUNK, wait_s: float = 0.005) -> None:
        self.engine = engine
        self._most, self._wait_s = most, wait_s
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # nothing is put behind the end
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, pictures: np.ndarray) -> "Future[Answers]":
        """Ask for answers on pictures as `Engine.run` takes them, of any number.

        Returns
        -------
        What will hold them, or the error of this request. It may be cancelled until it is run.

        Raises
        ------
        HemtraceError
            If the batcher was closed.
        """
        request = _Request(pictures)
        try:
            check_pictures(self.engine.spec, pictures)
        except HemtraceError as error:
            request.future.set_exception(error)
            return request.future
        with self._lock:
            if self._closed:
                raise HemtraceError("Nothing is predicted any more: hemtrace is shutting down.")
            self._queue.put(request)
        return request.future

    def close(self) -> None:
        """Take no more requests, answer those that wait, and end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        going = True
        while going:
            requests, going = self._gather()
            requests = [one for one in requests if one.future.set_running_or_notify_cancel()]
            if requests:
                self._answer(requests)

    def _gather(self) -> tuple[list[_Request], bool]:
        """Take the next request and those that come soon; False where the end came."""
        first = self._queue.get()
        if first is None:
            return [], False
        requests, slices = [first], len(first.pictures)
        until = time.monotonic() + self._wait_s
        while slices < self._most:
            try:
                another = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if another is None:
                return requests, False
            requests.append(another)
            slices += len(another.pictures)
        return requests, True

    def _answer(self, requests: list[_Request]) -> None:
        try:
            together = np.concatenate([one.pictures for one in requests])
            answers = self.engine.run(together)
        except Exception as error:
            if len(requests) == 1:
                requests[0].future.set_exception(error)
                return
            # One of them may be at fault: alone, each gets its own answer or error.
            for one in requests:
                self._answer([one])
            return
        start = 0
        for one in requests:
            stop = start + len(one.pictures)
            one.future.set_result(answers.part(start, stop))
            start = stop
