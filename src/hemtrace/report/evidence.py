"""All that the report states, read from the stages' products and checked against each other."""

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from hemtrace.dicom.reasons import count_steps
from hemtrace.errors import HemtraceError
from hemtrace.figures import (
    CoOccurrence,
    FlowSide,
    FlowStep,
    co_occurrence_matrices,
    draw_bytes,
    flow_diagram,
)
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, load_spec
from hemtrace.provenance import data_digest, file_digest, git_commit
from hemtrace.split import DROPPED, PARTITIONS, check_leakage

# What decides the figures; the lock file names the rest.
_LIBRARIES = ("hemtrace", "torch", "timm", "numpy", "scikit-learn", "pydicom", "polars", "grad-cam")
WANTED_FIGURES = (
    "training",
    "detection",
    "subtypes",
    "roc",
    "precision_recall",
    "confusion",
    "calibration",
    "predictive_values",
    "decision",
    "workload",
    "subgroups",
    "robustness",
    "gallery_bleeds",
    "gallery_clear",
    "gallery_subtypes",
    "gallery_worst",
    "localisation",
    "randomisation",
)


@dataclass(frozen=True)
class ReportInputs:
    """Where the products of the stages lie.

    Attributes
    ----------
    catalog, flow, splits, study
        Of ingest and split; `flow` is the JSON of ingest's counts.
    model, history
        Of train.
    metrics, robustness, comparison, localisation
        Of evaluate, compare and explain.
    figures
        Pictures (.svg or .png), each named as in `WANTED_FIGURES`.
    root
        Folder of the project, for the page on provenance.
    """

    catalog: Path
    flow: Path
    splits: Path
    study: Path
    model: Path
    history: Path
    metrics: Path
    robustness: Path
    comparison: Path
    localisation: Path
    figures: tuple[Path, ...]
    root: Path = Path()


@dataclass(frozen=True)
class Evidence:
    """What the report states, without any patient's name.

    Attributes
    ----------
    flow
        Counts: files, readable, used, quarantined by reason, and those of the label file.
    quarantined
        Columns slice, reason.
    split
        A row a partition, or a fold in place of train and val: patients, slices, and positive
        slices a label.
    study
        The JSON of `split_study`: flow, partitions, co-occurrence, scans, leakage.
    spec
        Of the model.
    epochs
        Rows of the training history.
    metrics, robustness, comparison, localisation
        The stages' JSON.
    figures
        Pictures by name: suffix and bytes.
    provenance
        What was made from what: name and value.
    """

    flow: dict[str, Any]
    quarantined: pl.DataFrame
    split: pl.DataFrame
    study: dict[str, Any]
    spec: ModelSpec
    epochs: pl.DataFrame
    metrics: dict[str, Any]
    robustness: dict[str, Any]
    comparison: dict[str, Any]
    localisation: dict[str, Any]
    figures: dict[str, tuple[str, bytes]]
    provenance: list[tuple[str, str]]


def gather_evidence(inputs: ReportInputs) -> Evidence:
    """Read the products and check that they belong together.

    Raises
    ------
    HemtraceError
        If a figure is missing, a patient leaks, or counts contradict each other.
    """
    catalog, splits = pl.read_parquet(inputs.catalog), pl.read_parquet(inputs.splits)
    flow, metrics, study, robustness, comparison, localisation = (
        json.loads(path.read_text())
        for path in (
            inputs.flow,
            inputs.metrics,
            inputs.study,
            inputs.robustness,
            inputs.comparison,
            inputs.localisation,
        )
    )
    spec = load_spec(inputs.model)
    check_leakage(catalog, splits)
    scored = {
        "val": int(splits.filter(pl.col("fold").is_not_null())["slices"].sum()),
        "test": int(splits.filter(pl.col("partition") == "test")["slices"].sum()),
    }
    split = _split_table(splits)
    check_counts(catalog, flow, split, metrics, scored)
    figures = _read_figures(inputs.figures)
    figures["flow"] = ("svg", draw_bytes(_draw_flow(study["flow"])))
    figures["co_occurrence"] = ("svg", draw_bytes(_draw_co_occurrence(study["co_occurrence"])))
    digest = data_digest(catalog, splits)
    return Evidence(
        flow=flow,
        quarantined=catalog.filter(pl.col("status") == "quarantined")
        .select("slice", "reason")
        .sort("reason", "slice"),
        split=split,
        study=study,
        spec=spec,
        epochs=pl.read_parquet(inputs.history),
        metrics=metrics,
        robustness=robustness,
        comparison=comparison,
        localisation=localisation,
        figures=figures,
        provenance=_provenance(inputs, spec, digest),
    )


