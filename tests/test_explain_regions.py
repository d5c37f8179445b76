"""explain: regions in pixels and mm of the original slice, volumes in mL."""

import cv2
import numpy as np
import polars as pl
import pytest
from scipy import stats

from hemtrace.explain.cases import Cases
from hemtrace.explain.regions import find_regions, slice_distances, trace_outline, volume_ml
from hemtrace.explain.survey import VOLUME_SCHEMA, survey_slices
from hemtrace.explain.volumes import correlate, summarise_volumes
from hemtrace.labels import LABELS
from hemtrace.metrics import resample_patients
from hemtrace.window import Square, cut_square


def area(*boxes: tuple[int, int, int, int], size: int = 64) -> np.ndarray:
    """Make an area of boxes: top, left, bottom, right."""
    filled = np.zeros((size, size), dtype=bool)
    for top, left, bottom, right in boxes:
        filled[top:bottom, left:right] = True
    return filled


def test_box_and_area_are_those_of_the_original_slice() -> None:
    # A picture of 64 px shows 256 px from row 100, column 40 on: 4 px of the slice a pixel.
    (region,) = find_regions(area((10, 20, 15, 30)), Square(100, 40, 256), (512, 512), (0.5, 0.4))
    assert (region.top, region.left, region.bottom, region.right) == (140, 120, 160, 160)
    assert region.area_mm2 == pytest.approx(20 * 0.5 * 40 * 0.4)
    assert region.share == 1


@pytest.mark.parametrize("square", [Square(100, 40, 256), Square(-30, -60, 256), Square(0, 0, 320)])
def test_box_holds_what_was_painted_into_the_slice(square: Square) -> None:
    original = np.zeros((300, 320), dtype=bool)
    original[150:200, 90:130] = True
    shown = cut_square(original.astype(np.uint8), square, 0)
    step = square.side // 64
    picture = shown[::step, ::step].astype(bool)
    (region,) = find_regions(picture, square, original.shape, (1.0, 1.0))
    for found, painted in zip(
        (region.top, region.left, region.bottom, region.right), (150, 90, 200, 130), strict=True
    ):
        assert abs(found - painted) <= square.side / 64


# A slice of 300 rows and 420 columns; the square lies off its centre, 256 px to 64.
NARROW, OFF_CENTRE = (300, 420), Square(30, 140, 256)
# Painted into the slice: top, left, bottom, right, on the picture's grid and far from symmetrical.
PAINTED = (50, 180, 70, 320)


