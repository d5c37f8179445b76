"""The result of an external test -> one offline page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hemtrace.evaluate.scored import UNITS
from hemtrace.external.account import tell_partly
from hemtrace.external.tables import (
    RATE_NAMES,
    draw_agreement,
    draw_drop,
    tabulate_agreement,
    tabulate_areas,
    tabulate_flow,
    tabulate_origin,
    tabulate_points,
    tabulate_reasons,
)
from hemtrace.familiar.count import tell_unlike
from hemtrace.report.cells import Headline, interval, number
from hemtrace.report.published import LOST_ELSEWHERE
from hemtrace.report.small_page import note_few, render_small_page, show_item
from hemtrace.writing import write_whole

_SOURCE = "external.json"


def write_page(result: Mapping[str, Any], page: Path) -> None:
    """Write the page of what `evaluate_external` gives."""
    tables = {
        "flow": tabulate_flow(result),
        "reasons": tabulate_reasons(result),
        "made_with": tabulate_origin(result),
    }
    pictures: dict[str, str] = {}
    sections = [_data_section(result)]
    for level, found in result["levels"].items():
        tables[f"areas_{level}"] = tabulate_areas(found["labels"], result["internal"], level)
        tables[f"points_{level}"] = tabulate_points(found["labels"])
        sections.append(_level_section(level, found, result))
    first = next(iter(result["levels"]))
    if result["internal"]["levels"]:
        pictures["drop"] = draw_drop(result, first)
        sections.insert(1, _drop_section(result, first))
    if result["agreement"] is not None:
        pictures["agreement"] = draw_agreement(result["agreement"])
        tables["agreement"] = tabulate_agreement(result["agreement"])
        sections.append(_agreement_section(result["agreement"]))
    sections.append(
        {
            "id": "provenance",
            "title": "Provenance",
            "text": [],
            "show": [
                show_item(_SOURCE, table="made_with", caption="What the figures were made with.")
            ],
        }
    )
    text = render_small_page(
        title=f"External test: {result['name']}",
        lead=_lead(result),
        synthetic=result["synthetic"],
        synthetic_why=result["synthetic_why"],
        banner=result["synthetic_banner"],
        headlines=[
            card
            for level in dict.fromkeys((first, "slices"))
            if level in result["levels"]
            for card in _headlines(result, level)
        ],
        sections=sections,
        tables=tables,
        pictures=pictures,
        limits=_limits(result),
    )
    with write_whole(page) as part:
        part.write_text(text, encoding="utf-8")


def _lead(result: Mapping[str, Any]) -> str:
    flow, labels = result["flow"], result["labels"]
    came = (
        "Weights, calibration and thresholds are those that came with the model; nothing was "
        "fitted or chosen here."
    )
    if result["operating"]["why"]:
        came = f"Nothing was fitted or chosen here, and {result['operating']['why']}."
    return (
        f"A frozen model on another data set (patients: {flow['patients']:,}, studies: "
        f"{flow['studies']:,}, slices: {flow['used']:,}), labelled by the {labels['level']}. {came}"
    )


def _headlines(result: Mapping[str, Any], level: str) -> list[Headline]:
    labels = result["levels"][level]["labels"]
    label = "any" if "any" in labels else next(iter(labels))
    own = labels[label]
    basis = f"{own['positives']:,} of {_count(own['n'], level)} positive"
    name = f"{'any bleed' if label == 'any' else label}, by {UNITS[level]}"
    cards = [_card(f"ROC AUC, {name}", own["roc_auc"], basis)]
    point = result["operating"].get("default_point")
    nothing = {"value": None, "low": None, "high": None, "why": own["points_why"]}
    for key in ("sensitivity", "specificity"):
        rate = own["points"][point][key] if own["points"] else nothing
        told = f"{level}, at the frozen point {point}" if own["points"] else ""
        cards.append(_card(f"{RATE_NAMES[key].capitalize()}, {name}", rate, told))
    beside = result["internal"]["levels"].get(level, {}).get(label)
    if beside:
        drop = beside["drop"]
        inside = f"internal test: {number(beside['internal']['value'])}; negative: better here"
        cards.append(_card(f"ROC AUC lost, by {UNITS[level]}", drop, inside))
    return cards


def _count(number: int, level: str) -> str:
    return f"{number:,} {UNITS[level] if number == 1 else level}"


def _card(name: str, found: Mapping[str, Any], basis: str) -> Headline:
    """Make a card; it says why figure or interval is missing, or on how few patients it rests."""
    why = note_few(found)
    if found["value"] is None:
        why = str(found["why"])
    elif found["low"] is None:
        why = f"no interval: {found['why']}"
    return Headline(
        name, number(found["value"]), interval(found), "; ".join(filter(None, [why, basis]))
    )


def _data_section(result: Mapping[str, Any]) -> dict[str, Any]:
    overlap, labels = result["overlap"], result["labels"]
    guard = (
        "No patient, study, series, SOP instance or pixel content of these files stands in the "
        "data that the model was made on; that was looked at before anything was predicted."
        if overlap["checked"]
        else f"Overlap with the model's own data could NOT be checked: {overlap['why']}."
    )
    missing = labels["units_without_picture"]
    strangers = labels["studies_unlabelled_first"]
    told = (
        f"Units of the label file (each a {labels['level']}): {labels['units']:,}; scored: "
        f"{labels['units_scored']:,}; without any picture: {missing:,}"
        + (f", first {', '.join(labels['units_without_picture_first'])}" if missing else "")
        + f". Studies without a label: {labels['studies_unlabelled']:,}"
        + (f", first {', '.join(strangers)}" if strangers else "")
        + "."
    )
    return {
        "id": "data",
        "title": "The data",
        "text": [guard, told, *filter(None, [tell_partly(labels)]), *labels["not_scored"]],
        "show": [
            show_item(_SOURCE, table="flow", caption="From files to patients."),
            show_item(_SOURCE, table="reasons", caption="Pictures that are not used, and why."),
        ],
    }


def _level_section(
    level: str, found: Mapping[str, Any], result: Mapping[str, Any]
) -> dict[str, Any]:
    of_many = "" if level == "slices" else f" {result['rules']['score']}"
    of_whom = "" if level == "patients" else f", of patients: {found['patients']:,}"
    counted = _count(found["n"], level)
    text = [f"{level.capitalize()}: {found['n']:,}{of_whom}.{of_many}"]
    show = [
        show_item(
            _SOURCE,
            table=f"areas_{level}",
            caption=f"Ranking and calibration of {counted}, small: 95 % intervals over patients. "
            "In the large above 0, or observed / expected above 1: the probabilities are too low.",
        )
    ]
    lacking: dict[str, list[str]] = {}
    for label, own in found["labels"].items():
        if own["points_why"]:
            lacking.setdefault(own["points_why"], []).append(label)
    text += [f"No rates for {', '.join(names)}: {why}." for why, names in lacking.items()]
    if any(own["points"] for own in found["labels"].values()):
        show.append(
            show_item(
                _SOURCE,
                table=f"points_{level}",
                caption=f"Rates of {counted} at the frozen operating points, small: 95 % intervals "
                "over patients. TP, FP, FN, TN: true and false positives, false and true "
                "negatives.",
            )
        )
    return {"id": level, "title": f"By {UNITS[level]}", "text": text, "show": show}


def _drop_section(result: Mapping[str, Any], level: str) -> dict[str, Any]:
    counted = result["internal"]["levels"][level]
    some = next(iter(counted.values()))
    return {
        "id": "drop",
        "title": "Inside and outside",
        "text": [
            f"{LOST_ELSEWHERE}. The two groups hold different patients: both are resampled, "
            "independently, for the interval of the drop."
        ],
        "show": [
            show_item(
                _SOURCE,
                figure="drop",
                wide=True,
                alt=f"ROC AUC of each label by {level}: internal test and external data.",
                caption=f"ROC AUC by {UNITS[level]}, with 95 % intervals: dots for the "
                f"internal test ({_count(some['n'], level)}), squares for these data "
                f"({result['levels'][level]['n']:,}). A gap between "
                "them, to the left for the squares, is what the model loses elsewhere. Dotted: "
                "chance.",
            )
        ],
    }


def _agreement_section(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "id": "agreement",
        "title": "How well the readers agree",
        "text": [
            "The majority of the readers is taken for the truth. Where they agree little, no "
            "model can agree with them much, and its figures are no better than theirs."
        ],
        "show": [
            show_item(
                _SOURCE,
                figure="agreement",
                wide=True,
                alt="Fleiss' and Cohen's kappa of the readers for each label.",
                caption=f"Agreement beyond chance on {rows[0]['scans']:,} scans, with 95 % "
                "intervals over scans: dots for all readers together (Fleiss' kappa), other "
                "shapes for two of them (Cohen's). 1 is full agreement; dotted: chance.",
            ),
            show_item(
                _SOURCE,
                table="agreement",
                caption="Agreement of the readers, by label: how many "
                "scans each called positive, and with 95 % intervals over scans the share of which "
                "all said the same, and kappa (0: chance, 1: full agreement).",
            ),
        ],
    }


def _limits(result: Mapping[str, Any]) -> list[str]:
    limits = [
        tell_unlike(result["familiarity"]),
        "Prevalence here is that of the label file: PPV and NPV hold for it alone.",
        "A series is chosen for each study by the rules of ingest; what stands in others is not "
        "seen.",
        "Where a label stands for a whole study or patient, nothing is said of single slices.",
    ]
    if result["internal"]["why"]:
        limits.append(f"The loss of AUC is not given: {result['internal']['why']}.")
    return limits
