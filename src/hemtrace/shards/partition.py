"""The slices of one side of the split, read from the shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.shards.images import ImageReader, find_images, open_images


@dataclass(frozen=True)
class Partition:
    """The slices of one side of the split.

    Attributes
    ----------
    slices
        Keys, in the order of every array here: by patient, then along the scan.
    patients
        str (N,).
    labels
        uint8 (N, 6), in the order of `labels.LABELS`.
    squares
        int32 (N, 3): top, left and side of what each picture shows of its slice, in pixels of it.
    """

    slices: list[str]
    patients: np.ndarray
    labels: np.ndarray
    squares: np.ndarray
    _shards: dict[int, ImageReader]
    _places: np.ndarray  # (N, 2): shard, row

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.slices)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read slices by their places in this partition: uint8 (n, windows, size, size)."""
        return np.stack([self._shards[shard].read(row) for shard, row in self._places[indices]])


def open_partition(catalog: Path, splits: Path, shards: Path, name: str) -> Partition:
    """Open the used slices of a partition's patients.

    Parameters
    ----------
    catalog, splits
        The products of ingest and split.
    shards
        Folder of the shards.
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
        squares=table.select("crop_top", "crop_left", "crop_side").to_numpy(),
        _shards={number: open_images(find_images(shards, f"{number:04d}")) for number in numbers},
        _places=table.select("shard", "row").to_numpy(),
    )
