"""Tables of several trainings: folds and seeds, and the systems that are compared."""

import re
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import polars as pl

from hemtrace.labels import SUBTYPES
from hemtrace.report.cells import NO_INTERVAL, Table, marked_cell, number

_NUMBER = re.compile(r"\d+")  # fold0_seed2019
_FIGURES = (
    "val_roc_auc_any",
    "val_weighted_log_loss",
    "test_roc_auc_any",
    "test_weighted_log_loss",
)


def runs_table(runs: Sequence[dict[str, Any]], epochs: pl.DataFrame) -> Table:
    """Show each training by itself, and how they spread.

    Parameters
    ----------
    runs
        What `evaluate.score_runs` made.
    epochs
        The history of all, with columns fold and seed.
    """
    columns = (
        "Training",
        "Epochs",
        "AUC, any,\nits validation",
        "Log loss,\nits validation",
        "AUC, any, test",
        "Log loss, test",
    )
    rows = []
    for run in runs:
        fold, seed = map(int, _NUMBER.findall(run["run"]))
        count = epochs.filter((pl.col("fold") == fold) & (pl.col("seed") == seed)).height
        rows.append((f"fold {fold}, seed {seed}", str(count), *(number(run[f]) for f in _FIGURES)))
    if len(runs) > 1:
        for group, chosen in _groups(runs):
            rows.append((f"mean of {group}", "", *(_spread(chosen, f) for f in _FIGURES)))
    return Table(
        columns,
        rows,
        note="Each network by itself; the figures above are those of their mean probabilities, on "
        "validation slices of the networks alone that did not learn from the patient. Small: one "
        "standard deviation; of all trainings that of folds and seeds together.",
    )


def _groups(runs: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Group trainings of one fold, which differ by the seed alone; and all, if there are folds."""
    folds: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        folds.setdefault(run["run"].split("_")[0], []).append(run)
    groups = [
        (f"the {len(chosen)} seeds of fold {fold.lstrip('fold')}", chosen)
        for fold, chosen in folds.items()
        if len(chosen) > 1
    ]
    return groups if len(folds) == 1 else [*groups, (f"all {len(runs)}", list(runs))]


def _spread(runs: Sequence[dict[str, Any]], figure: str) -> str:
    known = [run[figure] for run in runs if run[figure] is not None]
    if len(known) < 2:
        return number(known[0] if known else None)
    return f"{mean(known):.3f}\n\N{PLUS-MINUS SIGN}{stdev(known):.3f}"


def systems_table(comparison: dict[str, Any]) -> Table:
    """Show how well each system does on the same test slices."""
    shown = ("weighted_log_loss", "roc_auc_any", "roc_auc_patients", "average_precision")
    figures = (*shown, *(f"roc_auc_{label}" for label in SUBTYPES))
    rows = [
        (system["name"], *(marked_cell(system[figure]) for figure in figures))
        for system in comparison["systems"]
    ]
    return Table(
        (
            "System",
            "Weighted\nlog loss",
            "AUC, any",
            "AUC, any,\npatients",
            "Average\nprecision",
            *(f"AUC,\n{label}" for label in SUBTYPES),
        ),
        rows,
        note=f"{comparison['slices']:,} test slices of {comparison['patients']:,} patients, and "
        "the same replicates of patients, for all. Nothing was chosen by these figures. "
        f"{NO_INTERVAL}",
    )


def systems_cost_table(comparison: dict[str, Any]) -> Table:
    """Show what each system is, and what it costs."""
    rows = [
        (
            system["name"],
            _describe(system),
            f"{system['input_size']} px",
            str(system["epochs"]),
            f"{system['parameters'] / 1e6:.1f}",
            f"{system['macs'] / 1e9:.2f}",
            f"{system['slices_per_second']:,.1f}",
        )
        for system in comparison["systems"]
    ]
    return Table(
        (
            "System",
            "Network",
            "Slices of",
            "Epochs",
            "Parameters,\nmillions",
            "MACs a slice,\nbillions",
            "Slices/s,\nprediction",
        ),
        rows,
        text=True,
        note="MACs: multiply-accumulate operations of convolutions and matrices. Slices/s of the "
        "network alone, on the CPU of the machine that ran this.",
    )


def _describe(system: dict[str, Any]) -> str:
    parts = [system["architecture"]]
    if system["branches"] != "one":
        parts.append(f"two branches ({system['branches']})")
    if system["context"] != "none":
        parts.append(f"slice context ({system['context']})")
    if system["classifier"] != "network":
        parts.append({"svm": "linear SVM", "forest": "random forest"}[system["classifier"]])
    if system["members"] > 1:
        parts.append(f"ensemble of {system['members']}")
    return ", ".join(parts) + f"\n{system['weights']}"