def _draw_flow(flow: dict[str, Any]) -> Figure:
    first = FlowStep("pictures" if flow["pictures"] != flow["files"] else "files", flow["pictures"])
    steps = [
        FlowStep(
            step["title"],
            step["passed"],
            [(reason["meaning"], reason["count"]) for reason in step["excluded"]],
        )
        for step in flow["steps"]
    ]
    sides = [
        FlowSide(
            side["name"],
            [
                f"{side['patients']:,} patients,",
                f"{side['positive_patients']:,} with a bleed",
                f"{side['slices']:,} slices,",
                f"{side['positive_slices']:,} with a bleed",
            ],
        )
        for side in flow["sides"]
    ]
    return flow_diagram([first, *steps], sides)


def _draw_co_occurrence(found: dict[str, Any]) -> Figure:
    panels = [
        CoOccurrence(unit, found[unit]["total"], np.array(found[unit]["counts"]))
        for unit in ("slices", "patients")
    ]
    return co_occurrence_matrices(panels, LABELS)


def check_counts(
    catalog: pl.DataFrame,
    flow: dict[str, Any],
    split: pl.DataFrame,
    metrics: dict[str, Any],
    due: dict[str, int],
) -> None:
    """Prove that no file got lost between the stages.

    Raises
    ------
    HemtraceError
        With both sides of the sum that does not hold.
    """
    by_partition = dict(split.select("partition", "slices").iter_rows())
    used = catalog.filter(pl.col("status") == "used").height
    sums = [
        (
            "files of the catalog",
            catalog["file"].n_unique(),
            "files counted by ingest",
            flow["files"],
        ),
        ("pictures of the catalog", catalog.height, "those counted by ingest", flow["pictures"]),
        (
            "pictures used and quarantined",
            flow["used"] + sum(flow["quarantined"].values()),
            "pictures counted by ingest",
            flow["pictures"],
        ),
        *(
            (f"pictures past the step {step}", flow[step], "those by the reasons", count)
            for step, count in count_steps(flow["pictures"], flow["quarantined"]).items()
        ),
        ("used slices of the catalog", used, "those counted by ingest", flow["used"]),
        ("slices of all partitions", sum(by_partition.values()), "used slices", used),
    ]
    for name in ("val", "test"):
        scored = metrics["partitions"][name]["slices"]["n"]
        sums.append((f"slices scored in {name}", scored, "slices of it", due[name]))
    for left, left_count, right, right_count in sums:
        if left_count != right_count:
            raise HemtraceError(
                f"The counts do not add up: {left} {left_count:,}, {right} {right_count:,}; "
                "the products stem from different runs, run the pipeline again."
            )


def _split_table(splits: pl.DataFrame) -> pl.DataFrame:
    """Count each partition; with several folds, each of these in place of train and val."""
    folds = splits["fold"].drop_nulls().n_unique()
    if folds > 1:
        name = pl.format("fold {}", pl.col("fold"))
        splits = splits.with_columns(partition=pl.coalesce(name, "partition"))
        names = [*(f"fold {fold}" for fold in range(folds)), "test"]
    else:
        names = list(PARTITIONS)
    if DROPPED in splits["partition"]:
        names.append(DROPPED)
    counts = splits.group_by("partition").agg(
        patients=pl.len(),
        positive_patients=(pl.col("any") > 0).sum(),
        slices=pl.col("slices").sum(),
        **{label: pl.col(label).sum() for label in LABELS},
    )
    order = pl.DataFrame({"partition": names})
    return order.join(counts, on="partition", how="left", maintain_order="left")


def _read_figures(paths: tuple[Path, ...]) -> dict[str, tuple[str, bytes]]:
    figures = {path.stem: (path.suffix.lstrip("."), path.read_bytes()) for path in paths}
    missing = [name for name in WANTED_FIGURES if name not in figures]
    if missing:
        raise HemtraceError(
            f"The report lacks the figures {', '.join(missing)}; run the stages that draw them."
        )
    return figures


def _provenance(inputs: ReportInputs, spec: ModelSpec, digest: str) -> list[tuple[str, str]]:
    same = "the same" if digest == spec.data_digest else f"NOT the model's, {spec.data_digest}"
    return [
        ("model trained by commit", spec.git_commit),
        ("report written by commit", git_commit()),
        ("data digest (slices, labels, partitions)", digest),
        ("data digest that the model was trained on", same),
        *(
            (f"SHA-256 of {path.name}", file_digest(path))
            for path in (
                inputs.catalog,
                inputs.splits,
                inputs.study,
                inputs.model,
                inputs.history,
                inputs.metrics,
                inputs.robustness,
                inputs.comparison,
                inputs.localisation,
            )
        ),
        ("seed", str(spec.seed)),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("libraries", ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)),
    ]
