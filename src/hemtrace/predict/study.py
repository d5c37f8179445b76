"""What is predicted of a study: its slices, its series, and one verdict."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from hemtrace.labels import ANY, LABELS
from hemtrace.window import Square

Answer = Literal["bleed", "no-bleed", "no-answer"]


@dataclass(frozen=True)
class Identity:
    """Whose slice it is, in the words of its own header; never written to logs or tables.

    Attributes
    ----------
    study_uid, series_uid, instance_uid, frame_of_reference_uid
        As they stand in the header; empty where they are missing.
    patient_name, patient_id
        For the eyes of the person who gave the file.
    study_date, study_description, series_description, accession
        Likewise.
    series_number
        None where it is missing.
    contrast_agent
        ContrastBolusAgent (PS3.3 C.7.6.4), empty where there is none.
    """

    study_uid: str = ""
    series_uid: str = ""
    instance_uid: str = ""
    frame_of_reference_uid: str = ""
    patient_name: str = ""
    patient_id: str = ""
    study_date: str = ""
    study_description: str = ""
    series_description: str = ""
    accession: str = ""
    series_number: int | None = None
    contrast_agent: str = ""


@dataclass(frozen=True)
class SlicePrediction:
    """A slice and what the model says of it.

    Attributes
    ----------
    file, frame
        Name that it was listed by, and number within a multi-frame file (from 1) or None.
    key
        Its pseudonym, `dicom.slice_key`.
    z_mm
        Position along the normal of the slice; None where the header does not tell.
    shape
        Rows and columns.
    spacing_mm
        Height and width of a pixel; None where unknown.
    thickness_mm
        SliceThickness; None where unknown.
    square
        The part of it that the model saw.
    probabilities
        float64 (6,), calibrated, in the order of `labels.LABELS`.
    raw
        float64 (6,), as the network gave them.
    cells
        float32 (6, rows, columns) of the raw heat maps' cells; None where there are none.
    distance
        How far its features lie from those of training (`familiar`); None where not measured.
    noise_hu
        From pixel to pixel in soft tissue (`noise.measure_noise`); None where there is too little.
    hu
        int16 (rows, columns), Hounsfield units; None unless asked for.
    facts
        The row of `shards.ROW_SCHEMA` that its reading gave.
    identity
        None unless asked for.
    head
        Where the head lies in the model's picture, for the regions of its heat maps: bool (size,
        size), packed by `numpy.packbits`; read it by `regions.head_of`.
    """

    file: str
    frame: int | None
    key: str
    z_mm: float | None
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    thickness_mm: float | None
    square: Square
    probabilities: np.ndarray
    raw: np.ndarray
    cells: np.ndarray | None = None
    distance: float | None = None
    noise_hu: float | None = None
    hu: np.ndarray | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    identity: Identity | None = None
    head: np.ndarray | None = None

    @property
    def any(self) -> float:
        """Calibrated probability of any bleed."""
        return float(self.probabilities[ANY])

    def by_label(self) -> dict[str, float | None]:
        """Give the calibrated probabilities by label; None where one is no number."""
        return {name: _plain(p) for name, p in zip(LABELS, self.probabilities, strict=True)}


@dataclass(frozen=True)
class RejectedFile:
    """A file, or frame of one, without a prediction, and why (`dicom.REASONS`)."""

    file: str
    frame: int | None
    reason: str
    meaning: str
    detail: str | None = None


@dataclass(frozen=True)
class Reason:
    """Why there is no answer, or what to be wary of.

    Attributes
    ----------
    code
        Short name, such as `sharp-kernel`.
    sentence
        For the person who reads the answer.
    stops
        Whether it forbids an answer; otherwise it is a warning.
    """

    code: str
    sentence: str
    stops: bool


@dataclass(frozen=True)
class Verdict:
    """The answer on a study at an operating point.

    Attributes
    ----------
    answer
        `no-answer` where a reason stops it.
    point
        Name of the operating point.
    probability
        Calibrated score of `any` of the study; None where there is no slice.
    threshold
        Of the point at the level of studies; None where it is not estimable.
    sensitivity, specificity
        What the point reached on the validation patients; None where not estimable.
    subtypes
        Label -> highest calibrated probability over the slices of the chosen series.
    flagged
        Label -> whether any slice of it reaches the point's threshold of slices.
    urgency
        0..1, the worklist's order: higher is read first; an unanswered study stands between.
    reasons
        Stops first.
    sentence
        The answer in words.
    """

    answer: Answer
    point: str
    probability: float | None
    threshold: float | None
    sensitivity: float | None
    specificity: float | None
    subtypes: Mapping[str, float]
    flagged: Mapping[str, bool]
    urgency: float
    reasons: tuple[Reason, ...]
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values for JSON, which knows no NaN."""
        told = asdict(self)
        for name in ("probability", "threshold", "sensitivity", "specificity"):
            told[name] = _plain(told[name])
        told["subtypes"] = {name: _plain(p) for name, p in self.subtypes.items()}
        told["flagged"] = dict(self.flagged)
        told["reasons"] = [asdict(reason) for reason in self.reasons]
        return told


