"""Requests are gathered, and each gets its own answers or its own error."""

import threading
from concurrent.futures import CancelledError, wait

import numpy as np
import pytest
from held import SPEC

from hemtrace.engine import Answers, Batcher
from hemtrace.errors import HemtraceError
from hemtrace.model import ModelSpec


class Counter:
    """An engine whose answer is the mean grey of a picture; it fails on a white one."""

    spec: ModelSpec = SPEC
    runtime = "a test"
    model_sha256 = ""
    fallback = None
    has_cells = False

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Event()

    def run(self, pictures: np.ndarray) -> Answers:
        self.batches.append(len(pictures))
        self.begun.set()
        assert self.free.wait(30)
        if (pictures == 255).all(axis=(1, 2, 3)).any():
            raise ValueError("a white picture")
        grey = pictures.mean(axis=(1, 2, 3), dtype=np.float64)
        return Answers(np.repeat(grey[:, None], 6, axis=1), None, grey[:, None].astype(np.float32))

    def heat(self, pictures: np.ndarray, labels: object) -> np.ndarray:
        raise NotImplementedError


def grey(value: int, count: int = 1) -> np.ndarray:
    return np.full((count, 3, 32, 32), value, np.uint8)


def hold_up(engine: Counter, batcher: Batcher) -> None:
    """Keep the engine busy, so that what is asked meanwhile waits."""
    engine.free.clear()
    batcher.submit(grey(0))
    assert engine.begun.wait(30)


def test_what_comes_while_the_engine_is_busy_goes_through_together() -> None:
    engine = Counter()
    with Batcher(engine, most=8) as batcher:
        hold_up(engine, batcher)
        futures = [batcher.submit(grey(value, 1 + value % 2)) for value in range(1, 9)]
        engine.free.set()
        for value, future in enumerate(futures, start=1):
            told = future.result(30)
            assert len(told) == 1 + value % 2
            assert (told.probabilities == value).all()
            assert told.features is not None
            assert (told.features == value).all()
    assert sum(engine.batches) == 13
    assert engine.batches[0] == 1
    assert max(engine.batches) <= 9  # the last one that fits, whole
    assert len(engine.batches) == 3


def test_a_request_alone_is_answered_without_others() -> None:
    engine = Counter()
    with Batcher(engine, wait_s=0) as batcher:
        assert batcher.submit(grey(7)).result(30).probabilities[0, 0] == 7
        assert len(batcher.submit(grey(7, 0)).result(30)) == 0
        assert len(batcher.submit(grey(7, 50)).result(30)) == 50


def test_an_error_reaches_the_request_that_is_at_fault_alone() -> None:
    engine = Counter()
    with Batcher(engine) as batcher:
        hold_up(engine, batcher)
        futures = [batcher.submit(grey(value)) for value in (1, 255, 3)]
        engine.free.set()
        assert futures[0].result(30).probabilities[0, 0] == 1
        assert futures[2].result(30).probabilities[0, 0] == 3
        with pytest.raises(ValueError, match="a white picture"):
            futures[1].result(30)
        with pytest.raises(HemtraceError, match="uint8 pictures"):
            batcher.submit(np.zeros((1, 3, 8, 8), np.uint8)).result(30)
        assert batcher.submit(grey(9)).result(30).probabilities[0, 0] == 9  # it lives on


def test_a_cancelled_request_is_not_run() -> None:
    engine = Counter()
    with Batcher(engine) as batcher:
        hold_up(engine, batcher)
        first, second = batcher.submit(grey(1, 5)), batcher.submit(grey(2))
        assert first.cancel()
        engine.free.set()
        assert second.result(30).probabilities[0, 0] == 2
        with pytest.raises(CancelledError):
            first.result(30)
    assert sum(engine.batches) == 2


def test_closing_answers_what_waits_and_takes_nothing_more() -> None:
    engine = Counter()
    batcher = Batcher(engine)
    hold_up(engine, batcher)
    futures = [batcher.submit(grey(value)) for value in range(5)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    engine.free.set()
    closing.join(30)
    assert not closing.is_alive()
    assert wait(futures, 0).not_done == set()
    with pytest.raises(HemtraceError, match="shutting down"):
        batcher.submit(grey(1))
    batcher.close()  # twice is once


def test_many_threads_get_their_own_answers() -> None:
    engine = Counter()
    wrong: list[int] = []

    def ask(value: int) -> None:
        told = [batcher.submit(grey(value)).result(30).probabilities[0, 0] for _ in range(20)]
        if told != [value] * 20:
            wrong.append(value)

    with Batcher(engine, wait_s=0.001) as batcher:
        threads = [threading.Thread(target=ask, args=(value,)) for value in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not wrong
    assert sum(engine.batches) == 320
    assert len(engine.batches) < 320
