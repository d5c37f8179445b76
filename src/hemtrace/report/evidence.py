"""All that the report states, read from the stages' products and checked against each other."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

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
from hemtrace.params import PhantomParams
from hemtrace.provenance import data_digest, file_digest, git_commit
from hemtrace.report.counts import check_counts, count_split
from hemtrace.report.looks import count_galleries
from hemtrace.split import check_leakage

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
    metrics, robustness, familiarity, comparison, localisation
        Of evaluate, compare and explain.
    figures
        Pictures (.svg or .png), each named as in `WANTED_FIGURES`.
    root
        Folder of the project, for the page on provenance.
    external
        What external tests have found, as `external.results.find_results` gives it.
    """

    catalog: Path
    flow: Path
    splits: Path
    study: Path
    model: Path
    history: Path
    metrics: Path
    robustness: Path
    familiarity: Path
    comparison: Path
    localisation: Path
    figures: tuple[Path, ...]
    root: Path = Path()
    external: tuple[Mapping[str, Any], ...] = ()


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
    metrics, robustness, familiarity, comparison, localisation
        The stages' JSON.
    figures
        Pictures by name: suffix and bytes.
    provenance
        What was made from what: name and value.
    external
        As in `ReportInputs`.
    lesion_volume_factor
        Of the phantom: lesions' volume relative to real ones; None where patients were scanned.
    galleries
        Slices and patients of each gallery, as `count_galleries` gives it.
    """

    flow: dict[str, Any]
    quarantined: pl.DataFrame
    split: pl.DataFrame
    study: dict[str, Any]
    spec: ModelSpec
    epochs: pl.DataFrame
    metrics: dict[str, Any]
    robustness: dict[str, Any]
    familiarity: dict[str, Any]
    comparison: dict[str, Any]
    localisation: dict[str, Any]
    figures: dict[str, tuple[str, bytes]]
    provenance: list[tuple[str, str]]
    external: tuple[Mapping[str, Any], ...] = ()
    lesion_volume_factor: float | None = None
    galleries: dict[str, tuple[int, int]] = field(default_factory=dict)


def gather_evidence(inputs: ReportInputs, phantom: PhantomParams) -> Evidence:
    """Read the products and check that they belong together.

    Parameters
    ----------
    inputs
        The products.
    phantom
        Of the run; it says nothing of scans that are not synthetic.

    Raises
    ------
    HemtraceError
        If a figure is missing, a patient leaks, or counts contradict each other.
    """
    catalog, splits = pl.read_parquet(inputs.catalog), pl.read_parquet(inputs.splits)
    flow, metrics, study, robustness, familiarity, comparison, localisation = (
        json.loads(path.read_text())
        for path in (
            inputs.flow,
            inputs.metrics,
            inputs.study,
            inputs.robustness,
            inputs.familiarity,
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
    split = count_split(splits)
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
        familiarity=familiarity,
        comparison=comparison,
        localisation=localisation,
        figures=figures,
        provenance=_provenance(inputs, spec, digest),
        external=inputs.external,
        lesion_volume_factor=phantom.lesion_volume_factor if spec.synthetic else None,
        galleries=count_galleries(localisation, catalog),
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
                inputs.familiarity,
                inputs.comparison,
                inputs.localisation,
            )
        ),
        ("seed", str(spec.seed)),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("libraries", ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)),
    ]
