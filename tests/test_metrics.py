"""Losses, ranking and resampling, against scikit-learn and numbers worked out by hand."""

from random import Random

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)

from hemtrace.labels import LABEL_WEIGHTS
from hemtrace.metrics import (
    FEW_BEARERS,
    Resamples,
    average_precision,
    brier_scores,
    constant_log_loss,
    estimate,
    estimate_area,
    estimate_rates,
    estimate_share,
    log_losses,
    resample_patients,
    roc_auc,
    weighted_log_loss,
    why_not,
)


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, scores with many ties, and the patients of 300 slices."""
    rng = np.random.default_rng(4)
    truth = rng.random(300) < 0.2
    return truth, np.round(rng.random(300) + 0.3 * truth, 1), rng.integers(0, 15, 300)


def test_weighted_log_loss_of_two_slices_worked_out_by_hand() -> None:
    truth = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
    probability = np.array([[0.1, 0.1, 0.1, 0.1, 0.5, 0.8], [0.2, 0.2, 0.2, 0.2, 0.2, 0.4]])
    first = (4 * -np.log(0.9) - np.log(0.5) - 2 * np.log(0.8)) / 7
    second = (5 * -np.log(0.8) - 2 * np.log(0.6)) / 7
    assert weighted_log_loss(truth, probability, 1e-6) == pytest.approx((first + second) / 2)


def test_weighted_log_loss_equals_scikit_learns_weighted_by_label() -> None:
    rng = np.random.default_rng(0)
    truth, probability = rng.random((50, 6)) < 0.3, rng.random((50, 6))
    by_label = [log_loss(truth[:, k], probability[:, k], labels=[0, 1]) for k in range(6)]
    assert weighted_log_loss(truth, probability, 1e-9) == pytest.approx(by_label @ LABEL_WEIGHTS)


@pytest.mark.parametrize("clip", [1e-7, 1e-5, 0.01])
def test_clip_bounds_the_loss_of_a_sure_mistake(clip: float) -> None:
    losses = log_losses(np.array([1, 0]), np.array([0.0, 1.0]), clip)
    assert losses == pytest.approx([-np.log(clip)] * 2)


def test_auc_and_average_precision_equal_scikit_learns_with_ties(scores) -> None:
    truth, score, _ = scores
    assert roc_auc(truth, score) == pytest.approx([roc_auc_score(truth, score)])
    assert average_precision(truth, score) == pytest.approx([average_precision_score(truth, score)])


@pytest.mark.parametrize("decimals", [0, 1, 2, 15])
def test_replicates_equal_scikit_learns_on_repeated_rows(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    patients = rng.integers(0, 25, 400)
    truth = rng.random(400) < 0.3 * rng.random(25)[patients]
    score = np.round(rng.random(400) + 0.3 * truth, decimals)
    resamples = resample_patients(patients, 30, seed=1)
    aucs = roc_auc(truth, score, resamples)
    precisions = average_precision(truth, score, resamples)
    hits = resamples.ratio(truth & (score > 0.6), truth)
    for k in range(30):
        rows = np.repeat(np.arange(400), resamples.drawn[k][resamples.member])
        assert aucs[k] == pytest.approx(roc_auc_score(truth[rows], score[rows]), abs=1e-12)
        expected = average_precision_score(truth[rows], score[rows])
        assert precisions[k] == pytest.approx(expected, abs=1e-12)
        assert hits[k] == pytest.approx((score[rows] > 0.6)[truth[rows]].mean(), abs=1e-12)


def test_areas_of_single_precision_scores_are_those_of_the_same_numbers_in_double(scores) -> None:
    truth, _, patients = scores
    score = np.random.default_rng(1).random(300).astype(np.float32)
    resamples = resample_patients(patients, 5, seed=1)
    for area in (roc_auc, average_precision):
        double = area(truth, score.astype(np.float64), resamples)
        np.testing.assert_array_equal(area(truth, score, resamples), double)


@pytest.mark.parametrize("area", [roc_auc, average_precision])
def test_chunks_give_what_one_piece_gives(area, scores, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, score, patients = scores
    resamples = resample_patients(patients, 25, seed=1)
    whole, sums = area(truth, score, resamples), resamples.total(score)
    steps = len(np.unique(score[truth]))
    monkeypatch.setattr("hemtrace.metrics.ranking._CHUNK_CELLS", 7 * steps)
    monkeypatch.setattr("hemtrace.metrics.resample._CHUNK_CELLS", 7 * 15)
    np.testing.assert_array_equal(area(truth, score, resamples), whole)
    np.testing.assert_allclose(resamples.total(score), sums, rtol=1e-14)


def test_no_replicates_give_no_areas(scores) -> None:
    truth, score, patients = scores
    assert roc_auc(truth, score, resample_patients(patients, 0, seed=1)).shape == (0,)


@pytest.mark.parametrize("area", [roc_auc, average_precision])
def test_nan_scores_and_empty_data_leave_areas_undefined(area, scores) -> None:
    truth, score, patients = scores
    resamples = resample_patients(patients, 4, seed=1)
    holed = np.where(np.arange(300) == 7, np.nan, score)
    assert np.isnan(area(truth, holed)).tolist() == [True]
    assert np.isnan(area(truth, holed, resamples)).tolist() == [True] * 4
    nobody = resample_patients(np.array([], dtype=str), 4, seed=1)
    assert np.isnan(area(np.array([]), np.array([]), nobody)).tolist() == [True] * 4


def test_all_slices_of_a_patient_are_drawn_together() -> None:
    patients = np.array(["b", "a", "b", "c", "a"])
    resamples = resample_patients(patients, 40, seed=3)
    counts = resamples.drawn[:, resamples.member]
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    np.testing.assert_array_equal(counts[:, 1], counts[:, 4])
    np.testing.assert_array_equal(resamples.drawn.sum(axis=1), 3)
    assert len(np.unique(resamples.drawn, axis=0)) > 5


def test_intervals_of_clustered_slices_are_wider_than_those_of_independent_ones() -> None:
    rng = np.random.default_rng(5)
    effect = rng.random(20)
    patients = np.repeat(np.arange(20), 30)
    right = rng.random(600) < effect[patients]
    every = np.ones(600)
    clustered = resample_patients(patients, 400, seed=0).ratio(right, every)
    independent = resample_patients(np.arange(600), 400, seed=0).ratio(right, every)
    assert clustered.std() > 2 * independent.std()


@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1]])
def test_one_class_leaves_ranking_undefined(truth: list[int]) -> None:
    score = np.array([0.1, 0.2, 0.3])
    assert np.isnan(roc_auc(np.array(truth), score)).all()
    assert np.isnan(average_precision(np.array(truth), score)).all()


@pytest.mark.parametrize("area", [roc_auc, average_precision])
def test_replicate_without_a_class_is_undefined(area) -> None:
    resamples = Resamples(np.array([[2, 0], [1, 1], [0, 2]]), np.array([0, 1]))
    areas = area(np.array([1, 0]), np.array([0.9, 0.1]), resamples)
    np.testing.assert_array_equal(areas, [np.nan, 1, np.nan])


def test_no_interval_where_many_replicates_are_undefined() -> None:
    few = np.r_[np.full(90, 0.8), np.full(10, np.nan)]
    assert estimate(0.8, few).as_dict() == {
        "value": 0.8,
        "low": None,
        "high": None,
        "why": "10 of 100 replicates lack a class: too few patients for an interval",
    }
    enough = estimate(0.5, np.r_[np.linspace(0, 1, 97), np.nan])
    assert (enough.low, enough.high) == (pytest.approx(0.025), pytest.approx(0.975))
    assert enough.why is None


@pytest.mark.parametrize(
    ("replicates", "patients", "why"),
    [
        (np.empty(0), None, "no replicates were drawn"),
        (np.full(50, 0.5), None, "all replicates agree"),
        (np.full(50, 0.5), 1, "a single patient"),
        (np.linspace(0, 1, 50), 2, "only 2 patients"),
        (np.full(50, np.nan), 9, "50 of 50 replicates lack a class: too few patients"),
    ],
)
def test_why_there_is_no_interval_is_said(replicates, patients, why: str) -> None:
    made = estimate(0.5, replicates, patients=patients)
    assert (made.value, made.low, made.high) == (0.5, None, None)
    assert made.why is not None
    assert made.why.startswith(why)


@pytest.mark.parametrize(("infinite", "bounded"), [(2, True), (5, False), (50, False)])
def test_no_interval_where_a_bound_is_infinite(infinite: int, bounded: bool) -> None:
    replicates = np.r_[np.linspace(1, 2, 100 - infinite), np.full(infinite, np.inf)]
    made = estimate(1.5, replicates)
    assert (made.high is not None) == bounded
    expected = f"{infinite} of 100 replicates are infinite: no upper bound"
    assert made.why == (None if bounded else expected)


def test_undefined_value_carries_the_reason_given() -> None:
    assert estimate(np.nan, np.ones(9), "no positive slice").why == "no positive slice"
    assert estimate(np.inf, np.ones(9)).value is None
    assert estimate(np.nan, np.ones(9)).why == "undefined on these data"


@pytest.mark.parametrize(
    ("truth", "score", "unit", "why"),
    [
        ([], [], "slice", "no slices"),
        ([], [], "study", "no studies"),
        ([0, 0], [0.1, 0.2], "slice", "no positive slice"),
        ([1, 1], [0.1, 0.2], "patient", "no negative patient"),
        ([1, 0], [0.1, np.nan], "slice", "1 of 2 scores are NaN"),
        ([1, 1], [np.nan, np.nan], "study", "2 of 2 scores are NaN"),
        ([1, 0], [0.1, 0.2], "study", None),
    ],
)
def test_why_not_names_what_is_missing(truth, score, unit: str, why: str | None) -> None:
    assert why_not(np.array(truth), np.array(score), unit) == why


def test_area_comes_with_its_interval_or_the_reason(scores) -> None:
    truth, score, patients = scores
    resamples = resample_patients(patients, 200, seed=2)
    made = estimate_area(roc_auc, truth, score, resamples)
    low, high = np.percentile(roc_auc(truth, score, resamples), [2.5, 97.5])
    expected = (roc_auc_score(truth, score), low, high, None)
    assert (made.value, made.low, made.high, made.why) == pytest.approx(expected)
    none = estimate_area(roc_auc, np.zeros(300), score, resamples, "study")
    assert (none.value, none.why) == (None, "no positive study")
    alone = resample_patients(np.zeros(300), 200, seed=2)
    assert estimate_area(average_precision, truth, score, alone).why == "a single patient"


def test_two_positive_patients_are_too_few_for_an_interval() -> None:
    patients = np.repeat(np.arange(30), 5)
    truth = np.isin(patients, [3, 8])
    score = np.random.default_rng(0).random(150) + truth
    made = estimate_area(roc_auc, truth, score, resample_patients(patients, 500, seed=0))
    assert made.value is not None
    assert made.low is None
    assert made.why is not None
    assert "replicates lack a class" in made.why


def draw_by_hand(patients: np.ndarray, replicates: int, seed: int) -> list[np.ndarray]:
    """Draw rows of whole patients one by one, by another generator than the code's."""
    random = Random(seed)
    rows = {name: np.flatnonzero(patients == name) for name in np.unique(patients).tolist()}
    return [
        np.concatenate([rows[name] for name in random.choices(list(rows), k=len(rows))])
        for _ in range(replicates)
    ]


