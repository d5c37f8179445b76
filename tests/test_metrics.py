"""metrics.py against scikit-learn, and against numbers worked out by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from hemtrace.labels import LABEL_WEIGHTS
from hemtrace.metrics import (
    Resamples,
    average_precision,
    confusion,
    constant_log_loss,
    estimate,
    log_losses,
    resample_patients,
    roc_auc,
    threshold_for_sensitivity,
    weighted_log_loss,
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


def test_bootstrap_equals_scikit_learn_on_repeated_rows(scores) -> None:
    truth, score, patients = scores
    resamples = resample_patients(patients, 25, seed=1)
    aucs = roc_auc(truth, score, resamples)
    precisions = average_precision(truth, score, resamples)
    hits = resamples.ratio(truth & (score > 0.6), truth)
    for k in range(25):
        rows = np.repeat(np.arange(300), resamples.drawn[k][resamples.member])
        assert aucs[k] == pytest.approx(roc_auc_score(truth[rows], score[rows]))
        assert precisions[k] == pytest.approx(average_precision_score(truth[rows], score[rows]))
        assert hits[k] == pytest.approx((score[rows] > 0.6)[truth[rows]].mean())


def test_chunks_give_what_one_piece_gives(scores, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, score, patients = scores
    resamples = resample_patients(patients, 25, seed=1)
    whole = roc_auc(truth, score, resamples)
    monkeypatch.setattr("hemtrace.metrics._CHUNK_CELLS", 7 * 300)
    np.testing.assert_array_equal(roc_auc(truth, score, resamples), whole)


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


def test_replicate_without_a_class_is_undefined() -> None:
    resamples = Resamples(np.array([[2, 0], [1, 1]]), np.array([0, 1]))
    aucs = roc_auc(np.array([1, 0]), np.array([0.9, 0.1]), resamples)
    assert np.isnan(aucs[0])
    assert aucs[1] == 1


def test_no_interval_where_many_replicates_are_undefined() -> None:
    few = np.r_[np.full(90, 0.8), np.full(10, np.nan)]
    assert estimate(0.8, few).as_dict() == {"value": 0.8, "low": None, "high": None}
    assert estimate(np.nan, few).value is None
    assert estimate(0.5, np.empty(0)).low is None
    enough = estimate(0.5, np.r_[np.linspace(0, 1, 97), np.nan])
    assert (enough.low, enough.high) == (pytest.approx(0.025), pytest.approx(0.975))


@pytest.mark.parametrize(
    ("sensitivity", "expected"), [(0.9, 0.2), (0.91, 0.1), (0.5, 0.6), (0.01, 1.0)]
)
def test_threshold_is_the_highest_that_keeps_the_sensitivity(
    sensitivity: float, expected: float
) -> None:
    positives = np.arange(1, 11) / 10
    score = np.r_[positives, 0.05, 0.95]
    truth = np.r_[np.ones(10), 0, 0]
    threshold = threshold_for_sensitivity(truth, score, sensitivity)
    assert threshold == pytest.approx(expected)
    assert (positives >= threshold).mean() >= sensitivity


def test_no_threshold_without_positives() -> None:
    assert threshold_for_sensitivity(np.zeros(3), np.array([0.1, 0.5, 0.9]), 0.9) is None


def test_confusion_counts_each_cell_once() -> None:
    truth, flagged = np.array([1, 1, 1, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0, 0])
    assert confusion(truth, flagged) == {"tp": 2, "fn": 1, "fp": 1, "tn": 3}


def test_constant_log_loss_equals_the_loss_of_the_constant_predictor() -> None:
    truth = np.r_[np.ones(3), np.zeros(17)]
    losses = log_losses(truth, np.full(20, 0.1), 1e-6)
    assert constant_log_loss(0.15, 0.1, 1e-6) == pytest.approx(losses.mean())
    # RSNA's own prevalence gives the yardstick that the challenge's teams quote, 0.232.
    prevalence = np.array([0.0041, 0.0483, 0.0352, 0.0476, 0.0630, 0.1440])
    null = [constant_log_loss(share, share, 1e-6) for share in prevalence]
    assert np.dot(null, LABEL_WEIGHTS) == pytest.approx(0.232, abs=0.002)
