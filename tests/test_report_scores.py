"""report: what the tables of scores say below and beside their figures."""

import copy
from typing import Any

import pytest
from test_evaluate import make_predictions, score

from hemtrace.labels import SUBTYPES
from hemtrace.report import benefit, calibration, scores


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    return score(make_predictions())


def test_the_note_names_the_levels_whose_rates_have_exact_intervals(metrics: dict) -> None:
    # Two studies a patient: patients alone stand once.
    for table in (scores.points_table(metrics), scores.operating_table(metrics)):
        assert "Of patients, of which each patient has one, sensitivity" in table.note
        assert "exact binomial (Clopper-Pearson)" in table.note


def test_each_point_stands_beside_its_aim_and_what_it_reached(metrics: dict) -> None:
    own = metrics["partitions"]["test"]["slices"]["labels"]["any"]["points"]["rule-out"]
    assert own["aim"] == {"figure": "sensitivity", "at_least": 0.8}
    assert own["term"] == "high-sensitivity"
    table = scores.points_table(metrics)
    (row,) = [row for row in table.rows if row[0] == "rule-out, slices"]
    cells = dict(zip(table.columns, row, strict=True))
    assert cells["Aim"] == "sensitivity\nat least 0.80"
    reached = own["validation"]
    assert reached["sensitivity"] >= 0.8
    assert cells["On validation\n(sensitivity,\nspecificity)"] == (
        f"{reached['sensitivity']:.2f}\n{reached['specificity']:.2f}"
    )


def test_points_that_miss_their_aim_or_change_places_are_told(metrics: dict) -> None:
    changed = copy.deepcopy(metrics)
    points = changed["partitions"]["test"]["slices"]["labels"]["any"]["points"]
    points["rule-in"]["note"] = "rule-in has a lower threshold."
    assert "Of slices: rule-in has a lower threshold." in scores.points_table(changed).note


def test_cells_that_do_not_beat_their_null_are_marked_and_told_below(metrics: dict) -> None:
    changed = copy.deepcopy(metrics)
    of_any = {"level": "slices", "label": "any", "figure": "log_loss"}
    changed["no_better"] = {"figures": [of_any], "sentences": {"slices": "No better: any."}}
    table = scores.labels_table(changed)
    marked = [
        (row[0], column)
        for row in table.rows
        for column, cell in zip(table.columns, row, strict=True)
        if cell.endswith("(no better)")
    ]
    assert marked == [("any", "Log loss")]
    assert table.note.startswith("No better: any. ")


def test_labels_whose_calibration_got_worse_are_named_with_their_figures(metrics: dict) -> None:
    changed = copy.deepcopy(metrics)
    # Nothing was calibrated in this run: before and after are the same.
    assert "of no label worse" in calibration.judge_calibration(changed["calibration"])
    of_any = changed["calibration"]["any"]
    for figure, before, after in (("slope", 1.377, 1.547), ("ece", 0.044, 0.055)):
        of_any["before"][figure]["value"], of_any["after"][figure]["value"] = before, after
    of_subdural = changed["calibration"]["subdural"]
    of_subdural["before"]["slope"]["value"], of_subdural["after"]["slope"]["value"] = 0.4, 0.5
    note = calibration.judge_calibration(changed["calibration"])
    assert "it did not help everywhere: afterwards the slope lies farther from 1 for any " in note
    assert "(1.377, then 1.547); the ECE is higher for any (0.044, then 0.055)." in note


@pytest.mark.parametrize("level", ["patients", "slices"])
def test_predictive_values_stand_beside_those_without_a_test(metrics: dict, level: str) -> None:
    table = benefit.prevalence_table(metrics, level)
    assert table.columns[1] == "PPV, NPV\nwithout a test"
    (row,) = [row for row in table.rows if row[0] == "1.0%"]
    assert row[1] == "0.01\n0.99"


def test_table_of_subtypes_has_a_row_a_true_one_and_tells_the_shares(metrics: dict) -> None:
    found, table = metrics["confused"], scores.confused_table(metrics)
    assert [row[0] for row in table.rows] == list(table.columns[1:]) == list(SUBTYPES)
    told = [[int(cell) for cell in row[1:]] for row in table.rows]
    assert told == [list(found["table"][name].values()) for name in SUBTYPES]
    assert f"Of {found['finds']} flagged slices with a bleed" in table.note
    assert f"Of {found['clear']} slices without a bleed" in table.note


def test_points_say_where_verdicts_on_slices_and_patients_contradict(metrics: dict) -> None:
    assert metrics["contradictions"]["sentence"] in scores.points_table(metrics).note


def test_it_is_told_where_acting_on_the_model_is_of_no_more_use(metrics: dict) -> None:
    changed = copy.deepcopy(metrics)
    changed["benefit"]["decision"] = {
        "patients": {"why": None, "useful": [[0.03, 0.03], [0.12, 0.6]]},
        "slices": {"why": None, "useful": []},
    }
    told = benefit.tell_usefulness(changed)
    assert "for patients at 3% and 12% to 60%; for slices nowhere" in told
    none = {level: {"why": "one class only"} for level in ("patients", "slices")}
    changed["benefit"]["decision"] = none
    assert benefit.tell_usefulness(changed) == ""
