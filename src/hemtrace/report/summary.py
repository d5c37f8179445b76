"""The first screen: what a clinician wants to know, in sentences."""

from typing import Any

from hemtrace.report.cells import interval
from hemtrace.report.evidence import Evidence


def summarise(evidence: Evidence) -> list[str]:
    """Say in plain words what was tested, what was found and missed, and what it is worth."""
    metrics = evidence.metrics
    test, point = metrics["partitions"]["test"], metrics["default_point"]
    slices, patients = test["slices"], test["patients"]
    of_patients, of_slices = (level["labels"]["any"] for level in (patients, slices))
    kind = "synthetic patients" if evidence.spec.synthetic else "patients"
    sentences = [
        f"A network looked at {slices['n']:,} CT slices of {patients['n']:,} {kind} that it had "
        f"never seen, {of_patients['positives']:,} of them with a bleed.",
        *_found("patients", of_patients, point),
        *_found("slices", of_slices, point),
    ]
    area = of_slices["roc_auc"]
    if area["value"] is not None:
        within = interval(area, 2)
        sentences.append(
            f"Of a slice with a bleed and one without, it gives the one with the bleed the higher "
            f"score in {area['value']:.0%} of all such pairs"
            + (f" (95 % interval of the AUC {within})." if within else ".")
        )
    rarest = min(metrics["sample_size"], key=lambda row: row["positive_patients"])
    sentences.append(
        f"Few cases make uncertain figures: {rarest['positive_patients']:,} test patients have "
        f"{'an' if rarest['label'][0] in 'aei' else 'a'} {rarest['label']} bleed."
    )
    if evidence.spec.synthetic:
        sentences.append(
            "None of this says how it would do on patients: it shows that the pipeline works from "
            "the files to this page."
        )
    return sentences


def _threshold(unit: str, point: dict[str, Any]) -> str:
    reached = "a probability" if unit == "slices" else "a highest slice"
    return f"Flagging {unit} from {reached} of {point['threshold']:.2f} on,"


def _found(unit: str, scores: dict[str, Any], point: str) -> list[str]:
    counts = scores["points"][point]["confusion"]
    if counts is None:
        return [f"For {unit} no threshold could be fixed: {scores['points'][point]['why']}."]
    positives, negatives = counts["tp"] + counts["fn"], counts["fp"] + counts["tn"]
    return [
        f"{_threshold(unit, scores['points'][point])} it found {counts['tp']:,} of "
        f"{positives:,} {unit} with a bleed, missed {counts['fn']:,}, and raised "
        f"{counts['fp']:,} false alarms among {negatives:,} {unit} without."
    ]
