"""Bodies of multipart/form-data, streamed to files of a private folder within limits."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from hemtrace.serve.problems import Problem
from hemtrace.serve.settings import Limits

FIELD = "files"
# Handed to a thread at once; the pieces that arrive are smaller.
_PIECE = 2**20
_LONGEST_NAME = 200
_NOT_MULTIPART = (
    "Send the files as multipart/form-data, each as a part named `files` with a file name."
)


@dataclass(frozen=True)
class Uploaded:
    """A file that was sent.

    Attributes
    ----------
    name
        As the sender calls it, for his eyes; never part of a path.
    path
        Where it lies, by number.
    size
        Bytes.
    """

    name: str
    path: Path
    size: int


async def receive_upload(
    request: Request, folder: Path, limits: Limits, take_room: Callable[[int], None]
) -> list[Uploaded]:
    """Write the files of a request's body to a folder.

    Parameters
    ----------
    request
        Nothing has read its body yet.
    folder
        Private; the caller removes it when anything is raised.
    limits
        Of bytes, files and seconds.
    take_room
        Called with the bytes that are about to be written; may raise a `Problem`.

    Raises
    ------
    Problem
        413 beyond a limit, 408 beyond the time, 415 where it is no multipart/form-data, 400 where
        that is damaged, 422 where it holds no file.
    ClientDisconnect
        If the sender has gone.
    """
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > limits.upload_bytes:
        raise _too_large(limits)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise Problem(415, _NOT_MULTIPART)
    try:
        receiver = _Receiver(boundary, folder, limits)
    except FormParserError:
        raise Problem(400, _NOT_MULTIPART) from None
    try:
        async with asyncio.timeout(limits.seconds):
            await _feed(request, receiver, limits, take_room)
    except TimeoutError:
        raise Problem(
            408,
            f"The upload took longer than {limits.seconds:g} seconds. Send fewer files at a time.",
        ) from None
    except FormParserError:
        raise Problem(400, f"The upload is damaged. {_NOT_MULTIPART}") from None
    finally:
        receiver.close()
    return receiver.finish()


async def _feed(
    request: Request, receiver: "_Receiver", limits: Limits, take_room: Callable[[int], None]
) -> None:
    total, waiting = 0, bytearray()

    async def write() -> None:
        take_room(len(waiting))
        await run_in_threadpool(receiver.write, bytes(waiting))
        waiting.clear()

    async for piece in request.stream():
        total += len(piece)
        # A body without a length tells its size only as it comes.
        if total > limits.upload_bytes:
            raise _too_large(limits)
        waiting += piece
        if len(waiting) >= _PIECE:
            await write()
    if waiting:
        await write()


def _too_large(limits: Limits) -> Problem:
    size = limits.upload_bytes / 1e9
    return Problem(
        413, f"The upload is larger than the {size:g} GB allowed. Send one study at a time."
    )


class _Receiver:
    """Takes a body apart as it comes: each part becomes a file named by its number."""

    def __init__(self, boundary: bytes, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._done: list[Uploaded] = []
        self._file: IO[bytes] | None = None
        self._name, self._size = "", 0
        self._field, self._value, self._headers = b"", b"", dict[bytes, bytes]()
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._add_field,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_file,
                "on_part_data": self._add_data,
                "on_part_end": self._end_file,
                "on_end": self._end,
            },
            max_header_count=8,
            max_header_size=4096,
        )

    def write(self, piece: bytes) -> None:
        self._parser.write(piece)

    def finish(self) -> list[Uploaded]:
        """Give the files of a complete body."""
        if not self._ended:
            raise Problem(400, f"The upload ends before it is complete. {_NOT_MULTIPART}")
        if not self._done:
            raise Problem(422, f"There is no file in the upload. {_NOT_MULTIPART}")
        return self._done

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _begin_file(self) -> None:
        told = self._headers.get(b"content-disposition", b"").decode("latin-1")
        _, options = parse_options_header(told)
        if options.get(b"name") != FIELD.encode() or b"filename" not in options:
            raise Problem(422, f"The upload has a part that is no file. {_NOT_MULTIPART}")
        if len(self._done) >= self._limits.files:
            raise Problem(
                413,
                f"The upload has more than the {self._limits.files:,} files allowed. Send one "
                "study at a time.",
            )
        self._name = clean_name(options[b"filename"].decode("utf-8", "replace"))
        self._size = 0
        self._file = (self._folder / f"{len(self._done):06d}").open("xb")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._size += end - start
        if self._size > self._limits.file_bytes:
            size = self._limits.file_bytes / 1e9
            raise Problem(
                413, f"A file of the upload is larger than the {size:g} GB allowed. Leave it out."
            )
        self._file.write(memoryview(data)[start:end])

    def _end_file(self) -> None:
        assert self._file is not None
        self._file.close()
        self._done.append(Uploaded(self._name, Path(self._file.name), self._size))
        self._file = None

    def _end(self) -> None:
        self._ended = True


def clean_name(name: str) -> str:
    """Make one printable line of a name that a stranger chose, with `/` between its parts."""
    shown = re.sub(r"^[/.]+(?=/)|^/+", "", name.replace("\\", "/"))
    shown = "".join(c if c.isprintable() else quote(c, safe="", errors="replace") for c in shown)
    return shown[-_LONGEST_NAME:] or "(no name)"


__all__ = ["FIELD", "ClientDisconnect", "Uploaded", "clean_name", "receive_upload"]
