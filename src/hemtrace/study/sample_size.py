"""How narrow can an interval be with so many positives? The note on the size of the sample."""

from typing import Any

import numpy as np

from hemtrace.labels import LABELS
from hemtrace.study.widths import auc_width, design_effect, exact_width, patients_needed

WANTED_WIDTH = 0.1
PLANNED_SENSITIVITY = 0.9
PLANNED_AUC = 0.95
_NO_POSITIVE = "no positive patient"


def sample_size_note(
    truth: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    thresholds: dict[str, float | None],
    wanted_width: float = WANTED_WIDTH,
) -> list[dict[str, Any]]:
    """Say for each label how wide the intervals are that the test patients allow.

    Parameters
    ----------
    truth
        bool (N, 6), test slices, in the order of `labels.LABELS`.
    probability
        float (N, 6); may hold NaN.
    patients
        str (N,).
    thresholds
        By label; None where it has none.
    wanted_width
        Of the intervals for which the number of patients is given.

    Returns
    -------
    A row a label, epidural first: label, positive_patients, negative_patients, positive_slices;
    sensitivity and auc at the levels of patients and slices (see `_sensitivity_rows` and
    `_auc_rows`); `sentence`, the note in words. Whatever is not estimable is None, with a `why`.
    """
    names, member = np.unique(patients, return_inverse=True)
    rows = []
    for place, label in enumerate(LABELS):
        bears = np.bincount(member, truth[:, place], minlength=len(names)) > 0
        positives, negatives = int(bears.sum()), int((~bears).sum())
        sensitivity = _sensitivity_rows(
            truth[:, place], probability[:, place], patients, positives, thresholds.get(label)
        )
        needed = _needed_for_sensitivity(wanted_width)
        rows.append(
            {
                "label": label,
                "positive_patients": positives,
                "negative_patients": negatives,
                "positive_slices": int(truth[:, place].sum()),
                "wanted_width": wanted_width,
                "sensitivity": sensitivity | needed,
                "auc": _auc_rows(
                    truth[:, place], probability[:, place], patients, bears, wanted_width
                ),
                "sentence": _sentence(label, positives, needed["needed_planned"], wanted_width),
            }
        )
    return rows


def _needed_for_sensitivity(wanted: float) -> dict[str, int | None]:
    return {
        "needed_all_found": patients_needed(lambda count: exact_width(count, count), wanted),
        "needed_planned": patients_needed(_planned_width, wanted),
    }


def _planned_width(count: int) -> float:
    return exact_width(round(PLANNED_SENSITIVITY * count), count)


def _sensitivity_rows(
    truth: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    positives: int,
    threshold: float | None,
) -> dict[str, Any]:
    """Widths of the sensitivity: of patients at best, as planned, at worst; of slices as found."""
    row: dict[str, Any] = {
        "planned": PLANNED_SENSITIVITY,
        "narrowest": exact_width(positives, positives) if positives else None,
        "at_planned": _planned_width(positives) if positives else None,
        "widest": exact_width(positives // 2, positives) if positives else None,
        "why": None if positives else _NO_POSITIVE,
        "design_effect": None,
        "effective_slices": None,
        "slice_width": None,
        "slice_why": _NO_POSITIVE,
    }
    if not positives:
        return row
    if threshold is None:
        return row | {"slice_why": "the label has no threshold"}
    scores, owners = probability[truth], patients[truth]
    if not np.isfinite(scores).all():
        return row | {"slice_why": "NaN among the predictions"}
    flagged = (scores >= threshold).astype(np.float64)
    effect, why = design_effect(flagged, owners)
    if effect is None:
        return row | {"slice_why": why}
    effective = len(flagged) / effect
    width = exact_width(float(flagged.mean()) * effective, effective)
    return row | {
        "design_effect": effect,
        "effective_slices": effective,
        "slice_width": width,
        "slice_why": None,
    }


def _auc_rows(
    truth: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    bears: np.ndarray,
    wanted: float,
) -> dict[str, Any]:
    """Widths of the AUC: of patients as planned, of slices by their effective numbers."""
    positives, negatives = int(bears.sum()), int((~bears).sum())
    row: dict[str, Any] = {
        "planned": PLANNED_AUC,
        "at_planned": None,
        "needed_planned": None,
        "why": None,
        "design_effect_positive": None,
        "design_effect_negative": None,
        "slice_width": None,
        "slice_why": None,
    }
    if positives and negatives:
        ratio = negatives / positives
        row["at_planned"] = auc_width(PLANNED_AUC, positives, negatives)
        row["needed_planned"] = patients_needed(
            lambda count: auc_width(PLANNED_AUC, count, max(1.0, ratio * count)), wanted
        )
    else:
        row["why"] = "no positive patient" if not positives else "no negative patient"
    if truth.all() or not truth.any():
        return row | {"slice_why": "one class only"}
    if not np.isfinite(probability).all():
        return row | {"slice_why": "NaN among the predictions"}
    above, below = _placements(truth, probability)
    effects = []
    for placed, owners in ((above, patients[truth]), (below, patients[~truth])):
        effect, why = design_effect(placed, owners)
        if effect is None:
            return row | {"slice_why": why}
        effects.append(effect)
    auc = float(above.mean())
    return row | {
        "design_effect_positive": effects[0],
        "design_effect_negative": effects[1],
        "slice_width": auc_width(
            auc, max(1.0, len(above) / effects[0]), max(1.0, len(below) / effects[1])
        ),
    }


def _placements(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each positive the share of negatives below it, each negative that of positives above.

    Ties count half (DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837-845).
    """
    positive, negative = score[truth], score[~truth]
    return _share_below(positive, np.sort(negative)), 1 - _share_below(negative, np.sort(positive))


def _share_below(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    left = np.searchsorted(ordered, values, side="left")
    right = np.searchsorted(ordered, values, side="right")
    share: np.ndarray = (left + right) / (2 * len(ordered))
    return share


def _sentence(label: str, positives: int, needed: int | None, wanted: float) -> str:
    if not positives:
        return f"{label}: no test patient bears it, so nothing is known of its sensitivity."
    narrowest = exact_width(positives, positives)
    patients = "patient" if positives == 1 else "patients"
    found = "if it were found" if positives == 1 else "if all were found"
    planned = f"{PLANNED_SENSITIVITY:g}"
    return (
        f"{label}: with {positives:,} positive test {patients} the 95 % interval of the "
        f"sensitivity by patients is at least {narrowest:.2f} wide, even {found}; for a width of "
        f"{wanted:g} at a sensitivity of {planned} about {needed:,} would be needed."
    )
