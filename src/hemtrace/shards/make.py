"""Windowed slices on disk: `NNNN.npy` (uint8) with `NNNN.parquet` (a row a file), and their reader.

Knows nothing of torch: the reader hands out numpy arrays.
"""

import hashlib
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from hemtrace.dicom import QuarantineError, read_slice, slice_key
from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.params import Window
from hemtrace.window import preprocess

ROW_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "slice": pl.String,
    "file": pl.String,
    "reason": pl.String,
    "detail": pl.String,
    "patient": pl.String,
    "study": pl.String,
    "series": pl.String,
    "z_mm": pl.Float64,
    "rows": pl.Int32,
    "columns": pl.Int32,
    "spacing_mm": pl.Float64,
    "repaired": pl.Boolean,
    "pixel_sha256": pl.String,
    "image_sha256": pl.String,
    "shard": pl.Int32,
    "row": pl.Int32,
}


def make_shard(
    folder: Path, files: Sequence[str], windows: Sequence[Window], size: int, shard: int
) -> tuple[np.ndarray, pl.DataFrame]:
    """Read and window the files of a shard.

    Parameters
    ----------
    folder, files
        Where the DICOM files lie, and their paths below it.
    windows, size
        As in `preprocess`.
    shard
        Number of the shard, written into the rows.

    Returns
    -------
    uint8 (slices, windows, size, size), and a table of `ROW_SCHEMA` with one row a file. A file
    that cannot be read has a `reason` and no `row`.
    """
    images: list[np.ndarray] = []
    rows: list[dict[str, object]] = []
    for name in tqdm(files, desc=f"shard {shard_name(shard)}", unit="file", mininterval=5):
        row: dict[str, object] = {"slice": slice_key(Path(name)), "file": name, "shard": shard}
        try:
            found = read_slice(folder / name)
        except QuarantineError as error:
            rows.append(row | {"reason": error.reason, "detail": error.detail})
            continue
        image = preprocess(found.hu, windows, size)
        rows.append(
            row
            | {
                "patient": found.patient,
                "study": found.study,
                "series": found.series,
                "z_mm": found.z_mm,
                "rows": found.hu.shape[0],
                "columns": found.hu.shape[1],
                "spacing_mm": found.spacing_mm,
                "repaired": found.repaired,
                "pixel_sha256": found.pixel_sha256,
                "image_sha256": hashlib.sha256(image.tobytes()).hexdigest(),
                "row": len(images),
            }
        )
        images.append(image)
    shape = (len(images), len(windows), size, size)
    stack = np.stack(images) if images else np.empty(shape, dtype=np.uint8)
    return stack, pl.DataFrame(rows, schema=ROW_SCHEMA)


def write_shard(images: np.ndarray, rows: pl.DataFrame, npy: Path, parquet: Path) -> None:
    """Write a shard; both files appear under their names only when complete."""
    npy_part, parquet_part = npy.with_suffix(".npy.part"), parquet.with_suffix(".parquet.part")
    with npy_part.open("wb") as stream:
        np.save(stream, images)
    rows.write_parquet(parquet_part)
    npy_part.replace(npy)
    parquet_part.replace(parquet)


def shard_name(shard: int) -> str:
    """Name a shard's files, without suffix."""
    return f"{shard:04d}"


@dataclass(frozen=True)
class Partition:
    """The slices of one side of the split, read from memory-mapped shards.

    Attributes
    ----------
    slices
        Keys, in the order of every array here: by patient, then along the scan.
    patients
        str (N,).
    labels
        uint8 (N, 6), in the order of `labels.LABELS`.
    """

    slices: list[str]
    patients: np.ndarray
    labels: np.ndarray
    _shards: dict[int, np.ndarray]
    _places: np.ndarray  # (N, 2): shard, row

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.slices)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read slices by their places in this partition: uint8 (n, windows, size, size)."""
        return np.stack([self._shards[shard][row] for shard, row in self._places[indices]])


def open_partition(catalog: Path, splits: Path, shards: Path, name: str) -> Partition:
    """Open the used slices of a partition's patients.

    Parameters
    ----------
    catalog, splits
        The products of ingest and split.
    shards
        Folder of the `NNNN.npy` files.
    name
        `train`, `val` or `test`.

    Raises
    ------
    HemtraceError
        If a shard is missing or damaged, or the partition is empty.
    """
    patients = pl.read_parquet(splits).filter(pl.col("partition") == name).select("patient")
    table = (
        pl.read_parquet(catalog)
        .filter(pl.col("status") == "used")
        .join(patients, on="patient", how="semi")
        .sort("patient", "study", "series", "z_mm", "slice")
    )
    if table.is_empty():
        raise HemtraceError(f"The partition {name!r} of {splits} has no slices; split again.")
    numbers = table["shard"].unique().sort().to_list()
    return Partition(
        slices=table["slice"].to_list(),
        patients=table["patient"].to_numpy(),
        labels=table.select(LABELS).to_numpy().astype(np.uint8),
        _shards={number: _open_shard(shards / f"{shard_name(number)}.npy") for number in numbers},
        _places=table.select("shard", "row").to_numpy(),
    )


@cache
def _open_shard(path: Path) -> np.ndarray:
    # A map keeps its file open: 753 shards are near the usual limit of 1,024, which may be raised.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise HemtraceError(
            f"The shard {path} is missing or damaged ({type(error).__name__}); "
            "delete it and run the pipeline again, which makes it anew."
        ) from None
