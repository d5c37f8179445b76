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
        _tell_rates(kind, of_patients, point),
        _tell_rates("slices", of_slices, point),
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


def _tell_rates(unit: str, scores: dict[str, Any], point: str) -> str:
    """Say of how many in a hundred the answer is right, and what was counted."""
    own = scores["points"][point]
    counts = own["confusion"]
    found, cleared = own["sensitivity"], own["specificity"]
    if counts is None:
        if own["threshold"] is None:
            return f"For {unit} no threshold could be fixed: {own['why']}."
        return f"For {unit} nothing can be counted: {found['why']}."
    told = [
        _say(found, f"of 100 {unit} with a bleed", "found"),
        _say(cleared, "of 100 without one", "cleared"),
    ]
    counted = [
        _count(found, "found", counts["tp"], counts["fn"]),
        _count(cleared, "cleared", counts["tn"], counts["fp"]),
    ]
    text = "; ".join(told)
    reached = "a probability" if unit == "slices" else "a highest slice"
    return (
        f"{text[0].upper()}{text[1:]}. Counted: {', '.join(filter(None, counted)) or 'nothing'}; "
        f"flagged is what reaches {reached} of {own['threshold']:.2f} (operating point {point})."
    )


def _say(rate: dict[str, Any], whom: str, verb: str) -> str:
    if rate["value"] is None:
        return f"{whom} nothing can be said ({rate['why']})"
    of_hundred = _of_a_hundred(rate["value"])
    return f"{whom}, {of_hundred} {'is' if of_hundred == '1' else 'are'} {verb}"


def _count(rate: dict[str, Any], verb: str, right: int, wrong: int) -> str:
    if rate["value"] is None:
        return ""
    within = ""
    if rate["low"] is not None:
        within = f" (95 % interval {100 * rate['low']:.0f} to {100 * rate['high']:.0f} of 100)"
    return f"{right:,} of {right + wrong:,} {verb}{within}"


def _of_a_hundred(share: float) -> str:
    """Round to a whole number, but never an error away."""
    hundred = round(100 * share)
    if hundred == 100 and share < 1:
        return "more than 99"
    return "fewer than 1" if hundred == 0 and share > 0 else str(hundred)
