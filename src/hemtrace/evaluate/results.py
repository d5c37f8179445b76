"""The main results as tables that papers are made of: CSV, and LaTeX."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from hemtrace.evaluate.scored import LEVELS
from hemtrace.labels import SUBTYPES
from hemtrace.metrics import FEW_BEARERS

SYNTHETIC = "SYNTHETIC DATA - not clinical performance"
_OVERALL = ("weighted_log_loss", "mean_accuracy", "exact_match")
_OF_LABEL = ("roc_auc", "average_precision", "brier", "log_loss", "accuracy")
_OF_POINT = (
    "sensitivity",
    "specificity",
    "positive_predictive_value",
    "negative_predictive_value",
    "f1",
    "positive_likelihood_ratio",
    "negative_likelihood_ratio",
    "accuracy",
    "balanced_accuracy",
)
# Level, label and figure -> its name among the nulls.
_OF_POSITION = {
    ("slices", "all", "weighted_log_loss"): "weighted_log_loss",
    ("slices", "all", "mean_accuracy"): "mean_accuracy",
    ("slices", "any", "roc_auc"): "roc_auc",
    ("slices", "any", "average_precision"): "average_precision",
    ("patients", "any", "roc_auc"): "roc_auc_patients",
}
# Columns of the LaTeX table: heading, and figure.
_SHOWN = (
    ("AUC", "roc_auc"),
    ("AP", "average_precision"),
    ("Sensitivity", "sensitivity"),
    ("Specificity", "specificity"),
)


def results_table(metrics: dict[str, Any], *, synthetic: bool) -> pl.DataFrame:
    """List every figure of the test patients, one a row.

    Parameters
    ----------
    metrics
        What `evaluate` gives.
    synthetic
        Whether the data are: every row then says so.

    Returns
    -------
    level, label, operating_point, figure, value, low, high (95 %), why, note, n, positives, null
    (what needs no picture reaches: no bleed everywhere for accuracies and exact match, the constant
    prevalence for log losses and Brier score, no skill for areas), position (what knows only where
    in its scan a slice lies reaches), data. Both are empty where they are not known.
    """
    schema = {
        "level": pl.String,
        "label": pl.String,
        "operating_point": pl.String,
        "figure": pl.String,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "why": pl.String,
        "note": pl.String,
        "n": pl.Int64,
        "positives": pl.Int64,
        "null": pl.Float64,
        "position": pl.Float64,
    }
    position = _find_position(metrics)
    rows = [
        row | {"position": position.get((row["level"], row["label"], row["figure"]))}
        for row in _list_rows(metrics["partitions"]["test"])
    ]
    return mark_rows(pl.DataFrame(rows, schema=schema), synthetic=synthetic)


def mark_rows(table: pl.DataFrame, *, synthetic: bool) -> pl.DataFrame:
    """Say in a last column `data` of every row what it was computed on."""
    return table.with_columns(data=pl.lit(SYNTHETIC if synthetic else "patients"))


def _find_position(metrics: dict[str, Any]) -> dict[tuple[str, str, str], float | None]:
    """Find what the null that knows the position reaches, by level, label and figure."""
    for row in metrics["nulls"]["rows"]:
        if row["name"] == "position":
            return {place: row[figure]["value"] for place, figure in _OF_POSITION.items()}
    return {}


def _list_rows(test: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for level in LEVELS:
        own = test[level]
        for figure in _OVERALL:
            null = own["null"][figure]
            yield _row(level, "all", None, figure, own[figure], own["n"], None) | {"null": null}
        for label in ("any", *SUBTYPES):
            scores = own["labels"][label]
            counts = own["n"], scores["positives"]
            nulls = null_figures(scores)
            for figure in _OF_LABEL:
                row = _row(level, label, None, figure, scores[figure], *counts)
                yield row | {"null": nulls[figure]}
            for point, rates in (scores["points"] or {}).items():
                for figure in _OF_POINT:
                    row = _row(level, label, point, figure, rates[figure], *counts)
                    # No bleed everywhere: of the figures of a point, accuracy tells something.
                    yield row | {"null": nulls["accuracy"] if figure == "accuracy" else None}


def null_figures(scores: dict[str, Any]) -> dict[str, float | None]:
    """Give the null of each figure of a label, of what `level.score_level` gives for it."""
    prevalence = scores["prevalence"]
    return scores["null"] | {"brier": prevalence * (1 - prevalence)}


def _row(
    level: str,
    label: str,
    point: str | None,
    figure: str,
    estimate: dict[str, Any],
    n: int,
    positives: int | None,
) -> dict[str, Any]:
    return {
        "level": level,
        "label": label,
        "operating_point": point,
        "figure": figure,
        **{key: estimate[key] for key in ("value", "low", "high", "why")},
        "note": estimate.get("note"),
        "n": n,
        "positives": positives,
    }


def render_latex(metrics: dict[str, Any], *, synthetic: bool) -> str:
    """Render the main figures by label as a LaTeX table (package booktabs)."""
    test, point = metrics["partitions"]["test"], metrics["default_point"]
    lines = [
        "% Written by hemtrace; needs \\usepackage{booktabs}.",
        "\\begin{table}",
        f"\\caption{{{_caption(metrics, synthetic)}}}",
        "\\begin{tabular}{lrr" + "r" * len(_SHOWN) + "}",
        "\\toprule",
        " & ".join(["Label", "Positive", *(name for name, _ in _SHOWN), "Null AP"]) + " \\\\",
        "\\midrule",
    ]
    for level in LEVELS:
        for label in ("any", *SUBTYPES):
            scores = test[level]["labels"][label]
            figures = scores | scores["points"][point]
            cells = [f"{label}, {level}", f"{scores['positives']}/{test[level]['n']}"]
            cells += [_cell(figures[figure]) for _, figure in _SHOWN]
            null = scores["null"]["average_precision"]
            cells.append(_cell({"value": null, "low": None}))
            lines.append(" & ".join(cells) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _caption(metrics: dict[str, Any], synthetic: bool) -> str:
    test, point = metrics["partitions"]["test"], metrics["default_point"]
    mark = "\\textbf{Synthetic data, not clinical performance.} " if synthetic else ""
    slices, patients = test["slices"]["n"], test["patients"]["n"]
    return (
        f"{mark}{slices:,} test slices of {patients:,} patients; 95\\,\\% intervals resample "
        f"patients; $\\dagger$: on fewer than {FEW_BEARERS} with the label, and too narrow. "
        f"Operating point: {point}, fixed on validation patients. {_tell_nulls(metrics)}"
    )


def _tell_nulls(metrics: dict[str, Any]) -> str:
    position = _find_position(metrics)
    told = [
        f"{position[place]:.3f} by {place[0]}"
        for place in (("slices", "any", "roc_auc"), ("patients", "any", "roc_auc"))
        if position.get(place) is not None
    ]
    alone = f", of any bleed by the position in the scan alone {' and '.join(told)}" if told else ""
    return f"Null: an AUC of 0.5{alone}; an AP of the prevalence, in its column."


def _cell(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "not estimable"
    text = f"{estimate['value']:.3f}"
    if estimate["low"] is None:
        return text
    mark = "$^\\dagger$" if estimate.get("note") else ""
    return f"{text} ({estimate['low']:.3f}--{estimate['high']:.3f}){mark}"
