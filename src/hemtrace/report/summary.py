"""The first screen: what a clinician wants to know, in sentences and in large type."""

from typing import Any

from hemtrace.report.cells import Headline, interval, marked_interval, number
from hemtrace.report.evidence import Evidence


def summarise(evidence: Evidence) -> list[str]:
    """Say in plain words what was found and missed, what was tested, and what it is worth."""
    metrics = evidence.metrics
    test, point = metrics["partitions"]["test"], metrics["default_point"]
    slices, patients = test["slices"], test["patients"]
    of_patients, of_slices = (level["labels"]["any"] for level in (patients, slices))
    kind = "synthetic patients" if evidence.spec.synthetic else "patients"
    sentences = [
        _tell_rates(kind, of_patients, point),
        _tell_rates("slices", of_slices, point),
        f"The network had never seen these {patients['n']:,} {kind} and their {slices['n']:,} CT "
        "slices before.",
    ]
    area = of_slices["roc_auc"]
    if area["value"] is not None:
        within = interval(area, 2)
        sentences.append(
            f"Of a slice with a bleed and one without, it gives the one with the bleed the higher "
            f"score in {100 * area['value']:.0f} % of all such pairs"
            + (f" (95 % interval of this AUC {within})." if within else ".")
        )
    rarest = min(metrics["sample_size"], key=lambda row: row["positive_patients"])
    sentences.append(
        f"Few cases make uncertain figures: {rarest['positive_patients']:,} test patients have "
        f"{'an' if rarest['label'][0] in 'aei' else 'a'} {rarest['label']} bleed."
    )
    if evidence.spec.synthetic:
        sentences.append(tell_lesions(evidence))
        sentences.append(
            "None of this says how it would do on patients: it shows that the pipeline works from "
            "the files to this page."
        )
    return sentences


def tell_lesions(evidence: Evidence) -> str:
    """Say how large the phantom's lesions are beside real ones; nothing of scanned patients."""
    factor = evidence.lesion_volume_factor
    if factor is None:
        return ""
    setting = "(phantom.lesion_volume_factor)"
    if factor == 1:
        return f"The lesions have the volumes of those measured in real scans {setting}."
    ease = "easier" if factor > 1 else "harder"
    return (
        f"The lesions have {factor:g} times the volume of those measured in real scans {setting}, "
        f"so they are {ease} to find."
    )


def _tell_rates(unit: str, scores: dict[str, Any], point: str) -> str:
    """Say how many were found and cleared, of how many, and what counts as flagged."""
    own = scores["points"][point]
    counts = own["confusion"]
    found, cleared = own["sensitivity"], own["specificity"]
    if counts is None:
        if own["threshold"] is None:
            return f"For {unit} no threshold could be fixed: {own['why']}."
        return f"For {unit} nothing can be counted: {found['why']}."
    told = [
        _count(found, f"{unit} with a bleed", "found", counts["tp"], counts["fn"]),
        _count(cleared, f"{unit} without one", "cleared", counts["tn"], counts["fp"]),
    ]
    flagged = (
        "A slice is flagged where its probability"
        if unit == "slices"
        else "A patient is flagged where the highest probability of a slice"
    )
    return f"{', '.join(told)}. {flagged} reaches {own['threshold']:.2f} (operating point {point})."


def _count(rate: dict[str, Any], whom: str, verb: str, right: int, wrong: int) -> str:
    if rate["value"] is None:
        return f"of {whom} nothing can be said ({rate['why']})"
    within = ""
    if rate["low"] is not None:
        within = f" (95 % interval {100 * rate['low']:.0f} to {100 * rate['high']:.0f} %)"
    were = "was" if right == 1 else "were"
    return f"{right:,} of {right + wrong:,} {whom} {were} {verb}{within}"


def headlines(evidence: Evidence) -> list[Headline]:
    """Pick the figures at the head of the page: patients first, as they are what counts."""
    test, point = evidence.metrics["partitions"]["test"], evidence.metrics["default_point"]
    slices, patients = test["slices"], test["patients"]
    of_slices, of_patients = (level["labels"]["any"] for level in (slices, patients))
    position = {row["name"]: row for row in evidence.metrics["nulls"]["rows"]}.get("position")
    rates = [
        _headline(f"{name}, any bleed, {level}", own["points"][point][rate], basis)
        for level, own, total in (
            ("patients", of_patients, patients["n"]),
            ("slices", of_slices, slices["n"]),
        )
        for name, rate, basis in (
            (
                "Sensitivity",
                "sensitivity",
                f"share found of {own['positives']:,} {level} with a bleed; operating point "
                f"{point}",
            ),
            (
                "Specificity",
                "specificity",
                f"share cleared of {total - own['positives']:,} {level} without; operating point "
                f"{point}",
            ),
        )
    ]
    return [
        *rates,
        _headline(
            "AUC, any bleed, patients",
            of_patients["roc_auc"],
            f"{patients['n']:,} test patients, {of_patients['positives']:,} with a bleed"
            + _beside(position, "roc_auc_patients"),
        ),
        _headline(
            "AUC, any bleed, slices",
            of_slices["roc_auc"],
            f"{slices['n']:,} test slices of {slices['patients']:,} patients"
            + _beside(position, "roc_auc"),
        ),
        _headline(
            "Average precision, any bleed",
            of_slices["average_precision"],
            f"chance level {number(of_slices['null']['average_precision'])}",
        ),
        _headline(
            "Weighted log loss",
            slices["weighted_log_loss"],
            "0 is best: it grows the surer a probability is wrong; each label's prevalence as "
            f"every answer: {number(slices['null']['weighted_log_loss'])}",
        ),
    ]


def _beside(position: dict[str, Any] | None, figure: str) -> str:
    if position is None:
        return ""
    told = number(position[figure]["value"])
    return f"; position alone, a guess from the place in the scan without its picture: {told}"


def _headline(name: str, estimate: dict[str, Any], basis: str) -> Headline:
    if estimate["value"] is None:
        basis += f"; {estimate['why']}"
    return Headline(name, number(estimate["value"]), marked_interval(estimate), basis)
