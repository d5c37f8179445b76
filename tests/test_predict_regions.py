"""From the cells of a heat map to what is shown: worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from hemtrace.labels import ANY, LABELS
from hemtrace.predict.overlays import draw_overlay, flagged_labels, flagged_slices, name_overlay
from hemtrace.predict.regions import (
    head_of,
    heat_on_slice,
    measure_volumes,
    pack_head,
    regions_of,
)
from hemtrace.predict.study import (
    SeriesPrediction,
    SlicePrediction,
    StudyPrediction,
)
from hemtrace.predict.verdict import judge
from hemtrace.window import Square

THRESHOLDS = dict.fromkeys(LABELS, 0.5)


def make_slice(**changes):
    cells = np.zeros((6, 4, 4), np.float32)
    cells[:, 1, 2] = 1
    known = {
        "file": "a.dcm",
        "frame": None,
        "key": "S0123",
        "z_mm": 0.0,
        "shape": (128, 128),
        "spacing_mm": (0.5, 0.5),
        "thickness_mm": 5.0,
        "square": Square(16, 16, 96),
        "probabilities": np.array([0.1, 0.6, 0.1, 0.1, 0.8, 0.9]),
        "raw": np.full(6, 0.5),
        "cells": cells,
        "hu": np.full((128, 128), 40, np.int16),
    }
    return SlicePrediction(**(known | changes))


def make_study(slices, answer):
    series = SeriesPrediction("s", tuple(slices), True, np.full(6, 0.9))
    verdict = judge([series], None)
    object.__setattr__(verdict, "answer", answer)
    return StudyPrediction("Pstudy", "Ppatient", (series,), verdict)


def test_heat_lies_where_its_cell_does_and_nowhere_beyond_the_square():
    heat = heat_on_slice(make_slice(), ANY)
    row, column = np.unravel_index(np.argmax(heat), heat.shape)
    # The cell (1, 2) of four covers rows 40 to 64 and columns 64 to 88 of the slice.
    assert 40 <= row < 64
    assert 64 <= column < 88
    assert heat.max() == pytest.approx(1, abs=1e-6)
    outside = np.ones_like(heat, bool)
    outside[16:112, 16:112] = False
    assert not heat[outside].any()


def test_a_square_that_reaches_beyond_the_slice_is_cut():
    inner = heat_on_slice(make_slice(square=Square(-20, 40, 160)), ANY)
    assert inner.shape == (128, 128)
    row, column = np.unravel_index(np.argmax(inner), inner.shape)
    assert 20 <= row < 60
    assert 120 <= column < 128


def test_a_region_has_the_area_of_its_pixels():
    (region,) = regions_of(make_slice(), ANY)
    heat = heat_on_slice(make_slice(), ANY)
    assert region.area_mm2 == pytest.approx((heat >= 0.5).sum() * 0.25, rel=0.05)
    assert region.share == 1
    assert regions_of(make_slice(spacing_mm=None), ANY)[0].area_mm2 is None
    assert regions_of(make_slice(cells=None), ANY) == []


def test_what_is_no_head_is_no_region():
    picture = np.zeros((32, 32), np.uint8)
    picture[16:] = 100  # the head fills the lower half, the warm cell lies above
    packed = pack_head(picture)
    cold = make_slice(head=packed)
    np.testing.assert_array_equal(head_of(cold, 32), picture > 0)
    found = regions_of(cold, ANY)
    assert sum(one.area_mm2 for one in found) < 0.2 * regions_of(make_slice(), ANY)[0].area_mm2


def test_volumes_are_areas_times_distances_of_flagged_slices_alone():
    low = np.full(6, 0.1)
    slices = [make_slice(z_mm=5.0 * n) for n in range(3)]
    slices.append(make_slice(z_mm=15.0, probabilities=low))
    area = regions_of(slices[0], ANY)[0].area_mm2
    series = SeriesPrediction("s", tuple(slices), True, low)
    volumes = measure_volumes(series, THRESHOLDS)
    assert volumes["any"] == pytest.approx(3 * area * 5 / 1000)
    assert volumes["epidural"] == 0
    unknown = SeriesPrediction("s", (make_slice(cells=None), *slices[1:]), True, low)
    assert measure_volumes(unknown, THRESHOLDS)["any"] is None


def test_the_most_probable_subtype_is_shown_and_any_last():
    assert flagged_labels(make_slice(), THRESHOLDS) == ["subdural", "intraparenchymal", "any"]
    assert flagged_labels(make_slice(), dict.fromkeys(LABELS)) == []


@pytest.mark.parametrize(("answer", "shown"), [("bleed", 1), ("no-bleed", 0), ("no-answer", 0)])
def test_nothing_is_drawn_of_a_study_without_a_bleed(answer, shown):
    slices = [make_slice(), make_slice(probabilities=np.full(6, 0.1))]
    assert len(flagged_slices(make_study(slices, answer), THRESHOLDS)) == shown


def test_words_stand_beside_the_slice_and_never_on_it():
    one = make_slice(cells=None)
    drawn = draw_overlay(one, "any", ("above", "below"))
    factor = 512 // 128
    band = (drawn.shape[0] - 128 * factor) // 2
    inner = drawn[band:-band]
    assert inner.shape == (512, 512, 3)
    assert len(np.unique(inner)) == 1  # a slice of one value, without heat, is of one grey
    assert drawn[:band].any()
    assert drawn[-band:].any()


def test_long_words_are_cut_and_the_picture_stays_as_wide():
    drawn = draw_overlay(make_slice(), "any", ("long " * 200, ""))
    assert Image.fromarray(drawn).width == 512
    with pytest.raises(ValueError, match="without its Hounsfield units"):
        draw_overlay(make_slice(hu=None), "any", ("", ""))


def test_the_name_of_an_overlay_is_made_of_pseudonyms():
    study = make_study([make_slice(key="S0123#4")], "bleed")
    assert name_overlay(study, 0, 11, study.chosen.slices[0]) == "Pstudy/0012-S0123-4.png"
