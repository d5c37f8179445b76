"""Checks that cost next to nothing, made before any work is begun."""

import difflib
import os
import shutil
from pathlib import Path

from hemtrace.dicom.identity import read_salt
from hemtrace.errors import HemtraceError
from hemtrace.ingest.labels_csv import check_label_header
from hemtrace.params import IngestParams, Params, TrainParams

# Room for logs, tables, the model and the reports of a run.
ROOM_BYTES = 500_000_000
# A large head with its scalp; a smaller square cuts it.
HEAD_MM = 200
# Input pixels to a cell of the finest map that any network has: VGG's first maps are of full size.
FINEST_STRIDE = 1


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


def check_heat_map(params: Params, stride: int = FINEST_STRIDE) -> None:
    """Refuse more cells on a side of the heat map than the network's finest map can have.

    Two branches meet in one map, which is taken whatever its size: nothing is refused there.

    Parameters
    ----------
    params
        All of them.
    stride
        Input pixels to a cell of the network's finest map, of `find_finest_stride`; by default the
        least of any network, which needs no network to know.

    Raises
    ------
    HemtraceError
        Naming the parameter and the most that it can be.
    """
    side, fewest = params.train.input_size or params.ingest.size, params.explain.fewest_cells
    most = -(-side // stride)
    if params.train.branches == "one" and fewest > most:
        field = "train.input_size" if params.train.input_size else "ingest.size"
        raise HemtraceError(
            f"explain.fewest_cells {fewest} asks for a heat map of {fewest} x {fewest} cells; at "
            f"{field} {side} the finest map of the network has {most} x {most}: set "
            f"explain.fewest_cells to {most} at most, or raise {field}."
        )


def find_finest_stride(params: TrainParams) -> int:
    """Ask timm for the input pixels to a cell of a network's finest map; takes two seconds.

    `FINEST_STRIDE` for a network of which timm does not tell.
    """
    import timm
    import torch

    import hemtrace.model  # noqa: F401 - makes AlexNet known to timm

    with torch.device("meta"):
        told = getattr(timm.create_model(params.architecture), "feature_info", None)
    try:
        return min(int(stage["reduction"]) for stage in told or ())
    except (KeyError, TypeError, ValueError):
        return FINEST_STRIDE


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