@dataclass(frozen=True)
class SeriesPrediction:
    """A series, its slices along the scan from the lowest to the highest.

    Attributes
    ----------
    key
        Its pseudonym; None where the header names no series.
    chosen
        Whether the verdict is of it: the one series of the study that ingest would choose.
    scores
        float64 (6,): one score of its slices by the model's rule; NaN where a slice has none.
    copies
        Slices that stand in it a second time; predicted, but in no score.
    gaps
        Places along the scan where a slice is missing (`ingest.series.find_missing`).
    unreadable
        Slices of it whose pixels could not be used.
    step_mm
        Usual distance of neighbouring slices; None where positions are unknown.
    extent_mm
        Length of the scan, a step for the last slice included; None likewise.
    """

    key: str | None
    slices: tuple[SlicePrediction, ...]
    chosen: bool
    scores: np.ndarray
    copies: tuple[SlicePrediction, ...] = ()
    gaps: int = 0
    unreadable: int = 0
    step_mm: float | None = None
    extent_mm: float | None = None


@dataclass(frozen=True)
class StudyPrediction:
    """A study: its series, what of it could not be read, and the verdict.

    Attributes
    ----------
    key, patient
        Pseudonyms; None where the header has none.
    series
        The chosen one first. Empty where no file of the study could be predicted.
    rejected
        Files that name this study in their header, and have no prediction.
    reasons
        Those for which no operating point matters (`refuse`); the verdict has them all.
    """

    key: str | None
    patient: str | None
    series: tuple[SeriesPrediction, ...]
    verdict: Verdict
    rejected: tuple[RejectedFile, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def chosen(self) -> SeriesPrediction | None:
        """The series that the verdict is of."""
        return next((one for one in self.series if one.chosen), None)

    @property
    def identity(self) -> Identity | None:
        """Whose study it is; None where it was not asked for."""
        slices = (one for series in self.series for one in series.slices)
        return next((one.identity for one in slices if one.identity is not None), None)


@dataclass(frozen=True)
class Prediction:
    """What became of some files.

    Attributes
    ----------
    studies
        By urgency, the most urgent first.
    rejected
        Every file, or frame of one, that has no prediction, in the order of the names.
    files
        How many were given.
    model_sha256, runtime, synthetic
        What predicted, and whether it was trained on synthetic data.
    calibrated
        Whether operating points belong to the model; otherwise no study has an answer.
    """

    studies: tuple[StudyPrediction, ...]
    rejected: tuple[RejectedFile, ...]
    files: int
    model_sha256: str
    runtime: str
    synthetic: bool
    calibrated: bool

    @property
    def slices(self) -> int:
        """Count the slices that were predicted, copies included."""
        return sum(
            len(series.slices) + len(series.copies)
            for study in self.studies
            for series in study.series
        )


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
