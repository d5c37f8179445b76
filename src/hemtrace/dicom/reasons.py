"""Why a file or a slice is not used: one code each, and the step of the flow at which it ends."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# The flow of numbers: each step holds what the step before it left.
STEPS: tuple[str, ...] = ("readable", "ct", "head", "labelled", "used")

# code -> (the step that it fails, what it means)
REASONS: dict[str, tuple[str, str]] = {
    "not-dicom": ("readable", "the file is no DICOM file"),
    "unreadable": ("readable", "the file could not be opened"),
    "damaged-header": ("readable", "the header lacks what is needed, or holds no sense"),
    "truncated": ("readable", "the file ends before its pixels do"),
    "undecodable": ("readable", "the pixels cannot be decoded"),
    "too-large": (
        "readable",
        "it claims more pixels than any CT has, or unpacks to too many bytes",
    ),
    "too-slow": ("readable", "reading it took longer than ingest.read_seconds"),
    "decoder-died": ("readable", "the program that decodes its pixels crashed on it"),
    "not-ct": ("ct", "the modality is not CT"),
    "dose-report": ("ct", "a structured report, such as the dose of the scan"),
    "secondary-capture": ("ct", "a secondary capture: a picture of a screen, not of a patient"),
    "localizer": ("ct", "a localizer (scout)"),
    "no-pixels": ("ct", "a CT object without pixels"),
    "not-greyscale": ("ct", "the picture has colours"),
    "not-hu": ("ct", "its values are not Hounsfield units (a dual-energy map, say)"),
    "implausible-hu": ("ct", "air, soft tissue or bone do not stand where they belong"),
    "not-axial": ("head", "no axial slice"),
    "not-head": ("head", "the header names another part of the body"),
    "no-head": ("head", "the picture shows no head"),
    "no-patient": ("labelled", "no PatientID, so that it cannot be split by patient"),
    "unlabelled": ("labelled", "the label file has no rows for it"),
    "incomplete-labels": ("labelled", "the label file lacks some of its six rows"),
    "conflicting-labels": ("labelled", "the label file contradicts itself about it"),
    "other-series": ("used", "another series of its study was chosen"),
    "doubled": ("used", "the same instance, or the same place of its series, stands twice"),
}


def count_steps(pictures: int, quarantined: Mapping[str, int]) -> dict[str, int]:
    """Count the pictures that passed each step, given how many ended for each reason."""
    passed = {}
    for step in STEPS:
        pictures -= sum(count for code, count in quarantined.items() if REASONS[code][0] == step)
        passed[step] = pictures
    return passed


class QuarantineError(Exception):
    """A file that cannot be used: a reason code out of `REASONS`, and what was found.

    `detail` never quotes a text of the header: it may hold a person's name. `facts` and `picture`
    are those of `slices.Rejected`, as far as they are known.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail or REASONS[reason][1]}")
        self.reason = reason
        self.detail = detail
        self.facts: Mapping[str, Any] = {}
        self.picture: np.ndarray | None = None
