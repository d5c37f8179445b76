"""Whether the probabilities can be taken at their word."""

from typing import Any

from hemtrace.evaluate.calibrate import METHODS
from hemtrace.report.cells import ANY_FIRST, NO_INTERVAL, Table, marked_cell

_CALIBRATION = (
    ("Slope\n(1 is right)", "slope"),
    ("Intercept of\nthat line (0)", "intercept"),
    ("Calibration in\nthe large (0)", "in_the_large"),
    ("Observed /\nexpected (1)", "observed_expected"),
    ("ECE\n(0)", "ece"),
    ("Brier", "brier"),
    ("Reliability\n(0)", "reliability"),
    ("Resolution", "resolution"),
    ("Uncertainty", "uncertainty"),
)


def calibration_table(metrics: dict[str, Any]) -> Table:
    """Show reliability before and after calibration."""
    rows = []
    for label in ANY_FIRST:
        own = metrics["calibration"][label]
        for when in ("before", "after"):
            why = own["fit"]["why"] if when == "after" else None
            name = f"{label}, {when}" + (f"\n{why}" if why else "")
            fit = _tell_fit(own["fit"]) if when == "after" else ("", "")
            figures = (marked_cell(own[when][figure]) for _, figure in _CALIBRATION)
            rows.append((name, *fit, *figures))
    return Table(
        (
            "Label",
            "Positives it\nwas fitted on",
            "Fitted",
            *(name for name, _ in _CALIBRATION),
        ),
        rows,
        note=f"Calibration: {metrics['rules']['calibration']}; test patients took no part. "
        "Positives are validation slices. "
        "Slope and intercept are of one line, fitted together: where the slope is not 1 the "
        "intercept is the error at a stated probability of 0.5, not the mean one. That is "
        "calibration in the large, the shift of the log-odds that makes the expected number of "
        "positives the observed one; above 0 the probabilities are too low. "
        "ECE: mean distance of share and probability over 15 bins of equal counts. Brier = "
        f"reliability - resolution + uncertainty + terms within the bins. {NO_INTERVAL}",
    )


def _tell_fit(fit: dict[str, Any]) -> tuple[str, str]:
    """Say on how many positives a label was calibrated, and what was fitted."""
    positives = f"{fit['positives']:,}\nof {fit['positives'] + fit['negatives']:,}"
    if fit["temperature"] is not None:
        return positives, f"temperature\n{fit['temperature']:.3f}"
    if fit["slope"] is not None:
        return positives, f"slope {fit['slope']:.3f}\nintercept {fit['intercept']:.3f}"
    # The steps of isotonic calibration are too many for a cell.
    return positives, ""


def tell_patient_calibration(metrics: dict[str, Any]) -> str:
    """Say whether patients' probabilities were calibrated as such, and on how many patients."""
    if metrics["rules"]["calibration"] == METHODS["none"]:
        return "Nothing was calibrated (evaluate.calibration is none), patients neither."
    patients = metrics["partitions"]["val"]["patients"]
    bleeding = patients["labels"]["any"]["positives"]
    return (
        f"Patients were calibrated as such, on {bleeding:,} validation patients with a bleed and "
        f"{patients['n'] - bleeding:,} without."
    )


def judge_calibration(calibration: dict[str, Any]) -> str:
    """Say for which labels the probabilities can be taken at their word less than before."""
    worse = {
        "the slope lies farther from 1": _find_worsened(calibration, "slope", 1),
        "the ECE is higher": _find_worsened(calibration, "ece", 0),
        "the Brier score is higher": _find_worsened(calibration, "brier", 0),
    }
    told = [f"{what} for {', '.join(labels)}" for what, labels in worse.items() if labels]
    if not told:
        return "On these test slices it made slope, ECE and Brier score of no label worse."
    return (
        f"On these test slices it did not help everywhere: afterwards {'; '.join(told)}. There the "
        "calibrated probabilities are no better to be taken at their word than the network's own."
    )


def _find_worsened(calibration: dict[str, Any], figure: str, right: float) -> list[str]:
    """Find the labels of which a figure, as it is shown, lies farther from its right value."""
    worsened = []
    for label in ANY_FIRST:
        values = [calibration[label][when][figure]["value"] for when in ("before", "after")]
        if None in values:
            continue
        before, after = (round(value, 3) for value in values)
        if abs(after - right) > abs(before - right):
            worsened.append(f"{label} ({before:.3f}, then {after:.3f})")
    return worsened
