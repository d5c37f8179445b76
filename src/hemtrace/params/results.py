"""The sections of the stages after training."""

from typing import Any, Literal

from pydantic import Field

from hemtrace.params.section import Section

# What differs from `train` in the label-shuffled run: a small network is leak detector enough.
_SHUFFLED = {
    "architecture": "tf_efficientnet_lite0",
    "weights": "file",
    "weights_file": "package:tf_efficientnet_lite0",
    "weights_sha256": None,
    "branches": "one",
    "classifier": "network",
    "output_stride": 32,
    "epochs": 2,
    "seeds": 1,
}


class EvaluateParams(Section):
    """Figures on the held-out test patients."""

    clip: float = Field(
        1e-6, gt=0, lt=0.1, description="probabilities are clipped to [clip, 1 - clip] in log loss"
    )
    score_rule: Literal["highest", "mean-of-3"] = Field(
        "highest",
        description="score of a study or patient: the highest probability over its slices, or the "
        "mean of the three highest",
    )
    calibration: Literal["none", "temperature", "platt", "isotonic"] = Field(
        "temperature",
        description="fitted to the validation patients, for each label; operating points stand on "
        "calibrated probabilities",
    )
    sensitivity: float = Field(
        0.95, gt=0, lt=1, description="on validation, of the operating point `rule-out`"
    )
    specificity: float = Field(
        0.95, gt=0, lt=1, description="on validation, of the operating point `rule-in`"
    )
    operating_point: Literal["rule-out", "balanced", "rule-in"] = Field(
        "balanced", description="the one of galleries, confusion matrices and `hemtrace predict`"
    )
    bootstrap: int = Field(
        1000, ge=0, description="patient-level bootstrap replicates for the intervals"
    )
    robustness_slices: int = Field(
        300, ge=0, description="test slices, of whole patients, that are changed and predicted anew"
    )
    familiar: float = Field(
        0.99,
        ge=0.5,
        lt=1,
        description="share of studies like the validation ones that pass as like the training "
        "data; others get no answer",
    )
    shuffled: dict[str, Any] | None = Field(
        _SHUFFLED,
        description="parameters of `train` that differ in the run whose labels are shuffled among "
        "patients, a test for leaks; null: no such run",
    )


class ExplainParams(Section):
    """Heat maps: their scores, regions, sanity checks and galleries."""

    method: Literal["grad-cam", "grad-cam++", "hirescam"] = Field(
        "grad-cam", description="how a heat map is made"
    )
    positives: int = Field(16, ge=0, description="slices with a predicted bleed, with heat map")
    negatives: int = Field(8, ge=0, description="slices without one, shown as they are")
    each_subtype: int = Field(
        1, ge=0, description="finds, misses and false alarms of each subtype that are shown"
    )
    worst: int = Field(6, ge=0, description="worst false alarms, and worst misses, that are shown")
    fewest_cells: int = Field(
        7,
        ge=4,
        description="cells on a side of the heat map; it is taken from the deepest layer that has "
        "as many",
    )
    scored: int = Field(
        300, ge=1, description="most slices with a lesion mask that are scored, of val and of test"
    )
    segmented: int = Field(
        400, ge=0, description="most flagged slices that get regions, in whole series by lot"
    )
    randomised: int = Field(
        12, ge=0, description="slices whose maps are compared with those of random networks"
    )
    planted: int = Field(
        16, ge=0, description="slices in which a lesion is planted, in four places each"
    )


class ReportParams(Section):
    """The page a reviewer reads."""

    title: str = Field("Intracranial haemorrhage on head CT", description="headline")
    quarantine_rows: int = Field(50, ge=0, description="quarantined files listed by name")