def test_intervals_are_those_of_a_bootstrap_drawn_by_another_hand() -> None:
    rng = np.random.default_rng(11)
    patients = np.repeat(np.arange(40), rng.integers(2, 14, 40))
    whims = rng.normal(0, 1.5, 40)[patients]
    truth = rng.random(len(patients)) < np.where(np.arange(40) % 2, 0.5, 0.0)[patients]
    score = rng.normal(size=len(patients)) + whims + 1.5 * truth
    flagged = score > 1
    by_hand = draw_by_hand(patients, 1500, 3)
    resamples = resample_patients(patients, 1500, seed=8)
    judged = (
        (
            estimate_area(roc_auc, truth, score, resamples),
            [roc_auc_score(truth[rows], score[rows]) for rows in by_hand],
        ),
        (
            estimate_share(flagged & truth, truth, resamples),
            [flagged[rows][truth[rows]].mean() for rows in by_hand],
        ),
        (
            estimate_share(score, np.ones(len(score)), resamples),
            [score[rows].mean() for rows in by_hand],
        ),
    )
    for found, values in judged:
        low, high = np.percentile(values, [2.5, 97.5])
        # Ends of 1,500 replicates vary by some hundredths of the interval.
        assert found.low == pytest.approx(low, abs=0.1 * (high - low))
        assert found.high == pytest.approx(high, abs=0.1 * (high - low))


