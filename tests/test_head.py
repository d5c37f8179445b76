import numpy as np
import pydicom
import pytest
from conftest import read_hu, small_head
from pydicom.data import get_testdata_file

from hemtrace.head import find_head


def head(seed=1, side=256):
    return (small_head(seed, side) - 1024).astype(np.int16)


@pytest.mark.parametrize("side", [32, 64, 128, 256, 512])
def test_the_box_of_a_head_is_where_the_head_is(side):
    box = find_head(head(side=side), 250 / side, 250 / side)
    # Of radius 0.4 of the side around the middle.
    for start, length in ((box.top, box.rows), (box.left, box.columns)):
        assert start == pytest.approx(0.1 * side, abs=0.04 * side)
        assert start + length == pytest.approx(0.9 * side, abs=0.04 * side)


def test_the_box_follows_a_head_off_the_middle():
    moved = np.full((256, 256), -1000, np.int16)
    moved[:200, 60:] = head()[20:220, :196]
    box = find_head(moved, 1.0, 1.0)
    assert (box.top, box.left) == (pytest.approx(6, abs=6), pytest.approx(86, abs=6))


def test_every_slice_of_a_real_head_is_one(ge_head):
    for path in sorted(ge_head.glob("*.dcm")):
        spacing = float(pydicom.dcmread(path, stop_before_pixels=True).PixelSpacing[0])
        assert find_head(read_hu(path), spacing, spacing), path.name


def air(side=256):
    return np.random.default_rng(0).normal(-1000, 10, (side, side))


def disk(radius, hu):
    y, x = np.mgrid[:256, :256] - 127.5
    picture = air()
    picture[np.hypot(x, y) < radius] = hu
    return picture


def table_only():
    picture = air()
    picture[200:204] = 60
    return picture


def noise():
    return np.random.default_rng(0).normal(0, 1000, (256, 256))


@pytest.mark.parametrize(
    "picture",
    [air(), disk(100, 0), disk(8, 1000), table_only(), noise()],
    ids=["air", "water phantom", "a small thing", "table", "noise"],
)
def test_what_is_no_head_is_refused(picture):
    assert find_head(picture, 1.0, 1.0) is None


def test_a_chest_is_too_wide_for_a_head():
    assert find_head(head(side=256), 1.6, 1.6) is None


def test_the_top_of_a_skull_still_counts():
    assert find_head(np.where(disk(20, 1) > -500, 400, air()), 1.0, 1.0) is not None


def test_a_part_of_a_body_that_fills_the_picture_is_no_head():
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    assert find_head(hu, *map(float, dataset.PixelSpacing)) is None
