import cv2
import numpy as np
import pytest

from hemtrace.params import DEFAULT_WINDOWS, Window
from hemtrace.window import apply_window, pad_to_square, preprocess

BRAIN = Window(name="brain", center_hu=40, width_hu=80)


@pytest.mark.parametrize(
    ("hu", "grey"), [(-1000, 0), (0, 0), (20, 64), (40, 128), (80, 255), (3000, 255)]
)
def test_window_maps_hu_to_grey_as_worked_out_by_hand(hu, grey):
    assert apply_window(np.array([[hu]], dtype=np.float32), BRAIN)[0, 0] == grey


def test_blood_stays_apart_from_bone_beside_it():
    """A 2-pixel rim of blood next to bone keeps its grey where HU averaged first would be bone."""
    hu = np.full((64, 64), 30, dtype=np.float32)
    hu[:, 30:34] = 65
    hu[:, 34:44] = 1500
    image = preprocess(hu, [Window(name="w", center_hu=80, width_hu=200)], 32)[0]
    averaged = cv2.resize(hu, (32, 32), interpolation=cv2.INTER_AREA)
    assert image[16, 16] == apply_window(np.array([[65.0]]), DEFAULT_WINDOWS[1])[0, 0]
    assert averaged[16, 16] == 65
    odd = preprocess(np.roll(hu, 1, axis=1), [DEFAULT_WINDOWS[1]], 32)[0]
    assert odd[16, 17] < 255  # half blood, half bone: not all bone


def test_shape_and_type():
    image = preprocess(np.zeros((512, 512)), DEFAULT_WINDOWS, 112)
    assert image.shape == (3, 112, 112)
    assert image.dtype == np.uint8


def test_a_slice_that_is_not_square_keeps_its_proportions():
    hu = np.zeros((40, 60), dtype=np.float32)
    square = pad_to_square(hu)
    assert square.shape == (60, 60)
    assert (square[10:50] == 0).all()
    assert (square[:10] == -1000).all()
