"""The report's tables: words and figures, no HTML."""

from pathlib import Path
from typing import Any

from hemtrace.dicom.reasons import REASONS
from hemtrace.labels import LABELS
from hemtrace.report.cells import (
    NO_INTERVAL,
    UNDEFINED,
    Headline,
    Table,
    cell,
    interval,
    number,
)
from hemtrace.report.evidence import Evidence
from hemtrace.report.systems import runs_table, systems_cost_table, systems_table


def headlines(evidence: Evidence) -> list[Headline]:
    """Pick the figures at the head of the page."""
    test = evidence.metrics["partitions"]["test"]
    of_any, patient = test["labels"]["any"], test["patient"]
    slices = f"{test['slices']:,} test slices of {test['patients']:,} patients"
    patients = f"{patient['patients']:,} test patients, {patient['positives']:,} with a bleed"
    loss, null = test["weighted_log_loss"], test["null"]["weighted_log_loss"]
    return [
        _headline("AUC, any bleed, slices", of_any["roc_auc"], slices + _by_position(of_any)),
        _headline("AUC, any bleed, patients", patient["roc_auc"], patients + _by_position(patient)),
        _headline(
            "Sensitivity, any bleed, slices",
            of_any["sensitivity"],
            f"{of_any['positives']:,} slices with a bleed",
        ),
        _headline(
            "Specificity, any bleed, slices",
            of_any["specificity"],
            f"{test['slices'] - of_any['positives']:,} slices without",
        ),
        _headline(
            "Average precision, any bleed",
            of_any["average_precision"],
            f"chance level {number(of_any['null']['average_precision'])}",
        ),
        _headline("Weighted log loss", loss, f"constant prevalence: {number(null)}"),
    ]


def _by_position(scores: dict[str, Any]) -> str:
    area = scores["null"].get("roc_auc_position")
    return "" if area is None else f"; position in the scan alone: {area:.3f}"


def _headline(name: str, estimate: dict[str, float | None], basis: str) -> Headline:
    return Headline(name, number(estimate["value"]), interval(estimate), basis)


def build_tables(evidence: Evidence, quarantine_rows: int) -> dict[str, Table]:
    """Build every table by name, as `templates/report.yaml` calls them."""
    return {
        "flow": _flow(evidence),
        "quarantine": _quarantine(evidence, quarantine_rows),
        "split": _split(evidence),
        "training": _training(evidence),
        "runs": runs_table(evidence.metrics.get("runs", []), evidence.epochs),
        "systems": systems_table(evidence.comparison),
        "systems_cost": systems_cost_table(evidence.comparison),
        "overall": _overall(evidence),
        "labels": _labels(evidence),
        "operating": _operating(evidence),
        "localisation": _localisation(evidence),
        "provenance": Table(("What", "Value"), evidence.provenance, text=True),
    }


def _flow(evidence: Evidence) -> Table:
    flow = evidence.flow
    reasons = [
        (f"quarantined: {reason}", f"{count:,}", REASONS[reason][1])
        for reason, count in sorted(flow["quarantined"].items())
    ]
    repaired = flow.get("repaired_12_bit", 0)
    rows = [
        ("files", f"{flow['files']:,}", "every file below the image folder"),
        ("pictures", f"{flow['pictures']:,}", "a multi-frame file has several"),
        ("readable", f"{flow['readable']:,}", "whose header and pixels could be read"),
        ("CT", f"{flow['ct']:,}", f"in HU; {repaired:,} of all with a repaired 12-bit fault"),
        ("head", f"{flow['head']:,}", "axial slices that show a head"),
        ("labelled", f"{flow['labelled']:,}", "with all six label rows, without contradiction"),
        ("used", f"{flow['used']:,}", "of the chosen series, none twice"),
        *reasons,
    ]
    lost = sum(flow["quarantined"].values())
    label_rows = (
        f"The label file has {flow['label_rows']:,} rows, {flow['label_rows_duplicated']:,} of "
        f"them repeated; {flow['labels_without_file']:,} labelled images have no file. "
        if "label_rows" in flow
        else ""
    )
    return Table(
        ("Step", "Number", "Meaning"),
        rows,
        text=True,
        note=f"{label_rows}Checked: {flow['used']:,} used + {lost:,} quarantined = "
        f"{flow['pictures']:,} pictures. What was read, what not, and why: reports/ingestion.html.",
    )


def _quarantine(evidence: Evidence, limit: int) -> Table:
    table = evidence.quarantined
    shown = min(limit, table.height)
    return Table(
        ("Slice", "Reason"),
        [(name, REASONS[reason][1]) for name, reason in table.head(limit).iter_rows()],
        text=True,
        note=f"{shown:,} of {table.height:,} quarantined files; data/catalog.parquet lists all.",
    )


def _split(evidence: Evidence) -> Table:
    rows = [
        (
            row["partition"],
            f"{row['patients']:,}",
            f"{row['positive_patients']:,}",
            f"{row['slices']:,}",
            *(f"{row[label]:,}" for label in ("any", *LABELS[:-1])),
        )
        for row in evidence.split.iter_rows(named=True)
    ]
    return Table(
        ("Partition", "Patients", "with a bleed", "Slices", "any", *LABELS[:-1]),
        rows,
        note="Checked: no patient, and no pixel-identical picture, stands in two partitions; the "
        "partitions' slices add up to the files used. Under each label: positive slices.",
    )


