"""Reading that survives any file: what could crash, hang or fill memory runs in a child process.

Plain files are read in this process: nothing but numpy touches their bytes, and sending them to and
fro would take longer than reading them. The child is this module, run by `python -m`.
"""

import math
import os
import pickle
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import IO, Any, Self

from hemtrace.dicom.read import read_bytes, read_plain
from hemtrace.dicom.reasons import QuarantineError
from hemtrace.dicom.slices import Rejected, Slice
from hemtrace.dicom.source import read_source
from hemtrace.dicom.unpickle import load_answer
from hemtrace.dicom.whose import copy_header, identify
from hemtrace.errors import HemtraceError

_LENGTH = Struct("<Q")
# What the child is asked for comes before the bytes of the file.
_PICTURES, _IDENTITY, _HEADER = b"p", b"i", b"h"
_MOST_START_SECONDS = 60.0
# A plain picture has 4,096 x 4,096 pixels of two bytes at most. What is larger may be all header,
# which is parsed here without a limit of time: a minute and more for 500 MB of empty elements.
_MOST_PLAIN = 40 * 2**20
# An enhanced CT of 2,000 frames in JPEG 2000 takes 40 s, a file of one picture 20 ms.
_SHARE_OF_A_PICTURE = 0.01


class GuardedReader:
    """Reads files one by one; a file that kills its decoder costs a process, not the run.

    Parameters
    ----------
    folder
        Where the files lie.
    salt
        Of the pseudonyms.
    seconds
        Longest time that a file may take, and a hundredth of it more for each of its pictures;
        then it is `too-slow`.
    memory_gb
        Most address space of the child, beyond what it has when it starts; then `too-large`.
    """

    def __init__(
        self, folder: Path, salt: bytes, seconds: float = 30, memory_gb: float = 2
    ) -> None:
        self._folder, self._salt = folder, salt
        self._seconds, self._memory = seconds, int(memory_gb * 2**30)
        self._child: subprocess.Popen[bytes] | None = None
        self._answering = False
        self.restarts = 0

    def __enter__(self) -> Self:
        """Start nothing yet: most shards need no child."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the child."""
        self._end()

    def read(self, name: str) -> Iterator[Slice | Rejected]:
        """Read the pictures of a file, by the name that `source.walk_files` gave it.

        A file that cannot be used is one `Rejected`; frames of it that were read before stay.

        Raises
        ------
        HemtraceError
            If the file is gone.
        """
        try:
            content = read_source(self._folder, name, self._salt)
        except QuarantineError as error:
            yield Rejected.of(error)
            return
        yield from self.read_content(content)

    def read_content(self, content: bytes) -> Iterator[Slice | Rejected]:
        """Read the pictures of a file that is in memory; the rest as for `read`."""
        try:
            found = read_plain(content, self._salt) if len(content) <= _MOST_PLAIN else None
        except QuarantineError as error:
            yield Rejected.of(error)
            return
        if found is not None:
            yield found
            return
        try:
            yield from self._ask(content)
        except QuarantineError as error:
            self._end()
            self.restarts += 1
            yield Rejected.of(error)

    def identify(self, content: bytes) -> dict[str, str | int]:
        """Read whose picture a file is (`whose.identify`), always in the child.

        A header that crashes its parser, hangs or fills memory tells nothing: an empty answer.
        """
        try:
            found: dict[str, str | int] = self._ask_once(_IDENTITY, content)
        except QuarantineError:
            return {}
        return found

    def read_header(self, content: bytes) -> bytes:
        """Copy the header of a file (`whose.copy_header`), always in the child.

        Returns
        -------
        A DICOM file, explicit little-endian, without pixels and private elements.

        Raises
        ------
        QuarantineError
            If the file cannot be parsed, or not within the limits.
        """
        found: bytes = self._ask_once(_HEADER, content)
        return found

    def start(self) -> None:
        """Start the child ahead of the first file that needs it."""
        self._start()

    def _ask_once(self, question: bytes, content: bytes) -> Any:
        try:
            (found,) = self._ask(content, question)
        except QuarantineError:
            self._end()
            self.restarts += 1
            raise
        if isinstance(found, Rejected):
            raise QuarantineError(found.reason, found.detail)
        return found

    def _ask(self, content: bytes, question: bytes = _PICTURES) -> Iterator[Any]:
        if self._answering:  # nobody read the last answer to its end
            self._end()
        child = self._start()
        self._answering = True
        self._send(child, question, content)
        left = self._seconds
        while True:
            # The time that the caller takes between two pictures is not the file's.
            started = time.monotonic()
            answer = self._receive(child, left)
            left += self._seconds * _SHARE_OF_A_PICTURE - (time.monotonic() - started)
            if answer is None:
                break
            yield answer
        self._answering = False

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "hemtrace.dicom.guard"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # decoders chat there
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            limits = pickle.dumps((self._salt, self._seconds, self._memory))
            self._send(self._child, _PICTURES, limits)
            if self._receive(self._child, _MOST_START_SECONDS) != "ready":
                raise HemtraceError("The process that decodes pictures did not start.")
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            self._child = None
        self._answering = False

    def _send(self, child: subprocess.Popen[bytes], question: bytes, content: bytes) -> None:
        assert child.stdin is not None
        try:
            child.stdin.write(question + _LENGTH.pack(len(content)))
            child.stdin.write(content)
            child.stdin.flush()
        except BrokenPipeError:
            raise QuarantineError("decoder-died", _cause(child)) from None

    def _receive(self, child: subprocess.Popen[bytes], seconds: float) -> Any:
        assert child.stdout is not None
        deadline = time.monotonic() + seconds
        (length,) = _LENGTH.unpack(self._read_exactly(child, _LENGTH.size, deadline))
        if length > self._memory:
            raise QuarantineError("decoder-died", "its answer is longer than its memory")
        return load_answer(self._read_exactly(child, length, deadline))

    def _read_exactly(self, child: subprocess.Popen[bytes], count: int, deadline: float) -> bytes:
        assert child.stdout is not None
        parts: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while count:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise QuarantineError("too-slow", f"it takes longer than {self._seconds:g} s")
                part = os.read(child.stdout.fileno(), min(count, 2**20))
                if not part:
                    raise QuarantineError("decoder-died", _cause(child))
                parts.append(part)
                count -= len(part)
        return b"".join(parts)


