"""Thresholds and rates, against scikit-learn, brute force and numbers worked out by hand."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    class_likelihood_ratios,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
)
from statsmodels.stats.proportion import proportion_confint

from hemtrace.metrics import (
    RATES,
    Resamples,
    confusion,
    estimate_rates,
    estimate_share,
    rates_at_threshold,
    rates_of_counts,
    resample_patients,
    threshold_balanced,
    threshold_for_sensitivity,
    threshold_for_specificity,
)

# Ten slices: four bleeds of which three are flagged, six others of which two are.
TRUTH = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
FLAGGED = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])
BY_HAND = {
    "sensitivity": 3 / 4,
    "specificity": 4 / 6,
    "positive_predictive_value": 3 / 5,
    "negative_predictive_value": 4 / 5,
    "f1": 6 / 9,
    "positive_likelihood_ratio": (3 / 4) / (2 / 6),
    "negative_likelihood_ratio": (1 / 4) / (4 / 6),
    "accuracy": 7 / 10,
    "balanced_accuracy": (3 / 4 + 4 / 6) / 2,
    "matthews_correlation": (3 * 4 - 2 * 1) / np.sqrt(5 * 4 * 6 * 5),
}


def scikit_learn(truth: np.ndarray, flagged: np.ndarray) -> dict[str, float]:
    """Compute the rates by scikit-learn."""
    above, below = class_likelihood_ratios(truth, flagged)
    return {
        "sensitivity": recall_score(truth, flagged),
        "specificity": recall_score(truth, flagged, pos_label=0),
        "positive_predictive_value": precision_score(truth, flagged),
        "negative_predictive_value": precision_score(truth, flagged, pos_label=0),
        "f1": f1_score(truth, flagged),
        "positive_likelihood_ratio": above,
        "negative_likelihood_ratio": below,
        "accuracy": accuracy_score(truth, flagged),
        "balanced_accuracy": balanced_accuracy_score(truth, flagged),
        "matthews_correlation": matthews_corrcoef(truth, flagged),
    }


def singles(count: int, replicates: int = 50) -> Resamples:
    """Resample as many patients of one slice each."""
    return resample_patients(np.arange(count), replicates, seed=0)


def test_rates_of_ten_slices_worked_out_by_hand() -> None:
    assert confusion(TRUTH, FLAGGED) == {"tp": 3, "fp": 2, "fn": 1, "tn": 4}
    made = estimate_rates(TRUTH, FLAGGED, singles(10))
    assert tuple(made) == RATES
    assert {name: one.value for name, one in made.items()} == pytest.approx(BY_HAND)
    assert scikit_learn(TRUTH, FLAGGED) == pytest.approx(BY_HAND)


def test_rates_of_every_replicate_equal_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    patients = rng.integers(0, 30, 300)
    truth = rng.random(300) < 0.3
    flagged = rng.random(300) < 0.2 + 0.5 * truth
    resamples = resample_patients(patients, 30, seed=3)
    cells = [truth & flagged, ~truth & flagged, truth & ~flagged, ~truth & ~flagged]
    replicates = rates_of_counts(*(resamples.total(cell) for cell in cells))
    made = estimate_rates(truth, flagged, resamples)
    for k in range(30):
        rows = np.repeat(np.arange(300), resamples.drawn[k][resamples.member])
        judged = scikit_learn(truth[rows], flagged[rows])
        assert {name: one[k] for name, one in replicates.items()} == pytest.approx(judged)
    for name, one in made.items():
        bounds = np.percentile(replicates[name], [2.5, 97.5])
        assert (one.low, one.high) == pytest.approx(tuple(bounds))


@pytest.mark.parametrize(
    ("truth", "flagged", "reasons"),
    [
        (
            [0, 0, 0, 0],
            [1, 0, 0, 0],
            {"sensitivity": "no positive study", "balanced_accuracy": "no positive study"},
        ),
        (
            [1, 1, 1, 1],
            [1, 0, 0, 0],
            {"specificity": "no negative study", "negative_likelihood_ratio": "no negative study"},
        ),
        (
            [1, 1, 0, 0],
            [0, 0, 0, 0],
            {
                "positive_predictive_value": "no flagged study",
                "positive_likelihood_ratio": "no false positive",
                "matthews_correlation": "no flagged study",
            },
        ),
        (
            [1, 1, 0, 0],
            [1, 1, 1, 1],
            {
                "negative_predictive_value": "no cleared study",
                "negative_likelihood_ratio": "no true negative",
            },
        ),
        ([0, 0, 0], [0, 0, 0], {"f1": "no positive or flagged study"}),
        ([], [], dict.fromkeys(RATES, "no studies")),
    ],
)
def test_undefined_rates_say_why(truth, flagged, reasons: dict[str, str]) -> None:
    made = estimate_rates(np.array(truth), np.array(flagged), singles(len(truth)), "study")
    for name, reason in reasons.items():
        assert made[name].as_dict() == {"value": None, "low": None, "high": None, "why": reason}


def test_interval_lacks_where_replicates_lack_what_a_rate_is_a_share_of() -> None:
    flagged = np.arange(20) == 0
    pairs = resample_patients(np.arange(20) // 2, 400, seed=0)
    made = estimate_rates(np.arange(20) % 2 == 0, flagged, pairs)
    assert made["positive_predictive_value"].value == 1
    assert "replicates have no flagged slice" in made["positive_predictive_value"].why
    assert made["sensitivity"].why is None


def test_likelihood_ratio_that_is_often_infinite_has_no_interval() -> None:
    truth, flagged = np.arange(40) < 20, (np.arange(40) < 15) | (np.arange(40) == 30)
    made = estimate_rates(truth, flagged, singles(40, 400))["positive_likelihood_ratio"]
    assert made.value == pytest.approx(15)
    assert made.high is None
    assert made.why is not None
    assert made.why.endswith("replicates are infinite: no upper bound")


def test_single_patient_gives_rates_without_intervals() -> None:
    alone = resample_patients(np.zeros(10), 50, seed=0)
    for one in estimate_rates(TRUTH, FLAGGED, alone).values():
        assert one.value is not None
        assert (one.low, one.why) == (None, "a single patient")


def test_rates_at_a_threshold_flag_scores_that_equal_it() -> None:
    score = np.where(FLAGGED, 0.5, 0.4)
    made = rates_at_threshold(TRUTH, score, 0.5, singles(10))
    assert made == estimate_rates(TRUTH, FLAGGED, singles(10))


def test_rates_of_nan_scores_or_without_threshold_are_undefined() -> None:
    score = np.where(np.arange(10) < 2, np.nan, 0.5)
    holed = rates_at_threshold(TRUTH, score, 0.5, singles(10))
    assert {one.why for one in holed.values()} == {"2 of 10 scores are NaN"}
    none = rates_at_threshold(TRUTH, FLAGGED, None, singles(10))
    assert {one.why for one in none.values()} == {"no threshold could be chosen"}
    assert {one.value for one in (*holed.values(), *none.values())} == {None}


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


@pytest.mark.parametrize(
    ("specificity", "expected"), [(0.9, 0.95), (0.5, 0.6), (0.51, 0.7), (0.0, 0.05)]
)
def test_threshold_is_the_lowest_that_keeps_the_specificity(
    specificity: float, expected: float
) -> None:
    negatives = np.arange(1, 11) / 10
    score = np.r_[negatives, 0.05, 0.95]
    truth = np.r_[np.zeros(10), 1, 1]
    threshold = threshold_for_specificity(truth, score, specificity)
    assert threshold == pytest.approx(expected)
    assert (negatives < threshold).mean() >= specificity - 1e-12


def test_share_of_a_whole_number_of_slices_is_that_number_in_spite_of_rounding() -> None:
    assert 0.07 * 100 > 7
    score = np.arange(1, 101) / 100
    assert threshold_for_sensitivity(np.ones(100), score, 0.07) == 0.94
    assert threshold_for_specificity(np.zeros(100), score, 0.07) == 0.08


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threshold_above_every_score_where_no_negative_may_be_flagged(dtype) -> None:
    score = np.array([0.2, 0.9, 0.3], dtype=dtype)
    threshold = threshold_for_specificity(np.array([1, 0, 0]), score, 1.0)
    assert threshold == pytest.approx(0.9)
    assert not (score >= threshold).any()


@pytest.mark.parametrize("seed", range(5))
def test_thresholds_equal_those_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.4
    score = np.round(rng.random(60) + 0.4 * truth, 1)
    candidates = np.unique(score)
    sensitivity = np.array([(score[truth] >= cut).mean() for cut in candidates])
    specificity = np.array([(score[~truth] < cut).mean() for cut in candidates])
    enough = candidates[sensitivity >= 0.8]
    assert threshold_for_sensitivity(truth, score, 0.8) == enough.max()
    assert threshold_for_specificity(truth, score, 0.8) == candidates[specificity >= 0.8].min()
    youden = sensitivity + specificity
    best = candidates[np.isclose(youden, youden.max(), atol=1e-9)]
    assert threshold_balanced(truth, score) in best


def test_balanced_threshold_of_several_equal_ones_is_the_even_one() -> None:
    # From each positive to the next a negative is lost: three thresholds of the same sum.
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    truth = np.array([0, 1, 0, 1, 0, 1])
    # At 0.2: 3/3 and 1/3; at 0.4: 2/3 and 2/3; at 0.6: 1/3 and 3/3.
    assert threshold_balanced(truth, score) == 0.4


def test_no_threshold_without_the_class_it_keeps_or_with_nan() -> None:
    score = np.array([0.1, 0.5, 0.9])
    holed = np.array([0.1, np.nan, 0.9])
    assert threshold_for_sensitivity(np.zeros(3), score, 0.9) is None
    assert threshold_for_specificity(np.ones(3), score, 0.9) is None
    assert threshold_balanced(np.ones(3), score) is None
    assert threshold_balanced(np.zeros(3), score) is None
    for truth in (np.array([0, 1, 1]), np.array([1, 0, 1])):
        assert threshold_for_sensitivity(truth, holed, 0.9) is None
        assert threshold_for_specificity(truth, holed, 0.9) is None
        assert threshold_balanced(truth, holed) is None


def test_confusion_counts_each_cell_once() -> None:
    truth, flagged = np.array([1, 1, 1, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0, 0])
    assert confusion(truth, flagged) == {"tp": 2, "fn": 1, "fp": 1, "tn": 3}


def test_a_share_of_patients_that_cannot_vary_has_its_exact_interval() -> None:
    """Fifteen of fifteen: Clopper and Pearson begin at 0.025 ** (1 / 15)."""
    truth = np.r_[np.ones(5), np.zeros(15)].astype(bool)
    flagged = np.r_[np.ones(4), np.zeros(16)].astype(bool)
    each = resample_patients(np.arange(20), 200, seed=0)
    specificity = estimate_rates(truth, flagged, each, "patient")["specificity"]
    assert specificity.value == specificity.high == 1
    assert specificity.low == pytest.approx(0.025 ** (1 / 15))
    assert specificity.why == "exact binomial interval"
    clustered = resample_patients(np.arange(20) // 2, 200, seed=0)
    assert estimate_rates(truth, flagged, clustered)["specificity"].low is None


def test_every_share_of_patients_has_the_exact_interval() -> None:
    """Ten of thirteen: no interval may reach 1 where three misses were seen."""
    truth = np.r_[np.ones(13), np.zeros(15)].astype(bool)
    flagged = np.r_[np.ones(10), np.zeros(18)].astype(bool)
    each = resample_patients(np.arange(28), 200, seed=0)
    rates = estimate_rates(truth, flagged, each, "patient")
    low, high = proportion_confint(10, 13, method="beta")
    sensitivity = rates["sensitivity"]
    assert (sensitivity.low, sensitivity.high) == pytest.approx((low, high))
    assert (round(low, 2), round(high, 2)) == (0.46, 0.95)
    assert sensitivity.why == "exact binomial interval"
    assert sensitivity.note is None
    for name, (hits, total) in {
        "specificity": (15, 15),
        "positive_predictive_value": (10, 10),
        "negative_predictive_value": (15, 18),
        "accuracy": (25, 28),
    }.items():
        bounds = proportion_confint(hits, total, method="beta")
        assert (rates[name].low, rates[name].high) == pytest.approx(bounds), name
    assert rates["balanced_accuracy"].why is None
    clustered = resample_patients(np.arange(28) // 2, 200, seed=0)
    assert estimate_rates(truth, flagged, clustered)["sensitivity"].why is None


def test_a_mean_of_right_and_wrong_patients_has_the_exact_interval_and_no_other_mean() -> None:
    right, every = np.r_[np.ones(10), np.zeros(3)], np.ones(13)
    each = resample_patients(np.arange(13), 200, seed=0)
    share = estimate_share(right, every, each)
    assert (share.low, share.high) == pytest.approx(proportion_confint(10, 13, method="beta"))
    assert estimate_share(right * 0.5, every, each).why is None
    pairs = resample_patients(np.arange(13) // 2, 200, seed=0)
    assert estimate_share(right, every, pairs).why is None
