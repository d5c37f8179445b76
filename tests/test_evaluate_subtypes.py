"""evaluate: subtypes that are taken for others, and verdicts that contradict each other."""

import numpy as np
import pytest

from hemtrace.evaluate.calibrate import Calibration, LabelCalibration
from hemtrace.evaluate.confused import confuse_subtypes
from hemtrace.evaluate.contradictions import count_contradictions
from hemtrace.evaluate.operating import POINTS, Operating, Point
from hemtrace.evaluate.scored import LEVELS, Scored
from hemtrace.labels import ANY, LABELS, SUBTYPES
from hemtrace.metrics import resample_patients


def make_operating(slices: float | None, patients: float, subtypes: float = 0.5) -> Operating:
    """Fix thresholds of any bleed of slices and of patients, and one of all subtypes."""
    of_any = {"slices": slices, "studies": patients, "patients": patients}

    def fix(level: str, label: str) -> Point:
        threshold = of_any[level] if label == "any" else subtypes
        return Point(threshold=threshold, positives=1, negatives=1)

    nothing = LabelCalibration(positives=1, negatives=1)
    return Operating(
        model_sha256="a" * 64,
        synthetic=True,
        calibration=Calibration(
            method="none", level="slices", labels=dict.fromkeys(LABELS, nothing), fitted_on=()
        ),
        score_rule="highest",
        aims={"sensitivity": 0.95, "specificity": 0.95},
        default_point="balanced",
        points={
            level: {name: {label: fix(level, label) for label in LABELS} for name in POINTS}
            for level in LEVELS
        },
        validation_slices=1,
        validation_patients=1,
    )


def make_slices(rows: list[tuple[str, str, float, dict[str, float]]]) -> Scored:
    """Make slices: patient, true subtypes by initial of theirs, p of any, p of some subtypes."""
    truth = np.zeros((len(rows), len(LABELS)), dtype=bool)
    probability = np.full((len(rows), len(LABELS)), 0.01)
    for k, (_, names, of_any, others) in enumerate(rows):
        for name in names.split():
            truth[k, LABELS.index(name)] = truth[k, ANY] = True
        probability[k, ANY] = of_any
        for name, value in others.items():
            probability[k, LABELS.index(name)] = value
    patients = np.array([row[0] for row in rows])
    keys = np.array([f"s{k}" for k in range(len(rows))])
    return Scored("test", "slices", keys, patients, patients, truth, probability)


SLICES = make_slices(
    [
        ("a", "subdural", 0.9, {"subdural": 0.8}),
        ("a", "subdural", 0.6, {"subdural": 0.2, "epidural": 0.4}),
        ("b", "epidural subdural", 0.5, {"epidural": 0.3}),
        ("b", "epidural", 0.2, {"epidural": 0.9}),  # not flagged
        ("c", "", 0.45, {"epidural": 0.7}),
        ("c", "", 0.1, {}),
        ("d", "", 0.1, {}),
        ("d", "", 0.3, {"subdural": 0.5}),
        ("e", "subarachnoid", 0.2, {}),
    ]
)


def test_subtypes_of_nine_slices_by_hand() -> None:
    resamples = resample_patients(SLICES.patients, 200, seed=0)
    found = confuse_subtypes(SLICES, make_operating(0.4, 0.7), resamples)
    counted = {
        (true, told): count
        for true, row in found["table"].items()
        for told, count in row.items()
        if count
    }
    assert counted == {("subdural", "subdural"): 1, ("subdural", "epidural"): 1}
    assert list(found["table"]) == list(SUBTYPES)
    # The third find has two subtypes, of which the highest is one.
    assert (found["finds"], found["several"], found["clear"]) == (3, 1, 4)
    assert found["right"]["value"] == pytest.approx(2 / 3)
    # A threshold is reached by what equals it.
    assert found["alarmed"]["value"] == pytest.approx(2 / 4)


def test_verdicts_of_five_patients_by_hand() -> None:
    found = count_contradictions(SLICES, make_operating(0.4, 0.7))
    assert {
        "bleeding": 3,
        "found": 1,
        "with_flags": 2,
        "missed_with_flags": 1,
        "clear": 2,
        "cleared": 2,
        "cleared_with_flags": 1,
    }.items() <= found.items()
    assert found["sentence"].endswith(
        "of 3 patients with a bleed 1 are found and 2 have a flagged slice (1 of the missed ones); "
        "of 2 patients without a bleed who are cleared 1 have a flagged slice."
    )


def test_without_a_threshold_nothing_is_counted_and_it_is_said() -> None:
    operating = make_operating(None, 0.7)
    found = count_contradictions(SLICES, operating)
    assert found["found"] is None
    assert found["sentence"].startswith("Not to be told: ")
    confused = confuse_subtypes(SLICES, operating, resample_patients(SLICES.patients, 20, seed=0))
    assert confused["table"] is None
    assert confused["right"]["value"] is None
    assert confused["why"]
