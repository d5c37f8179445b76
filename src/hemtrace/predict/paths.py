"""What a user names on the command line: files, folders and zips, read as one archive."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from hemtrace.dicom import PUBLIC_SALT, Rejected, Slice
from hemtrace.dicom.guard import GuardedReader
from hemtrace.dicom.reasons import QuarantineError
from hemtrace.dicom.source import read_source, walk_files
from hemtrace.errors import HemtraceError


class Archive:
    """The files below some paths, members of zips included, and their reader.

    A folder is searched by `dicom.source.walk_files`. Single files are named by links in a private
    folder, so that a zip among them is opened by the same function. A path that is named twice is
    read once.

    Parameters
    ----------
    paths
        Files, folders or zips.
    salt
        Of the pseudonyms.

    Attributes
    ----------
    names
        Of all files. Of one folder the paths below it, so that slices have the keys that ingest
        gives them; otherwise each as it was named, and what lies below it.

    Raises
    ------
    HemtraceError
        If a path is missing or cannot be read, or there is no file at all.
    """

    def __init__(self, paths: Sequence[Path], salt: bytes = PUBLIC_SALT) -> None:
        self._salt = salt
        self._closing = ExitStack()
        self._places: dict[str, tuple[Path, str]] = {}
        try:
            self._list(paths)
            self._reader = self._closing.enter_context(GuardedReader(Path(), salt))
        except BaseException:
            self._closing.close()
            raise
        self.names = sorted(self._places)

    def __enter__(self) -> Self:
        """Do nothing; the process that decodes is started by the first file that needs it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process that decodes, and remove the links."""
        self._closing.close()

    def read(self, name: str) -> Iterator[Slice | Rejected]:
        """Read the pictures of a file; one that is gone meanwhile is told like any bad file."""
        try:
            content = self.content(name)
        except QuarantineError as error:
            yield Rejected.of(error)
            return
        yield from self._reader.read_content(content)

    def content(self, name: str) -> bytes:
        """Read the bytes of a file.

        Raises
        ------
        QuarantineError
            If it cannot be read, or is gone.
        """
        folder, below = self._places[name]
        try:
            return read_source(folder, below, self._salt)
        except HemtraceError:
            text = "it was there when the files were listed, and is gone or cannot be reached"
            raise QuarantineError("unreadable", text) from None

    def identify(self, name: str) -> Mapping[str, str | int]:
        """Tell whose picture a file is, by `dicom.whose.identify`; nothing where it is gone."""
        try:
            return self._reader.identify(self.content(name))
        except QuarantineError:
            return {}

    @property
    def reader(self) -> GuardedReader:
        """The reader, for headers; not while `read` is at work."""
        return self._reader

    def _list(self, paths: Sequence[Path]) -> None:
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            verb = "was" if len(missing) == 1 else "were"
            raise HemtraceError(f"{', '.join(missing)} {verb} not found; check the path.")
        known: dict[Path, Path] = {}
        for path in paths:
            known.setdefault(path.resolve(), path)
        alone = len(known) == 1
        for number, path in enumerate(known.values()):
            if path.is_dir():
                self._add(path, "" if alone else f"{path}/")
            else:
                self._add_file(path, number, alone)
        if not self._places:
            raise HemtraceError(
                f"{', '.join(map(str, paths))} holds no files; it must hold DICOM files."
            )

    def _add_file(self, path: Path, number: int, alone: bool) -> None:
        folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="hemtrace-")))
        (folder / path.name).symlink_to(path.resolve())
        self._add(folder, "" if alone else f"{path.parent}/" if path.parent.name else "", number)

    def _add(self, folder: Path, prefix: str, number: int = 0) -> None:
        for name, _ in walk_files(folder):
            shown = prefix + name
            if shown in self._places:  # two paths that only differ by how they are written
                shown = f"{number}:{shown}"
            self._places[shown] = (folder, name)
