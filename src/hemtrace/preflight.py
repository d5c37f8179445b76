"""Checks that cost next to nothing, made before any work is begun."""

import difflib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from hemtrace.dicom.identity import read_salt
from hemtrace.dicom.source import list_folders
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


def prepare_run(root: Path, params: IngestParams) -> list[str]:
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
        told = clear_killed_run(root) + drop_damaged(root / "data")
        if params.raw is not None:
            images = Path(params.raw).expanduser() / params.images
            told += drop_outdated(root / "data/files.parquet", images)
        return told


def drop_damaged(data: Path) -> list[str]:
    """Remove tables that were cut short, and shards that lost a file, so that just these are made.

    Only the ends of each file are looked at; what is wrong within is found by `hemtrace verify`.

    Returns
    -------
    A sentence for each thing removed.
    """
    products = [[path] for path in sorted(data.glob("*.parquet"))]
    shards: dict[str, list[Path]] = {}
    for path in sorted((data / "shards").glob("*")):
        if match := _SHARD_FILE.fullmatch(path.name):
            shards.setdefault(match[1], []).append(path)
    products += shards.values()
    told = []
    for paths in products:
        damage = [f"{path} is cut short" for path in paths if not is_whole(path)]
        if paths[0].parent.name == "shards" and len(paths) == 1:
            damage.append(f"{paths[0]} has lost the other file of its shard")
        if damage:
            for path in paths:
                path.unlink()
            told.append(f"{damage[0]}; removed it, to be made again.")
    return told


def find_lost(stages: Sequence[Iterable[str | Path]]) -> list[str]:
    """Products that are gone although something stands that was made from them.

    Parameters
    ----------
    stages
        Paths of products, in the order in which they are made.

    Returns
    -------
    Those of the first stage that lost any: what was made from them is looked for when they are
    there again.
    """
    lost: list[str] = []
    is_used = False
    for products in reversed([list(stage) for stage in stages]):
        gone = [str(path) for path in products if not Path(path).exists()]
        if is_used and gone:
            lost = gone
        is_used |= len(gone) < len(products)
    return lost


def drop_outdated(listing: Path, images: Path) -> list[str]:
    """Remove the list of files if a folder of theirs gained or lost one since.

    The times of the folders stand for their files, too many to look at each. Snakemake could watch
    the folders, but would write down their names, which may be persons'.

    Returns
    -------
    A sentence, if it was removed.
    """
    if not listing.is_file():
        return []
    made = listing.stat().st_mtime_ns
    if not any(Path(folder).stat().st_mtime_ns > made for folder in list_folders(images)):
        return []
    listing.unlink()
    return [f"A folder in {images} changed since its files were listed; listing them again."]


def is_whole(path: Path) -> bool:
    """Whether a table or a file of a shard has its beginning, its end, and the size it claims."""
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