@pytest.mark.parametrize("bearers", [FEW_BEARERS - 1, FEW_BEARERS])
def test_intervals_that_rest_on_few_patients_are_given_with_a_note(bearers: int) -> None:
    patients = np.repeat(np.arange(80), 5)
    truth = (patients < bearers) & (np.arange(400) % 5 > 1)
    score = np.random.default_rng(0).normal(size=400) + truth
    resamples = resample_patients(patients, 300, seed=0)
    few = bearers < FEW_BEARERS
    area = estimate_area(roc_auc, truth, score, resamples)
    turned = estimate_area(roc_auc, ~truth & (patients < bearers), score, resamples)
    share = estimate_share(truth & (score > 0.5), truth, resamples)
    rates = estimate_rates(truth, score > 0.5, resamples)
    for made in (area, turned, share, rates["sensitivity"], rates["balanced_accuracy"]):
        assert made.low is not None
        assert made.why is None
        assert (made.note is not None) == few
        assert ("note" in made.as_dict()) == few
    if few:
        assert area.note is not None
        assert area.note.startswith(f"rests on {bearers} patients")
    for rate in ("specificity", "accuracy", "negative_predictive_value"):
        assert rates[rate].note is None
    assert estimate_share(score, np.ones(400), resamples).note is None


def test_patients_with_a_negative_slice_count_as_well() -> None:
    patients = np.repeat(np.arange(80), 5)
    truth = (patients >= 6) | (np.arange(400) % 5 > 3)
    score = np.random.default_rng(0).normal(size=400) + truth
    resamples = resample_patients(patients, 300, seed=0)
    note = estimate_area(roc_auc, truth, score, resamples).note
    assert note is not None
    assert note.startswith("rests on 6 patients")
    assert estimate_rates(truth, score > 0.5, resamples)["specificity"].note == note