def _cause(child: subprocess.Popen[bytes]) -> str:
    code = child.wait(timeout=10)
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Be the child: read files until the parent, or the pipe from it, is gone."""
    _, limits = _next(questions) or (b"", b"")
    salt, seconds, memory = pickle.loads(limits)
    _limit_memory(memory)
    # The parent ends a child that takes too long; where it was killed itself, this alarm does.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _answer(answers, "ready")
    while (asked := _next(questions)) is not None:
        question, content = asked
        try:
            signal.alarm(math.ceil(2 * seconds))
            for found in _find_answers(question, content, salt):
                signal.alarm(0)  # the parent may take its time
                _answer(answers, found)
                signal.alarm(math.ceil(2 * seconds))
        except QuarantineError as error:
            _answer(answers, Rejected.of(error))
        except MemoryError:
            _answer(
                answers, Rejected("too-large", "decoding it takes more than the memory allowed")
            )
        _answer(answers, None)
        signal.alarm(0)


def _find_answers(question: bytes, content: bytes, salt: bytes) -> Iterator[Any]:
    if question == _IDENTITY:
        return iter([identify(content)])
    if question == _HEADER:
        return iter([copy_header(content)])
    return read_bytes(content, salt)


def _next(stream: IO[bytes]) -> tuple[bytes, bytes] | None:
    question, head = stream.read(1), stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    return question, stream.read(_LENGTH.unpack(head)[0])


def _answer(stream: IO[bytes], answer: object) -> None:
    content = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def _limit_memory(allowed: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # macOS has no /proc, and refuses the limit.
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + allowed
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    # What a library prints must not get between the answers.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, pipe)
