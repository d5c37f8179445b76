"""Where the bytes of a file come from: a folder, whatever lies in it, and the zips among it."""

import errno
import io
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote_to_bytes

from hemtrace.dicom.identity import is_public_name, slice_key
from hemtrace.dicom.reasons import QuarantineError
from hemtrace.errors import HemtraceError

# An enhanced CT of 2,000 frames has 1 GB; beyond this it is no slice.
LARGEST_FILE = 2 * 2**30
# A thousand pictures of 512 x 512. What is packed is unpacked in memory, so less of it is allowed.
LARGEST_MEMBER = 2**29
# Of deflate Python unpacks no more than the piece asked for, of other methods all that it reads at
# once: 64 bytes of bzip2 are two blocks at most, 90 MB.
_PIECE, _PIECE_WITHOUT_STOP = 2**20, 64
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
    for prefix, entries in _walk_folders(folder):
        for entry in entries:
            name = prefix + entry.name
            try:
                found = entry.stat()
            except OSError:  # a link that leads nowhere
                yield _to_text(name), NO_SIZE
                continue
            if not stat.S_ISREG(found.st_mode):
                yield _to_text(name), NO_SIZE
            elif name.lower().endswith(".zip"):
                yield from _walk_zip(Path(entry.path), _to_text(name), found.st_size)
            else:
                yield _to_text(name), found.st_size


def newest_change(folder: Path) -> int:
    """Tell when last anything came into a folder, or one below, or went: nanoseconds since 1970.

    By the times of folders and zips, which stand for their files. Of the two times that a file
    system keeps, the one that tools like rsync set back does not count alone.

    Raises
    ------
    HemtraceError
        As `walk_files`.
    """
    newest = 0
    for prefix, entries in _walk_folders(folder):
        found = [(folder / prefix).stat()]
        with suppress(FileNotFoundError):
            zips = (entry for entry in entries if entry.name.lower().endswith(".zip"))
            found += [entry.stat() for entry in zips]
        newest = max(newest, *(max(one.st_mtime_ns, one.st_ctime_ns) for one in found))
    return newest


def _walk_folders(folder: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Enter each folder once: its path below the first one, and what is in it but folders."""
    if not folder.is_dir():
        raise HemtraceError(f"The folder {folder} was not found.")
    seen = set()
    # A folder has its own name where a link leads to it too.
    real, linked = [(folder, "")], list[tuple[Path, str]]()
    while real or linked:
        path, prefix = (real or linked).pop()
        try:
            place = path.stat()
            if (place.st_dev, place.st_ino) in seen:
                continue
            seen.add((place.st_dev, place.st_ino))
            # Of two names of one folder the same is found first on every disk.
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            raise HemtraceError(
                f"A folder in {folder} cannot be read ({error.strerror}). Find it by "
                f"`find {folder} -type d ! -readable`; change its permissions, or move it away."
            ) from None
        others = []
        for entry in entries:
            if _leads_to_folder(entry):
                waiting = linked if entry.is_symlink() else real
                waiting.append((Path(entry.path), f"{prefix}{entry.name}/"))
            else:
                others.append(entry)
        yield prefix, others


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _walk_zip(path: Path, name: str, size: int) -> Iterator[tuple[str, int]]:
    try:
        members = _open_zip(path)[1]
    except (QuarantineError, OSError):
        members = {}
    if not members:  # damaged, locked or empty: the zip itself is the file of which to tell
        yield name, size
    for member, found in members.items():
        yield f"{name}/{member}", found.file_size


def read_source(folder: Path, name: str, salt: bytes) -> bytes:
    """Read a file by the name that `walk_files` gave it.

    Parameters
    ----------
    folder, name
        Where it lies.
    salt
        Errors name a file by its `slice_key`: they end in logs, and a name may be a person's.

    Raises
    ------
    QuarantineError
        If it is no regular file, must not be read, is a damaged or encrypted member of a zip, or
        too large.
    HemtraceError
        If it is gone, or its disk fails: that is no fault of the file, and no verdict on it.
    """
    path, member = _find_source(folder, name)
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
    except KeyError:
        raise _gone(folder, name, salt, "its zip has changed") from None
    except OSError as error:
        if error.errno == errno.ELOOP or path.is_symlink():
            raise QuarantineError("unreadable", "a link that leads nowhere") from None
        if error.errno in _GONE:
            raise _gone(folder, name, salt, error.strerror) from None
        raise QuarantineError("unreadable", error.strerror or type(error).__name__) from None


def _gone(folder: Path, name: str, salt: bytes, cause: str | None) -> HemtraceError:
    public = is_public_name(PurePosixPath(name).stem)
    shown = PurePosixPath(name).name if public else slice_key(name, None, salt)
    return HemtraceError(
        f"The file {shown} of {folder} was listed, and is gone or cannot be reached ({cause}). "
        "Bring it back and run again; if it is gone for good, list the folder again: "
        "snakemake --cores all --forcerun ingest_list"
    )


def _find_source(folder: Path, name: str) -> tuple[Path, str | None]:
    """Find the file of a name, and which member of it is meant where it is a zip."""
    end = name.lower().find(".zip/")
    while end >= 0:
        path = _to_path(folder, name[: end + 4])
        if not path.is_dir():  # a folder may be called so too
            return path, name[end + 5 :]
        end = name.lower().find(".zip/", end + 1)
    return _to_path(folder, name), None


def _to_path(folder: Path, name: str) -> Path:
    return folder / os.fsdecode(unquote_to_bytes(name))


def _read_member(path: Path, name: str) -> bytes:
    packed, members = _open_zip(path)
    member = members[name]
    if member.flag_bits & 1:
        raise QuarantineError("unreadable", "a member of an encrypted zip")
    if member.file_size > LARGEST_MEMBER:
        raise QuarantineError("too-large", f"it unpacks to {member.file_size / 1e9:.1f} GB")
    can_stop = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    size = _PIECE if can_stop else _PIECE_WITHOUT_STOP
    content = io.BytesIO()
    try:
        # Python unpacks no more than the zip claims, and says where that was a lie.
        with packed.open(member) as stream:
            stream.MIN_READ_SIZE = size  # type: ignore[attr-defined]
            while piece := stream.read(size):
                content.write(piece)
    except OSError as error:
        if error.errno is not None:
            raise
        raise QuarantineError("unreadable", "a damaged member of a zip (OSError)") from None
    except MemoryError:
        raise QuarantineError("too-large", "unpacking it takes too much memory") from None
    except Exception as error:  # every method of compression raises its own
        raise QuarantineError(
            "unreadable", f"a damaged member of a zip ({type(error).__name__})"
        ) from None
    return content.getvalue()


@lru_cache(maxsize=4)
def _open_zip(path: Path) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """Open a zip, and name its members; one whose name stands twice gets its number before it."""
    try:
        packed = zipfile.ZipFile(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # its directory may be damaged in any way
        raise QuarantineError("unreadable", f"a damaged zip ({type(error).__name__})") from None
    # Not by is_dir(), which fails on a member without a name.
    members = [member for member in packed.infolist() if not member.filename.endswith("/")]
    count = Counter(member.filename for member in members)
    named = {}
    for place, member in enumerate(members):
        name = _to_text(member.filename)
        named[f"{place}%2F{name}" if count[member.filename] > 1 else name] = member
    return packed, named


def _to_text(name: str) -> str:
    if "%" not in name and name.isprintable():
        return name
    # Bytes that are no UTF-8 stand as surrogates, which are not printable.
    return "".join(
        c if c.isprintable() and c != "%" else quote(os.fsencode(c), safe="") for c in name
    )
