"""All tables of the report: words and numbers, no HTML."""

from pathlib import Path
from typing import Any

from hemtrace.params.train import find_idle
from hemtrace.report import benefit, calibration, data, groups, looks, scores, verdicts
from hemtrace.report.cells import Table
from hemtrace.report.elsewhere import external_table
from hemtrace.report.evidence import Evidence
from hemtrace.report.paper import paper_table
from hemtrace.report.published import published_table
from hemtrace.report.systems import runs_table, systems_cost_table, systems_table


def build_tables(evidence: Evidence, quarantine_rows: int) -> dict[str, Table]:
    """Build every table by name, as `templates/report.yaml` calls them."""
    tables = _of_evaluation(evidence)
    if not evidence.metrics["rules"]["bootstrap"]:
        tables = {name: table.without_intervals() for name, table in tables.items()}
    return tables | _of_the_rest(evidence, quarantine_rows)


def tell_verdicts(evidence: Evidence) -> dict[str, str]:
    """Say what came of each check that `templates/report.yaml` names."""
    return {
        "leak": verdicts.tell_leak(evidence.metrics["nulls"]),
        "peaks": verdicts.judge_peaks(evidence.localisation),
        "planted": verdicts.judge_planted(evidence.localisation),
        "randomisation": verdicts.judge_randomisation(evidence.localisation),
    }


def _of_evaluation(evidence: Evidence) -> dict[str, Table]:
    """Build the tables whose intervals `evaluate.bootstrap` draws."""
    metrics, synthetic = evidence.metrics, evidence.spec.synthetic
    looked = evidence.localisation
    return {
        "levels": scores.levels_table(metrics),
        "labels": scores.labels_table(metrics),
        "confused": scores.confused_table(metrics),
        "points": scores.points_table(metrics),
        "operating": scores.operating_table(metrics),
        "nulls": scores.nulls_table(metrics),
        "calibration": calibration.calibration_table(metrics),
        "prevalence": benefit.prevalence_table(metrics, "patients"),
        "prevalence_slices": benefit.prevalence_table(metrics, "slices"),
        "workload": benefit.workload_table(metrics),
        "sample_size": scores.sample_size_table(metrics),
        "subgroups": groups.subgroups_table(metrics["subgroups"]),
        "robustness": groups.robustness_table(evidence.robustness),
        "systems": systems_table(evidence.comparison),
        "published": published_table(metrics, looked, evidence.external, synthetic=synthetic),
        "paper": paper_table(metrics, looked, synthetic=synthetic),
    }


def _of_the_rest(evidence: Evidence, quarantine_rows: int) -> dict[str, Table]:
    """Build the tables that know no interval, or whose intervals are drawn always."""
    metrics, study = evidence.metrics, evidence.study
    return {
        "flow": data.flow_table(evidence.flow),
        "quarantine": data.quarantine_table(evidence.quarantined, quarantine_rows),
        "split": data.split_table(study["partitions"]),
        "imbalance": data.imbalance_table(study["partitions"]),
        "leakage": data.leakage_table(study["leakage"]),
        "near": data.near_table(study["leakage"]),
        "scans": data.scans_table(study["scans"], study["leakage"]["sides"]),
        "training": _training(evidence),
        "runs": runs_table(metrics.get("runs", []), evidence.epochs),
        "systems_cost": systems_cost_table(evidence.comparison),
        "external": external_table(evidence.external),
        "localisation": looks.localisation_table(evidence.localisation),
        "planted": looks.planted_table(evidence.localisation),
        "volumes": looks.volumes_table(evidence.localisation),
        "provenance": Table(("What", "Value"), evidence.provenance, text=True),
    }


def _plain(value: Any) -> str:
    """Write a setting as a person would."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _training(evidence: Evidence) -> Table:
    spec = evidence.spec
    windows = "; ".join(f"{w.name} {w.center_hu:g}/{w.width_hu:g}" for w in spec.windows)
    idle = find_idle(spec.train)
    chosen = [
        # a path is shown by its name: this page is meant to be mailed
        (name.replace("_", " "), Path(value).name if name == "weights_file" else _plain(value))
        for name, value in spec.train.items()
        if value is not None and name not in idle
    ]
    return Table(
        ("Setting", "Value"),
        [
            ("network", spec.network.architecture),
            ("networks, averaged", str(spec.members)),
            ("weights at the start", spec.weights),
            ("windows, centre/width in HU", windows),
            (
                "shown of a slice",
                "a square around the head" if spec.crop == "head" else "the whole slice",
            ),
            ("slice size", f"{spec.size} x {spec.size} pixels"),
            *(row for row in chosen if row[0] not in ("architecture", "weights")),
        ],
        text=True,
    )
