"""Operating points against scikit-learn's ROC curve and ten rows worked out by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import expit
from sklearn.metrics import roc_curve

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.calibrate import apply
from hemtrace.evaluate.fit import fit_calibration
from hemtrace.evaluate.operating import (
    POINTS,
    Operating,
    flagged,
    read_operating,
    write_operating,
)
from hemtrace.evaluate.scored import LEVELS, Scored
from hemtrace.evaluate.thresholds import choose_points, fix_operating
from hemtrace.labels import ANY, LABELS
from hemtrace.params import EvaluateParams

SHA = "a" * 64
#                    0     1    2    3    4    5    6    7    8    9
SCORES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
TRUTH = np.array([0, 0, 0, 1, 0, 0, 1, 0, 1, 1], dtype=bool)


def make_scored(partition: str = "val", patients: int = 30, seed: int = 0) -> Scored:
    rng = np.random.default_rng(seed)
    rows = 8 * patients
    level = np.where(rng.random(patients) < 0.5, 0.5, -5).repeat(8)
    logits = rng.normal(-1, 1.5, (rows, len(LABELS))) + level[:, None]
    names = np.repeat([f"{partition}_{k:03d}" for k in range(patients)], 8)
    return Scored(
        partition=partition,
        level="slices",
        keys=np.array([f"{partition}_{k:05d}" for k in range(rows)]),
        patients=names,
        studies=np.char.add("study_", names),
        truth=rng.random((rows, len(LABELS))) < expit(logits),
        probability=expit(1.5 * logits),
    )


def ten_rows(truth: np.ndarray = TRUTH, score: np.ndarray = SCORES) -> Scored:
    names = np.array([f"p{k}" for k in range(len(truth))])
    columns = np.tile(truth[:, None], (1, 6)), np.tile(score[:, None], (1, 6))
    return Scored("val", "slices", names, names, names, *columns)


@pytest.fixture(scope="module")
def val() -> Scored:
    return make_scored()


@pytest.fixture(scope="module")
def operating(val: Scored) -> Operating:
    return fix_operating(val, "platt", SHA, synthetic=True, rule="mean-of-3")


def test_what_is_not_told_is_as_the_parameters_have_it(val: Scored) -> None:
    fixed, usual = fix_operating(val, "none", SHA, synthetic=True), EvaluateParams()
    assert fixed.default_point == usual.operating_point
    assert fixed.score_rule == usual.score_rule
    assert fixed.aims == {"sensitivity": usual.sensitivity, "specificity": usual.specificity}


def test_points_of_ten_rows_by_hand() -> None:
    points = choose_points(ten_rows(), sensitivity=0.75, specificity=0.8)
    found = {name: points[name]["any"] for name in POINTS}
    # Three of the four positives are at or above 0.6; five of the six negatives below 0.6; the next
    # lower score is 0.5.
    for name in POINTS:
        assert found[name].threshold == pytest.approx(0.55)
        assert (found[name].sensitivity, found[name].specificity) == pytest.approx((0.75, 5 / 6))
    strict = choose_points(ten_rows(), sensitivity=0.95, specificity=0.95)
    assert strict["rule-out"]["any"].threshold == pytest.approx(0.25)
    assert strict["rule-in"]["any"].threshold == pytest.approx(0.75)
    assert strict["rule-in"]["any"].sensitivity == 0.5
    assert (found["balanced"].positives, found["balanced"].negatives) == (4, 6)


def test_points_are_the_outermost_on_scikit_learns_curve(val: Scored) -> None:
    points = choose_points(val, 0.9, 0.85)
    for column, label in enumerate(LABELS):
        alarms, found, cuts = roc_curve(
            val.truth[:, column], val.probability[:, column], drop_intermediate=False
        )
        # Lowest score that is flagged: the threshold lies between it and the next lower one.
        chosen = {}
        for name in POINTS:
            up = flagged(val, points, label, name)
            chosen[name] = val.probability[up, column].min()
            place = np.flatnonzero(cuts == chosen[name])[0]
            point = points[name][label]
            assert cuts[place + 1] < point.threshold <= chosen[name]
            assert (point.sensitivity, point.specificity) == pytest.approx(
                (found[place], 1 - alarms[place])
            )
        assert chosen["rule-out"] == cuts[found >= 0.9 - 1e-12].max()
        assert chosen["rule-in"] == cuts[1 - alarms >= 0.85 - 1e-12].min()
        balanced = points["balanced"][label]
        assert balanced.sensitivity + balanced.specificity - 1 == pytest.approx(
            (found - alarms).max()
        )


# Their middle is rounded down at the one, up at the other.
@pytest.mark.parametrize("low", [0.3, np.nextafter(0.3, 1)])
def test_neighbouring_floats_stay_apart(low: float) -> None:
    high = np.nextafter(low, 1)
    scored = ten_rows(score=np.where(TRUTH, high, low))
    points = choose_points(scored, 0.95, 0.95)
    for name in POINTS:
        np.testing.assert_array_equal(flagged(scored, points, "any", name), TRUTH)


def test_equal_scores_are_flagged_together() -> None:
    score = np.array([0.2] * 5 + [0.6] * 5)
    points = choose_points(ten_rows(score=score), 0.95, 0.95)
    assert points["rule-out"]["any"].threshold == 0.2
    # The highest score stands for two of six negatives too: nothing reaches 0.95.
    assert points["rule-in"]["any"].threshold is None
    assert "misses the specificity" in points["rule-in"]["any"].why


@pytest.mark.parametrize(
    ("truth", "score", "why"),
    [
        (np.zeros(10, bool), SCORES, "no positive validation slice"),
        (TRUTH, np.r_[np.nan, SCORES[1:]], "NaN"),
    ],
)
def test_what_is_not_estimable_has_no_threshold_and_a_reason(truth, score, why: str) -> None:
    scored = ten_rows(truth, score)
    points = choose_points(scored, 0.95, 0.95)
    for name in POINTS:
        assert points[name]["any"].threshold is None
        assert why in points[name]["any"].why
        assert flagged(scored, points, "any", name) is None


def test_without_a_negative_only_sensitivity_can_be_aimed_at() -> None:
    points = choose_points(ten_rows(np.ones(10, bool)), 0.9, 0.9)
    assert points["rule-out"]["any"].threshold == pytest.approx(0.075)
    assert points["rule-out"]["any"].specificity is None
    for name in ("rule-in", "balanced"):
        assert points[name]["any"].threshold is None
        assert "no negative" in points[name]["any"].why


def test_scores_worse_than_chance_have_no_balanced_point() -> None:
    points = choose_points(ten_rows(SCORES < 0.45), 0.95, 0.95)
    assert points["balanced"]["any"].threshold is None
    assert "better than chance" in points["balanced"]["any"].why


def test_test_patients_are_refused() -> None:
    with pytest.raises(HemtraceError, match="Operating points may be fixed on validation"):
        choose_points(make_scored("test"), 0.95, 0.95)
    with pytest.raises(HemtraceError, match="validation patients only"):
        fix_operating(make_scored("test"), "none", SHA, synthetic=True)


def test_flags_start_at_the_threshold() -> None:
    points = choose_points(ten_rows(), 0.75, 0.8)
    at = points["rule-out"]["any"].threshold
    shifted = ten_rows(score=np.r_[SCORES[:9], at])
    up = flagged(shifted, points, "any", "rule-out")
    np.testing.assert_array_equal(up, [False] * 6 + [True] * 4)


def test_nan_is_neither_flagged_nor_cleared() -> None:
    points = choose_points(ten_rows(), 0.75, 0.8)
    holed = ten_rows(score=np.r_[np.nan, SCORES[1:]])
    assert flagged(holed, points, "any", "rule-out") is None


def test_thresholds_are_on_calibrated_scores_made_by_the_rule(val, operating: Operating) -> None:
    calibrated = apply(fit_calibration(val, "platt"), val)
    for level in LEVELS:
        rows = calibrated.at_level(level, "mean-of-3")
        expected = choose_points(rows, 0.95, 0.95)
        assert operating.points[level] == expected
        up = flagged(rows, operating.points[level], "any", "rule-out")
        assert up[rows.truth[:, ANY]].mean() >= 0.95
    for level in LEVELS:
        assert set(operating.points[level]["balanced"]) == set(LABELS)
    assert (operating.validation_slices, operating.validation_patients) == (240, 30)


def test_file_brings_back_the_same_flags(tmp_path: Path, operating: Operating) -> None:
    path = tmp_path / "models" / "operating.json"
    write_operating(operating, path)
    again = read_operating(path, SHA)
    assert again == operating
    test = make_scored("test", seed=5)
    for use in (operating, again):
        rows = apply(use.calibration, test)
        up = flagged(rows, use.points["slices"], "subdural", "balanced")
        np.testing.assert_array_equal(
            up,
            rows.probability[:, LABELS.index("subdural")]
            >= operating.points["slices"]["balanced"]["subdural"].threshold,
        )
    first = path.read_bytes()
    write_operating(again, path)
    assert path.read_bytes() == first
    assert b"val_0" not in first


def test_file_of_another_model_is_refused(tmp_path: Path, operating: Operating) -> None:
    path = tmp_path / "operating.json"
    write_operating(operating, path)
    with pytest.raises(HemtraceError, match=r"belongs to the model aaaaaaaaaaaa, not to bbbb"):
        read_operating(path, "b" * 64)


def test_file_of_an_older_version_with_points_of_any_alone_is_read(tmp_path, operating) -> None:
    path = tmp_path / "operating.json"
    write_operating(operating, path)
    content = json.loads(path.read_text())
    for level in ("studies", "patients"):
        for point in content["points"][level].values():
            for label in LABELS[:ANY] + LABELS[ANY + 1 :]:
                del point[label]
    path.write_text(json.dumps(content))
    read = read_operating(path, SHA).points
    assert read["studies"]["balanced"] == {"any": operating.points["studies"]["balanced"]["any"]}
    del content["points"]["slices"]["balanced"]["subdural"]
    path.write_text(json.dumps(content))
    with pytest.raises(HemtraceError, match="damaged"):
        read_operating(path, SHA)


def test_missing_or_damaged_file_is_said(tmp_path: Path, operating: Operating) -> None:
    path = tmp_path / "operating.json"
    with pytest.raises(HemtraceError, match="were not found"):
        read_operating(path, SHA)
    path.write_text("{")
    with pytest.raises(HemtraceError, match="damaged"):
        read_operating(path, SHA)
    write_operating(operating, path)
    content = json.loads(path.read_text())
    del content["points"]["patients"]
    path.write_text(json.dumps(content))
    with pytest.raises(HemtraceError, match="damaged"):
        read_operating(path, SHA)


@pytest.mark.parametrize(
    "change", [{"default_point": "rule_out"}, {"score_rule": "mean"}, {"more": 1}]
)
def test_unknown_names_are_refused(operating: Operating, change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Operating.model_validate({**operating.model_dump(), **change})


def test_a_label_without_positives_is_carried_as_not_estimable(val, tmp_path: Path) -> None:
    truth = val.truth.copy()
    truth[:, 0] = False
    operating = fix_operating(replace(val, truth=truth), "isotonic", SHA, synthetic=False)
    path = tmp_path / "operating.json"
    write_operating(operating, path)
    points = read_operating(path, SHA).points
    for level, unit in (("slices", "slice"), ("studies", "study"), ("patients", "patient")):
        for name in POINTS:
            point = points[level][name]["epidural"]
            assert point.threshold is None
            assert point.why == f"no positive validation {unit}"
