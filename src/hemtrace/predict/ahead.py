"""Reading and windowing that run ahead in a thread, while the network is at work."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hemtrace.dicom import Rejected, Slice
from hemtrace.model.spec import ModelSpec
from hemtrace.predict.noise import measure_noise
from hemtrace.predict.regions import pack_head
from hemtrace.shards import make_pictures
from hemtrace.shards.make import Row

T = TypeVar("T")
# Pictures that wait for the network: four chunks of `engine.contract.CHUNK`, 20 MB with their HU.
_AHEAD = 32
_BRAIN = "brain"
# How soon a thread notices that nobody wants its pictures any more.
_NOTICE_SECONDS = 0.2


@dataclass(frozen=True)
class Read:
    """A picture of a file, or why there is none.

    Attributes
    ----------
    row
        Of `shards.ROW_SCHEMA`, as `shards.make_pictures` gives it.
    picture
        uint8 (windows, size, size); None where it cannot be used.
    head
        As in `study.SlicePrediction`.
    hu
        int16 (rows, columns); None unless asked for.
    noise_hu
        As `noise.measure_noise`.
    """

    row: Row
    picture: np.ndarray | None
    head: np.ndarray | None = None
    hu: np.ndarray | None = None
    noise_hu: float = float("nan")


def read_pictures(
    read: Callable[[str], Iterable[Slice | Rejected]],
    names: Sequence[str],
    spec: ModelSpec,
    salt: bytes,
    keep_hu: bool = False,
    keep_heads: bool = False,
) -> Iterator[Read]:
    """Read files and make their pictures by `shards.make_pictures`, as ingest does.

    Parameters
    ----------
    read, names
        Gives the slices of a file; the files.
    spec
        Of the model that is to see the pictures.
    salt
        Of the pseudonyms.
    keep_hu, keep_heads
        What is wanted beside the picture.
    """
    held: list[Slice | Rejected] = []

    def tap(name: str) -> Iterator[Slice | Rejected]:
        for found in read(name):
            held[:] = [found]
            yield found

    windows = [window.name for window in spec.windows]
    brain = windows.index(_BRAIN) if keep_heads and _BRAIN in windows else None
    for row, picture in make_pictures(tap, names, spec.view, salt, quiet=True):
        if picture is None:
            yield Read(row, None)
            continue
        found = held[0]
        assert isinstance(found, Slice)
        yield Read(
            row,
            picture,
            head=None if brain is None else pack_head(picture[brain]),
            hu=whole_hu(found.hu) if keep_hu else None,
            noise_hu=measure_noise(found.hu),
        )


def run_ahead(items: Iterator[T], ahead: int = _AHEAD) -> Iterator[T]:
    """Give out items that a thread makes, which is at most `ahead` of them further.

    What the thread raises is raised here, in its place. The thread has ended when this has: when
    all is given out, or the generator is closed.
    """
    waiting: queue.Queue[T | _End] = queue.Queue(maxsize=ahead)
    unwanted = threading.Event()

    def offer(item: "T | _End") -> bool:
        while not unwanted.is_set():
            try:
                waiting.put(item, timeout=_NOTICE_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer(item):
                    return
        except BaseException as error:  # whatever it is, the caller must meet it
            offer(_End(error))
        else:
            offer(_End(None))

    thread = threading.Thread(target=work, name="hemtrace-read", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        unwanted.set()
        thread.join()


@dataclass(frozen=True)
class _End:
    error: BaseException | None


def whole_hu(hu: np.ndarray) -> np.ndarray:
    """Give HU as int16, rounded where the file has fractions."""
    if hu.dtype == np.int16:
        return hu
    held = np.iinfo(np.int16)
    return np.rint(hu).clip(held.min, held.max).astype(np.int16)
