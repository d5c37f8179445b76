"""One run at a time in a folder, and what a killed run leaves there.

Snakemake locks a folder by files. Whoever kills Snakemake leaves them behind, and its jobs at work.
The kernel's own lock (flock) on another file is gone with the process that held it: it tells
whether the run that wrote those files still lives.
"""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]

LOCK = Path(".snakemake/hemtrace.lock")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SECONDS_TO_END = 10

# The lock ends with the file object: it must live as long as this process.
_held: list[IO[str]] = []


@contextmanager
def enter_folder(root: Path) -> Iterator[bool]:
    """Count this process, until it ends, among those that work in a folder.

    Within the context no other process enters. To be called before Snakemake locks the folder.

    Yields
    ------
    Whether no other run lives there. False also where that cannot be known: the folder was locked
    from another machine, or its disk knows no locks.
    """
    path = root / LOCK
    path.parent.mkdir(exist_ok=True)
    lock = path.open("a+")
    _held.append(lock)
    try:
        yield _is_alone(root, lock)
    finally:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)  # shared by all that live


def clear_killed_run(root: Path) -> list[str]:
    """Remove Snakemake's lock, and end the jobs, of a run that was killed.

    Only for whom `enter_folder` has told that no other run lives.

    Returns
    -------
    A sentence for each thing done.
    """
    told = []
    jobs = _find_jobs(root)
    for job in jobs:
        with suppress(psutil.Error):
            job.kill()
    psutil.wait_procs(jobs, timeout=_SECONDS_TO_END)
    if jobs:
        told.append(f"{len(jobs)} processes of a killed run were still at work here; ended them.")
    if locks := _snakemake_locks(root):
        for lock in locks:
            lock.unlink(missing_ok=True)
        told.append("A killed run had left the folder locked; unlocked it.")
    return told


def _is_alone(root: Path, lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or a network disk without locks
        return False
    # Some network disks lock within one machine only. Containers of a machine have names of their
    # own but one kernel; a restart changes that kernel's id, but not the name.
    here = [platform.node(), _BOOT.read_text().strip() if _BOOT.is_file() else ""]
    lock.seek(0)
    last = lock.read().split("\n")
    if _snakemake_locks(root) and not any(a == b for a, b in zip(here, last, strict=False)):
        return False
    lock.truncate(0)
    lock.write("\n".join(here))
    lock.flush()
    return True


def _snakemake_locks(root: Path) -> list[Path]:
    return list((root / ".snakemake/locks").glob("*.lock"))


def _find_jobs(root: Path) -> list[psutil.Process]:
    """Find processes that run a script of this folder, and all that they started."""
    scripts = str(root.resolve() / ".snakemake/scripts") + os.sep
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and scripts in " ".join(process.cmdline()):
                found |= {one.pid: one for one in (process, *process.children(recursive=True))}
    return list(found.values())
