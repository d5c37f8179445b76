"""Where the verdict on a patient and those on the slices contradict each other, in counts."""

from typing import Any

import numpy as np

from hemtrace.evaluate.operating import Operating, flagged
from hemtrace.evaluate.scored import Scored
from hemtrace.labels import ANY


def count_contradictions(calibrated: Scored, operating: Operating) -> dict[str, Any]:
    """Count patients whose slices say something else than their own verdict, at the default point.

    A patient's score is made of the slices', but has a threshold of its own: the highest of many
    slices is high by chance alone.

    Parameters
    ----------
    calibrated
        Slices with calibrated probabilities.
    operating
        Whose thresholds of slices and of patients are compared.

    Returns
    -------
    threshold_slices, threshold_patients; of patients with a bleed: bleeding, found, with_flags
    (those with a flagged slice), missed_with_flags; of patients without: clear, cleared,
    cleared_with_flags; `why`: None, or why nothing can be counted, the counts then being None;
    `sentence`.
    """
    point = operating.default_point
    patients = calibrated.at_level("patients", operating.score_rule)
    up_slices = flagged(calibrated, operating.points["slices"], "any", point)
    up_patients = flagged(patients, operating.points["patients"], "any", point)
    cuts = {
        f"threshold_{level}": operating.points[level][point]["any"].threshold
        for level in ("slices", "patients")
    }
    names = (
        "bleeding",
        "found",
        "with_flags",
        "missed_with_flags",
        "clear",
        "cleared",
        "cleared_with_flags",
    )
    if up_slices is None or up_patients is None:
        why = "slices or patients have no threshold, or scores that are NaN"
        return cuts | dict.fromkeys(names) | {"why": why, "sentence": f"Not to be told: {why}."}
    has_flag = np.isin(patients.keys, calibrated.patients[up_slices])
    bleeds = patients.truth[:, ANY]
    rows = (
        bleeds,
        bleeds & up_patients,
        bleeds & has_flag,
        bleeds & ~up_patients & has_flag,
        ~bleeds,
        ~bleeds & ~up_patients,
        ~bleeds & ~up_patients & has_flag,
    )
    counts = {name: int(of.sum()) for name, of in zip(names, rows, strict=True)}
    return cuts | counts | {"why": None, "sentence": _tell(point, cuts, counts)}


def _tell(point: str, cuts: dict[str, float | None], counts: dict[str, int]) -> str:
    return (
        f"Slices and patients have thresholds of their own ({point}: "
        f"{cuts['threshold_slices']:.3f} and {cuts['threshold_patients']:.3f}), so that their "
        f"verdicts can contradict each other: of {counts['bleeding']:,} patients with a bleed "
        f"{counts['found']:,} are found and {counts['with_flags']:,} have a flagged slice "
        f"({counts['missed_with_flags']:,} of the missed ones); of {counts['cleared']:,} patients "
        f"without a bleed who are cleared {counts['cleared_with_flags']:,} have a flagged slice."
    )
