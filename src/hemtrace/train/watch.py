"""What a person sees of a training, and what is kept when it goes wrong."""

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from hemtrace.labels import ANY

# The AUC that is shown is that of about so many slices last seen.
_RECENT_SLICES = 2000
_SECONDS_BETWEEN_FIGURES = 10.0
_SECONDS_BETWEEN_TEXTS = 2.0


class Watch:
    """The progress bar of an epoch, and the figures of the moment.

    Parameters
    ----------
    title
        Before the bar.
    slices, done
        Of the epoch, and of these those of a run that is resumed.
    device
        Whose memory is told.
    is_shown
        Whether there is a bar at all.
    """

    def __init__(
        self, title: str, slices: int, done: int, device: torch.device, is_shown: bool
    ) -> None:
        self._device = device
        self._bar = tqdm(
            total=slices,
            initial=done,
            desc=title,
            unit="slice",
            mininterval=_SECONDS_BETWEEN_TEXTS,
            disable=not is_shown,
        )
        self._recent: deque[tuple[np.ndarray, np.ndarray]] = deque()
        self._recent_count = 0
        self._started = time.perf_counter()
        self._told = self._described = self._started
        self._seen = 0

    def __enter__(self) -> "Watch":
        """Begin."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the bar."""
        self._bar.close()

    def see(
        self,
        parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
        count: int,
        loss: float,
        waited: float,
    ) -> None:
        """Take note of a step.

        Parameters
        ----------
        parts
            Logits and labels (n, 6) of what this process saw of it.
        count
            Slices of the whole step.
        loss, waited
            The epoch's mean loss so far, and the seconds spent waiting for slices.
        """
        self._seen += count
        for logits, labels in parts:
            pair = logits[:, ANY].float().numpy(force=True), labels[:, ANY].numpy(force=True)
            self._recent.append(pair)
            self._recent_count += len(logits)
        while self._recent_count - len(self._recent[0][0]) >= _RECENT_SLICES:
            self._recent_count -= len(self._recent.popleft()[0])
        self._bar.update(count)
        if not self._bar.disable and time.perf_counter() - self._described > _SECONDS_BETWEEN_TEXTS:
            self._described = time.perf_counter()
            self._bar.set_postfix_str(self._describe(loss, waited), refresh=False)

    def figures(self, loss: float, rate: float, waited: float) -> dict[str, float] | None:
        """Give the figures of the moment for the record, every ten seconds; None in between."""
        if time.perf_counter() - self._told < _SECONDS_BETWEEN_FIGURES:
            return None
        self._told = time.perf_counter()
        elapsed = self._told - self._started
        found = {
            "live_loss": loss,
            "live_learning_rate": rate,
            "slices_per_second": self._seen / elapsed,
            "wait_share": waited / elapsed,
            "memory_gb": used_memory_gb(self._device),
        }
        area = self._recent_auc()
        return found if area is None else found | {"live_auc_any": area}

    def _describe(self, loss: float, waited: float) -> str:
        area = self._recent_auc()
        elapsed = max(time.perf_counter() - self._started, 1e-9)
        return (
            f"loss {loss:.4f}, AUC of any {'-' if area is None else f'{area:.3f}'}, "
            f"waiting {waited / elapsed:.0%}, {used_memory_gb(self._device):.1f} GB"
        )

    def _recent_auc(self) -> float | None:
        if not self._recent:
            return None
        logits, labels = (np.concatenate(part) for part in zip(*self._recent, strict=True))
        return float(roc_auc_score(labels, logits)) if 0 < labels.sum() < len(labels) else None


def used_memory_gb(device: torch.device) -> float:
    """Memory in use, GB: the most that a GPU held, or what this process holds."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return float(psutil.Process().memory_info().rss) / 1e9


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: a GPU's, or the machine's."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def keep_batch(folder: Path, rank: int, step: int, images: Any, labels: Any) -> Path:
    """Write the slices at which a training diverged: uint8 images and labels, in a .npz file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"diverged_step{step}_process{rank}.npz"
    np.savez_compressed(path, images=images.numpy(force=True), labels=labels.numpy(force=True))
    return path
