"""The pictures of a shard on disk, in two formats behind one reader.

`NNNN.npy`: uint8 (slices, windows, size, size), memory-mapped: the fastest. `NNNN.images.parquet`:
one row group a slice, zstd within, so that any slice is read without its neighbours: the smallest.
"""

import os
import resource
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hemtrace.errors import HemtraceError

SUFFIXES: dict[str, str] = {"npy": ".npy", "parquet": ".images.parquet"}
# Level 1 unpacks as fast as higher ones, and packs CT windows to within 5 % of them.
_ZSTD_LEVEL = 1


class ImageWriter(ABC):
    """Writes pictures one by one, so that memory does not grow with a shard."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.count = 0
        self._stream = path.open("wb")

    @abstractmethod
    def write(self, image: np.ndarray) -> None:
        """Add a picture: uint8 (windows, size, size)."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the file."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Complete the file unless something went wrong, and see that the disk has it."""
        with self._stream:
            if error is None:
                self.finish()
                self._stream.flush()
                os.fsync(self._stream.fileno())


class NpyWriter(ImageWriter):
    """A .npy file, whose header tells the number of pictures and is written again at the end."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        super().__init__(path, shape)
        self._write_header()

    def write(self, image: np.ndarray) -> None:
        """Add a picture."""
        self._stream.write(np.ascontiguousarray(image, dtype=np.uint8).data)
        self.count += 1

    def finish(self) -> None:
        """Put the true number of pictures into the header."""
        self._stream.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        # numpy leaves room for the first number to grow (its format 1.0 does so for appending).
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._stream, header)


class ParquetWriter(ImageWriter):
    """A Parquet file of one binary column, a row group a picture."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        super().__init__(path, shape)
        self._schema = pa.schema(
            [pa.field("image", pa.binary(), nullable=False)],
            metadata={"shape": " ".join(map(str, shape)), "dtype": "uint8"},
        )
        self._parquet = pq.ParquetWriter(
            self._stream,
            self._schema,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            use_dictionary=False,
            write_statistics=False,
        )

    def write(self, image: np.ndarray) -> None:
        """Add a picture."""
        self._parquet.write_table(pa.table([[image.tobytes()]], schema=self._schema))
        self.count += 1

    def finish(self) -> None:
        """Write the footer."""
        self._parquet.close()


class ImageReader(ABC):
    """Reads pictures of a shard by their rows."""

    shape: tuple[int, ...]  # (slices, windows, size, size)

    @abstractmethod
    def read(self, row: int) -> np.ndarray:
        """Read a picture: uint8 (windows, size, size)."""


class NpyReader(ImageReader):
    """Hands out views of a memory map."""

    def __init__(self, path: Path) -> None:
        self._map = np.load(path, mmap_mode="r")
        if self._map.ndim != 4 or self._map.dtype != np.uint8:
            raise ValueError("no array of pictures")
        self.shape = self._map.shape

    def read(self, row: int) -> np.ndarray:
        """Give a view."""
        picture: np.ndarray = self._map[row]
        return picture


class ParquetReader(ImageReader):
    """Unpacks a row group, which is one picture."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
        metadata = self._file.schema_arrow.metadata or {}
        picture = tuple(int(side) for side in metadata[b"shape"].split())
        self.shape = (self._file.num_row_groups, *picture)

    def read(self, row: int) -> np.ndarray:
        """Unpack a picture."""
        column: Any = self._file.reader.read_row_group(row, use_threads=False).column(0)
        packed = column.chunk(0).buffers()[2]
        return np.frombuffer(packed, np.uint8, packed.size).reshape(self.shape[1:])


def create_images(path: Path, kind: str, shape: tuple[int, int, int]) -> ImageWriter:
    """Begin a file of pictures; `kind` is one of `SUFFIXES`."""
    return {"npy": NpyWriter, "parquet": ParquetWriter}[kind](path, shape)


def find_images(folder: Path, name: str) -> Path:
    """Find the pictures of a shard, whatever their format.

    Raises
    ------
    HemtraceError
        If there are none, or in both formats.
    """
    found = [path for suffix in SUFFIXES.values() if (path := folder / (name + suffix)).is_file()]
    if len(found) != 1:
        raise HemtraceError(
            f"The shard {folder / name} has {len(found)} files of pictures, and should have one; "
            "`hemtrace verify --repair` removes what is wrong, then run the pipeline again."
        )
    return found[0]


@cache
def open_images(path: Path) -> ImageReader:
    """Open the pictures of a shard.

    Raises
    ------
    HemtraceError
        If the file is missing or damaged.
    """
    # A map keeps its file open: 753 shards are near the usual limit of 1,024, which may be raised.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        return (NpyReader if path.suffix == ".npy" else ParquetReader)(path)
    except (OSError, ValueError, KeyError, EOFError, pa.ArrowException) as error:
        raise HemtraceError(
            f"The shard {path} is missing or damaged ({type(error).__name__}); "
            "`hemtrace verify --repair` removes it, then the pipeline makes it anew."
        ) from None