def paint(shape: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    slice_ = np.zeros(shape, dtype=np.uint8)
    slice_[box[0] : box[2], box[1] : box[3]] = 1
    return slice_


def test_outline_lies_on_the_slice_where_it_was_painted() -> None:
    original = paint(NARROW, PAINTED)
    picture = cut_square(original, OFF_CENTRE, 0)[::4, ::4].astype(bool)
    (region,) = find_regions(picture, OFF_CENTRE, NARROW, (0.7, 0.4))
    assert (region.top, region.left, region.bottom, region.right) == PAINTED
    # An eighth of a pixel of the picture is half a pixel of the slice.
    assert region.outline.min(axis=0) == pytest.approx(PAINTED[:2], abs=0.51)
    assert region.outline.max(axis=0) == pytest.approx(PAINTED[2:], abs=0.51)
    # Filled by another's hand, rows first, the outline gives the painted slice back.
    filled = np.zeros(NARROW, dtype=np.uint8)
    corners = np.round(region.outline[:, ::-1]).astype(np.int32)
    cv2.fillPoly(filled, [corners], 1)
    both = (filled & original).sum()
    assert 2 * both / (filled.sum() + original.sum()) > 0.97
    assert region.area_mm2 == pytest.approx(20 * 0.7 * 140 * 0.4)


@pytest.mark.parametrize(
    ("shape", "box"),
    [((300, 420), (200, 330, 300, 420)), ((420, 300), (330, 200, 420, 300))],
)
def test_what_is_cut_off_at_the_edge_follows_rows_and_columns(
    shape: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    # The picture shows the slice's last corner and as much of nothing beyond it.
    square = Square(shape[0] - 128, shape[1] - 128, 256)
    painted = area((box[0] - square.top, box[1] - square.left, 256, 256), size=256)
    (region,) = find_regions(painted, square, shape, (0.7, 0.4))
    assert (region.top, region.left, region.bottom, region.right) == box
    assert region.area_mm2 == pytest.approx(painted[:128, :128].sum() * 0.7 * 0.4)


def test_regions_of_the_table_lie_on_the_slice_and_have_its_size() -> None:
    picture = np.zeros((1, 1, 64, 64), dtype=np.uint8)
    heat = cut_square(paint(NARROW, PAINTED), OFF_CENTRE, 0)[::4, ::4].astype(np.float32)

    class Slices:
        slices, patients = ("ID_1",), np.array(["p"])
        squares, labels = np.array([[30, 140, 256]]), np.zeros((1, 6), dtype=np.uint8)

        def read(self, places: list[int]) -> np.ndarray:
            return picture[places]

    class Maps:
        cells = (64, 64)

        def maps(self, images: np.ndarray, columns: list[int]) -> np.ndarray:
            return np.tile(heat, (len(images), len(columns), 1, 1))

    picture[..., 2:62, 2:62] = 100  # a head
    known = pl.DataFrame(
        {
            "slice": ["ID_1"], "patient": "p", "study": "s", "series": "e", "depth": 0.5,
            "z_mm": 1.0, "spacing_mm": 0.7, "spacing_across_mm": 0.4, "rows": 300, "columns": 420,
        }
    )  # fmt: skip
    flags = np.arange(6)[None] == 4
    cases = Cases(Slices(), np.full((1, 6), 0.8), flags, known)
    _, table = survey_slices(Maps(), cases, {}, [], [0], 0.5, 0)
    (row,) = table.rows(named=True)
    assert tuple(row[edge] for edge in ("top", "left", "bottom", "right")) == PAINTED
    assert row["area_mm2"] == pytest.approx(20 * 0.7 * 140 * 0.4)
    outline = np.array(row["outline"])
    assert outline.min(axis=0) == pytest.approx(PAINTED[:2], abs=0.51)
    assert outline.max(axis=0) == pytest.approx(PAINTED[2:], abs=0.51)


def test_parts_are_told_apart_the_largest_first_and_corners_join() -> None:
    parts = area((0, 0, 2, 2), (2, 2, 4, 4), (20, 20, 30, 30))
    regions = find_regions(parts, Square(0, 0, 64), (64, 64), None)
    assert [(one.top, one.bottom) for one in regions] == [(20, 30), (0, 4)]
    assert [one.area_mm2 for one in regions] == [None, None]
    assert regions[1].share == pytest.approx(8 / 108)


def test_what_lies_beyond_the_slice_is_no_region() -> None:
    # The upper half of the picture lies above the slice.
    square = Square(-32, 0, 64)
    (region,) = find_regions(area((20, 10, 40, 20)), square, (64, 64), (1.0, 1.0))
    assert (region.top, region.bottom) == (0, 8)
    assert region.area_mm2 == 80
    assert find_regions(area((0, 0, 9, 9)), square, (64, 64), (1.0, 1.0)) == []


def test_no_area_has_no_region() -> None:
    assert find_regions(area(), Square(0, 0, 64), (64, 64), (1.0, 1.0)) == []


def test_outline_runs_along_the_edges_and_encloses_the_area() -> None:
    corners = trace_outline(area((10, 20, 15, 30)))
    assert corners.min(axis=0) == pytest.approx([10, 20], abs=0.13)
    assert corners.max(axis=0) == pytest.approx([15, 30], abs=0.13)
    rows, columns = corners.T
    enclosed = abs(np.dot(rows, np.roll(columns, 1)) - np.dot(columns, np.roll(rows, 1))) / 2
    assert enclosed == pytest.approx(50, rel=0.08)


def test_distances_are_half_the_way_to_either_neighbour() -> None:
    # In the order of position 0, 5, 10, 20: 5, 5, 7.5, 10.
    np.testing.assert_allclose(slice_distances(np.array([10.0, 0, 20, 5])), [7.5, 5, 10, 5])


def test_distance_is_unknown_without_a_position_or_a_neighbour() -> None:
    assert np.isnan(slice_distances(np.array([3.0]))).all()
    found = slice_distances(np.array([0.0, np.nan, 4.0]))
    np.testing.assert_allclose(found, [4, np.nan, 4])


@pytest.mark.parametrize(
    ("areas", "distances", "volume"),
    [
        ([200, 100], [5, 10], 2.0),
        ([0, 100], [np.nan, 10], 1.0),
        ([100, 100], [np.nan, 10], None),
        ([np.nan, 0], [5, 5], None),
        ([], [], 0.0),
    ],
)
def test_volume_is_the_sum_of_areas_times_distances(
    areas: list[float], distances: list[float], volume: float | None
) -> None:
    assert volume_ml(areas, distances) == volume


def table(predicted: list[float | None], truth: list[float | None]) -> pl.DataFrame:
    rows = [
        {
            "patient": f"p{k}",
            "study": f"s{k}",
            "series": f"e{k}",
            "label": label,
            "slices_flagged": 1,
            "volume_ml": one,
            "true_volume_ml": other,
        }
        for k, (one, other) in enumerate(zip(predicted, truth, strict=True))
        for label in LABELS
    ]
    return pl.DataFrame(rows, schema=VOLUME_SCHEMA, orient="row")


def test_errors_of_volumes_are_those_worked_out_by_hand() -> None:
    told = summarise_volumes(table([2, 0, 5, None], [1, 2, 3, 9]), 100, 0)["subdural"]
    assert told["all"]["absolute_error_ml"]["value"] == pytest.approx(5 / 3)
    assert told["all"]["bias_ml"]["value"] == pytest.approx(1 / 3)
    assert told["all"]["true_ml"]["value"] == pytest.approx(2)
    assert (told["all"]["n"], told["all"]["unknown"]) == (3, 1)
    judge = stats.pearsonr([2, 0, 5], [1, 2, 3]).statistic
    assert told["all"]["correlation"]["value"] == pytest.approx(judge)


def test_series_without_a_bleed_stand_in_all_but_not_with_bleed() -> None:
    told = summarise_volumes(table([0, 0, 3], [0, 0, 4]), 0, 0)["any"]
    assert (told["all"]["n"], told["with_bleed"]["n"]) == (3, 1)
    assert told["with_bleed"]["correlation"]["value"] is None
    assert told["with_bleed"]["correlation"]["why"] == "fewer than two series"


def test_correlation_has_an_interval_about_scipys_value() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(60) * 50
    second = first + rng.normal(0, 8, 60)
    resamples = resample_patients(np.arange(60).astype(str), 500, 0)
    found = correlate(first, second, resamples)
    assert found["value"] == pytest.approx(stats.pearsonr(first, second).statistic)
    judge = stats.pearsonr(first, second).confidence_interval()
    assert found["low"] == pytest.approx(judge.low, abs=0.04)
    assert found["high"] == pytest.approx(judge.high, abs=0.04)


def test_equal_volumes_have_no_correlation_but_a_reason() -> None:
    found = correlate(np.zeros(4), np.arange(4.0), resample_patients(np.array(list("abcd")), 9, 0))
    assert found["value"] is None
    assert found["why"] == "all volumes are equal"
