"""Studies -> patients: one score and one answer of all that was scanned of a person."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from hemtrace.evaluate.operating import Operating
from hemtrace.labels import ANY, LABELS
from hemtrace.predict.place import score_rows
from hemtrace.predict.study import Answer, StudyPrediction
from hemtrace.predict.verdict import name_point

PATIENT_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "patient": pl.String,
    "answer": pl.String,
    "any": pl.Float64,
    "threshold": pl.Float64,
    "sensitivity": pl.Float64,
    "specificity": pl.Float64,
    "studies": pl.Int64,
    "answered": pl.Int64,
    "slices": pl.Int64,
}


@dataclass
class _Patient:
    patient: str | None
    answers: list[Answer] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)


class Patients:
    """Gathers studies as they come, and judges their patients at the end.

    The score is made of the slices of all his chosen series, by the rule that made the points of
    patients in evaluation. There is no answer where one of his studies has none and no bleed is
    found in the others: it could hold one. Studies without PatientID are a patient each.
    """

    def __init__(self, operating: Operating | None, point: str) -> None:
        self._operating, self._point = operating, name_point(operating, point or None)
        self._known: dict[str, _Patient] = {}

    def add(self, study: StudyPrediction) -> None:
        """Take a study."""
        key = study.patient or f"unknown {len(self._known)}"
        one = self._known.setdefault(key, _Patient(study.patient))
        one.answers.append(study.verdict.answer)
        chosen = study.chosen
        if chosen is not None and study.verdict.answer != "no-answer":
            one.probabilities.append(np.stack([own.probabilities for own in chosen.slices]))

    def rows(self) -> list[dict[str, Any]]:
        """Give a row a patient, in the order of their first study."""
        return [self._judge(one) for one in self._known.values()]

    def _judge(self, one: _Patient) -> dict[str, Any]:
        known = None
        if self._operating is not None:
            known = self._operating.points["patients"][self._point][LABELS[ANY]]
        score = threshold = None
        answer: Answer = "no-answer"
        if one.probabilities and self._operating is not None:
            rows = np.concatenate(one.probabilities)
            score = float(score_rows(rows, self._operating.score_rule)[ANY])
        threshold = None if known is None else known.threshold
        if score is not None and threshold is not None:
            if score >= threshold:
                answer = "bleed"
            elif "no-answer" not in one.answers:
                answer = "no-bleed"
        return {
            "patient": one.patient,
            "answer": answer,
            "any": score,
            "threshold": threshold,
            "sensitivity": None if known is None else known.sensitivity,
            "specificity": None if known is None else known.specificity,
            "studies": len(one.answers),
            "answered": sum(own != "no-answer" for own in one.answers),
            "slices": sum(len(own) for own in one.probabilities),
        }
