"""Batches, read ahead in threads while the network is at work."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from hemtrace.shards import Partition

# Batches that wait for each thread: one being read, one ready.
_AHEAD = 2


class Loader:
    """Reads batches of slices in order.

    Threads, not processes: reading is copying from a memory map or unpacking zstd, which both
    let go of Python's lock, and uint8 batches need not be sent from process to process.

    Parameters
    ----------
    slices
        Where they come from.
    threads
        How many read.
    device
        Where batches go; for a GPU they are copied while it works.

    Attributes
    ----------
    waited
        Seconds that the consumer has waited for batches.
    """

    def __init__(self, slices: Partition, threads: int, device: torch.device) -> None:
        self._slices = slices
        self._threads = threads
        self._device = device
        self.waited = 0.0

    def read(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the slices of each batch: uint8 (n, channels, H, W), and uint8 (n, 6) labels."""
        places = iter(batches)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="loader") as pool:
            ahead = islice(places, _AHEAD * self._threads)
            waiting: deque[Future[tuple[Tensor, Tensor]]] = deque(
                pool.submit(self._read_one, batch) for batch in ahead
            )
            try:
                while waiting:
                    started = time.perf_counter()
                    images, labels = waiting.popleft().result()
                    self.waited += time.perf_counter() - started
                    waiting.extend(pool.submit(self._read_one, one) for one in islice(places, 1))
                    yield (
                        images.to(self._device, non_blocking=True),
                        labels.to(self._device, non_blocking=True),
                    )
            finally:
                for future in waiting:
                    future.cancel()

    def _read_one(self, batch: np.ndarray) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(self._slices.read(batch))
        labels = torch.from_numpy(self._slices.labels[batch])
        if self._device.type == "cuda":  # the only memory that can be copied beside the work
            return images.pin_memory(), labels.pin_memory()
        return images, labels
