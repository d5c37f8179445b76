"""Predictive values, net benefit and workload by hand, by loops, and against scikit-learn."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, roc_auc_score

from hemtrace.evaluate import decision
from hemtrace.evaluate.decision import (
    PREVALENCES,
    decision_curve,
    predict_values,
    workload_curve,
)
from hemtrace.figures.decision import decision_curves, predictive_values
from hemtrace.figures.decision import workload_curve as draw_workload
from hemtrace.figures.style import draw_bytes
from hemtrace.metrics import Resamples, resample_patients

SCORES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
TRUTH = np.array([0, 0, 0, 1, 0, 0, 1, 0, 1, 1], dtype=bool)
ONES = np.arange(10)


def resamples_of(patients: np.ndarray, replicates: int = 40) -> Resamples:
    return resample_patients(patients, replicates, seed=1)


@pytest.fixture(scope="module")
def many() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, scores with ties, and patients of 400 rows."""
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.3
    score = np.clip(np.round(rng.normal(0.3, 0.15, 400) + 0.25 * truth, 2), 0, 1)
    return truth, score, rng.integers(0, 60, 400)


def repeated(resamples: Resamples, k: int) -> np.ndarray:
    return np.repeat(np.arange(len(resamples.member)), resamples.drawn[k][resamples.member])


def test_predictive_values_of_ten_rows_by_hand() -> None:
    # Sensitivity 3/4, specificity 5/6 at 0.6.
    rows = predict_values(TRUTH, SCORES >= 0.6, resamples_of(ONES), (0.1, 0.4))
    ppv = 0.75 * 0.1 / (0.75 * 0.1 + (1 / 6) * 0.9)
    npv = (5 / 6) * 0.9 / ((5 / 6) * 0.9 + 0.25 * 0.1)
    assert rows[0]["ppv"]["value"] == pytest.approx(ppv)
    assert rows[0]["npv"]["value"] == pytest.approx(npv)
    # At the rows' own prevalence they are the counts': 3 of 4 flagged, 5 of 6 cleared.
    assert rows[1]["ppv"]["value"] == pytest.approx(3 / 4)
    assert rows[1]["npv"]["value"] == pytest.approx(5 / 6)


def test_interval_of_predictive_values_is_that_of_a_loop(many) -> None:
    truth, score, patients = many
    resamples = resamples_of(patients)
    row = predict_values(truth, score >= 0.5, resamples, (0.05,))[0]
    values = []
    for k in range(40):
        picked = repeated(resamples, k)
        tn, fp, fn, tp = confusion_matrix(truth[picked], score[picked] >= 0.5).ravel()
        up = tp / (tp + fn) * 0.05
        values.append(up / (up + fp / (fp + tn) * 0.95))
    bounds = [row["ppv"]["low"], row["ppv"]["high"]]
    assert bounds == pytest.approx(np.percentile(values, [2.5, 97.5]))


def test_ppv_grows_and_npv_falls_with_prevalence(many) -> None:
    truth, score, patients = many
    rows = predict_values(truth, score >= 0.4, resamples_of(patients))
    assert [row["prevalence"] for row in rows] == list(PREVALENCES)
    assert (np.diff([row["ppv"]["value"] for row in rows]) > 0).all()
    assert (np.diff([row["npv"]["value"] for row in rows]) < 0).all()


