"""Perturbations do what they say, and the same patients are judged under each."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.perturb import PERTURBATIONS, perturb
from hemtrace.evaluate.products import draw_robustness
from hemtrace.evaluate.robustness import choose_patients, measure_robustness
from hemtrace.figures.subgroups import Interval, RobustnessPanel, robustness_curves
from hemtrace.labels import ANY
from hemtrace.params import Window
from hemtrace.params.ingest import DEFAULT_WINDOWS
from hemtrace.shards import TestSlices
from hemtrace.window import apply_window

BRAIN, SUBDURAL, SOFT = DEFAULT_WINDOWS


def smooth(count: int = 4, channels: int = 3, side: int = 48) -> np.ndarray:
    """Smooth random pictures that keep clear of black and white, and of the edges."""
    rng = np.random.default_rng(7)
    field = ndimage.gaussian_filter(rng.normal(size=(count, channels, side, side)), (0, 0, 3, 3))
    grey = 128 + 60 * field / np.abs(field).max()
    grey[..., :8, :] = grey[..., -8:, :] = grey[..., :8] = grey[..., -8:] = 0
    return np.rint(grey).astype(np.uint8)


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_strength_zero_changes_no_byte(kind: str) -> None:
    images = smooth()
    assert perturb(images, DEFAULT_WINDOWS, kind, 0, 1).tobytes() == images.tobytes()


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_perturbation_is_the_same_again_and_in_any_batch(kind: str) -> None:
    images, strength = smooth(), PERTURBATIONS[kind][2][-1]
    whole = perturb(images, DEFAULT_WINDOWS, kind, strength, 1)
    assert whole.dtype == np.uint8
    assert whole.shape == images.shape
    assert not np.array_equal(whole, images)
    again = perturb(images, DEFAULT_WINDOWS, kind, strength, 1)
    assert np.array_equal(whole, again)
    part = perturb(images[2:3], DEFAULT_WINDOWS, kind, strength, 1, np.array([2]))
    assert np.array_equal(whole[2:3], part)


def test_images_are_not_written_to() -> None:
    images = smooth()
    images.setflags(write=False)
    for kind, (_, _, strengths) in PERTURBATIONS.items():
        perturb(images, DEFAULT_WINDOWS, kind, strengths[0], 1)


def test_unknown_kind_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(HemtraceError, match=r"'fog'; choose one of noise, offset"):
        perturb(smooth(), DEFAULT_WINDOWS, "fog", 1, 1)


@pytest.mark.parametrize("offset_hu", [-10, -5, 5, 10])
def test_offset_is_what_the_windows_show_of_shifted_hu(offset_hu: int) -> None:
    # 15..70 HU stays within every window after the shift.
    hu = np.random.default_rng(0).uniform(15, 65, (32, 32))
    images = np.stack([apply_window(hu, window) for window in DEFAULT_WINDOWS])[None]
    judge = np.stack([apply_window(hu + offset_hu, window) for window in DEFAULT_WINDOWS])
    found = perturb(images, DEFAULT_WINDOWS, "offset", offset_hu, 1)[0]
    assert np.abs(found.astype(int) - judge).max() <= 1
    # By hand: 5 HU are 15.9 levels of the brain window, 6.4 of the subdural, 3.4 of soft tissue.
    steps = (found.astype(float) - images[0]).mean(axis=(1, 2))
    assert steps == pytest.approx([offset_hu * 255 / w for w in (80, 200, 380)], abs=0.5)


def test_black_and_white_stay_and_all_else_is_clamped() -> None:
    images = np.array([0, 1, 128, 254, 255], np.uint8).reshape(1, 1, 1, 5)
    up = perturb(images, [BRAIN], "offset", 50, 1).ravel().tolist()
    assert up == [0, 160, 255, 255, 255]
    down = perturb(images, [BRAIN], "offset", -50, 1).ravel().tolist()
    assert down == [0, 0, 0, 95, 255]


@pytest.mark.parametrize("sigma_hu", [2, 5, 10])
def test_noise_has_its_standard_deviation_in_every_window(sigma_hu: float) -> None:
    images = np.full((2, 3, 64, 64), 128, np.uint8)
    changed = perturb(images, DEFAULT_WINDOWS, "noise", sigma_hu, 5).astype(float) - 128
    # The soft-tissue and the subdural window are wide enough for no clamping.
    for channel, window in ((1, SUBDURAL), (2, SOFT)):
        hu = changed[:, channel] * window.width_hu / 255
        assert hu.std() == pytest.approx(sigma_hu, rel=0.05)
        assert hu.mean() == pytest.approx(0, abs=0.1 * sigma_hu)
    # One field of HU in all windows, another one in each slice.
    assert np.corrcoef(changed[0, 1].ravel(), changed[0, 2].ravel())[0, 1] > 0.95
    assert abs(np.corrcoef(changed[0, 1].ravel(), changed[1, 1].ravel())[0, 1]) < 0.1
    other = perturb(images, DEFAULT_WINDOWS, "noise", sigma_hu, 6)
    assert not np.array_equal(changed + 128, other)


def test_slices_of_a_context_have_noise_of_their_own_and_move_together() -> None:
    images = np.full((1, 9, 64, 64), 128, np.uint8)
    noise = perturb(images, DEFAULT_WINDOWS, "noise", 5, 1)[0].astype(float) - 128
    likeness = np.corrcoef(noise[[1, 2, 4, 5, 7, 8]].reshape(6, -1))
    assert min(likeness[0, 1], likeness[2, 3], likeness[4, 5]) > 0.95
    assert max(abs(likeness[0, 2]), abs(likeness[0, 4]), abs(likeness[2, 4])) < 0.1
    block = np.repeat(smooth(1, 1), 9, axis=1)
    moved = perturb(block, DEFAULT_WINDOWS, "rotation", 10, 1)[0]
    assert all(np.array_equal(moved[0], channel) for channel in moved)


@pytest.mark.parametrize(
    ("place", "rows_columns"), [(0, (0, 4)), (1, (4, 0)), (2, (0, -4)), (3, (-4, 0)), (4, (0, 4))]
)
def test_shift_goes_right_down_left_and_up_by_turns(
    place: int, rows_columns: tuple[int, int]
) -> None:
    image = smooth(1)
    found = perturb(image, DEFAULT_WINDOWS, "shift", 0.08, 1, np.array([place]))  # 3.84 px: 4
    judge = ndimage.shift(image[0], (0, *rows_columns), order=0, cval=0)
    assert np.array_equal(found[0], judge)


@pytest.mark.parametrize(("place", "sign"), [(0, 1), (1, -1), (2, 1)])
@pytest.mark.parametrize("angle", [5, 10, 15, 30])
def test_rotation_is_scipys_one_way_and_the_other(place: int, sign: int, angle: float) -> None:
    image = smooth(1)
    found = perturb(image, DEFAULT_WINDOWS, "rotation", angle, 1, np.array([place]))[0]
    judge, wrong = (
        ndimage.rotate(
            image[0].astype(float), way * angle, axes=(1, 2), reshape=False, order=1, cval=0
        )
        for way in (sign, -sign)
    )
    inner = (slice(None), slice(12, -12), slice(12, -12))
    # OpenCV places its samples on a grid of 1/32 pixel.
    assert np.abs(found[inner] - judge[inner]).max() < 3
    assert np.abs(found[inner] - wrong[inner]).max() > 3


@pytest.mark.parametrize("sigma", [0.5, 1, 2])
def test_blur_is_scipys_gaussian(sigma: float) -> None:
    image = smooth(1)
    found = perturb(image, DEFAULT_WINDOWS, "blur", sigma, 1)[0]
    judge = ndimage.gaussian_filter(image[0].astype(float), (0, sigma, sigma), mode="constant")
    assert np.abs(found - judge).max() < 0.6


def test_whole_patients_are_drawn_up_to_the_limit_and_both_kinds() -> None:
    patients = np.repeat([f"p{k}" for k in range(20)], 10)
    truth = np.isin(patients, ["p3", "p4", "p5", "p6"]) & (np.arange(200) % 10 > 6)
    chosen = choose_patients(patients, truth, 100, 1)
    names, sizes = np.unique(patients[chosen], return_counts=True)
    assert len(chosen) == 100
    assert set(sizes) == {10}
    # A fifth of the patients bleeds, and so does a fifth of those drawn.
    assert len(np.unique(patients[chosen][truth[chosen]])) == 2
    assert np.array_equal(chosen, choose_patients(patients, truth, 100, 1))
    assert any(not np.array_equal(chosen, choose_patients(patients, truth, 100, s)) for s in (2, 3))
    assert len(choose_patients(patients, truth, 10**9, 1)) == 200
    # However low the limit, one patient of each kind is needed for an AUC.
    few = choose_patients(patients, truth, 1, 1)
    assert len(few) == 20
    assert truth[few].any()
    assert len(choose_patients(np.array(["a", "a"]), np.zeros(2, bool), 1, 1)) == 2
    assert len(names) == 10


class Brightness(torch.nn.Module):
    """Says that a slice bleeds the more, the brighter its first channel is in the middle."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        middle = images[:, 0, 12:36, 12:36].float().mean(dim=(1, 2)) / 10 - 12.8
        return middle[:, None].repeat(1, 6)


