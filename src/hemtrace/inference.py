"""From slices to probabilities."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from tqdm import tqdm

from hemtrace.labels import LABELS
from hemtrace.model import Ensemble, Net


@runtime_checkable
class Slices(Protocol):
    """Windowed slices that are read by their places; `shards.Partition` is one."""

    def __len__(self) -> int:
        """Count the slices."""
        ...

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read slices: uint8 (n, channels, H, W)."""
        ...


def predict_probabilities(
    net: Net | Ensemble,
    slices: Slices | Iterable[np.ndarray],
    batch_size: int = 32,
    label: str = "predict",
    quiet: bool = False,
    device: torch.device | None = None,
) -> np.ndarray:
    """Predict the six probabilities of each slice.

    Parameters
    ----------
    net
        Put into evaluation mode, and left in it.
    slices
        A partition, or slices one by one, each uint8 (channels, H, W).
    batch_size
        Slices at once.
    label
        Shown by the progress bar.
    quiet
        Show none.
    device
        Where; None: on the GPU where there is one.

    Returns
    -------
    float64 (N, 6), in the order of `labels.LABELS`.
    """
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.to(device).eval()
    total = len(slices) if isinstance(slices, Slices) else None
    probabilities = [np.empty((0, len(LABELS)))]
    with (
        torch.inference_mode(),
        exact_convolutions(),
        tqdm(
            total=total, desc=label, unit="slice", mininterval=2, leave=False, disable=quiet
        ) as progress,
    ):
        for batch in _read_batches(slices, batch_size):
            logits = net(torch.from_numpy(batch).to(device))
            probabilities.append(logits.double().sigmoid().cpu().numpy())
            progress.update(len(batch))
    return np.concatenate(probabilities)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Let a GPU convolve in float32, as a CPU does.

    By default its factors have the 10 bits of TF32: on an H100 the probabilities were up to 1e-3
    from a CPU's, and a tree of a forest went the other way.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def _read_batches(slices: Slices | Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    if isinstance(slices, Slices):
        for start in range(0, len(slices), batch_size):
            yield slices.read(np.arange(start, min(start + batch_size, len(slices))))
    else:
        ones = iter(slices)
        while batch := list(islice(ones, batch_size)):
            yield np.stack(batch)
