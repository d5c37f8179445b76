"""What an upload holds: files, and members of zips, which are unpacked one by one in memory."""

import io
import re
import stat
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hemtrace.dicom.reasons import QuarantineError
from hemtrace.serve.problems import Problem
from hemtrace.serve.settings import Limits
from hemtrace.serve.uploads import Uploaded, clean_name

_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_PREAMBLE = 128
_PIECE = 2**20
# Of a table of contents, a member: its header and the longest name that a system allows.
_DIRECTORY_BYTES = 46 + 1024
# Deflate packs 1,032 bytes into one at best. Slices pack to a half or a third; an empty one of 512
# x 512 has half a MB.
_MOST_PACKED, _SMALL = 100, 2**20
_NESTED = "a zip within a zip is not opened; send it by itself"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Refused:
    """A file that is not opened, and why: a sentence's rest."""

    file: str
    meaning: str


@dataclass(frozen=True)
class _Place:
    path: Path
    member: int | None  # number in the zip


class Contents:
    """The files of an upload by their names; members of zips stand as `a.zip/member`.

    Attributes
    ----------
    names
        What can be read, in the order of the upload.
    refused
        What is not opened.
    """

    def __init__(self, places: dict[str, _Place], refused: Sequence[Refused]) -> None:
        self.names = tuple(places)
        self.refused = tuple(refused)
        self._places = places
        self._lock = threading.Lock()
        self._open: tuple[Path, zipfile.ZipFile] | None = None

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises
        ------
        QuarantineError
            If it is a damaged member of a zip, or a zip within one.
        """
        place = self._places[name]
        if place.member is None:
            return place.path.read_bytes()
        with self._lock:
            try:
                packed = self._unzip(place.path)
                content = _read_member(packed, packed.infolist()[place.member])
            except (QuarantineError, MemoryError):
                raise
            except Exception as error:  # a zip may be damaged in any way
                raise QuarantineError(
                    "unreadable", f"a damaged member of a zip ({type(error).__name__})"
                ) from None
        if is_zip(name, content[: _PREAMBLE + 4]):
            raise QuarantineError("unreadable", _NESTED)
        return content

    def close(self) -> None:
        """Close the zip that is open."""
        with self._lock:
            if self._open is not None:
                self._open[1].close()
                self._open = None

    def _unzip(self, path: Path) -> zipfile.ZipFile:
        # One at a time: thousands of zips must not take thousands of open files.
        if self._open is None or self._open[0] != path:
            if self._open is not None:
                self._open[1].close()
                self._open = None
            self._open = path, zipfile.ZipFile(path)
        return self._open[1]


def list_contents(uploads: Sequence[Uploaded], limits: Limits) -> Contents:
    """List what can be read of an upload, without unpacking anything.

    A member that is no plain file, or leads out of its zip, or is packed beyond what images are, is
    refused by itself; the others are read.

    Raises
    ------
    Problem
        413 where the zips hold more files, or claim more bytes, than an upload may have.
    """
    places: dict[str, _Place] = {}
    refused: list[Refused] = []
    count = total = 0
    for one in uploads:
        with one.path.open("rb") as stream:
            packed = is_zip(one.name, stream.read(_PREAMBLE + 4))
        if not packed:
            count, total = count + 1, total + one.size
            places[_free_name(one.name, places)] = _Place(one.path, None)
            continue
        for found in _walk_zip(one, limits):
            count += 1
            if isinstance(found, Refused):
                refused.append(found)
            else:
                name, place, size = found
                total += size
                places[_free_name(name, places)] = place
            _check_sums(count, total, limits)
    _check_sums(count, total, limits)
    return Contents(places, refused)


def is_zip(name: str, head: bytes) -> bool:
    """Tell a zip by its name or its first bytes; a DICOM file may begin with anything."""
    if head[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return False
    return head.startswith(_SIGNATURES) or name.lower().endswith(".zip")


def _check_sums(count: int, total: int, limits: Limits) -> None:
    if count > limits.files:
        raise Problem(
            413,
            f"The upload has more than the {limits.files:,} files allowed, those in zips counted. "
            "Send one study at a time.",
        )
    if total > limits.upload_bytes:
        raise Problem(
            413,
            f"The upload unpacks to more than the {limits.upload_bytes / 1e9:g} GB allowed. Send "
            "one study at a time.",
        )


def _walk_zip(one: Uploaded, limits: Limits) -> Iterator[tuple[str, _Place, int] | Refused]:
    try:
        members = _list_members(one.path, limits)
    except MemoryError:
        raise
    except Exception as error:  # its table of contents may be damaged in any way
        yield Refused(one.name, f"a damaged zip ({type(error).__name__})")
        return
    if not members:
        yield Refused(one.name, "a zip without a file")
    for number, member in members:
        shown = clean_name(member.filename)
        name = f"{one.name}/{shown}"
        reason = _refuse(member, limits)
        if reason is not None:
            yield Refused(name, reason)
        else:
            yield name, _Place(one.path, number), member.file_size


def _list_members(path: Path, limits: Limits) -> list[tuple[int, zipfile.ZipInfo]]:
    most = limits.files * _DIRECTORY_BYTES
    with _Sparing(path, most) as stream, zipfile.ZipFile(stream) as packed:
        found = list(enumerate(packed.infolist()))
    # A folder has no bytes of its own.
    return [(n, one) for n, one in found if not (one.filename.endswith("/") and not one.file_size)]


class _Sparing(io.FileIO):
    """A file of which nobody reads much at once: a zip's table of contents is read as a whole."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path, "rb")
        self._most = max(most, _PIECE)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._most:
            raise ValueError("a table of contents that is too long")
        return super().read(self._most if size is None or size < 0 else size) or b""


def _refuse(member: zipfile.ZipInfo, limits: Limits) -> str | None:
    """Say why a member is not read; None: it is."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    name = member.filename.replace("\\", "/")
    if kind not in (0, stat.S_IFREG):
        return "a link or another special file in a zip is not followed"
    if name.startswith("/") or ".." in name.split("/") or re.match(r"[A-Za-z]:", name):
        return "its name leads out of its zip"
    if member.flag_bits & 1:
        return "an encrypted member of a zip; pack it without a password"
    if member.compress_type not in _METHODS:
        return "it is packed by a rare method; use an ordinary zip (deflate)"
    if name.lower().endswith(".zip"):
        return _NESTED
    if member.file_size > limits.file_bytes:
        return f"it unpacks to more than the {limits.file_bytes / 1e9:g} GB allowed for a file"
    if member.file_size > max(_SMALL, _MOST_PACKED * member.compress_size):
        return f"it claims to unpack to more than {_MOST_PACKED} times its size, as no image does"
    return None


def _read_member(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Unpack a member: never more than it claims, which `_refuse` has looked at."""
    content = io.BytesIO()
    with packed.open(member) as stream:
        while piece := stream.read(_PIECE):
            content.write(piece)
    return content.getvalue()


def _free_name(name: str, taken: dict[str, _Place]) -> str:
    """Keep two files of one name apart."""
    if name not in taken:
        return name
    number = 2
    while (other := f"{name} ({number})") in taken:
        number += 1
    return other