@pytest.mark.parametrize(
    ("truth", "flagged", "ppv", "npv"),
    [
        (TRUTH, None, "no threshold could be chosen", "no threshold could be chosen"),
        (np.zeros(10, bool), SCORES > 0.5, "no positive slice", "no positive slice"),
        (np.ones(10, bool), SCORES > 0.5, "no negative slice", "no negative slice"),
        (TRUTH, SCORES > 1, "no flagged slice", "all replicates agree"),
    ],
)
def test_undefined_predictive_values_say_why(truth, flagged, ppv, npv) -> None:
    row = predict_values(truth, flagged, resamples_of(np.arange(10) // 2, 200), (0.2,))[0]
    assert row["ppv"]["value"] is None
    assert ppv in row["ppv"]["why"]
    assert npv in row["npv"]["why"] or "replicates" in row["npv"]["why"]
    json.dumps(row, allow_nan=False)


def test_ppv_without_a_false_alarm_has_the_lower_bound_of_the_exact_intervals() -> None:
    # 13 patients with a bleed, of whom 10 are flagged; 15 without, none flagged.
    truth, flagged = np.arange(28) < 13, np.arange(28) < 10
    row = predict_values(truth, flagged, resamples_of(np.arange(28), 200), (0.01,), "patient")[0]
    sensitivity = binomtest(10, 13).proportion_ci(0.95, "exact").low
    specificity = 0.025 ** (1 / 15)  # of 15 out of 15: 0.782
    low = sensitivity * 0.01 / (sensitivity * 0.01 + (1 - specificity) * 0.99)
    assert low == pytest.approx(0.021, abs=0.001)
    assert row["ppv"]["value"] == row["ppv"]["high"] == 1
    assert row["ppv"]["low"] == pytest.approx(low)
    assert "exact (Clopper-Pearson)" in row["ppv"]["why"]
    # Three bleeds are missed, so that the negative value may not reach 1: as the exact sensitivity.
    highest = binomtest(10, 13).proportion_ci(0.95, "exact").high
    assert row["npv"]["high"] == pytest.approx(0.99 / (0.99 + (1 - highest) * 0.01))
    assert row["npv"]["high"] < 1


def test_npv_without_a_miss_has_a_lower_bound_too() -> None:
    truth, flagged = np.arange(20) < 8, np.arange(20) < 10
    row = predict_values(truth, flagged, resamples_of(np.arange(20), 200), (0.5,), "patient")[0]
    missed = 1 - 0.025 ** (1 / 8)
    specificity = binomtest(10, 12).proportion_ci(0.95, "exact").low
    assert row["npv"]["low"] == pytest.approx(specificity / (specificity + missed))
    assert (row["npv"]["value"], row["npv"]["high"]) == (1, 1)


def test_exact_bounds_of_slices_count_patients() -> None:
    # 15 patients of 10 slices each: 150 slices without a false alarm say no more than 15 patients.
    truth, patients = np.arange(150) % 10 == 0, np.arange(150) // 10
    row = predict_values(truth, truth, resamples_of(patients, 200), (0.5,))[0]
    bound = 0.025 ** (1 / 15)
    assert row["ppv"]["low"] == pytest.approx(bound / (bound + 1 - bound))


def test_predictive_values_on_few_patients_bear_the_note() -> None:
    clustered = resample_patients(np.arange(30) // 3 % 10, 200, seed=1)
    truth, score = np.repeat(TRUTH, 3), np.repeat(SCORES, 3)
    rows = predict_values(truth, score >= 0.6, clustered, (0.1,))
    assert rows[0]["npv"]["note"].startswith("rests on 4 patients")


def test_order_of_reading_on_few_bleeds_bears_the_note() -> None:
    found = workload_curve(TRUTH, SCORES, resamples_of(ONES, 200))
    for figure in (found["position"], found["saved"]):
        assert figure["note"].startswith("rests on 4 patients")


def test_net_benefit_of_ten_rows_by_hand() -> None:
    found = decision_curve(TRUTH, SCORES, resamples_of(ONES), (0.2, 0.5, 0.6))
    # From 0.2: 4 hits, 4 alarms at odds 1/4; from 0.5: 3 and 2 at 1; from 0.6: 3 and 1 at 3/2.
    assert found["model"]["value"] == pytest.approx([0.4 - 0.4 / 4, 0.3 - 0.2, 0.3 - 0.1 * 1.5])
    assert found["all"] == pytest.approx([0.4 - 0.6 / 4, 0.4 - 0.6, 0.4 - 0.6 * 1.5])
    assert found["gain"]["value"] == pytest.approx([0.05, 0.1, 0.15])
    assert found["useful"] == [[0.2, 0.6]]
    assert found["prevalence"] == 0.4


def test_band_of_the_decision_curve_is_that_of_a_loop(many) -> None:
    truth, score, patients = many
    resamples = resamples_of(patients)
    found = decision_curve(truth, score, resamples, (0.1, 0.35, 0.5))
    for place, t in enumerate((0.1, 0.35, 0.5)):
        nets, gains = [], []
        for k in range(40):
            picked = repeated(resamples, k)
            y, up = truth[picked], score[picked] >= t
            net = (y & up).mean() - (~y & up).mean() * t / (1 - t)
            nets.append(net)
            gains.append(net - max(0, y.mean() - (~y).mean() * t / (1 - t)))
        for name, values in (("model", nets), ("gain", gains)):
            bounds = [found[name]["low"][place], found[name]["high"][place]]
            assert bounds == pytest.approx(np.percentile(values, [2.5, 97.5]))


def test_a_model_without_knowledge_is_useful_nowhere() -> None:
    found = decision_curve(TRUTH, np.full(10, 0.4), resamples_of(ONES))
    assert found["useful"] == []
    # It acts on everyone up to its one probability, on nobody beyond.
    acts = np.array(found["chances"]) <= 0.4
    assert found["model"]["value"] == pytest.approx(np.where(acts, found["all"], 0))


def test_workload_of_ten_rows_by_hand() -> None:
    found = workload_curve(TRUTH, SCORES, resamples_of(ONES))
    # Bleeds are read first, second, fourth and seventh of ten.
    at = dict(zip(np.round(found["read"], 2), found["found"]["value"], strict=True))
    assert [at[x] for x in (0.0, 0.1, 0.2, 0.3, 0.4, 0.65, 0.7, 1.0)] == pytest.approx(
        [0, 0.25, 0.5, 0.5, 0.75, 0.875, 1, 1]
    )
    assert {k: v["value"] for k, v in found["to_read"].items()} == pytest.approx(
        {"0.9": 0.7, "0.95": 0.7, "1.0": 0.7}
    )
    assert found["position"]["value"] == pytest.approx((0.05 + 0.15 + 0.35 + 0.65) / 4)
    assert found["saved"]["value"] == pytest.approx(0.2)
    assert found["ideal"][20] == pytest.approx(0.5)
    assert found["ideal"][40] == found["ideal"][100] == 1


def test_rounding_asks_for_no_bleed_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "FOUND", (0.1 + 0.2, 1.0))
    # 0.1 + 0.2 is a little more than 0.3: three of ten bleeds, not four.
    truth, score = np.arange(20) >= 10, np.arange(20.0)
    found = workload_curve(truth, score, resamples_of(np.arange(20)))
    assert found["to_read"][str(0.1 + 0.2)]["value"] == pytest.approx(3 / 20)


def test_place_saved_follows_from_scikit_learns_auc(many) -> None:
    truth, score, patients = many
    found = workload_curve(truth, score, resamples_of(patients))
    # A bleed stands behind (1 - AUC) of the others and half of its own kind.
    share = truth.mean()
    position = (1 - roc_auc_score(truth, score)) * (1 - share) + share / 2
    assert found["position"]["value"] == pytest.approx(position)
    assert found["saved"]["value"] == pytest.approx(0.5 - position)


def test_intervals_of_the_workload_are_those_of_a_loop(many, monkeypatch) -> None:
    truth, score, patients = many
    resamples = resamples_of(patients)
    monkeypatch.setattr(decision, "_CHUNK_CELLS", 7 * 400)
    found = workload_curve(truth, score, resamples)
    values: dict[str, list[float]] = {"position": [], "half": []}
    for k in range(40):
        picked = repeated(resamples, k)
        y, s = truth[picked], score[picked]
        values["position"].append((1 - roc_auc_score(y, s)) * (~y).mean() + y.mean() / 2)
        # In the mean of many orders of equal scores the share found is a straight line.
        cuts = np.unique(s)[::-1]
        read = [0, *((s >= cut).mean() for cut in cuts)]
        values["half"].append(np.interp(0.5, read, [0, *((s[y] >= cut).mean() for cut in cuts)]))
    for name, of in (("position", found["position"]), ("half", None)):
        low = found["found"]["low"][50] if of is None else of["low"]
        high = found["found"]["high"][50] if of is None else of["high"]
        assert [low, high] == pytest.approx(np.percentile(values[name], [2.5, 97.5]))


def test_equal_scores_save_nothing() -> None:
    found = workload_curve(TRUTH, np.full(10, 0.3), resamples_of(ONES))
    assert found["saved"]["value"] == pytest.approx(0)
    assert found["found"]["value"] == pytest.approx(found["read"])
    assert found["to_read"]["1.0"]["value"] == pytest.approx(1)


def test_a_perfect_order_lies_on_the_ideal_line() -> None:
    found = workload_curve(TRUTH, np.where(TRUTH, SCORES + 1, SCORES), resamples_of(ONES))
    assert found["found"]["value"] == pytest.approx(found["ideal"])
    assert found["to_read"]["1.0"]["value"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("truth", "score", "why"),
    [
        (np.zeros(10, bool), SCORES, "no positive"),
        (np.ones(10, bool), SCORES, "no negative"),
        (TRUTH, np.r_[np.nan, SCORES[1:]], "NaN"),
        (TRUTH[:0], SCORES[:0], "no "),
    ],
)
def test_curves_that_are_not_estimable_say_why(truth, score, why: str) -> None:
    resamples = resamples_of(ONES[: len(truth)])
    for found in (decision_curve(truth, score, resamples), workload_curve(truth, score, resamples)):
        assert why in found["why"]
        json.dumps(found, allow_nan=False)
    assert found["saved"]["value"] is None
    assert why in found["saved"]["why"]
    assert "not estimable" in words(
        decision_curves({"test": decision_curve(truth, score, resamples)})
    )
    assert "not estimable" in words(draw_workload(found))


def test_one_patient_gives_curves_without_band() -> None:
    resamples = resamples_of(np.zeros(10))
    for found, name in (
        (decision_curve(TRUTH, SCORES, resamples), "model"),
        (workload_curve(TRUTH, SCORES, resamples), "found"),
    ):
        assert set(found[name]["low"]) == {None}
        assert None not in found[name]["value"]
        json.dumps(found, allow_nan=False)
    assert found["saved"]["why"] == "a single patient"


def words(figure: Figure) -> str:
    figure.canvas.draw()
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_figures_name_their_lines_and_counts(many) -> None:
    truth, score, patients = many
    resamples = resamples_of(patients)
    found = workload_curve(truth, score, resamples)
    figure = draw_workload(found)
    text = words(figure)
    assert f"90% found after {found['to_read']['0.9']['value']:.0%}" in text
    assert "share of the 400 studies read" in text
    curve = decision_curve(truth, score, resamples)
    decisions = decision_curves({"test slices": curve, "test patients": curve})
    text = words(decisions)
    for part in ("act on everyone", "act on nobody", "test patients (n = 400)"):
        assert part in text
    lines = decisions.axes[0].lines
    np.testing.assert_allclose(lines[0].get_ydata(), curve["model"]["value"])
    assert len({line.get_linestyle() for line in lines}) == 3
    assert draw_bytes(figure, "png", dpi=30) == draw_bytes(draw_workload(found), "png", dpi=30)


def test_figure_of_predictive_values_tells_points_apart_by_mark(many) -> None:
    truth, score, patients = many
    resamples = resamples_of(patients)
    tables = {
        "rule-out": predict_values(truth, score >= 0.2, resamples),
        "rule-in": predict_values(truth, score >= 0.6, resamples),
        "balanced": predict_values(truth, None, resamples),
    }
    figure = predictive_values(tables)
    marks = {line.get_marker() for line in figure.axes[0].lines if len(line.get_xdata())}
    assert len(marks) == 2
    assert words(figure).count("balanced: not estimable") == 2
    nothing = predictive_values({"balanced": tables["balanced"]})
    assert words(nothing).count("not estimable at any operating point") == 2
