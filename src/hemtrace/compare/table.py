"""Each system's predictions -> a row of figures with intervals."""

from typing import Any

import polars as pl

from hemtrace.compare.cost import count_macs, count_parameters, measure_speed
from hemtrace.evaluate import evaluate
from hemtrace.model import Ensemble, ModelSpec, Net
from hemtrace.params import EvaluateParams


def describe_system(net: Net | Ensemble, spec: ModelSpec) -> dict[str, Any]:
    """Say what a system is and costs, its speed measured on the machine at hand."""
    network = spec.network
    return {
        "architecture": network.architecture,
        "branches": network.branches,
        "context": network.context,
        "classifier": network.classifier,
        "members": spec.members,
        "weights": spec.weights,
        "input_size": network.input_size or spec.size,
        "epochs": spec.train.get("epochs"),
        "parameters": count_parameters(net),
        "macs": count_macs(net, spec),
        "slices_per_second": measure_speed(net, spec),
    }


def compare_systems(
    systems: dict[str, tuple[pl.DataFrame, dict[str, Any]]],
    params: EvaluateParams,
    seed: int,
    splits: pl.DataFrame,
) -> dict[str, Any]:
    """Score every system on the same test slices, by the rules of `evaluate`.

    Parameters
    ----------
    systems
        By name, in the order of the table: predictions as `evaluate` takes them, and what
        `describe_system` says.
    params, seed, splits
        As for `evaluate`: the same replicates of patients for all systems.

    Returns
    -------
    `systems`: a row each with name, description, and on the test slices `weighted_log_loss`,
    `roc_auc` and `average_precision` of any, `roc_auc_patients`, and `roc_auc_<label>`, each with
    its interval; `slices` and `patients` of the test.
    """
    rows = []
    for name, (predictions, description) in systems.items():
        test = evaluate(predictions, params, seed, splits)["partitions"]["test"]
        labels = test["labels"]
        rows.append(
            {
                "name": name,
                **description,
                "weighted_log_loss": test["weighted_log_loss"],
                "average_precision": labels["any"]["average_precision"],
                "roc_auc_patients": test["patient"]["roc_auc"],
                **{f"roc_auc_{label}": own["roc_auc"] for label, own in labels.items()},
            }
        )
    return {"systems": rows, "slices": test["slices"], "patients": test["patients"]}
