"""All that the report states, read from the stages' products and checked against each other."""

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from hemtrace.dicom.reasons import STEPS, count_steps
from hemtrace.errors import HemtraceError
from hemtrace.figures import draw_bytes, flow_bars
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
    "gallery_bleeds",
    "gallery_clear",
)


@dataclass(frozen=True)
class ReportInputs:
    """Where the products of the stages lie.

    Attributes
    ----------
    catalog, flow, splits
        Of ingest and split; `flow` is the JSON of ingest's counts.
    model, history
        Of train.
    metrics, comparison, localisation
        Of evaluate, compare and explain.
    figures
        Pictures (.svg or .png), each named as in `WANTED_FIGURES`.
    """

    catalog: Path
    flow: Path
    splits: Path
    model: Path
    history: Path
    metrics: Path
    comparison: Path
    localisation: Path
    figures: tuple[Path, ...]


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
        Columns partition, patients, slices, and positive slices a label.
    patients_positive
        Patients with `any` in each partition.
    spec
        Of the model.
    epochs
        Rows of the training history.
    metrics, comparison, localisation
        The stages' JSON.
    figures
        Pictures by name: suffix and bytes.
    provenance
        What was made from what: name and value.
    """

    flow: dict[str, Any]
    quarantined: pl.DataFrame
    split: pl.DataFrame
    spec: ModelSpec
    epochs: pl.DataFrame
    metrics: dict[str, Any]
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
    flow = json.loads(inputs.flow.read_text())
    metrics = json.loads(inputs.metrics.read_text())
    spec = load_spec(inputs.model)
    check_leakage(catalog, splits)
    split = _split_table(splits)
    scored = {
        "val": int(splits.filter(pl.col("fold").is_not_null())["slices"].sum()),
        "test": int(splits.filter(pl.col("partition") == "test")["slices"].sum()),
    }
    check_counts(catalog, flow, split, metrics, scored)
    figures = _read_figures(inputs.figures)
    steps = [("pictures", flow["pictures"]), *((step, flow[step]) for step in STEPS)]
    by_partition = split.select("partition", "slices").iter_rows()
    steps += [(f"used in {name}", count) for name, count in by_partition]
    figures["flow"] = ("svg", draw_bytes(flow_bars(steps, flow["quarantined"])))
    digest = data_digest(catalog, splits)
    return Evidence(
        flow=flow,
        quarantined=catalog.filter(pl.col("status") == "quarantined")
        .select("slice", "reason")
        .sort("reason", "slice"),
        split=split,
        spec=spec,
        epochs=pl.read_parquet(inputs.history),
        metrics=metrics,
        comparison=json.loads(inputs.comparison.read_text()),
        localisation=json.loads(inputs.localisation.read_text()),
        figures=figures,
        provenance=_provenance(inputs, spec, digest),
    )


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
        scored = metrics["partitions"][name]["slices"]
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
                inputs.model,
                inputs.history,
                inputs.metrics,
                inputs.comparison,
                inputs.localisation,
            )
        ),
        ("seed", str(spec.seed)),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("libraries", ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)),
    ]
