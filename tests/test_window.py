import numpy as np
import pytest
from conftest import read_hu, small_head

from hemtrace.head import Box
from hemtrace.params import DEFAULT_WINDOWS, View, Window
from hemtrace.window import Square, apply_window, choose_square, cut_square, preprocess

BRAIN = Window(name="brain", center_hu=40, width_hu=80)
HEAD = Box(top=100, left=60, rows=300, columns=240)


def view(**changes):
    return View(
        **({"windows": DEFAULT_WINDOWS, "size": 112, "crop": "head", "pixel_mm": 2} | changes)
    )


def exact(hu, square, windows, size):
    """The same in float64 and by definition: nothing is rounded before the end."""
    padded = np.pad(np.asarray(hu, np.float64), 2 * square.side, constant_values=-1000)
    top, left = square.top + 2 * square.side, square.left + 2 * square.side
    shown = padded[top : top + square.side, left : left + square.side]
    edges = np.arange(size + 1) * square.side / size
    weights = np.clip(
        np.minimum(edges[1:, None], np.arange(square.side)[None] + 1)
        - np.maximum(edges[:-1, None], np.arange(square.side)[None]),
        0,
        None,
    ) / (square.side / size)
    pictures = []
    for window in windows:
        black = window.center_hu - window.width_hu / 2
        grey = np.clip((shown - black) * 255 / window.width_hu, 0, 255)
        pictures.append(weights @ grey @ weights.T)
    return np.stack(pictures)


@pytest.mark.parametrize(
    ("hu", "grey"), [(-1000, 0), (0, 0), (20, 64), (40, 128), (80, 255), (3000, 255), (-32768, 0)]
)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_window_maps_hu_to_grey_as_worked_out_by_hand(hu, grey, dtype):
    found = apply_window(np.array([[hu, hu]], dtype=dtype), BRAIN)
    assert np.abs(found.astype(int) - grey).max() <= (1 if hu == 40 else 0)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize(
    "window", [*DEFAULT_WINDOWS, Window(name="x", center_hu=35.5, width_hu=75)]
)
def test_every_hu_is_within_half_a_grey_level(window, dtype):
    hu = np.arange(-1100, 3000, dtype=dtype).reshape(1, -1)
    grey = (hu.astype(float) - (window.center_hu - window.width_hu / 2)) * 255 / window.width_hu
    assert np.abs(apply_window(hu, window) - np.clip(grey, 0, 255)).max() <= 0.5001


@pytest.mark.parametrize("size", [64, 100, 112, 256])
@pytest.mark.parametrize("square", [Square(0, 0, 512), Square(30, -20, 457), Square(40, 50, 256)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_every_pixel_is_within_one_grey_level_of_exact_arithmetic(size, square, dtype):
    if square.side < size:
        pytest.skip("enlarging interpolates")
    rng = np.random.default_rng(1)
    hu = (small_head(1, 512) - 1024 + rng.normal(0, 30, (512, 512))).astype(dtype)
    found = preprocess(hu, square, DEFAULT_WINDOWS, size)
    assert found.dtype == np.uint8
    assert np.abs(found - exact(hu, square, DEFAULT_WINDOWS, size)).max() <= 1


def test_a_real_head_is_within_one_grey_level_of_exact_arithmetic(ge_head):
    for path in sorted(ge_head.glob("*.dcm"))[::7]:
        hu = read_hu(path).astype(np.int16)
        for square in (Square(0, 0, 512), Square(30, 40, 459)):
            found = preprocess(hu, square, DEFAULT_WINDOWS, 256)
            assert np.abs(found - exact(hu, square, DEFAULT_WINDOWS, 256)).max() <= 1


def test_blood_stays_apart_from_bone_beside_it():
    """A 2-pixel rim of blood next to bone keeps its grey where HU averaged first would be bone."""
    hu = np.full((64, 64), 30, dtype=np.float32)
    hu[:, 30:34] = 65
    hu[:, 34:44] = 1500
    image = preprocess(hu, Square(0, 0, 64), [DEFAULT_WINDOWS[1]], 32)[0]
    assert image[16, 16] == apply_window(np.array([[65.0]]), DEFAULT_WINDOWS[1])[0, 0]
    odd = preprocess(np.roll(hu, 1, axis=1), Square(0, 0, 64), [DEFAULT_WINDOWS[1]], 32)[0]
    assert odd[16, 17] < 255  # half blood, half bone: not all bone


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_any_number_of_windows_gives_as_many_channels(count):
    windows = [Window(name=str(i), center_hu=10 * i, width_hu=100) for i in range(count)]
    hu = (small_head(1, 100) - 1024).astype(np.int16)
    found = preprocess(hu, Square(0, 0, 100), windows, 64)
    assert found.shape == (count, 64, 64)
    for channel, window in zip(found, windows, strict=True):
        np.testing.assert_array_equal(channel, preprocess(hu, Square(0, 0, 100), [window], 64)[0])


def test_a_small_slice_is_enlarged():
    hu = (small_head(1, 64) - 1024).astype(np.int16)
    assert preprocess(hu, Square(0, 0, 64), DEFAULT_WINDOWS, 112).shape == (3, 112, 112)


def test_a_slice_that_is_not_square_keeps_its_proportions():
    square = choose_square((40, 60), 0.5, HEAD, view(crop="none"))
    cut = cut_square(np.zeros((40, 60), np.float32), square, -1000)
    assert cut.shape == (60, 60)
    assert (cut[10:50] == 0).all()
    assert (cut[:10] == -1000).all()


@pytest.mark.parametrize("spacing", [0.4, 0.5, 0.9])
def test_a_cropped_head_has_the_same_size_at_any_spacing(spacing):
    square = choose_square((512, 512), spacing, HEAD, view())
    assert square.side * spacing == pytest.approx(224, abs=spacing)
    assert square.top + square.side / 2 == pytest.approx(250, abs=1)
    assert square.left + square.side / 2 == pytest.approx(180, abs=1)


def test_a_head_without_spacing_is_taken_for_one_in_a_usual_field():
    assert choose_square((512, 512), None, HEAD, view()).side == round(224 / (250 / 512))


def test_no_spacing_makes_a_square_that_fills_memory():
    narrow = Box(top=64, left=1, rows=3968, columns=62)
    square = choose_square((4096, 64), 0.002, narrow, view())
    assert square.side == 4096
    assert cut_square(np.zeros((4096, 64), np.int16), square, -1000).nbytes == 2 * 4096**2


@pytest.mark.parametrize("square", [Square(-5, -5, 20), Square(6, 3, 20), Square(-30, 0, 12)])
def test_what_lies_beyond_the_edges_is_filled(square):
    image = np.arange(150).reshape(10, 15)
    whole = np.pad(image, 50, constant_values=-7)
    top, left = square.top + 50, square.left + 50
    wanted = whole[top : top + square.side, left : left + square.side]
    np.testing.assert_array_equal(cut_square(image, square, -7), wanted)
