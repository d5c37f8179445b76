"""What evaluation leaves behind: scores, figures, tables for `dvc plots`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from hemtrace import figures
from hemtrace.evaluate.results import mark_rows
from hemtrace.evaluate.scored import Scored, scored_partition
from hemtrace.figures import ForestRow, Interval, Proportion, RobustnessPanel
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.metrics import why_not

FIGURES: tuple[str, ...] = (
    "detection",
    "subtypes",
    "roc",
    "precision_recall",
    "confusion",
    "calibration",
    "predictive_values",
    "decision",
    "workload",
)
# A curve over 100,000 slices has too many corners for a page; the eye tells no more apart.
_CURVE_POINTS = 400


def write_metrics(metrics: dict[str, Any], path: Path) -> None:
    """Write metrics as JSON with sorted keys: equal figures give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics, indent=2, sort_keys=True, allow_nan=False) + "\n")


def draw_figures(predictions: pl.DataFrame, metrics: dict[str, Any]) -> dict[str, Figure]:
    """Draw the figures of the test slices.

    Parameters
    ----------
    predictions
        As for `evaluate`.
    metrics
        What `evaluate` returned for them.

    Returns
    -------
    A figure for each name of `FIGURES`.
    """
    slices = scored_partition(predictions, "test")
    test, point = metrics["partitions"]["test"], metrics["default_point"]
    labels = test["slices"]["labels"]
    at_point = {label: own["points"][point] for label, own in labels.items()}
    positives = {label: labels[label]["positives"] for label in LABELS}
    benefit = metrics["benefit"]
    before, after = (
        {label: metrics["calibration"][label][when] for label in ("any", *SUBTYPES)}
        for when in ("before", "after")
    )
    return {
        "detection": figures.detection_bars(
            at_point["any"]["confusion"],
            test["patients"]["labels"]["any"]["points"][point]["confusion"],
        ),
        "subtypes": figures.subtype_bars(
            *(
                [
                    _proportion(label, (labels[label] | at_point[label])[name], positives[label])
                    for label in ("any", *SUBTYPES)
                ]
                for name in ("sensitivity", "specificity", "roc_auc")
            )
        ),
        "roc": figures.roc_curves(
            _curves(slices, _roc),
            {label: labels[label]["roc_auc"]["value"] for label in LABELS},
            positives,
            {name: _place(own) for name, own in labels["any"]["points"].items()},
        ),
        "precision_recall": figures.precision_recall_curves(
            _curves(slices, _precision_recall),
            {label: labels[label]["average_precision"]["value"] for label in LABELS},
            positives,
        ),
        "confusion": figures.confusion_matrices(
            {label: at_point[label]["confusion"] for label in ("any", *SUBTYPES)},
            {label: at_point[label]["threshold"] for label in LABELS},
        ),
        "calibration": figures.reliability_curves(before, after),
        "predictive_values": figures.predictive_values(benefit["predictive_values"]["patients"]),
        "decision": figures.decision_curves(
            {f"test {level}": curve for level, curve in benefit["decision"].items()}
        ),
        "workload": figures.workload_curve(benefit["workload"]),
    }


def draw_subgroups(found: dict[str, Any]) -> Figure:
    """Draw the sensitivity of each subgroup, from what `subgroups.measure_subgroups` gives."""
    rows = [
        ForestRow(
            group["fact"],
            group["group"],
            f"{group['positives']:,} / {group['positive_patients']:,}",
            _interval(group["sensitivity"]),
        )
        for group in found["groups"]
    ]
    whole = found["whole"]
    counts = f"{whole['positives']:,} / {whole['positive_patients']:,}"
    return figures.subgroup_forest(
        rows, _interval(whole["sensitivity"]), "Sensitivity", "positive slices / patients", counts
    )


def draw_robustness(found: dict[str, Any]) -> Figure:
    """Draw the AUC under each perturbation, from what `robustness.measure_robustness` gives."""
    panels = []
    for kind in dict.fromkeys(row["kind"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["kind"] == kind]
        panels.append(
            RobustnessPanel(
                rows[0]["title"],
                rows[0]["unit"],
                [row["strength"] for row in rows],
                [_interval(row["auc"]) for row in rows],
            )
        )
    return figures.robustness_curves(panels, _interval(found["unperturbed"]["auc"]))


def _interval(estimate: dict[str, Any]) -> Interval:
    # A figure has no room for the note on few bearers: it stands in the tables.
    return Interval(*(estimate.get(name) for name in ("value", "low", "high", "why")))


def _proportion(label: str, estimate: dict[str, Any], n: int) -> Proportion:
    return Proportion(label, **{k: estimate[k] for k in ("value", "low", "high")}, n=n)


def _place(scores: dict[str, Any]) -> tuple[float, float] | None:
    """False and true positive rate of an operating point."""
    sensitivity, specificity = scores["sensitivity"]["value"], scores["specificity"]["value"]
    if sensitivity is None or specificity is None:
        return None
    return 1 - specificity, sensitivity


def _curves(slices: Scored, curve: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Trace the curve of each label that has both classes, at not too many points."""
    return {
        label: _thin(*curve(slices.truth[:, column], slices.probability[:, column]))
        for column, label in enumerate(LABELS)
        if why_not(slices.truth[:, column], slices.probability[:, column]) is None
    }


def _roc(truth: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    across, up, _ = roc_curve(truth, probability)
    return across, up


def _precision_recall(truth: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    precision, recall, _ = precision_recall_curve(truth, probability)
    return recall, precision


def _thin(across: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(across) <= _CURVE_POINTS:
        return across, up
    # Even steps along the curve's length, so that neither its steep nor its flat part is lost.
    length = np.r_[0, np.cumsum(np.abs(np.diff(across)) + np.abs(np.diff(up)))]
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], _CURVE_POINTS)))
    return across[kept], up[kept]


def roc_table(predictions: pl.DataFrame, *, synthetic: bool) -> pl.DataFrame:
    """Tabulate the test slices' ROC curves, for `dvc plots show`.

    Parameters
    ----------
    predictions
        As for `evaluate`.
    synthetic
        Whether the data are: every row then says so.

    Returns
    -------
    Columns label, false_positive_rate, true_positive_rate, data; labels of one class only are
    absent.
    """
    parts = [
        pl.DataFrame({"label": label, "false_positive_rate": across, "true_positive_rate": up})
        for label, (across, up) in _curves(scored_partition(predictions, "test"), _roc).items()
    ]
    empty = pl.DataFrame(
        schema={
            "label": pl.String,
            "false_positive_rate": pl.Float64,
            "true_positive_rate": pl.Float64,
        }
    )
    table = pl.concat([empty, *parts]).with_columns(pl.selectors.float().round(6))
    return mark_rows(table, synthetic=synthetic)


def mean_history(history: pl.DataFrame) -> pl.DataFrame:
    """Average the histories of several trainings, epoch by epoch.

    Parameters
    ----------
    history
        Columns fold, seed and epoch, and figures; a row a training and epoch.
    """
    figures = pl.all().exclude("fold", "seed", "epoch")
    return history.group_by("epoch").agg(figures.mean()).sort("epoch")


def training_table(history: pl.DataFrame, *, synthetic: bool) -> pl.DataFrame:
    """Tabulate the epochs for `dvc plots show`: all but the seconds, which differ with each run."""
    table = history.drop("seconds", strict=False).with_columns(pl.selectors.float().round(6))
    return mark_rows(table, synthetic=synthetic)