def test_nothing_is_noted_where_no_interval_is_given() -> None:
    assert estimate(0.5, np.full(50, 0.5), bearers=4).note is None
    assert estimate(np.nan, np.empty(0), "no positive slice", bearers=0).note is None


def test_share_of_slices_with_interval_or_reason() -> None:
    patients = np.repeat(np.arange(20), 2)
    right = np.arange(40) % 3 > 0
    resamples = resample_patients(patients, 100, seed=0)
    made = estimate_share(right, np.ones(40), resamples)
    assert made.value == pytest.approx(26 / 40)
    assert made.low is not None
    assert made.low < 26 / 40
    assert estimate_share(right, np.zeros(40), resamples, "no slices").why == "no slices"
    holed = np.where(np.arange(40) < 3, np.nan, right)
    none = estimate_share(holed, np.ones(40), resamples)
    assert (none.value, none.why) == (None, "3 of 40 values are NaN")


def test_brier_score_equals_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth, probability = rng.random(50) < 0.3, rng.random(50)
    expected = brier_score_loss(truth, probability)
    assert brier_scores(truth, probability).mean() == pytest.approx(expected)
    assert np.isnan(brier_scores(truth, np.full(50, np.nan))).all()


def test_constant_log_loss_equals_the_loss_of_the_constant_predictor() -> None:
    truth = np.r_[np.ones(3), np.zeros(17)]
    losses = log_losses(truth, np.full(20, 0.1), 1e-6)
    assert constant_log_loss(0.15, 0.1, 1e-6) == pytest.approx(losses.mean())
    # RSNA's own prevalence gives the yardstick that the challenge's teams quote, 0.232.
    prevalence = np.array([0.0041, 0.0483, 0.0352, 0.0476, 0.0630, 0.1440])
    null = [constant_log_loss(share, share, 1e-6) for share in prevalence]
    assert np.dot(null, LABEL_WEIGHTS) == pytest.approx(0.232, abs=0.002)
