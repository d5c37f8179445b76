"""Tables of how well the model ranks and decides: levels, labels, points, nulls."""

from typing import Any

from hemtrace.evaluate.operating import POINTS
from hemtrace.evaluate.scored import LEVELS
from hemtrace.labels import SUBTYPES
from hemtrace.report.cells import (
    ANY_FIRST,
    NO_INTERVAL,
    UNDEFINED,
    Table,
    explain,
    marked_cell,
    marked_interval,
    number,
)

# Beside a null that the figure above it does not beat.
NO_BETTER = " (no better)"
_RATES = (
    ("Sensitivity", "sensitivity"),
    ("Specificity", "specificity"),
    ("PPV", "positive_predictive_value"),
    ("NPV", "negative_predictive_value"),
    ("F1", "f1"),
    ("LR+", "positive_likelihood_ratio"),
    ("LR-", "negative_likelihood_ratio"),
    ("Balanced\naccuracy", "balanced_accuracy"),
)
_POINT_COLUMNS = (
    "Aim",
    "On validation\n(sensitivity,\nspecificity)",
    "Threshold\n(from validation)",
    *(name for name, _ in _RATES),
)


def levels_table(metrics: dict[str, Any]) -> Table:
    """Show the overall figures at each level, on test and validation."""
    test, val = (metrics["partitions"][name] for name in ("test", "val"))
    worse = _find_worse(metrics, "slices")
    rows = []
    for level in LEVELS:
        own, other = test[level], val[level]
        of_any, null = own["labels"]["any"], own["labels"]["any"]["null"]
        for name, figure in (("AUC", "roc_auc"), ("average precision", "average_precision")):
            rows.append(
                (
                    f"{name}, any, {level}",
                    marked_cell(of_any[figure]),
                    number(null[figure])
                    + (NO_BETTER if ("any", figure) in _find_worse(metrics, level) else ""),
                    marked_cell(other["labels"]["any"][figure]),
                )
            )
    slices = test["slices"]
    brier = slices["labels"]["any"]["brier"]
    prevalence = slices["labels"]["any"]["prevalence"]
    rows.append(
        (
            "Brier score, any, slices",
            marked_cell(brier),
            number(prevalence * (1 - prevalence))
            + (NO_BETTER if ("any", "brier") in worse else ""),
            marked_cell(val["slices"]["labels"]["any"]["brier"]),
        )
    )
    for name, figure in (
        ("weighted log loss", "weighted_log_loss"),
        ("accuracy, mean of the labels (as the paper)", "mean_accuracy"),
        ("accuracy, all six labels right", "exact_match"),
    ):
        rows.append(
            (
                name,
                marked_cell(slices[figure]),
                number(slices["null"][figure])
                + (NO_BETTER if ("all labels", figure) in worse else ""),
                marked_cell(val["slices"][figure]),
            )
        )
    return Table(
        ("Figure", _count("Test", test), "Null on test", _count("Validation", val)),
        rows,
        note=f"Null: {metrics['rules']['null']}. {_tell_patients(metrics)}{NO_INTERVAL}",
    )


def _count(name: str, part: dict[str, Any]) -> str:
    counts = ", ".join(f"{part[level]['n']:,} {level}" for level in LEVELS)
    return f"{name}\n({counts})"


def _tell_patients(metrics: dict[str, Any]) -> str:
    """Say of which labels a patient's score is no better than the null."""
    told = _tell_no_better(metrics, "patients")
    return f"Of patients: {told}" if told else ""