def as_partition(images: np.ndarray, patients: np.ndarray, truth: np.ndarray) -> TestSlices:
    labels = np.repeat(truth[:, None], 6, axis=1).astype(np.uint8)
    return TestSlices(
        slices=[f"s{k}" for k in range(len(images))],
        patients=patients,
        labels=labels,
        squares=np.zeros((len(images), 3), np.int32),
        read_places=lambda places: images[places],
    )


def made() -> tuple[TestSlices, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    patients = np.repeat([f"p{k:02d}" for k in range(12)], 5)
    truth = (np.arange(60) // 5 % 2 == 0) & (np.arange(60) % 5 > 1)
    grey = 120 + 10 * truth + rng.normal(0, 12, 60)
    images = np.tile(grey[:, None, None, None], (1, 3, 48, 48)).clip(1, 254).astype(np.uint8)
    return as_partition(images, patients, truth), images, truth


def spec(windows: tuple[Window, ...] = DEFAULT_WINDOWS, crop: str = "head") -> Any:
    return SimpleNamespace(windows=windows, crop=crop, pixel_mm=2.0, size=48)


def test_rows_are_those_of_scikit_learn_on_the_perturbed_slices() -> None:
    partition, images, truth = made()
    net: Any = Brightness()
    out = measure_robustness(
        net,
        spec(),
        partition,
        0.5,
        slices_limit=60,
        replicates=100,
        seed=1,
        perturbations={"offset": (0.0, 5.0), "noise": (20.0,), "shift": (0.08,)},
    )
    assert (out["patients"], out["slices"], out["positives"]) == (12, 60, 18)
    plain = net(torch.from_numpy(images)).sigmoid().numpy()[:, ANY]
    assert out["unperturbed"]["auc"]["value"] == pytest.approx(roc_auc_score(truth, plain))
    for row in out["rows"]:
        changed = perturb(images, DEFAULT_WINDOWS, row["kind"], row["strength"], 1)
        judged = net(torch.from_numpy(changed)).sigmoid().numpy()[:, ANY]
        auc = roc_auc_score(truth, judged)
        assert row["auc"]["value"] == pytest.approx(auc, abs=1e-12)
        assert row["difference"]["value"] == pytest.approx(
            auc - roc_auc_score(truth, plain), abs=1e-12
        )
        assert row["change"] == pytest.approx(np.abs(judged - plain).mean(), abs=1e-6)
        assert row["sensitivity"]["value"] == pytest.approx((judged[truth] >= 0.5).mean())
        assert row["specificity"]["value"] == pytest.approx((judged[~truth] < 0.5).mean())
    none, offset, noise, shift = out["rows"]
    assert none["change"] == 0
    assert none["difference"]["value"] == 0
    assert none["difference"]["why"]
    assert offset["change"] > 0
    assert noise["auc"]["low"] < noise["auc"]["value"] < noise["auc"]["high"]
    assert shift["strength_mm"] == 8.0
    json.dumps(out, allow_nan=False)


def test_same_patients_same_seed_same_rows_and_calibration_moves_the_threshold() -> None:
    partition, _, _ = made()
    net: Any = Brightness()
    few: Any = {"slices_limit": 30, "replicates": 50, "perturbations": {"noise": (10.0,)}}
    first = measure_robustness(net, spec(), partition, 0.5, seed=2, **few)
    assert first == measure_robustness(net, spec(), partition, 0.5, seed=2, **few)
    # Sums in float32 may differ in their last digit, the noise of a slice may not.
    other = measure_robustness(net, spec(), partition, 0.5, seed=2, batch_size=7, **few)["rows"][0]
    assert other["auc"] == first["rows"][0]["auc"]
    assert other["change"] == pytest.approx(first["rows"][0]["change"], rel=1e-6)
    assert first["slices"] == 30
    halved = measure_robustness(
        net, spec(), partition, 0.25, seed=2, calibrate=lambda p: p / 2, **few
    )
    assert halved["rows"][0]["auc"] == first["rows"][0]["auc"]
    assert halved["rows"][0]["sensitivity"] == first["rows"][0]["sensitivity"]
    assert halved["rows"][0]["change"] == pytest.approx(first["rows"][0]["change"] / 2)
    assert (
        measure_robustness(net, spec(crop="none"), partition, 0.5, seed=2, **few)["rows"][0][
            "strength_mm"
        ]
        is None
    )


def test_without_a_bleed_without_a_threshold_or_with_nan_it_says_why() -> None:
    partition, images, truth = made()
    net: Any = Brightness()
    few: Any = {"replicates": 20, "perturbations": {"blur": (1.0,)}}
    clear = as_partition(images, partition.patients, np.zeros_like(truth))
    row = measure_robustness(net, spec(), clear, 0.5, **few)["rows"][0]
    assert row["auc"]["why"] == row["difference"]["why"] == "no positive slice"
    assert row["sensitivity"]["why"] == "no positive slice"
    assert row["specificity"]["value"] is not None
    row = measure_robustness(net, spec(), partition, None, **few)["rows"][0]
    assert "no threshold" in row["sensitivity"]["why"]
    blind = measure_robustness(net, spec(), partition, 0.5, calibrate=lambda p: p * np.nan, **few)
    assert blind["rows"][0]["auc"]["value"] is None
    assert "NaN" in blind["rows"][0]["specificity"]["why"]
    assert blind["rows"][0]["change"] is None
    json.dumps(blind, allow_nan=False)


def test_curves_have_a_panel_a_kind_and_a_sentence_where_nothing_is_estimable() -> None:
    one = Interval(0.9, 0.8, 0.95)
    panels = [
        RobustnessPanel(kind, "unit", [1, 2], [one, Interval(None, why="NaN")])
        for kind in PERTURBATIONS
    ]
    figure = robustness_curves(panels, one)
    assert [axes.get_title(loc="left") for axes in figure.axes[:5]] == list(PERTURBATIONS)
    empty = robustness_curves(panels, Interval(None, why="no positive slice"))
    assert "no positive slice" in empty.axes[0].texts[0].get_text()


def test_a_figure_whose_interval_rests_on_few_patients_is_drawn_too() -> None:
    auc = {"value": 0.8, "low": 0.6, "high": 0.9, "why": None, "note": "few patients"}
    row = {"kind": "noise", "title": "noise", "unit": "HU", "strength": 5.0, "auc": auc}
    figure = draw_robustness({"unperturbed": {"auc": auc}, "rows": [row]})
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left") == "noise")
    assert any(0.8 in line.get_ydata() for line in axes.lines)
