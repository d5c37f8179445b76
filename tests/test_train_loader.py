import threading
import time

import numpy as np
import pytest
import torch
from held import hold

from hemtrace.shards import TrainSlices
from hemtrace.train.loader import Loader

CPU = torch.device("cpu")


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_come_in_order_with_their_labels(threads: int) -> None:
    slices = hold(TrainSlices, 50, 1)
    batches = np.array_split(np.random.default_rng(0).permutation(50), 13)
    found = list(Loader(slices, threads, CPU).read(batches))
    assert len(found) == 13
    for batch, (images, labels) in zip(batches, found, strict=True):
        np.testing.assert_array_equal(images.numpy(), slices.read(batch))
        np.testing.assert_array_equal(labels.numpy(), slices.labels[batch])


def test_it_reads_ahead_but_not_far() -> None:
    seen: list[int] = []
    batches = Loader(hold(TrainSlices, 100, 1, seen), 1, CPU).read(np.arange(100)[:, None])
    next(batches)
    time.sleep(0.2)
    assert 2 <= len(seen) <= 4
    batches.close()


def test_what_goes_wrong_in_a_thread_is_raised_and_no_thread_stays() -> None:
    slices = hold(TrainSlices, 10, 1)

    def fail(indices: np.ndarray) -> np.ndarray:
        raise OSError("the disk is gone")

    broken = TrainSlices(slices.slices, slices.patients, slices.labels, slices.squares, fail)
    with pytest.raises(OSError, match="the disk is gone"):
        list(Loader(broken, 2, CPU).read([np.array([1]), np.array([2])]))
    assert not [t for t in threading.enumerate() if t.name.startswith("loader")]


def test_waiting_is_counted() -> None:
    slices = hold(TrainSlices, 10, 1)

    def slowly(indices: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return slices.read_places(indices)

    slow = TrainSlices(slices.slices, slices.patients, slices.labels, slices.squares, slowly)
    loader = Loader(slow, 1, CPU)
    list(loader.read([np.array([k]) for k in range(5)]))
    assert loader.waited > 0.15
