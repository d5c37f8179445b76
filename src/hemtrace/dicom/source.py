"""Where the bytes of a file come from: a folder, whatever lies in it, and the zips among it."""

import errno
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from hemtrace.dicom.reasons import QuarantineError
from hemtrace.errors import HemtraceError

# An enhanced CT of 2,000 frames has 1 GB; beyond this it is no slice.
LARGEST_FILE = 2 * 2**30
# Of an entry that is no regular file, or that leads nowhere.
NO_SIZE = -1
# A listed file that answers so is not bad: its disk is.
_GONE = frozenset((errno.ENOENT, errno.ESTALE, errno.EIO, errno.ENOTCONN))


def walk_files(folder: Path) -> Iterator[tuple[str, int]]:
    """Name every file below a folder, and its bytes; in no order.

    A name is the path below the folder, with `/` between its parts; bytes that are no UTF-8,
    control characters and `%` are written as `%XX`, so that any name is one line of text and can be
    undone. Links are followed, to folders once each, however they loop. The members of a zip stand
    as `a.zip/member`. What is neither file nor folder, or leads nowhere, is named with `NO_SIZE`.

    Raises
    ------
    HemtraceError
        If the folder, or one in it, is missing or cannot be read.
    """
    if not folder.is_dir():
        raise HemtraceError(f"The folder {folder} was not found.")
    waiting, seen = [(folder, "")], set()
    while waiting:
        path, prefix = waiting.pop()
        place = path.stat()
        if (place.st_dev, place.st_ino) in seen:
            continue
        seen.add((place.st_dev, place.st_ino))
        try:
            entries = list(os.scandir(path))
        except OSError as error:
            raise HemtraceError(
                f"The folder {path} cannot be read ({error.strerror}); change its "
                "permissions, or leave it out of ingest.images."
            ) from None
        for entry in entries:
            name = prefix + entry.name
            try:
                found = entry.stat()
            except OSError:  # a link that leads nowhere
                yield _to_text(name), NO_SIZE
                continue
            if stat.S_ISDIR(found.st_mode):
                waiting.append((Path(entry.path), name + "/"))
            elif not stat.S_ISREG(found.st_mode):
                yield _to_text(name), NO_SIZE
            elif name.lower().endswith(".zip"):
                yield from _walk_zip(Path(entry.path), _to_text(name), found.st_size)
            else:
                yield _to_text(name), found.st_size


def _walk_zip(path: Path, name: str, size: int) -> Iterator[tuple[str, int]]:
    try:
        members = [member for member in _open_zip(path).infolist() if not member.is_dir()]
    except QuarantineError:
        members = []
    if not members:  # damaged or empty: the zip itself is the file of which to tell
        yield name, size
    for place, member in enumerate(members):
        yield f"{name}/{_member_name(place, member, members)}", member.file_size


def read_source(folder: Path, name: str) -> bytes:
    """Read a file by the name that `walk_files` gave it.

    Raises
    ------
    QuarantineError
        If it is no regular file, must not be read, or is a damaged or encrypted member of a zip.
    HemtraceError
        If it is gone, or its disk fails: that is no fault of the file, and no verdict on it.
    """
    zip_name, member = _split_zip(name)
    path = folder / os.fsdecode(unquote_to_bytes(zip_name))
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise QuarantineError("unreadable", "it is no regular file")
        if member is not None:
            return _read_member(path, member)
        if found.st_size > LARGEST_FILE:
            raise QuarantineError("too-large", f"a file of {found.st_size / 1e9:.1f} GB")
        with path.open("rb") as stream:
            return stream.read(found.st_size + 1)  # as much as is asked for is allocated
    except OSError as error:
        if error.errno == errno.ELOOP or path.is_symlink():
            raise QuarantineError("unreadable", "a link that leads nowhere") from None
        if error.errno in _GONE:
            raise HemtraceError(
                f"The file {name} of {folder} was listed, and is gone or cannot be reached "
                f"({error.strerror}). Bring it back and run again; if it is gone for good, list "
                "the folder again: snakemake --cores all --forcerun ingest_list"
            ) from None
        raise QuarantineError("unreadable", error.strerror or type(error).__name__) from None


def _split_zip(name: str) -> tuple[str, str | None]:
    place = name.lower().find(".zip/")
    return (name, None) if place < 0 else (name[: place + 4], name[place + 5 :])


def _member_name(place: int, member: zipfile.ZipInfo, members: list[zipfile.ZipInfo]) -> str:
    """Name a member; one whose name stands twice in the zip gets its number before it."""
    name = _to_text(member.filename)
    doubled = _names(tuple(other.filename for other in members))
    return f"{place}%2F{name}" if member.filename in doubled else name


@lru_cache(maxsize=2)
def _names(names: tuple[str, ...]) -> frozenset[str]:
    seen: set[str] = set()
    return frozenset(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _read_member(path: Path, wanted: str) -> bytes:
    packed = _open_zip(path)
    members = [member for member in packed.infolist() if not member.is_dir()]
    for place, member in enumerate(members):
        if _member_name(place, member, members) == wanted:
            break
    else:
        raise HemtraceError(
            f"{path} changed since it was listed; list the folder again: "
            "snakemake --cores all --forcerun ingest_list"
        )
    if member.flag_bits & 1:
        raise QuarantineError("unreadable", "a member of an encrypted zip")
    if member.file_size > LARGEST_FILE:
        raise QuarantineError("too-large", f"it unpacks to {member.file_size / 1e9:.1f} GB")
    try:
        with packed.open(member) as stream:
            # The size that a zip claims may be a lie.
            content = stream.read(LARGEST_FILE + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise QuarantineError(
            "unreadable", f"a damaged member of a zip ({type(error).__name__})"
        ) from None
    if len(content) > LARGEST_FILE:
        raise QuarantineError("too-large", f"it unpacks to more than {LARGEST_FILE} bytes")
    return content


@lru_cache(maxsize=4)
def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise QuarantineError("unreadable", f"a damaged zip ({type(error).__name__})") from None


def _to_text(name: str) -> str:
    if "%" not in name and name.isprintable():
        return name
    # Bytes that are no UTF-8 stand as surrogates, which are not printable.
    return "".join(
        c if c.isprintable() and c != "%" else quote(os.fsencode(c), safe="") for c in name
    )
