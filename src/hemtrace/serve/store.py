"""Private folders, one a study, that no server outlives."""

import fcntl
import logging
import os
import shutil
import stat
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from hemtrace.errors import HemtraceError

_PREFIX = "hemtrace-serve-"
_LOCK = "lock"
# A server that starts has made its folder, but not locked it yet.
_YOUNG_SECONDS = 60
_LOG = logging.getLogger("hemtrace.serve")


class Store:
    """The folder of a server, with one for each study in it; all mode 0700.

    Parameters
    ----------
    parent
        Where the server's folder is made; None: the system's temporary folder.

    Raises
    ------
    HemtraceError
        If it cannot be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._made = 0
        self._left: set[Path] = set()
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        self.wiped_leftovers = wipe_leftovers(parent)
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            # Held until this process ends, however it ends.
            self._held = os.open(self.folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HemtraceError(
                f"No private folder can be made in {parent} ({error.strerror}); give another one "
                "by --folder."
            ) from None

    def create_folder(self) -> Path:
        """Make the folder of a study; its name says nothing of it."""
        with self._lock:
            self._made += 1
            folder = self.folder / f"{self._made:06d}"
        folder.mkdir(mode=0o700)
        return folder

    def wipe_folder(self, folder: Path) -> None:
        """Remove a study's folder with all in it; what is written meanwhile is removed too.

        What cannot be removed is logged, and left to `wipe_again`.
        """
        for _ in range(5):
            if _remove(folder):
                return
            time.sleep(0.02)
        with self._lock:
            is_new = folder not in self._left
            self._left.add(folder)
        if is_new:
            _LOG.error("a folder could not be wiped; it is tried again until it is gone")

    def wipe_again(self) -> int:
        """Try again to remove what could not be removed, and count what is gone now."""
        with self._lock:
            left = tuple(self._left)
        gone = [folder for folder in left if _remove(folder)]
        with self._lock:
            self._left.difference_update(gone)
        return len(gone)

    def close(self) -> None:
        """Remove everything."""
        self.wipe_folder(self.folder)
        with suppress(OSError):
            os.close(self._held)


def _remove(folder: Path) -> bool:
    """Remove a folder, and say whether it is gone."""
    with suppress(OSError):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.lstat()
    except FileNotFoundError:
        return True
    except OSError:  # who cannot look knows nothing
        pass
    return False


def wipe_leftovers(parent: Path) -> int:
    """Remove the folders of servers that were killed, and count them.

    Only folders of this user are touched, and only those whose lock nobody holds.
    """
    wiped = 0
    for folder in sorted(parent.glob(f"{_PREFIX}*")):
        with suppress(OSError):
            wiped += _wipe_leftover(folder)
    return wiped


def _wipe_leftover(folder: Path) -> bool:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return False
    try:
        held = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if time.time() - found.st_mtime < _YOUNG_SECONDS:
            return False
        return _remove(folder)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return _remove(folder)
    finally:
        os.close(held)
