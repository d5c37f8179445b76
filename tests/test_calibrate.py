"""Calibration and reliability against scipy, statsmodels, scikit-learn, and by hand."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from matplotlib.figure import Figure
from matplotlib.text import Text
from pydantic import ValidationError
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from hemtrace.errors import HemtraceError
from hemtrace.evaluate import reliability
from hemtrace.evaluate.calibrate import (
    METHODS,
    Calibration,
    apply,
    apply_unseen,
)
from hemtrace.evaluate.fit import fit_calibration
from hemtrace.evaluate.logistic import fit_logistic
from hemtrace.evaluate.reliability import FIGURES, assess_calibration, measure_reliability
from hemtrace.evaluate.scored import Scored
from hemtrace.figures.calibration import reliability_curves
from hemtrace.figures.style import draw_bytes
from hemtrace.labels import ANY, LABELS
from hemtrace.metrics import resample_patients

FITTED = [method for method in METHODS if method != "none"]


def make_scored(partition: str = "val", patients: int = 40, seed: int = 0) -> Scored:
    """Slices whose probabilities are too extreme, ten a patient."""
    rng = np.random.default_rng(seed)
    rows = 10 * patients
    logits = rng.normal(-1, 1.5, (rows, len(LABELS))) + rng.normal(0, 0.5, (rows, 1))
    names = np.repeat([f"{partition}_{k:03d}" for k in range(patients)], 10)
    return Scored(
        partition=partition,
        level="slices",
        keys=np.array([f"{partition}_{k:05d}" for k in range(rows)]),
        patients=names,
        studies=np.char.add("study_", names),
        truth=rng.random((rows, len(LABELS))) < expit(logits),
        probability=expit(1.7 * logits + 0.6),
    )


def with_label(scored: Scored, truth: np.ndarray, probability: np.ndarray) -> Scored:
    """Set the first label."""
    both = scored.truth.copy(), scored.probability.copy()
    both[0][:, 0], both[1][:, 0] = truth, probability
    return replace(scored, truth=both[0], probability=both[1])


@pytest.fixture(scope="module")
def val() -> Scored:
    return make_scored()


@pytest.fixture(scope="module")
def test() -> Scored:
    return make_scored("test", seed=1)


def test_temperature_is_that_of_a_search_by_scipy(val: Scored) -> None:
    calibration = fit_calibration(val, "temperature")
    for column, label in enumerate(LABELS):
        truth, logits = val.truth[:, column], logit(val.probability[:, column])
        searched = minimize_scalar(
            lambda t, y=truth, z=logits: log_loss(y, expit(z / t)),
            bounds=(0.05, 20),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert calibration.labels[label].temperature == pytest.approx(searched.x, abs=1e-5)


def test_platt_is_the_logistic_regression_of_statsmodels(val: Scored) -> None:
    calibration = fit_calibration(val, "platt")
    for column, label in enumerate(LABELS):
        design = sm.add_constant(logit(val.probability[:, column]))
        judge = sm.Logit(val.truth[:, column].astype(float), design).fit(disp=0, tol=1e-12)
        found = calibration.labels[label]
        assert [found.intercept, found.slope] == pytest.approx(judge.params, abs=1e-7)
        assert not found.smoothed


def test_isotonic_is_that_of_scikit_learn_with_ties_and_beyond_the_ends(val: Scored) -> None:
    rounded = replace(val, probability=np.clip(np.round(val.probability, 2), 0.04, 0.9))
    calibration = fit_calibration(rounded, "isotonic")
    asked = np.linspace(0, 1, 1001)
    for column, label in enumerate(LABELS):
        judge = IsotonicRegression(out_of_bounds="clip").fit(
            rounded.probability[:, column], rounded.truth[:, column]
        )
        found = calibration.labels[label]
        held = np.clip(
            judge.y_thresholds_, 1 / (found.negatives + 2), 1 - 1 / (found.positives + 2)
        )
        expected = np.interp(asked, judge.X_thresholds_, held)
        assert found.transform(asked) == pytest.approx(expected, abs=1e-12)
        assert len(found.thresholds) < len(np.unique(rounded.probability[:, column]))


def test_smoothed_platt_is_the_glm_of_statsmodels_on_platts_targets(val: Scored) -> None:
    truth = np.arange(len(val)) < 12
    parted = with_label(val, truth, np.where(truth, 0.7, 0.2) + np.linspace(0, 0.1, len(val)))
    found = fit_calibration(parted, "platt").labels[LABELS[0]]
    target = np.where(truth, 13 / 14, 1 / (len(val) - 12 + 2))
    design = sm.add_constant(logit(parted.probability[:, 0]))
    judge = sm.GLM(target, design, family=sm.families.Binomial()).fit(tol=1e-12)
    assert found.smoothed
    assert [found.intercept, found.slope] == pytest.approx(judge.params, rel=1e-5)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_separated_classes_give_a_finite_fit(val: Scored, method) -> None:
    truth = np.arange(len(val)) == 0
    parted = with_label(val, truth, np.where(truth, 1.0, 0.0))
    found = fit_calibration(parted, method).labels[LABELS[0]]
    after = found.transform(np.array([0.0, 0.3, 1.0]))
    assert found.smoothed
    assert np.isfinite(after).all()
    assert 0 < after[0] < after[1] < after[2] < 1


@pytest.mark.parametrize("method", list(METHODS))
def test_no_order_is_reversed_and_only_isotonic_makes_ties(val: Scored, test: Scored, method):
    after = apply(fit_calibration(val, method), test)
    for column in range(len(LABELS)):
        order = np.argsort(test.probability[:, column], kind="stable")
        assert (np.diff(after.probability[order, column]) >= 0).all()
        if method != "isotonic":
            same = rankdata(after.probability[:, column])
            np.testing.assert_array_equal(same, rankdata(test.probability[:, column]))


def test_isotonic_never_says_0_or_1(val: Scored) -> None:
    truth = np.arange(400) >= 390
    parted = with_label(val, truth, np.linspace(0, 1, 400))
    after = fit_calibration(parted, "isotonic").transform(parted.probability)[:, 0]
    assert (after[0], after[-1]) == pytest.approx((1 / 392, 11 / 12))


@pytest.mark.parametrize("method", FITTED)
def test_calibrated_probabilities_suit_the_truth_better(method) -> None:
    scored = [make_scored(name, 150, seed) for seed, name in enumerate(("val", "test"))]
    val, test = (replace(s, probability=expit(2 * logit(s.probability))) for s in scored)
    after = apply_unseen(fit_calibration(val, method), test)
    for column in range(len(LABELS)):
        pair = [
            brier_score_loss(s.truth[:, column], s.probability[:, column]) for s in (test, after)
        ]
        assert pair[1] < pair[0]


def test_none_leaves_every_probability(val: Scored, test: Scored) -> None:
    after = apply(fit_calibration(val, "none"), test)
    np.testing.assert_array_equal(after.probability, test.probability)


def test_test_patients_are_refused_for_fitting(test: Scored) -> None:
    with pytest.raises(
        HemtraceError, match="validation patients only, not on the partition 'test'"
    ):
        fit_calibration(test, "platt")


def test_a_patient_it_was_fitted_on_is_refused_and_counted(val: Scored, test: Scored) -> None:
    calibration = fit_calibration(val, "platt")
    mixed = replace(test, patients=np.where(np.arange(400) < 20, val.patients, test.patients))
    with pytest.raises(HemtraceError, match=r"^2 of 40 patients are among those"):
        apply_unseen(calibration, mixed)
    resamples = resample_patients(val.patients, 5, seed=0)
    with pytest.raises(HemtraceError, match=r"^40 of 40"):
        assess_calibration(calibration, val, resamples)


def test_the_fit_names_its_patients_by_sorted_digests_only(val: Scored) -> None:
    fitted_on = fit_calibration(val, "temperature").fitted_on
    assert len(fitted_on) == 40
    assert list(fitted_on) == sorted(fitted_on)
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in fitted_on)
    assert "val_" not in fit_calibration(val, "temperature").model_dump_json()


def test_another_level_is_refused(val: Scored) -> None:
    with pytest.raises(ValueError, match="calibration of slices cannot serve patients"):
        apply(fit_calibration(val, "platt"), val.by_patient())


@pytest.mark.parametrize("method", FITTED)
@pytest.mark.parametrize(
    ("truth", "probability", "why"),
    [
        (np.zeros(400, bool), np.linspace(0.1, 0.9, 400), "none of the validation slices is pos"),
        (np.ones(400, bool), np.linspace(0.1, 0.9, 400), "none of the validation slices is neg"),
        (np.arange(400) < 9, np.r_[np.nan, np.full(399, 0.2)], "hold NaN"),
        (np.arange(400) < 9, np.full(400, 0.2), "the same score"),
        (np.arange(400) < 200, np.linspace(0.1, 0.9, 400), "no better than chance"),
    ],
)
def test_a_label_that_cannot_be_fitted_stays_and_says_why(val, method, truth, probability, why):
    calibration = fit_calibration(with_label(val, truth, probability), method)
    found = calibration.labels[LABELS[0]]
    assert why in (found.why or "")
    given = np.array([0.0, 0.25, 1.0])
    np.testing.assert_array_equal(found.transform(given), given)
    assert calibration.labels["any"].why is None


@pytest.mark.parametrize("method", list(METHODS))
def test_json_brings_back_the_same_probabilities(val: Scored, test: Scored, method) -> None:
    calibration = fit_calibration(val, method)
    again = Calibration.model_validate_json(calibration.model_dump_json())
    assert again == calibration
    np.testing.assert_array_equal(
        again.transform(test.probability), calibration.transform(test.probability)
    )
    with pytest.raises(ValidationError):
        Calibration.model_validate({**calibration.model_dump(), "more": 1})


def test_nan_stays_nan(val: Scored) -> None:
    for method in METHODS:
        after = fit_calibration(val, method).transform(np.full((2, 6), np.nan))
        assert np.isnan(after).all()


def test_weighted_fits_are_those_of_repeated_rows() -> None:
    rng = np.random.default_rng(3)
    z, y = rng.normal(0, 2, 80), rng.random(80) < 0.4
    weight = rng.integers(0, 4, (6, 80)).astype(float)
    found = fit_logistic(np.column_stack([z, np.ones(80)]), weight * y, weight)
    for k in range(6):
        rows = np.repeat(np.arange(80), weight[k].astype(int))
        judge = sm.Logit(y[rows].astype(float), sm.add_constant(z[rows])).fit(disp=0, tol=1e-12)
        assert found[k] == pytest.approx(judge.params[::-1], abs=1e-7)


def measured(scored: Scored, column: int = ANY, replicates: int = 60) -> dict:
    resamples = resample_patients(scored.patients, replicates, seed=2)
    return measure_reliability(scored.truth[:, column], scored.probability[:, column], resamples)


def test_slope_intercept_and_shift_are_those_of_statsmodels(test: Scored) -> None:
    found = measured(test)
    truth, logits = test.truth[:, ANY].astype(float), logit(test.probability[:, ANY])
    line = sm.Logit(truth, sm.add_constant(logits)).fit(disp=0, tol=1e-12)
    large = sm.GLM(truth, np.ones(len(truth)), sm.families.Binomial(), offset=logits).fit()
    assert found["intercept"]["value"] == pytest.approx(line.params[0], abs=1e-7)
    assert found["slope"]["value"] == pytest.approx(line.params[1], abs=1e-7)
    assert found["in_the_large"]["value"] == pytest.approx(large.params[0], abs=1e-6)
    assert found["observed_expected"]["value"] == pytest.approx(
        truth.sum() / test.probability[:, ANY].sum()
    )


def test_intervals_of_slope_and_brier_are_percentiles_of_refits(test: Scored) -> None:
    found = measured(test)
    resamples = resample_patients(test.patients, 60, seed=2)
    truth, probability = test.truth[:, ANY].astype(float), test.probability[:, ANY]
    slopes, briers = [], []
    for k in range(60):
        rows = np.repeat(np.arange(len(truth)), resamples.drawn[k][resamples.member])
        design = sm.add_constant(logit(probability[rows]))
        slopes.append(sm.Logit(truth[rows], design).fit(disp=0).params[1])
        briers.append(brier_score_loss(truth[rows], probability[rows]))
    for name, values in (("slope", slopes), ("brier", briers)):
        bounds = [found[name]["low"], found[name]["high"]]
        assert bounds == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-7)


def test_gathering_logits_hardly_moves_the_interval(test: Scored, monkeypatch) -> None:
    exact = measured(test)
    monkeypatch.setattr(reliability, "_LOGIT_CELLS", 300)
    gathered = measured(test)
    assert gathered["slope"]["value"] == exact["slope"]["value"]
    assert gathered["slope"] != exact["slope"]
    for name in ("slope", "intercept", "in_the_large"):
        for end in ("low", "high"):
            assert gathered[name][end] == pytest.approx(exact[name][end], abs=2e-3)


def test_bins_are_those_of_scikit_learn_and_brier_too(test: Scored) -> None:
    # 397 is prime: no quantile falls on a row, where rounding would decide.
    test = replace(
        test,
        patients=test.patients[:398],
        truth=test.truth[:398],
        probability=test.probability[:398],
    )
    found = measured(test)
    truth, probability = test.truth[:, ANY], test.probability[:, ANY]
    share, stated = calibration_curve(truth, probability, n_bins=15, strategy="quantile")
    assert found["bins"]["share"] == pytest.approx(share)
    assert found["bins"]["stated"] == pytest.approx(stated)
    assert sum(found["bins"]["n"]) == len(truth)
    brier = brier_score_loss(truth, probability)
    assert found["brier"]["value"] == pytest.approx(brier)
    assert found["brier_scaled"]["value"] == pytest.approx(
        1 - brier / truth.mean() / (~truth).mean()
    )
    gaps, n = np.abs(share - stated), np.array(found["bins"]["n"])
    assert found["ece"]["value"] == pytest.approx((n * gaps).sum() / n.sum())
    assert found["maximum_error"]["value"] == pytest.approx(gaps.max())


def test_a_row_keeps_its_bin_through_calibration(val: Scored, test: Scored) -> None:
    after = measured(apply(fit_calibration(val, "platt"), test))
    assert after["bins"]["share"] == measured(test)["bins"]["share"]
    assert after["bins"]["stated"] != measured(test)["bins"]["stated"]


def test_the_parts_of_the_brier_score_add_up(val: Scored, test: Scored) -> None:
    for scored in (test, apply(fit_calibration(val, "isotonic"), test)):
        found = {name: measured(scored)[name]["value"] for name in FIGURES}
        whole = found["reliability"] - found["resolution"] + found["uncertainty"]
        within = found["within_bin_variance"] - found["within_bin_covariance"]
        assert whole + within == pytest.approx(found["brier"], abs=1e-12)


def test_bins_count_patients_and_give_none_an_interval_that_rests_on_two() -> None:
    # 30 patients, but the highest bin has rows of two of them alone.
    patients = np.r_[np.repeat(np.arange(30), 10), np.repeat([3, 7], 12)]
    rng = np.random.default_rng(0)
    probability = np.r_[rng.uniform(0, 0.5, 300), rng.uniform(0.8, 0.9, 24)]
    truth = rng.random(324) < probability
    found = measure_reliability(truth, probability, resample_patients(patients, 200, seed=0))
    bins = found["bins"]
    cuts = np.r_[0, np.cumsum(bins["n"])]
    order = np.argsort(probability)
    owners = [len(np.unique(patients[order[low:high]])) for low, high in itertools.pairwise(cuts)]
    assert bins["patients"] == owners
    assert owners[-1] == 2
    assert (bins["low"][-1], bins["high"][-1]) == (None, None)
    assert bins["why"][-1] == "only 2 patients"
    assert bins["low"][8] is not None


def test_decomposition_of_ten_rows_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliability, "BINS", 2)
    truth = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 0], dtype=bool)
    probability = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.7, 0.7, 0.7, 0.7, 0.7])
    found = measure_reliability(truth, probability, resample_patients(np.arange(10), 20, seed=0))
    assert found["bins"]["stated"] == pytest.approx([0.1, 0.7])
    assert found["bins"]["share"] == pytest.approx([0.2, 0.6])
    by_hand = {
        "ece": 0.1,
        "maximum_error": 0.1,
        "reliability": 0.01,
        "resolution": 0.04,
        "uncertainty": 0.24,
        "within_bin_variance": 0,
        "within_bin_covariance": 0,
        "brier": 0.21,
        "brier_scaled": 0.125,
        "observed_expected": 1,
    }
    for name, value in by_hand.items():
        assert found[name]["value"] == pytest.approx(value, abs=1e-12), name


def test_every_interval_holds_its_figure(val: Scored, test: Scored) -> None:
    # After calibration the distances are small: mere noise would lift them above the figure.
    found = measured(apply(fit_calibration(val, "platt"), make_scored("test", 40, 6)), ANY, 200)
    for name in FIGURES:
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"], name


def test_calibration_mends_slope_and_error_on_test_patients(val: Scored, test: Scored) -> None:
    resamples = resample_patients(test.patients, 50, seed=0)
    found = assess_calibration(fit_calibration(val, "platt"), test, resamples)["any"]
    before, after = found["before"], found["after"]
    assert before["slope"]["high"] < 1
    assert after["slope"]["low"] < 1 < after["slope"]["high"]
    assert after["ece"]["value"] < before["ece"]["value"]
    assert found["fit"]["slope"] == pytest.approx(1 / 1.7, abs=0.12)


@pytest.mark.parametrize(
    ("truth", "probability", "why"),
    [
        (np.zeros(400, bool), np.linspace(0.1, 0.9, 400), "no positive slice"),
        (np.ones(400, bool), np.linspace(0.1, 0.9, 400), "no negative slice"),
        (np.arange(400) < 9, np.r_[np.nan, np.full(399, 0.2)], "NaN"),
    ],
)
def test_what_is_not_estimable_says_why_and_goes_on(test, truth, probability, why) -> None:
    found = measured(with_label(test, truth, probability), 0)
    assert why in found["why"]
    assert found["bins"] is None
    for name in FIGURES:
        assert found[name]["value"] is None
        assert why in found[name]["why"]
    json.dumps(found, allow_nan=False)


def test_separated_scores_have_no_slope_but_all_else(test: Scored) -> None:
    truth = np.arange(400) % 10 < 4
    found = measured(with_label(test, truth, np.where(truth, 0.8, 0.1)), 0)
    assert found["slope"]["value"] is None
    assert "part positives from negatives" in found["slope"]["why"]
    assert found["in_the_large"]["value"] is not None
    assert found["brier"]["value"] == pytest.approx(0.4 * 0.04 + 0.6 * 0.01)
    json.dumps(found, allow_nan=False)


def test_a_single_patient_has_figures_without_intervals(test: Scored) -> None:
    resamples = resample_patients(np.repeat("a", 400), 30, seed=0)
    found = measure_reliability(test.truth[:, ANY], test.probability[:, ANY], resamples)
    for name in FIGURES:
        assert found[name]["value"] is not None
        assert found[name]["low"] is None
        assert found[name]["why"] == "a single patient"
    json.dumps(found, allow_nan=False)


def test_same_seed_same_bytes(val: Scored, test: Scored) -> None:
    def once() -> str:
        resamples = resample_patients(test.patients, 30, seed=9)
        return json.dumps(assess_calibration(fit_calibration(val, "isotonic"), test, resamples))

    assert once() == once()


def words(figure: Figure) -> str:
    figure.canvas.draw()
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_figure_shows_both_states_by_mark_and_says_what_is_missing(val: Scored, test: Scored):
    none = with_label(test, np.zeros(400, bool), test.probability[:, 0])
    resamples = resample_patients(test.patients, 30, seed=0)
    found = assess_calibration(fit_calibration(val, "platt"), none, resamples)
    figure = reliability_curves(
        {label: of["before"] for label, of in found.items()},
        {label: of["after"] for label, of in found.items()},
    )
    text = words(figure)
    assert "no positive slice" in text
    assert f"any: {test.truth[:, ANY].sum():,} of 400" in text
    axes = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("any"))
    marks = {line.get_marker(): line.get_linestyle() for line in axes.lines}
    assert marks["o"] == "--"
    assert marks["s"] == "-"
    drawn = next(line for line in axes.lines if line.get_marker() == "s")
    np.testing.assert_allclose(drawn.get_ydata(), found["any"]["after"]["bins"]["share"])
    assert draw_bytes(figure, "png", dpi=30)


def test_figure_without_calibration_has_one_state(test: Scored) -> None:
    figure = reliability_curves({"any": measured(test)})
    assert "after calibration" not in words(figure)
