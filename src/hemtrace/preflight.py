"""Checks that cost next to nothing, made before any work is begun."""

import difflib
import os
import re
import shutil
from pathlib import Path

import numpy as np

from hemtrace.dicom.identity import read_salt
from hemtrace.errors import HemtraceError
from hemtrace.ingest.labels_csv import check_label_header
from hemtrace.lock import clear_killed_run, enter_folder
from hemtrace.params import IngestParams, TrainParams

# Room for logs, tables, the model and the reports of a run.
ROOM_BYTES = 500_000_000
# A large head with its scalp; a smaller square cuts it.
HEAD_MM = 200
_SHARD_FILE = re.compile(r"(\d{4})\.(npy|images\.parquet|parquet)")
_PARQUET_MAGIC = b"PAR1"


def prepare_run(root: Path) -> list[str]:
    """Make the folder ready for a run, whatever happened to the last one.

    For Snakemake's main process, before it reads what is on the disk; a dry run does it too, since
    it tells what would be done by what is left. While another run lives in the folder nothing is
    touched, and Snakemake itself refuses to begin.

    Returns
    -------
    A sentence for each thing done.
    """
    with enter_folder(root) as is_alone:
        if not is_alone:
            return []
        return clear_killed_run(root) + drop_damaged_shards(root / "data/shards")


def drop_damaged_shards(folder: Path) -> list[str]:
    """Remove shards that were cut short, so that the run makes these again, and only these.

    Only the ends of each file are looked at; what is wrong within is found by `hemtrace verify`.

    Returns
    -------
    A sentence for each shard.
    """
    shards: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if match := _SHARD_FILE.fullmatch(path.name):
            shards.setdefault(match[1], []).append(path)
    told = []
    for paths in shards.values():
        cut = [path for path in paths if not is_whole(path)]
        if cut:
            for path in paths:
                path.unlink(missing_ok=True)
            told.append(
                f"{cut[0]} is cut short; removed its shard. A run that needs it makes it again; "
                f"once all products are made: snakemake --cores all {' '.join(map(str, paths))}"
            )
    return told


def is_whole(path: Path) -> bool:
    """Whether a file of a shard has its beginning, its end, and the size that it claims."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        try:
            if path.suffix == ".npy":
                np.lib.format.read_magic(stream)
                shape, _, _ = np.lib.format.read_array_header_1_0(stream)
                return size == stream.tell() + int(np.prod(shape))
            start = stream.read(4)
            stream.seek(-8, os.SEEK_END)
            end = stream.read(8)
        except (OSError, ValueError, EOFError):
            return False
    footer = int.from_bytes(end[:4], "little")
    return start == end[4:] == _PARQUET_MAGIC and footer + 12 <= size


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
    """Refuse inputs that ingest would stumble over later.

    A raw folder that is missing or empty, a label CSV with other columns, a salt file that cannot
    be used, a square too small for a head. The phantom (`raw` null) is made by the pipeline: no
    folder is looked at.

    Raises
    ------
    HemtraceError
        Naming the parameter.
    """
    read_salt(params.salt_file)
    side_mm = params.size * params.pixel_mm
    if params.crop == "head" and side_mm < HEAD_MM:
        raise HemtraceError(
            f"ingest.size {params.size} times ingest.pixel_mm {params.pixel_mm:g} is a square of "
            f"{side_mm:.0f} mm, which cuts heads (up to {HEAD_MM} mm and more); "
            f"set ingest.pixel_mm to {HEAD_MM / params.size:.2f} or more, or ingest.crop to none."
        )
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


def check_architecture(params: TrainParams) -> None:
    """Refuse a network that timm does not know; takes two seconds, too long for every dry run."""
    import timm

    import hemtrace.model  # noqa: F401 - makes AlexNet known to timm

    if not timm.is_model(params.architecture):
        near = difflib.get_close_matches(params.architecture, timm.list_models(), 3)
        similar = f"; similar names: {', '.join(near)}" if near else ""
        raise HemtraceError(
            f"train.architecture: timm knows no {params.architecture!r}{similar}. All names: "
            "python -c 'import timm; print(timm.list_models())'"
        )
