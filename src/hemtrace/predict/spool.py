"""Records of one size, many of them, without memory that grows with their number."""

import tempfile
from types import TracebackType
from typing import Self

import numpy as np

# 7,000 pictures of 112 pixels in three windows: a study, or a hundred, never touch the disk.
_MOST_IN_MEMORY = 2**28


class Spool:
    """Arrays of one shape and type, by the order in which they came.

    Beyond 256 MB they lie in a temporary file without a name, which is gone with the process.

    Parameters
    ----------
    most_in_memory
        Bytes.
    """

    def __init__(self, most_in_memory: int = _MOST_IN_MEMORY) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=most_in_memory)  # noqa: SIM115
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.uint8)
        self._count = 0

    def __len__(self) -> int:
        """Count the records."""
        return self._count

    def __enter__(self) -> Self:
        """Do nothing: memory and disk are taken as they are needed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Forget all."""
        self.close()

    def append(self, record: np.ndarray) -> None:
        """Add a record.

        Raises
        ------
        ValueError
            If it has another shape or type than the first one.
        """
        if not self._count:
            self._shape, self._dtype = record.shape, record.dtype
        if (record.shape, record.dtype) != (self._shape, self._dtype):
            raise ValueError(f"{record.dtype} {record.shape} is none of {self._dtype} {self.shape}")
        self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(record).tobytes())
        self._count += 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a record; empty while there is none."""
        return self._shape

    def read(self, place: int) -> np.ndarray:
        """Read a record by its place.

        Raises
        ------
        IndexError
            If there are not so many.
        """
        if not 0 <= place < self._count:
            raise IndexError(f"record {place} of {self._count}")
        size = int(np.prod(self._shape)) * self._dtype.itemsize
        self._file.seek(place * size)
        return np.frombuffer(self._file.read(size), self._dtype).reshape(self._shape)

    def close(self) -> None:
        """Forget all."""
        self._file.close()
