"""Checks that cost nothing, made before any work is begun."""

import os
import shutil
from pathlib import Path

from hemtrace.errors import HemtraceError
from hemtrace.ingest.labels_csv import check_label_header
from hemtrace.params import IngestParams

# Room for logs, tables, the model and the reports of a run.
ROOM_BYTES = 500_000_000


def check_place(root: Path) -> None:
    """Refuse a working folder that cannot be written to, or whose disk is full.

    Raises
    ------
    HemtraceError
        Naming the folder and the room on its disk.
    """
    for folder in (root, *(root / name for name in ("data", "models", "reports", "logs"))):
        if folder.exists() and not os.access(folder, os.W_OK):
            raise HemtraceError(
                f"The folder {folder} cannot be written to; change its permissions or work in "
                "a copy of the project elsewhere."
            )
    check_room(root, ROOM_BYTES)


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin where the disk has less room than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HemtraceError(
            f"The disk of {folder} has {free / 1e9:.1f} GB left and {needed / 1e9:.1f} GB are "
            "needed; make room or work elsewhere."
        )


def check_inputs(params: IngestParams) -> None:
    """Refuse a raw folder that is missing or empty, or whose label CSV has other columns.

    The phantom (`raw` null) needs no check: it is made by the pipeline.
    """
    if params.raw is None:
        return
    raw = Path(params.raw).expanduser()
    images = raw / params.images
    for name, folder in (("ingest.raw", raw), ("ingest.images", images)):
        if not folder.is_dir():
            raise HemtraceError(f"The folder {folder} was not found; check {name} in params.yaml.")
    with os.scandir(images) as entries:
        if next(entries, None) is None:
            raise HemtraceError(f"The folder {images} is empty; it must hold the DICOM files.")
    if params.labels is not None:
        check_label_header(raw / params.labels)
