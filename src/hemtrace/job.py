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
        except KeyboardInterrupt:
            tee.write("hemtrace: interrupted; run again to go on.\n")
            sys.exit(130)


def drop_strangers(folder: Path, names: Iterable[str], kept: Path | None = None) -> None:
    """Clear a folder of what earlier parameters left there: folds, seeds or systems.

    Parameters
    ----------
    folder
        A product as a whole, so that what lies in it counts.
    names
        What belongs there, without suffixes.
    kept
        Where to it is moved, in the place of what an earlier call moved there; None: it is removed.
    """
    wanted = set(names)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.split(".")[0] not in wanted:
            if kept is None:
                _remove(path)
                print(f"hemtrace: removed {path}, which these parameters do not ask for.")
                continue
            kept.mkdir(parents=True, exist_ok=True)
            _remove(kept / path.name)
            path.rename(kept / path.name)
            print(f"hemtrace: moved {path} to {kept}: these parameters do not ask for it.")


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
