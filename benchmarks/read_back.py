"""Reading pictures back from shards of both formats, random order, 380 px, one core, page cache.

Each picture is copied into a batch, as training does; peers: PNG files by Pillow, and a Parquet
file with the usual row groups, of which each read must unpack all neighbours.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import HEAD_CT, Figure, report, time_rounds
from PIL import Image

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.params import DEFAULT_WINDOWS, View
from hemtrace.shards import make_pictures
from hemtrace.shards.images import SUFFIXES, create_images, open_images

COPIES = 60
BATCH = 32
GROUP = 64  # pictures of a row group in the usual Parquet file


def make_head(size: int) -> np.ndarray:
    """The pictures of the real head: uint8 (28, 3, size, size)."""
    view = View(windows=DEFAULT_WINDOWS, size=size, crop="none", pixel_mm=1.0)
    names = sorted(path.name for path in HEAD_CT.glob("*.dcm"))
    with GuardedReader(HEAD_CT, PUBLIC_SALT) as reader:
        made = make_pictures(reader.read, names, view, PUBLIC_SALT, quiet=True)
        return np.stack([picture for _, picture in made if picture is not None])


def write_shard(folder: Path, kind: str, head: np.ndarray, copies: int) -> Path:
    """Write a shard of so many copies of the head."""
    path = folder / f"{head.shape[-1]}{SUFFIXES[kind]}"
    with create_images(path, kind, head.shape[1:]) as out:
        for _ in range(copies):
            for picture in head:
                out.write(picture)
    return path


def read_random(path: Path, order: np.ndarray) -> int:
    """Fill batches from a shard."""
    reader = open_images(path)
    batch = np.empty((BATCH, *reader.shape[1:]), np.uint8)
    for place, row in enumerate(order):
        batch[place % BATCH] = reader.read(int(row))
    return len(order)


def read_png(content: list[bytes]) -> int:
    """Unpack PNG files of three channels."""
    for one in content:
        np.asarray(Image.open(io.BytesIO(one)))
    return len(content)


def read_groups(path: Path, rows: np.ndarray) -> int:
    """Read single pictures of a Parquet file with large row groups."""
    parquet = pq.ParquetFile(path)
    for row in rows:
        group = parquet.read_row_group(int(row) // GROUP, use_threads=False)
        group.column(0)[int(row) % GROUP].as_py()
    return len(rows)


def main() -> None:
    """Measure, and report."""
    raw_bytes = sum(path.stat().st_size for path in HEAD_CT.glob("*.dcm"))
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {}
        for size in (256, 380, 512):
            for kind in SUFFIXES:
                path = write_shard(folder, kind, make_head(size), 1)
                sizes[kind, size] = path.stat().st_size / raw_bytes
                path.unlink()
        head = make_head(380)
        npy, parquet = (write_shard(folder, kind, head, COPIES) for kind in ("npy", "parquet"))
        usual = folder / "usual.parquet"
        table = pa.table({"image": [picture.tobytes() for picture in head] * COPIES})
        pq.write_table(table, usual, compression="zstd", row_group_size=GROUP, use_dictionary=False)
        del table
        buffers = []
        for picture in head:
            buffer = io.BytesIO()
            Image.fromarray(np.moveaxis(picture, 0, 2)).save(buffer, "png")
            buffers.append(buffer.getvalue())
        order = np.random.default_rng(1).permutation(len(head) * COPIES)
        speed = time_rounds(
            {
                "npy": lambda: read_random(npy, order),
                "parquet": lambda: read_random(parquet, order),
                "png": lambda: read_png(buffers),
                "usual": lambda: read_groups(usual, order[:20]),
            }
        )
    figures = [
        Figure("npy", speed["npy"], "slices/s", at_least=10_000),
        Figure("Parquet", speed["parquet"], "slices/s", at_least=1_500),
        Figure("PNG by Pillow", speed["png"], "slices/s"),
        Figure(f"Parquet, {GROUP} a row group", speed["usual"], "slices/s"),
        Figure("npy against PNG", speed["npy"] / speed["png"], "x"),
        Figure("Parquet against PNG", speed["parquet"] / speed["png"], "x"),
    ]
    for (kind, size), share in sizes.items():
        limit = 1 / 3 if kind == "parquet" else None
        figures.append(Figure(f"{kind}, {size} px", share, "of raw bytes", at_most=limit))
    report("read_back", figures)


if __name__ == "__main__":
    main()
