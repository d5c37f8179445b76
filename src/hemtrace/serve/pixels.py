"""Hounsfield units of a study, on disk in its private folder: memory has no room for them."""

import threading
from pathlib import Path
from typing import IO

import numpy as np

_HELD = np.iinfo(np.int16)
_Key = tuple[str, int | None]


class Pixels:
    """Slices by file and frame.

    Parameters
    ----------
    path
        Of the file that holds them; its folder is gone when the study is.
    most_slices, most_bytes
        That are kept.
    """

    def __init__(self, path: Path, most_slices: int, most_bytes: int) -> None:
        self._path, self._most_slices, self._most_bytes = path, most_slices, most_bytes
        self._places: dict[_Key, tuple[int, tuple[int, int]]] = {}
        self._end = 0
        self._lock = threading.Lock()
        self._stream: IO[bytes] | None = path.open("xb+")

    def __len__(self) -> int:
        """Count the slices."""
        return len(self._places)

    def has_room(self, hu: np.ndarray) -> bool:
        """Say whether one more slice may be kept."""
        return len(self) < self._most_slices and self._end + 2 * hu.size <= self._most_bytes

    def add(self, file: str, frame: int | None, hu: np.ndarray) -> None:
        """Keep a slice: (rows, columns), rounded to whole HU."""
        if hu.dtype != np.int16:
            hu = np.rint(hu).clip(_HELD.min, _HELD.max).astype(np.int16)
        with self._lock:
            if self._stream is None:
                raise FileNotFoundError("the pixels of the study were wiped")
            self._stream.seek(self._end)
            self._stream.write(np.ascontiguousarray(hu).data)
            self._places[file, frame] = self._end, (hu.shape[0], hu.shape[1])
            self._end += 2 * hu.size

    def read(self, file: str, frame: int | None) -> np.ndarray:
        """Give a slice: int16 (rows, columns).

        Raises
        ------
        KeyError
            If it was not kept.
        FileNotFoundError
            If all were forgotten.
        """
        start, (rows, columns) = self._places[file, frame]
        with self._lock:
            if self._stream is None:
                raise FileNotFoundError("the pixels of the study were wiped")
            self._stream.seek(start)
            content = self._stream.read(2 * rows * columns)
        return np.frombuffer(content, np.int16).reshape(rows, columns)

    def close(self) -> None:
        """Forget all; the room is free when the folder is gone too."""
        with self._lock:
            if self._stream is not None:
                self._stream.close()
                self._stream = None
