"""Files -> the pictures and rows of a shard: the one path of ingest and of `hemtrace predict`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
from blake3 import blake3
from tqdm import tqdm

from hemtrace.dicom import Rejected, Slice, slice_key
from hemtrace.head import find_head
from hemtrace.memory import keep_freed_memory
from hemtrace.params import View
from hemtrace.shards.images import create_images
from hemtrace.shards.rows import ROW_SCHEMA
from hemtrace.window import choose_square, preprocess
from hemtrace.writing import write_whole

Row = dict[str, object]
# The facts of a slice that its row holds as they are.
_FACTS = tuple(
    field.name for field in fields(Slice) if field.name in ROW_SCHEMA and field.name != "frame"
)
# Rows as dictionaries take ten times the memory of a table's.
_ROWS_AT_ONCE = 500


def make_pictures(
    read: Callable[[str], Iterable[Slice | Rejected]],
    files: Sequence[str],
    view: View,
    salt: bytes,
    shard: int = 0,
    quiet: bool = False,
) -> Iterator[tuple[Row, np.ndarray | None]]:
    """Read files and make their pictures.

    Parameters
    ----------
    read
        `dicom.guard.GuardedReader.read`.
    files
        Names below the reader's folder.
    view, salt
        What a picture shows; the secret of the slice keys.
    shard
        Number of the shard, written into the rows.
    quiet
        Show no progress.

    Yields
    ------
    For each picture of each file a row of `ROW_SCHEMA`, and uint8 (windows, size, size): None where
    it cannot be used, which the row says. Every file has a row at least.
    """
    keep_freed_memory()
    row = 0
    label = f"shard {shard_name(shard)}"
    for name in tqdm(files, desc=label, unit="file", mininterval=5, disable=quiet):
        for found in read(name):
            known: Row = {
                "slice": slice_key(name, found.frame, salt),
                "file": name,
                "frame": found.frame,
                "shard": shard,
            }
            if isinstance(found, Rejected):
                told = {fact: found.facts[fact] for fact in _FACTS if fact in found.facts}
                known |= told | {"reason": found.reason, "detail": found.detail or None}
                yield known, None
                continue
            known |= {fact: getattr(found, fact) for fact in _FACTS}
            known |= {"rows": found.hu.shape[0], "columns": found.hu.shape[1]}
            head = find_head(found.hu, found.spacing_mm, found.spacing_across_mm)
            if head is None:
                yield known | {"reason": "no-head"}, None
                continue
            square = choose_square(found.hu.shape, found.spacing_mm, head, view)
            picture = preprocess(found.hu, square, view.windows, view.size)
            known |= {
                "crop_top": square.top,
                "crop_left": square.left,
                "crop_side": square.side,
                "image_blake3": blake3(picture.data).hexdigest(),
                "row": row,
            }
            row += 1
            yield known, picture


def write_shard(
    pictures: Iterable[tuple[Row, np.ndarray | None]], view: View, images: Path, rows: Path
) -> pl.DataFrame:
    """Write a shard as its pictures come, so that memory does not grow with it.

    Both files appear under their names only when complete, the rows last. The format is that of
    the suffix of `images`.

    Returns
    -------
    The rows: a table of `ROW_SCHEMA`.

    Raises
    ------
    HemtraceError
        If the disk is full. Nothing is left then.
    """
    kind = "npy" if images.suffix == ".npy" else "parquet"
    advice = "" if kind == "parquet" else "ingest.format: parquet takes a third of the room."
    kept: list[Row] = []
    tables = [pl.DataFrame(schema=ROW_SCHEMA)]
    # The blocks end in the other order: the rows appear last.
    with write_whole(rows, advice) as rows_part, write_whole(images, advice) as images_part:
        with create_images(images_part, kind, (len(view.windows), view.size, view.size)) as out:
            for row, picture in pictures:
                kept.append(row)
                if picture is not None:
                    out.write(picture)
                if len(kept) == _ROWS_AT_ONCE:
                    tables.append(pl.DataFrame(kept, schema=ROW_SCHEMA))
                    kept.clear()
        tables.append(pl.DataFrame(kept, schema=ROW_SCHEMA))
        table = pl.concat(tables)
        table.write_parquet(rows_part)
    return table


def shard_name(shard: int) -> str:
    """Name a shard's files, without suffix."""
    return f"{shard:04d}"
