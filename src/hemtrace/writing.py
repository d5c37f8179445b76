"""Files that appear under their names only when they are complete."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from hemtrace.errors import HemtraceError

_UMASK = os.umask(0o022)  # only told when set
os.umask(_UMASK)
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@contextmanager
def write_whole(path: Path, advice: str = "") -> Iterator[Path]:
    """Give the name of a part to write, which takes the file's name when the block ends.

    Parameters
    ----------
    path
        The file; what stands under its name stays until then.
    advice
        What else can be done about a full disk: sentences.

    Raises
    ------
    HemtraceError
        If the disk is full. Whatever is raised, the part is removed.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())  # some disks tell only now that they are full
        part.chmod(0o666 & ~_UMASK)  # safetensors lets nobody else read what it writes
        part.replace(path)
    except BaseException as error:
        number = _system_error(error, part)
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if number in _FULL:
            raise HemtraceError(
                f"The disk of {path.parent} is full ({os.strerror(number)}); make room and run "
                f"again: what is finished is kept.{advice and ' ' + advice}"
            ) from None
        raise


def write_table(table: pl.DataFrame, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a table as Parquet, whole or not at all.

    Raises
    ------
    HemtraceError
        If the disk is full.
    """
    with write_whole(path) as part:
        table.write_parquet(part, metadata=metadata)


def _system_error(error: BaseException, part: Path) -> int:
    """Find the number of the system's error; 0 where there is none."""
    if isinstance(error, pl.exceptions.PolarsError):
        # polars writes by Rust, and may lose what the system said: it is asked again.
        try:
            with part.open("ab") as stream:
                stream.write(bytes(2**20))
        except OSError as again:
            return again.errno or 0
    return (error.errno or 0) if isinstance(error, OSError) else 0