def _training(evidence: Evidence) -> Table:
    spec = evidence.spec
    windows = "; ".join(f"{w.name} {w.center_hu:g}/{w.width_hu:g}" for w in spec.windows)
    chosen = [
        # a path is shown by its name: this page is meant to be mailed
        (name.replace("_", " "), Path(value).name if name == "weights_file" else str(value))
        for name, value in spec.train.items()
        if value is not None
    ]
    return Table(
        ("Setting", "Value"),
        [
            ("network", spec.network.architecture),
            ("networks, averaged", str(spec.members)),
            ("weights at the start", spec.weights),
            ("windows, centre/width in HU", windows),
            ("slice size", f"{spec.size} x {spec.size} pixels"),
            *(row for row in chosen if row[0] not in ("architecture", "weights")),
        ],
        text=True,
    )


def _overall(evidence: Evidence) -> Table:
    val, test = (evidence.metrics["partitions"][name] for name in ("val", "test"))
    rows = []
    for name, key in (
        ("weighted log loss", "weighted_log_loss"),
        ("accuracy, mean of the labels", "mean_accuracy"),
    ):
        cells = [cell(test[key]), number(test["null"][key]), cell(val[key])]
        rows.append((name, *cells))
    levels = (
        ("slices", test["labels"]["any"], val["labels"]["any"]),
        ("patients", test["patient"], val["patient"]),
    )
    for name, key in (("AUC", "roc_auc"), ("average precision", "average_precision")):
        for level, own, other in levels:
            null = number(own["null"][key])
            if key == "roc_auc" and own["null"].get("roc_auc_position") is not None:
                null += f"\nby position {own['null']['roc_auc_position']:.3f}"
            rows.append((f"{name}, any, {level}", cell(own[key]), null, cell(other[key])))
    heading = [
        f"{name} ({part['slices']:,} slices, {part['patients']:,} patients)"
        for name, part in (("Test", test), ("Validation", val))
    ]
    return Table(
        ("Figure", heading[0], "Null on test", heading[1]),
        rows,
        note=f"Null: {evidence.metrics['rules']['null']}. {NO_INTERVAL}",
    )


def _labels(evidence: Evidence) -> Table:
    scores = evidence.metrics["partitions"]["test"]["labels"]
    rows = []
    for label in ("any", *LABELS[:-1]):
        own = scores[label]
        cells = [
            f"{cell(own[key])}\nnull {number(own['null'][key])}"
            for key in ("roc_auc", "average_precision", "log_loss", "accuracy")
        ]
        rows.append((label, f"{own['positives']:,} ({own['positive_patients']:,})", *cells))
    return Table(
        (
            "Label",
            "Positive slices\n(patients)",
            "ROC AUC",
            "Average precision",
            "Log loss",
            "Accuracy",
        ),
        rows,
        note=_undefined_note(scores),
    )


def _undefined_note(scores: dict[str, Any]) -> str:
    lacking = [label for label in LABELS if scores[label]["roc_auc"]["value"] is None]
    if not lacking:
        return NO_INTERVAL
    return (
        f"Undefined for {', '.join(lacking)}: the test slices are all of one class, so there is "
        f"nothing to rank. {NO_INTERVAL}"
    )


def _operating(evidence: Evidence) -> Table:
    test, thresholds = evidence.metrics["partitions"]["test"], evidence.metrics["thresholds"]
    rows = []
    for name in ("any", *LABELS[:-1], "patient"):
        own = test["patient"] if name == "patient" else test["labels"][name]
        threshold = thresholds[name]
        positives = threshold["positives"]
        basis = f"\nfrom {positives:,} positives" if positives else "\nfixed: no positives"
        rows.append(
            (
                "any, patients" if name == "patient" else name,
                f"{threshold['value']:.3f}{basis}",
                *(
                    cell(own[key], 2)
                    for key in (
                        "sensitivity",
                        "specificity",
                        "positive_predictive_value",
                        "negative_predictive_value",
                    )
                ),
            )
        )
    return Table(
        (
            "Label",
            "Threshold\n(from validation)",
            "Sensitivity",
            "Specificity",
            "Positive\npredictive value",
            "Negative\npredictive value",
        ),
        rows,
        note=f"Rule: {evidence.metrics['rules']['threshold']}.",
    )


def _localisation(evidence: Evidence) -> Table:
    columns = (
        "Label",
        "Slices (patients)",
        "Peak on the lesion",
        "by chance",
        "other slices' peaks",
        "Heat inside",
        "lesion's share of the head",
    )
    labels = evidence.localisation["labels"]
    if labels is None:
        return Table(columns, [], note="Not scored: these data come without lesion masks.")
    rows = []
    for name, label, subset in [("any, detected slices", "any", "detected")] + [
        (label, label, "all") for label in ("any", *LABELS[:-1])
    ]:
        own = labels[label][subset]
        if not own["n"]:
            rows.append((name, "0", *[UNDEFINED] * 5))
            continue
        rows.append(
            (
                name,
                f"{own['n']:,} ({own['patients']:,})",
                cell(own["pointing"], 2),
                number(own["pointing_chance"], 2),
                number(own["pointing_shuffled"], 2),
                number(own["heat_inside"], 2),
                number(own["area_share"], 2),
            )
        )
    rows_px, columns_px = evidence.localisation["cells"]
    return Table(
        columns,
        rows,
        note=f"Heat maps of {rows_px} x {columns_px} cells. Peak on the lesion: the hottest point "
        "lies within one cell of the lesion's mask. Heat inside: mean share of the heat within the "
        "mask, to be read beside the lesion's share of the head.",
    )
