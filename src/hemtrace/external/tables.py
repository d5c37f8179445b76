"""The tables and pictures of the external test's page."""

from collections.abc import Mapping, Sequence
from typing import Any

from hemtrace.dicom.reasons import REASONS
from hemtrace.external.score import RATES_TOLD
from hemtrace.figures import IntervalSeries, draw_bytes, interval_rows
from hemtrace.report.cells import Table, explain, marked_cell, number
from hemtrace.report.render import data_uri

_AREAS = ("roc_auc", "average_precision", "brier", "accuracy", "in_the_large", "observed_expected")
_NULL = (
    "Null: what needs no picture reaches, for accuracy (at 0.5) no bleed everywhere, else the "
    "prevalence here as every answer."
)
_POSITION = (
    "Position: what the place in the scan alone reaches, as the training patients taught it; a "
    "slice of unknown place takes their overall share."
)
RATE_NAMES = dict(zip(RATES_TOLD, ("sensitivity", "specificity", "PPV", "NPV"), strict=True))
_BY_NAME = {name: key for key, name in RATE_NAMES.items()}


def tabulate_flow(result: Mapping[str, Any]) -> Table:
    """From files to patients."""
    flow = result["flow"]
    names = {
        "files": "files",
        "pictures": "pictures in them",
        "heads": "readable slices of a head",
        "used": "slices used",
        "series": "series",
        "studies": "studies",
        "patients": "patients",
    }
    return Table(
        ("step", "count"), [(told, f"{flow[key]:,}") for key, told in names.items()], text=True
    )


def tabulate_reasons(result: Mapping[str, Any]) -> Table:
    """Pictures that are not used."""
    rows = [
        (reason, f"{count:,}", REASONS[reason][1])
        for reason, count in result["flow"]["quarantined"].items()
    ]
    return Table(
        ("reason", "pictures", "meaning"), rows or [("none", "0", "all are used")], text=True
    )


def tabulate_areas(labels: Mapping[str, Any], internal: Mapping[str, Any], level: str) -> Table:
    """Ranking and calibration, a row a label."""
    columns = ["label", "positive\nof all", "ROC AUC", "average\nprecision", "Brier", "accuracy"]
    columns += ["calibration\nin the large", "observed /\nexpected"]
    beside = internal["levels"].get(level, {})
    rows = []
    for label, own in labels.items():
        cells = [_beside_null(own, key) for key in _AREAS]
        if beside:
            cells.append(marked_cell(beside[label]["drop"]))
        counts = f"{own['positives']:,}\nof {own['n']:,}"
        rows.append([label, counts, *cells])
    if beside:
        columns.append("AUC lost\nfrom internal")
    shown: dict[str, Any] = {label: own["roc_auc"] for label, own in labels.items()} | {
        f"{label} (AUC lost)": found["drop"]
        for label, found in beside.items()
        if labels[label]["roc_auc"]["value"] is not None
    }
    return Table(columns, rows, note=f"{_NULL} {_tell_position(labels)} {explain(shown)}")


def _tell_position(labels: Mapping[str, Any]) -> str:
    why = next(iter(labels.values()))["position_why"]
    return _POSITION if why is None else f"Position in the scan alone: not known, as {why}."


def _beside_null(own: Mapping[str, Any], figure: str) -> str:
    null = own["null"].get(figure)
    told = "" if null is None else f"\nnull {number(null)}"
    position = own["position"].get(figure)
    told += "" if position is None else f"\nposition {number(position)}"
    return f"{marked_cell(own[figure])}{told}"


def tabulate_points(labels: Mapping[str, Any]) -> Table:
    """Rates at the operating points, a row a label and point."""
    rows = []
    shown: dict[str, Any] = {}
    for label, own in labels.items():
        for point, rates in own["points"].items():
            # Without a threshold one reason holds for all rates.
            names = {"": RATES_TOLD[0]} if rates["threshold"] is None else _BY_NAME
            shown |= {f"{label} {point} {name}".strip(): rates[key] for name, key in names.items()}
            held = rates["confusion"] or {}
            counts = "\n".join(
                f"{key.upper()} {held[key]:,}" for key in ("tp", "fp", "fn", "tn") if held
            )
            rows.append(
                [f"{label}, {point}", number(rates["threshold"], 4)]
                + [marked_cell(rates[key]) for key in RATES_TOLD]
                + [counts or "none"]
            )
    columns = ["label, point", "threshold", *(RATE_NAMES[key] for key in RATES_TOLD), "counts"]
    return Table(columns, rows, note=explain(shown))


def tabulate_agreement(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Agreement of the readers, a row a label."""
    pairs = list(rows[0]["cohen_kappa"])
    readers = list(rows[0]["positives"])
    columns = ["label", *(f"positive,\n{name}" for name in readers), "all agree", "Fleiss' kappa"]
    columns += [f"Cohen's kappa\n{pair}" for pair in pairs]
    # Where all readers said the same, so did any two of them.
    kappas = {row["label"]: row["fleiss_kappa"] for row in rows} | {
        f"{row['label']} ({pair})": row["cohen_kappa"][pair]
        for row in rows
        for pair in pairs
        if row["fleiss_kappa"]["value"] is not None
    }
    return Table(
        columns,
        [
            [row["label"], *(f"{row['positives'][name]:,}" for name in readers)]
            + [marked_cell(row["all_agree"]), marked_cell(row["fleiss_kappa"])]
            + [marked_cell(row["cohen_kappa"][pair]) for pair in pairs]
            for row in rows
        ],
        note=explain(kappas),
    )


def tabulate_origin(result: Mapping[str, Any]) -> Table:
    """What the figures were made with."""
    model, operating, rules = result["model"], result["operating"], result["rules"]
    rows = [
        ("model", f"{model['architecture']}, SHA-256 {model['sha256']}"),
        ("code of the model", model["git_commit"]),
        ("code of this test", result["git_commit"]),
        ("calibration and thresholds", operating["why"] or f"SHA-256 {operating['sha256']}"),
        ("calibration", operating["calibration"]),
        ("label file", f"{result['labels']['reader']}, SHA-256 {result['labels']['sha256']}"),
        *((name, text) for name, text in rules.items()),
    ]
    return Table(("what", "which"), rows, text=True)


def draw_drop(result: Mapping[str, Any], level: str) -> str:
    """AUC inside and outside, as a picture that a page can hold."""
    inner = result["internal"]["levels"][level]
    outer = result["levels"][level]["labels"]
    names = list(outer)
    series = [
        IntervalSeries("internal test", [_three(inner[name]["internal"]) for name in names]),
        IntervalSeries("external data", [_three(outer[name]["roc_auc"]) for name in names]),
    ]
    figure = interval_rows(names, series, f"ROC AUC, {level}", 0.5, 1.0, 0.5)
    return data_uri("svg", draw_bytes(figure))


def draw_agreement(rows: Sequence[Mapping[str, Any]]) -> str:
    """Kappa by label, as a picture that a page can hold."""
    pairs = list(rows[0]["cohen_kappa"])[:3]
    series = [IntervalSeries("all readers (Fleiss)", [_three(row["fleiss_kappa"]) for row in rows])]
    series += [
        IntervalSeries(pair, [_three(row["cohen_kappa"][pair]) for row in rows]) for pair in pairs
    ]
    figure = interval_rows([row["label"] for row in rows], series, "kappa", 0.0, 1.0, 0.0)
    return data_uri("svg", draw_bytes(figure))


def _three(found: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    return found["value"], found["low"], found["high"]
