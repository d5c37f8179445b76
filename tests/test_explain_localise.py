"""explain: scores of heat maps against planted maps and numbers worked out by hand."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from hemtrace.explain.localise import (
    THRESHOLD_GRID,
    Score,
    Trial,
    choose_map_threshold,
    dice_by_threshold,
    heat_region,
    overlap,
    score_labels,
    score_trial,
    split_by_size,
    summarise_scores,
)
from hemtrace.labels import LABELS


def score_all(trials: list[Trial], cell_px: float, replicates: int, seed: int) -> dict:
    """Score trials at a map threshold of one half."""
    return summarise_scores([score_trial(one, cell_px, 0.5) for one in trials], replicates, seed)


def planted(row: int, column: int, patient: str = "a", detected: bool = True) -> Trial:
    """A map that points at one place; the lesion is a square of 4 x 4 at (10, 10)."""
    heat = np.zeros((32, 32))
    heat[row, column] = 1
    mask = np.zeros((32, 32), dtype=bool)
    mask[10:14, 10:14] = True
    return Trial(patient, detected, heat, mask, np.ones((32, 32), dtype=bool))


@pytest.mark.parametrize(
    ("place", "hit"),
    [((11, 11), 1.0), ((15, 12), 1.0), ((16, 12), 0.0), ((15, 15), 0.0), ((0, 0), 0.0)],
)
def test_pointing_game_tolerates_one_cell_and_no_more(place: tuple[int, int], hit: float) -> None:
    # The tolerance of 2 px is round: the corner at (15, 15) lies 2.8 px off.
    scores = score_all([planted(*place)], cell_px=2, replicates=0, seed=0)
    assert scores["pointing"]["value"] == hit


def test_chance_levels_are_shares_of_the_head() -> None:
    scores = score_all([planted(11, 11)], cell_px=0.5, replicates=0, seed=0)
    assert scores["energy_chance"] == pytest.approx(16 / 1024)
    assert scores["pointing_chance"] == pytest.approx(16 / 1024)
    assert scores["energy"]["value"] == 1
    assert scores["pointing_shuffled"] is None


def test_shuffled_null_uses_other_patients_peaks_alone() -> None:
    trials = [planted(11, 11, "a"), planted(12, 12, "a"), planted(0, 0, "b"), planted(11, 11, "c")]
    scores = score_all(trials, cell_px=1, replicates=0, seed=0)
    # a: one of two others' peaks hits, twice; b: three of three; c: two of three.
    assert scores["pointing_shuffled"] == pytest.approx((0.5 + 0.5 + 1 + 2 / 3) / 4)
    assert scores["pointing"]["value"] == 0.75


def test_empty_map_is_a_miss_even_where_its_corner_lies_on_the_lesion() -> None:
    mask = np.zeros((32, 32), dtype=bool)
    mask[:4, :4] = True
    trial = Trial("a", True, np.zeros((32, 32)), mask, np.ones((32, 32), dtype=bool))
    scores = score_all([trial], cell_px=2, replicates=0, seed=0)
    assert scores["pointing"]["value"] == 0
    assert scores["empty_maps"] == 1


def test_shuffled_null_counts_empty_maps_of_others_as_misses() -> None:
    corner = np.zeros((32, 32), dtype=bool)
    corner[:4, :4] = True
    head = np.ones((32, 32), dtype=bool)
    pointed = np.zeros((32, 32))
    pointed[2, 2] = 1
    heats = {"a": np.zeros((32, 32)), "b": np.zeros((32, 32)), "c": pointed}
    trials = [Trial(patient, True, heat, corner, head) for patient, heat in heats.items()]
    scores = score_all(trials, cell_px=2, replicates=0, seed=0)
    # a and b: c's peak hits, the other's empty map does not; c: two empty maps.
    assert scores["pointing_shuffled"] == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_no_trials_give_none_not_zero() -> None:
    scores = score_all([], cell_px=2, replicates=10, seed=0)
    assert scores["n"] == 0
    assert scores["pointing"]["value"] is None
    assert scores["pointing"]["why"] == "no slice with a mask"
    assert scores["dice_chance"] is None


def test_random_peaks_score_the_chance_level() -> None:
    rng = np.random.default_rng(0)
    trials = [planted(*rng.integers(0, 32, 2), patient=str(k)) for k in range(3000)]
    scores = score_all(trials, cell_px=2, replicates=0, seed=0)
    assert scores["pointing"]["value"] == pytest.approx(scores["pointing_chance"], abs=0.012)


def noise(seed: int, patient: str = "a", area_mm2: float = 1.0) -> Trial:
    """A map of noise, a mask of noise."""
    rng = np.random.default_rng(seed)
    head = np.zeros((30, 34), dtype=bool)
    head[2:28, 3:30] = True
    mask = (rng.random(head.shape) < 0.3) & head
    return Trial(patient, True, rng.random(head.shape), mask, head, area_mm2)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_dice_and_iou_are_those_of_scikit_learn(threshold: float) -> None:
    trial = noise(1)
    score = score_trial(trial, 2, threshold)
    region = (trial.heat >= threshold) & trial.head
    assert score.dice == pytest.approx(f1_score(trial.mask.ravel(), region.ravel()))
    assert score.iou == pytest.approx(jaccard_score(trial.mask.ravel(), region.ravel()))


def test_chance_of_dice_is_that_of_strewn_pixels() -> None:
    rng = np.random.default_rng(2)
    trial = noise(3)
    score = score_trial(trial, 2, 0.7)
    places = np.flatnonzero(trial.head)
    count = int(heat_region(trial.heat, trial.head, 0.7).sum())
    strewn = []
    for _ in range(300):
        region = np.zeros(trial.head.size, dtype=bool)
        region[rng.choice(places, count, replace=False)] = True
        strewn.append(overlap(region.reshape(trial.head.shape), trial.mask))
    dice, iou = np.mean(strewn, axis=0)
    assert score.dice_chance == pytest.approx(dice, abs=0.01)
    assert score.iou_chance == pytest.approx(iou, abs=0.01)


def test_shuffled_dice_uses_other_patients_regions_alone() -> None:
    trials = [noise(k, patient) for k, patient in enumerate("aabc")]
    regions = [heat_region(one.heat, one.head, 0.5) for one in trials]
    judge = [
        np.mean([overlap(regions[k], one.mask)[0] for k in range(4) if trials[k].patient != who])
        for one, who in zip(trials, "aabc", strict=True)
    ]
    assert score_all(trials, 2, 0, 0)["dice_shuffled"] == pytest.approx(np.mean(judge))


def test_empty_map_has_an_empty_region_whatever_the_threshold() -> None:
    head = np.ones((4, 4), dtype=bool)
    assert not heat_region(np.zeros((4, 4)), head, 0.0).any()
    assert overlap(np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)) == (0.0, 0.0)


def test_heat_beside_the_head_is_no_region() -> None:
    head = np.zeros((8, 8), dtype=bool)
    head[2:6, 2:6] = True
    heat = np.zeros((8, 8))
    heat[0, 0], heat[3, 3], heat[4, 4] = 1.0, 0.5, 0.4
    assert np.argwhere(heat_region(heat, head, 0.5)).tolist() == [[3, 3]]


def test_map_threshold_is_that_of_the_highest_mean_dice() -> None:
    heat = np.linspace(0, 1, 100).reshape(10, 10)
    head = np.ones((10, 10), dtype=bool)
    dices = np.array([dice_by_threshold(heat, head, heat >= cut) for cut in (0.55, 0.65)])
    # One mask begins at 0.55, the other at 0.65; between, both are missed by little.
    judge = [
        np.mean([f1_score((heat >= cut).ravel(), (heat >= t).ravel()) for cut in (0.55, 0.65)])
        for t in THRESHOLD_GRID
    ]
    np.testing.assert_allclose(dices.mean(axis=0), judge)
    assert choose_map_threshold(dices) == THRESHOLD_GRID[int(np.argmax(judge))]
    assert 0.55 <= choose_map_threshold(dices) <= 0.65


def test_every_measure_has_an_interval_over_patients() -> None:
    trials = [noise(k, f"p{k // 2}") for k in range(40)]
    scores = score_all(trials, 1, 200, 0)
    for name in ("energy", "dice", "iou"):
        one = scores[name]
        assert one["low"] < one["value"] < one["high"], name
        assert one["why"] is None
    assert (scores["n"], scores["patients"]) == (40, 20)
    assert score_all(trials, 1, 200, 0) == scores


def test_two_patients_get_no_interval_but_a_reason() -> None:
    scores = score_all([noise(0, "a"), noise(1, "b")], 1, 100, 0)
    assert scores["dice"]["low"] is None
    assert scores["dice"]["why"] == "only 2 patients"


def test_sizes_are_told_apart_at_the_stated_areas() -> None:
    areas = (0.5, 99.9, 100.0, 399.0, 400.0, 1600.0, 9999.0, float("nan"))
    scores = [score_trial(noise(k, area_mm2=area), 1, 0.5) for k, area in enumerate(areas)]
    bins = split_by_size(scores)
    assert [len(found) for found in bins.values()] == [2, 2, 1, 2]
    assert list(bins) == ["below 100 mm2", "100 to 400 mm2", "400 to 1600 mm2", "from 1600 mm2"]


def test_labels_are_scored_apart_and_those_without_a_mask_say_why() -> None:
    scores: dict[str, list[Score]] = {label: [] for label in LABELS}
    scores["subdural"] = [score_trial(noise(k, f"p{k}"), 1, 0.5) for k in range(4)]
    found = score_labels(scores, 50, 0)
    assert found["subdural"]["all"]["n"] == found["subdural"]["detected"]["n"] == 4
    assert found["epidural"]["all"]["dice"]["why"] == "no slice with a mask"
    json.dumps(found, allow_nan=False)
