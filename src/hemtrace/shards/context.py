"""A slice between its neighbours: the previous, this and the next one as channels."""

from collections.abc import Callable

import numpy as np
import polars as pl

# shard, row, and the square that the picture shows: top, left, side.
_PLACE = ("shard", "row", "crop_top", "crop_left", "crop_side")


def find_neighbours(catalog: pl.DataFrame, table: pl.DataFrame) -> np.ndarray:
    """Find where the pictures of slices and of their neighbours lie.

    Parameters
    ----------
    catalog
        All slices; any that has a picture may be a neighbour.
    table
        The slices, with the columns previous and next (`ingest.series.place_in_series`). Where
        there is none, at the ends and beside a gap, the slice stands in for its neighbour.

    Returns
    -------
    int64 (N, 3, 5): of previous, this and next slice the shard, the row in it, and top, left and
    side of the square that the picture shows.
    """
    known = catalog.filter(pl.col("row").is_not_null()).select("slice", *_PLACE)
    own = table.select(_PLACE)
    found = []
    for column in ("previous", "next"):
        other = table.select(slice=column).join(
            known, on="slice", how="left", maintain_order="left"
        )
        found.append(pl.select(pl.coalesce(other[name], own[name]) for name in _PLACE).to_numpy())
    return np.stack([found[0], own.to_numpy(), found[1]], axis=1)


def read_context(
    read: Callable[[int, int], np.ndarray], places: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Read pictures with their neighbours.

    A head crop is cut around the head of its own slice: neighbours are moved by whole pixels, so
    that a point of the patient lies at the same place in all three.

    Parameters
    ----------
    read
        Gives the picture of a shard and row: uint8 (windows, H, W).
    places
        int (n, 1 or 3, 5), as `find_neighbours` gives them.
    shape
        (windows, H, W).

    Returns
    -------
    uint8 (n, windows or 3 windows, H, W).
    """
    count, slices = places.shape[:2]
    out = np.empty((count, slices, *shape), np.uint8)
    for k in range(count):
        *_, top, left, side = places[k, slices // 2].tolist()
        for n, (shard, row, other_top, other_left, _) in enumerate(places[k].tolist()):
            down = round((other_top - top) * shape[1] / side)
            across = round((other_left - left) * shape[2] / side)
            place_picture(read(shard, row), out[k, n], down, across)
    return out.reshape(count, slices * shape[0], *shape[1:])


def place_picture(picture: np.ndarray, out: np.ndarray, down: int, across: int) -> None:
    """Copy a picture moved down and across; what it does not reach is air (0)."""
    if not down and not across:
        out[...] = picture
        return
    out[...] = 0
    height, width = picture.shape[1:]
    rows, columns = height - abs(down), width - abs(across)
    if rows <= 0 or columns <= 0:
        return
    to_row, to_column = max(0, down), max(0, across)
    from_row, from_column = max(0, -down), max(0, -across)
    out[:, to_row : to_row + rows, to_column : to_column + columns] = picture[
        :, from_row : from_row + rows, from_column : from_column + columns
    ]
