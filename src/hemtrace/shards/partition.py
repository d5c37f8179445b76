"""The slices of one side of the split, read from the shards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.shards.context import find_neighbours, read_context
from hemtrace.shards.images import find_images, open_images

_SQUARE = ("crop_top", "crop_left", "crop_side")


@dataclass(frozen=True)
class Partition:
    """The slices of one side of the split.

    Each side is a type of its own: training takes `TrainSlices` and `ValSlices`, so that nobody can
    hand it test patients.

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
    read_places
        Reads slices by their places in this partition.
    """

    name: ClassVar[str]

    slices: list[str]
    patients: np.ndarray
    labels: np.ndarray
    squares: np.ndarray
    read_places: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.slices)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read slices by their places in this partition.

        Returns
        -------
        uint8 (n, channels, H, W). The channels are the windows; with slice context those of the
        previous, of this and of the next slice.
        """
        return self.read_places(np.asarray(indices))


class TrainSlices(Partition):
    """Slices to learn from."""

    name = "train"


class ValSlices(Partition):
    """Slices to watch the training by, and to set thresholds on."""

    name = "val"


class TestSlices(Partition):
    """Slices of held-out patients: only ever predicted, scored and shown."""

    name = "test"
    __test__ = False  # or pytest would take it for a test


P = TypeVar("P", bound=Partition)


def open_partition(
    kind: type[P],
    catalog: pl.DataFrame,
    splits: pl.DataFrame,
    shards: Path,
    has_context: bool = False,
) -> P:
    """Open the used slices of a partition's patients.

    Parameters
    ----------
    kind
        `TrainSlices`, `ValSlices` or `TestSlices`.
    catalog, splits
        The products of ingest and split; of the latter the columns patient and partition.
    shards
        Folder of the shards.
    has_context
        Read the neighbours of each slice too. They may be slices without labels.

    Raises
    ------
    HemtraceError
        If a shard is missing or damaged, or the partition is empty.
    """
    patients = splits.filter(pl.col("partition") == kind.name).select("patient")
    table = (
        catalog.filter(pl.col("status") == "used")
        .join(patients, on="patient", how="semi")
        .sort("patient", "study", "series", "z_mm", "slice")
    )
    if table.is_empty():
        raise HemtraceError(f"The partition {kind.name!r} of the split has no slices; split again.")
    places = table.select("shard", "row", *_SQUARE).to_numpy()[:, None]
    if has_context:
        places = find_neighbours(catalog, table)
    readers = {
        number: open_images(find_images(shards, f"{number:04d}"))
        for number in np.unique(places[..., 0]).tolist()
    }

    def read_one(shard: int, row: int) -> np.ndarray:
        return readers[shard].read(row)

    shape = readers[int(places[0, 0, 0])].shape[1:]
    return kind(
        slices=table["slice"].to_list(),
        patients=table["patient"].to_numpy(),
        labels=table.select(LABELS).to_numpy().astype(np.uint8),
        squares=table.select(_SQUARE).to_numpy(),
        read_places=lambda indices: read_context(read_one, places[indices], shape),
    )
