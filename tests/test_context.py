"""Slice context: what stands beside a slice, and where."""

import numpy as np
import polars as pl
import pytest
from conftest import catalog_rows, make_products

from hemtrace.params import DEFAULT_WINDOWS, View
from hemtrace.shards import TrainSlices, open_partition
from hemtrace.shards.context import find_neighbours, read_context

VIEW = View(windows=DEFAULT_WINDOWS, size=32, crop="none", pixel_mm=1.0)


@pytest.fixture(scope="module")
def products(raw, tmp_path_factory):
    return make_products(raw, tmp_path_factory.mktemp("context"), "npy", VIEW)


def open_train(folder, has_context):
    catalog = pl.read_parquet(folder / "catalog.parquet")
    splits = pl.read_parquet(folder / "splits.parquet")
    return open_partition(TrainSlices, catalog, splits, folder, has_context), catalog


def test_the_three_slices_are_those_of_the_catalog(products):
    """Each channel group equals the neighbour's own picture, read without context."""
    alone, catalog = open_train(products, False)
    beside, _ = open_train(products, True)
    assert beside.slices == alone.slices
    place = {key: k for k, key in enumerate(alone.slices)}
    known = {row["slice"]: row for row in catalog.iter_rows(named=True)}
    images = beside.read(np.arange(len(beside)))
    assert images.shape[1:] == (9, 32, 32)
    ends = 0
    for k, key in enumerate(beside.slices):
        row = known[key]
        for group, name in enumerate((row["previous"], key, row["next"])):
            ends += name is None
            expected = alone.read([place[name or key]])[0]
            np.testing.assert_array_equal(images[k, 3 * group : 3 * group + 3], expected)
        if row["previous"] is not None:
            assert known[row["previous"]]["z_mm"] < row["z_mm"]
            assert known[row["previous"]]["series"] == row["series"]
    assert ends == 2 * catalog.filter(pl.col("slice").is_in(beside.slices))["series"].n_unique()


def test_a_quarantined_neighbour_with_a_picture_counts_and_one_without_does_not():
    catalog = catalog_rows(
        patient=["a"] * 3,
        row=[0, 1, None],
        shard=[0, 0, 0],
        crop_top=[0, 0, None],
        crop_left=[0, 0, None],
        crop_side=[64, 64, None],
        previous=[None, "s0", "s1"],
        next=["s1", "s2", None],
    ).with_columns(status=pl.Series(["quarantined", "used", "quarantined"]))
    found = find_neighbours(catalog, catalog[1:2])
    assert found[0, :, 1].tolist() == [0, 1, 1]


def test_crops_of_neighbours_are_moved_to_where_the_patient_lies():
    """A point at one place of the source stands at one place of the picture in all three."""
    pictures = np.zeros((3, 1, 32, 32), np.uint8)
    squares = [(0, 0, 64), (8, -4, 64), (-2, 6, 64)]  # top, left, side in source pixels
    point = (40, 20)
    for picture, (top, left, _) in zip(pictures, squares, strict=True):
        picture[0, (point[0] - top) // 2, (point[1] - left) // 2] = 255
    places = np.array([[(0, k, *squares[k]) for k in range(3)]])
    images = read_context(lambda _, row: pictures[row], places, (1, 32, 32))
    # all where the middle slice has it
    assert {tuple(np.argwhere(one)[0]) for one in images[0]} == {(16, 12)}


def test_a_crop_far_away_is_air():
    pictures = np.full((2, 1, 8, 8), 9, np.uint8)
    places = np.array([[(0, 0, 100, 0, 8), (0, 1, 0, 0, 8), (0, 1, 0, 0, 8)]])
    images = read_context(lambda _, row: pictures[row], places, (1, 8, 8))
    assert images[0, 0].max() == 0
    assert images[0, 1].min() == 9