def labels_table(metrics: dict[str, Any]) -> Table:
    """Show each label on the test slices."""
    slices = metrics["partitions"]["test"]["slices"]
    figures = ("roc_auc", "average_precision", "log_loss", "brier", "accuracy")
    worse = _find_worse(metrics, "slices")
    rows = []
    for label in ANY_FIRST:
        own = slices["labels"][label]
        nulls = own["null"] | {"brier": own["prevalence"] * (1 - own["prevalence"])}
        rows.append(
            (
                label,
                f"{own['positives']:,} ({own['positive_patients']:,})",
                *(
                    f"{marked_cell(own[figure])}\nnull {number(nulls[figure])}"
                    f"{NO_BETTER if (label, figure) in worse else ''}"
                    for figure in figures
                ),
            )
        )
    return Table(
        (
            "Label",
            "Positive slices\n(patients)",
            "ROC AUC",
            "Average precision",
            "Log loss",
            "Brier",
            "Accuracy",
        ),
        rows,
        note=_tell_no_better(metrics, "slices")
        + explain({label: slices["labels"][label]["roc_auc"] for label in ANY_FIRST}),
    )


def _find_worse(metrics: dict[str, Any], level: str) -> set[tuple[str, str]]:
    """Find the labels and figures that do not beat their null."""
    found = metrics["no_better"]["figures"]
    return {(row["label"], row["figure"]) for row in found if row["level"] == level}


def _tell_no_better(metrics: dict[str, Any], level: str) -> str:
    told = metrics["no_better"]["sentences"].get(level)
    return f"{told} " if told else ""


def points_table(metrics: dict[str, Any]) -> Table:
    """Show `any` at every named point and level."""
    test = metrics["partitions"]["test"]
    rows, figures = [], {}
    for point in POINTS:
        for level in LEVELS:
            own = test[level]["labels"]["any"]["points"][point]
            name = f"{point}, {level}"
            figures[name] = own["sensitivity"]
            rows.append((name, *_point_cells(own)))
    rules = "; ".join(f"{name}: {metrics['rules']['points'][name]}" for name in POINTS)
    return Table(
        ("Point and level", *_POINT_COLUMNS),
        rows,
        note=f"{rules}. {metrics['rules']['score'].capitalize()}.{_coincidence(test)} "
        f"{_tell_notes(test)}{metrics['contradictions']['sentence']} "
        f"{_tell_intervals(test)}{explain(figures)}",
    )


def _tell_intervals(test: dict[str, Any]) -> str:
    """Say at which levels rates have exact intervals: where no patient has two rows."""
    single = [level for level in LEVELS if test[level]["n"] == test[level]["patients"]]
    if not single:
        return ""
    return (
        f"Of {' and '.join(single)}, of which each patient has one, sensitivity, specificity, PPV "
        "and NPV have the exact binomial (Clopper-Pearson) interval. "
    )


def _coincidence(test: dict[str, Any]) -> str:
    """Say at which levels all points have one threshold."""
    levels = [
        level
        for level in LEVELS
        if len({own["threshold"] for own in test[level]["labels"]["any"]["points"].values()}) == 1
        and test[level]["labels"]["any"]["points"]["balanced"]["threshold"] is not None
    ]
    if not levels:
        return ""
    return (
        f" At the level of {' and '.join(levels)} the points coincide: on validation no score of "
        "one without a bleed reaches those with one, so that rule-out has no margin of its own."
    )


def operating_table(metrics: dict[str, Any]) -> Table:
    """Show every label at the default point."""
    point, test = metrics["default_point"], metrics["partitions"]["test"]
    rows, figures = [], {}
    for name, level, label in [
        (f"{label}, {level}", level, label) for level in LEVELS for label in ANY_FIRST
    ]:
        own = test[level]["labels"][label]["points"][point]
        figures[name] = own["sensitivity"]
        rows.append((name, *_point_cells(own)))
    return Table(
        ("Label", *_POINT_COLUMNS),
        rows,
        note=f"At the point {point}: {metrics['rules']['points'][point]}. "
        f"{_tell_intervals(test)}{explain(figures)}",
    )


