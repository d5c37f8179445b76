"""Named operating points: thresholds fixed on validation patients, carried with the model."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.calibrate import Calibration
from hemtrace.evaluate.position import PositionShares
from hemtrace.evaluate.scored import LEVELS, Rule, Scored
from hemtrace.labels import LABELS
from hemtrace.writing import write_whole

POINTS: dict[str, str] = {
    "rule-out": "the highest score whose sensitivity on validation reaches the aim",
    "rule-in": "the lowest score whose specificity on validation reaches the aim",
    "balanced": "the score of the greatest sensitivity + specificity - 1 (Youden's J) on "
    "validation; of several the one whose sensitivity and specificity are closest",
}


class Point(BaseModel):
    """A threshold and what it reached on validation.

    Attributes
    ----------
    threshold
        A row is flagged when its calibrated probability is at least this; None where the point is
        not estimable.
    positives, negatives
        Validation rows it was chosen on.
    sensitivity, specificity
        On those rows, so flattering: the test rows tell.
    why
        Why there is no threshold.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    threshold: float | None
    positives: int
    negatives: int
    sensitivity: float | None = None
    specificity: float | None = None
    why: str | None = None


Points = dict[str, dict[str, Point]]


class Operating(BaseModel):
    """All that turns a model's probabilities into answers: calibration and thresholds.

    Attributes
    ----------
    model_sha256
        Of the model file that it belongs to.
    synthetic
        Whether it was fixed on the phantom.
    calibration
        Of slices.
    score_rule
        How one score is made of the calibrated slices of a study or patient.
    aims
        Wanted `sensitivity` of rule-out, wanted `specificity` of rule-in.
    default_point
        The point that an answer uses unless told otherwise.
    points
        By level, name of the point and label. Of studies and patients, files of older versions have
        `any` alone.
    validation_slices, validation_patients
        What it was fixed on.
    position
        What the place in the scan alone tells, learned on training patients: the null that must
        stand beside the model on other data too. None where it is not known, as in files of older
        versions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model_sha256: str
    synthetic: bool
    calibration: Calibration
    score_rule: Rule
    aims: dict[str, float]
    default_point: str
    points: dict[str, Points]
    validation_slices: int
    validation_patients: int
    position: PositionShares | None = None

    @model_validator(mode="after")
    def _names_are_known(self) -> "Operating":
        if self.default_point not in POINTS:
            raise ValueError(f"default_point {self.default_point!r} is none of {list(POINTS)}")
        if set(self.points) != set(LEVELS):
            raise ValueError(f"points must hold the levels {LEVELS}")
        for level, points in self.points.items():
            named = {frozenset(point) for point in points.values()}
            # Thresholds of studies and patients once were those of any bleed alone.
            old = {frozenset({"any"})} if level != "slices" else set()
            if set(points) != set(POINTS) or named not in ({frozenset(LABELS)}, old):
                raise ValueError(f"points of {level} must be {list(POINTS)} for {LABELS}")
        return self


def flagged(
    scored: Scored, points: Mapping[str, Mapping[str, Point]], label: str, point: str
) -> np.ndarray | None:
    """Flag the rows whose calibrated probability reaches a point's threshold.

    Parameters
    ----------
    scored
        Calibrated rows.
    points
        Those of the same level.
    label, point
        Names.

    Returns
    -------
    bool (N,); None where the point is not estimable or the scores hold NaN, which is neither
    flagged nor cleared.
    """
    threshold = points[point][label].threshold
    score = scored.probability[:, LABELS.index(label)]
    if threshold is None or np.isnan(score).any():
        return None
    return score >= threshold


def write_operating(operating: Operating, path: Path) -> None:
    """Write it as JSON, whole or not at all.

    Raises
    ------
    HemtraceError
        If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        part.write_text(operating.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_operating(path: Path, model_sha256: str) -> Operating:
    """Read what belongs to a model.

    Parameters
    ----------
    path
        As `write_operating` wrote it.
    model_sha256
        Of the model file that it is to be used with.

    Raises
    ------
    HemtraceError
        If the file is missing or damaged, or belongs to another model.
    """
    if not path.is_file():
        raise HemtraceError(
            f"The operating points {path} were not found; the stage evaluate makes them."
        )
    try:
        operating = Operating.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise HemtraceError(
            f"{path} is damaged or of another version of hemtrace: {error.error_count()} fields do "
            f"not fit, {error.errors()[0]['loc']} for one; run the stage evaluate again."
        ) from None
    if operating.model_sha256 != model_sha256:
        raise HemtraceError(
            f"{path} belongs to the model {operating.model_sha256[:12]}, not to "
            f"{model_sha256[:12]}: its thresholds mean nothing there; run the stage evaluate "
            "again, or take the file that came with the model."
        )
    return operating
