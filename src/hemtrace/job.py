"""What every workflow script does around its work: write its log, and end in a sentence."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

from hemtrace.errors import HemtraceError

FAILURE = Path("logs/failure.txt")


class _Tee:
    """A stream that shows on the terminal what it writes to the log: progress stays visible."""

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self._terminal = terminal
        self._log = log

    def write(self, text: str) -> int:
        self._log.write(text)
        return self._terminal.write(text)

    def flush(self) -> None:
        self._log.flush()
        self._terminal.flush()

    def isatty(self) -> bool:
        return self._terminal.isatty()

    def fileno(self) -> int:
        return self._terminal.fileno()


@contextmanager
def job(log: str) -> Iterator[None]:
    """Run a script's work with its output in `log` as well as on the terminal.

    A `HemtraceError` ends the script with status 1 and its sentence, which is also left in
    `logs/failure.txt` for Snakemake's last line; any other error keeps its traceback.
    """
    with Path(log).open("w") as stream:
        tee = _Tee(sys.stderr, stream)
        try:
            with redirect_stdout(tee), redirect_stderr(tee):  # type: ignore[type-var]
                yield
        except HemtraceError as error:
            sentence = f"hemtrace: {error}"
            tee.write(sentence + "\n")
            FAILURE.write_text(sentence + "\n")
            sys.exit(1)


def drop_strangers(folder: Path, names: Iterable[str]) -> None:
    """Remove from a folder what earlier parameters left there: folds, seeds or systems.

    Parameters
    ----------
    folder
        A product as a whole, so that what lies in it counts.
    names
        What belongs there, whole or without suffixes.
    """
    wanted = set(names)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if wanted.isdisjoint((path.name, path.name.split(".")[0])):
            print(f"hemtrace: removed {path}, which these parameters do not ask for.")
            shutil.rmtree(path) if path.is_dir() else path.unlink()
