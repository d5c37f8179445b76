"""Where exported models are kept: a folder of the user's cache, one folder each."""

import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import hemtrace

# Of the folders used last; older ones are removed.
_KEPT = 6
# A change of what is exported, or of how, makes another export.
_SOURCES = ("engine/graph.py", "engine/export.py", "engine/sample.py", "model/*.py")

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Name the folder, `hemtrace/engine` in what XDG_CACHE_HOME names, or in `~/.cache`."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(told) if Path(told).is_absolute() else Path.home() / ".cache"
    return root / "hemtrace" / "engine"


def find_export(model_sha256: str, fewest_cells: int) -> Path:
    """Name the folder in which a model's export is, or would be.

    The name is a digest of all that the export hangs on: the model file, the versions of what made
    it, and the code.
    """
    root = Path(hemtrace.__file__).parent
    code = hashlib.sha256()
    for pattern in _SOURCES:
        for source in sorted(root.glob(pattern)):
            code.update(source.read_bytes())
    hangs_on = {
        "model": model_sha256,
        "fewest_cells": fewest_cells,
        "code": code.hexdigest(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("openvino", "torch", "timm")},
    }
    text = json.dumps(hangs_on, sort_keys=True)
    return cache_folder() / hashlib.sha256(text.encode()).hexdigest()[:40]


@contextmanager
def new_export(folder: Path) -> Iterator[Path]:
    """Give an empty folder for an export, which takes its name when the block ends.

    Where the cache cannot be written, it is a temporary folder that goes when the block ends.

    Parameters
    ----------
    folder
        From `find_export`; what stands there is replaced.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
    except OSError as error:
        log.info("The exported model is not kept in %s: %s", folder.parent, error)
        part = Path(tempfile.mkdtemp(prefix="hemtrace-engine-"))
    try:
        yield part
        if part.parent == folder.parent:
            with suppress(OSError):  # another process was faster, whose export is as good
                shutil.rmtree(folder, ignore_errors=True)
                part.rename(folder)
            _remove_old(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def mark_used(folder: Path) -> None:
    """Remember that an export was used; one that was not for long is removed."""
    with suppress(OSError):
        os.utime(folder)


def _remove_old(root: Path) -> None:
    used: dict[Path, float] = {}
    for folder in root.iterdir():
        with suppress(OSError):  # another process removed it
            used[folder] = folder.stat().st_mtime
    for old in sorted(used, key=used.__getitem__, reverse=True)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
