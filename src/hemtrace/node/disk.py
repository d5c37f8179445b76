"""Folders that a power cut does not take back: a name counts once the folder it is in is synced."""

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder of this user's own, and those above that are missing."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names that a folder holds to the disk; of the files in it nothing else."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
