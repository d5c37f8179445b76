"""What a kill, a full disk or a tidy hand left of the products: looked at before Snakemake does."""

import json
import os
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from blake3 import blake3

from hemtrace.lock import clear_killed_run, enter_folder

_SHARD_FILE = re.compile(r"(\d{4})\.(npy|images\.parquet|parquet)")
_PARQUET_MAGIC = b"PAR1"
# Where Snakemake notes what a job was writing when it was killed, named by the path in base 64.
_INCOMPLETE = Path(".snakemake/incomplete")


def prepare_run(root: Path, changed_ns: int) -> list[str]:
    """Make the folder ready for a run, whatever happened to the last one.

    For Snakemake's main process, before it reads what is on the disk; a dry run does it too, since
    it tells what would be done by what is left. While another run lives in the folder nothing is
    touched, and Snakemake itself refuses to begin.

    Parameters
    ----------
    root
        Folder of the project.
    changed_ns
        When last a raw file came or went (`source.newest_change`); 0 for the phantom.

    Returns
    -------
    A sentence for each thing done.
    """
    with enter_folder(root) as is_alone:
        if not is_alone:
            return []
        return [
            *clear_killed_run(root),
            *drop_incomplete(root),
            *drop_damaged(root / "data"),
            *drop_cut_json(root),
            *drop_outdated(root / "data/files.parquet", changed_ns),
            *drop_phantom(root),
        ]


def drop_incomplete(root: Path) -> list[str]:
    """Remove products in `data` that a killed job was writing: they count as lost, then.

    Snakemake would make them again too, but with all that was made from them.
    """
    told = []
    for note in sorted((root / _INCOMPLETE).glob("*")):
        try:
            name = urlsafe_b64decode(note.name).decode()
        except ValueError:
            continue
        path = root / name
        if name.startswith("data/") and path.is_file():
            path.unlink()
            note.unlink()
            told.append(f"{name} was being written when its job was killed; removed it.")
    return told


def drop_damaged(data: Path) -> list[str]:
    """Remove products that were cut short, and shards that lost a file, so that these are made.

    Only the ends of each file are looked at; what is wrong within is found by `hemtrace verify`.

    Returns
    -------
    A sentence for each thing removed.
    """
    products = [[path] for path in sorted(data.glob("*.parquet")) if path.is_file()]
    shards: dict[str, list[Path]] = {}
    for path in sorted((data / "shards").glob("*")):
        if path.is_file() and (match := _SHARD_FILE.fullmatch(path.name)):
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
    flow = data / "ingest.json"
    if flow.is_file() and not _is_flow(flow):
        flow.unlink()
        told.append(f"{flow} is damaged; removed it, to be made again.")
    return told


def drop_cut_json(root: Path) -> list[str]:
    """Remove JSON of `models` and `reports` that was cut short, so that it is made again.

    Returns
    -------
    A sentence for each file removed.
    """
    told = []
    for path in [*sorted(root.glob("models/*.json")), *sorted(root.glob("reports/*.json"))]:
        try:
            json.loads(path.read_bytes())
        except ValueError:
            path.unlink()
            told.append(f"{path} is cut short; removed it, to be made again.")
    return told


def _is_flow(path: Path) -> bool:
    try:
        return "quarantined" in json.loads(path.read_text())
    except (OSError, ValueError, TypeError):
        return False


def drop_outdated(listing: Path, changed_ns: int) -> list[str]:
    """Remove the list of files if one came or went since it was made."""
    if not listing.is_file() or changed_ns <= listing.stat().st_mtime_ns:
        return []
    listing.unlink()
    return ["A folder of raw files changed since they were listed; they are listed again."]


def drop_phantom(root: Path) -> list[str]:
    """Remove the table of a phantom that lost files: it stands for them, being a product.

    A phantom that was made elsewhere is not below this folder, and is left alone.
    """
    table, images = root / "data/raw/phantom.parquet", root / "data/raw/stage_2_train"
    if not table.is_file():
        return []
    due = pq.read_metadata(table).num_rows if is_whole(table) else None
    found = sum(1 for _ in images.iterdir()) if images.is_dir() else 0
    if found == due:
        return []
    table.unlink()
    return [f"The phantom in {images} has {found:,} files, not all of its own; it is made again."]


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


def digest_of(path: Path) -> str:
    """Digest a file; nothing where there is none."""
    return blake3(path.read_bytes()).hexdigest() if path.is_file() else ""


def is_whole(path: Path) -> bool:
    """Whether a table or a file of a shard has its beginning, its end, and the size it claims."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
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