def _point_cells(point: dict[str, Any]) -> tuple[str, ...]:
    """Show what a point was to reach, what it reached on validation, and its rates on test."""
    aim, reached = point["aim"], point["validation"]
    wanted = "highest" if aim["at_least"] is None else f"at least {aim['at_least']:.2f}"
    told = UNDEFINED
    if reached["sensitivity"] is not None:
        told = f"{reached['sensitivity']:.2f}\n{number(reached['specificity'], 2)}"
    return (
        f"{aim['figure']}\n{wanted}",
        told,
        _threshold(point),
        *(marked_cell(point[rate], 2) for _, rate in _RATES),
    )


def _tell_notes(test: dict[str, Any]) -> str:
    """Say which points miss their aim, and which lie on the wrong side of another."""
    told = [
        f"Of {level}: {own['note']} "
        for level in LEVELS
        for own in test[level]["labels"]["any"]["points"].values()
        if own["note"]
    ]
    return "".join(told)


def _threshold(point: dict[str, Any]) -> str:
    if point["threshold"] is None:
        return UNDEFINED
    return f"{point['threshold']:.3f}\nfrom {point['validation_positives']:,} positives"


def nulls_table(metrics: dict[str, Any]) -> Table:
    """Show the model beside what sees no picture."""
    figures = (
        ("Weighted\nlog loss", "weighted_log_loss"),
        ("Accuracy,\nmean of labels", "mean_accuracy"),
        ("AUC, any,\nslices", "roc_auc"),
        ("AUC, any,\npatients", "roc_auc_patients"),
        ("Average\nprecision", "average_precision"),
    )
    rows = [
        (f"{row['name']}\n{row['meaning']}", *(marked_cell(row[figure]) for _, figure in figures))
        for row in metrics["nulls"]["rows"]
    ]
    return Table(("System", *(name for name, _ in figures)), rows, note=NO_INTERVAL)


def confused_table(metrics: dict[str, Any]) -> Table:
    """Show which subtype scores highest on flagged slices of one true subtype."""
    found = metrics["confused"]
    rows = [
        (name, *(f"{found['table'][name][other]:,}" for other in SUBTYPES))
        if found["table"]
        else (name, *(UNDEFINED for _ in SUBTYPES))
        for name in SUBTYPES
    ]
    return Table(("True subtype", *SUBTYPES), rows, note=_tell_confused(found))


def _tell_confused(found: dict[str, Any]) -> str:
    """Say how often the highest subtype is right, and how often one is seen without a bleed."""
    right, alarmed = found["right"], found["alarmed"]
    told = [
        "Columns: the subtype of the highest calibrated probability; rows: flagged slices with "
        f"exactly one true subtype ({found['several']:,} slices have several)."
    ]
    if right["value"] is not None:
        count = round(right["value"] * found["finds"])
        told.append(
            f"Of {found['finds']:,} flagged slices with a bleed, of one subtype or several, the "
            f"highest is a true one in {count:,}{_within(right)}."
        )
    else:
        told.append(f"Not to be told: {found['why'] or right['why']}.")
    if alarmed["value"] is not None:
        count = round(alarmed["value"] * found["clear"])
        told.append(
            f"Of {found['clear']:,} slices without a bleed {count:,} reach the threshold of some "
            f"subtype ({alarmed['value']:.1%}{_within(alarmed)})."
        )
    return " ".join(told)


def _within(estimate: dict[str, Any]) -> str:
    bounds = marked_interval(estimate, 2)
    return f", 95 % interval of the share {bounds}" if bounds else ""


def sample_size_table(metrics: dict[str, Any]) -> Table:
    """Say for each label what the number of positive patients allows."""
    rows = [
        (
            row["label"],
            f"{row['positive_patients']:,}",
            f"{row['positive_slices']:,}",
            row["sentence"].removeprefix(f"{row['label']}: ").capitalize(),
        )
        for row in metrics["sample_size"]
    ]
    return Table(
        ("Label", "Positive\npatients", "Positive\nslices", "What they allow"), rows, text=True
    )
