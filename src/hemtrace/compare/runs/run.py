"""A run: its predictions of test patients, and what is known of the model that made them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.operating import Operating, read_operating
from hemtrace.evaluate.scored import LEVELS_OF, PROBABILITIES, LabelLevel
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, load_spec
from hemtrace.provenance import file_digest

_NEEDED = ("slice", "patient", "study", "partition", *PROBABILITIES, *LABELS)
# Where data are compared that no training has seen, in this order.
_PARTITIONS = ("test", "external")
# Of a model's description: what says how it was made, not from what or when.
_NOT_A_PARAMETER = {"git_commit", "data_digest", "labels"}


@dataclass(frozen=True)
class Run:
    """Predictions, and what is known of the model that made them.

    Attributes
    ----------
    name
        Its path as it was given, of an absolute one the last two parts.
    sha256
        Of the table of predictions.
    predictions
        A row a slice of the test patients, sorted by slice.
    partition
        `test`, or `external`.
    level
        What has one set of labels: a key of `evaluate.scored.LEVELS_OF`.
    spec, operating
        None where no model lies beside the predictions.
    synthetic
        None where it is not known.
    """

    name: str
    sha256: str
    predictions: pl.DataFrame
    partition: str
    level: LabelLevel
    spec: ModelSpec | None
    operating: Operating | None
    synthetic: bool | None


def read_run(path: Path) -> Run:
    """Read a run.

    Parameters
    ----------
    path
        A table of predictions; a run's folder, with `data/predictions.parquet`; or a folder that
        `hemtrace external` wrote. A model is looked for in the run's folder.

    Raises
    ------
    HemtraceError
        If there are no predictions, or none of test patients.
    """
    places = [path, path / "data/predictions.parquet", path / "predictions.parquet"]
    table = next((place for place in places if place.is_file()), None)
    if table is None:
        raise HemtraceError(
            f"{path} is neither a table of predictions nor a folder with data/predictions.parquet."
        )
    try:
        predictions, marks = pl.read_parquet(table), pl.read_parquet_metadata(table)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise HemtraceError(f"{table} is no table of Parquet ({type(error).__name__}).") from None
    missing = [name for name in _NEEDED if name not in predictions.columns]
    if missing:
        raise HemtraceError(f"{table} lacks the columns {', '.join(missing)}.")
    there = [name for name in _PARTITIONS if name in set(predictions["partition"])]
    if not there:
        raise HemtraceError(f"{table} holds no slice of test patients.")
    root = table.parent.parent if table.parent.name == "data" else table.parent
    model = root / "models/model.safetensors"
    spec = load_spec(model) if model.is_file() else None
    frozen = model.with_name("operating.json")
    operating = read_operating(frozen, file_digest(model)) if spec and frozen.is_file() else None
    marked = marks.get("synthetic")
    return Run(
        name=_name_run(path),
        sha256=file_digest(table),
        predictions=predictions.filter(pl.col("partition") == there[0]).sort("slice"),
        partition=there[0],
        level=_read_level(marks, table),
        spec=spec,
        operating=operating,
        synthetic=marked == "true" if marked else spec.synthetic if spec else None,
    )


def _name_run(path: Path) -> str:
    """Name a run without telling where on a machine it lies."""
    if not path.name:
        return path.resolve().name
    return "/".join(path.parts[-2:]) if path.is_absolute() else str(path)


def _read_level(marks: Mapping[str, str], table: Path) -> LabelLevel:
    level = marks.get("label_level", "slice")
    for known in LEVELS_OF:
        if level == known:
            return known
    raise HemtraceError(f"{table} has labels by {level!r}, which this version does not know.")


def require_same(first: Run, second: Run) -> None:
    """Refuse runs whose test slices, or what is true of them, differ.

    Raises
    ------
    HemtraceError
        Saying how.
    """
    ours, theirs = first.predictions, second.predictions
    both = ours.join(theirs, on="slice", how="semi").height
    if both < ours.height or both < theirs.height:
        raise HemtraceError(
            f"The runs hold other {first.partition} slices: {ours.height:,} in {first.name}, "
            f"{theirs.height:,} in {second.name}, {both:,} in both. Only runs of one split, of the "
            "same data, can be compared."
        )
    if first.level != second.level:
        raise HemtraceError(
            f"The labels of {first.name} are by {first.level}, those of {second.name} by "
            f"{second.level}; compare runs with the same labels."
        )
    for name, what in (("patient", "patient"), ("study", "study")):
        moved = int((ours[name] != theirs[name]).sum())
        if moved:
            raise HemtraceError(
                f"{moved:,} slices belong to another {what} in {second.name} than in {first.name}."
            )
    unlike = sum(int(ours[label].ne_missing(theirs[label]).sum()) for label in LABELS)
    if unlike:
        raise HemtraceError(
            f"{unlike:,} labels of the same slices differ between {first.name} and {second.name}; "
            "only the predictions may."
        )


def known_labels(run: Run) -> list[str]:
    """List the labels that every slice has."""
    return [label for label in LABELS if not run.predictions[label].null_count()]


def list_differing(first: Run, second: Run) -> list[dict[str, str]] | None:
    """List the parameters of the two models that differ; None where one is not known."""
    if first.spec is None or second.spec is None:
        return None
    ours, theirs = (_flatten(run) for run in (first, second))
    return [
        {"name": name, "first": ours.get(name, "none"), "second": theirs.get(name, "none")}
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]


def _flatten(run: Run) -> dict[str, str]:
    tree: dict[str, Any] = {}
    if run.spec is not None:
        tree = run.spec.model_dump(mode="json", exclude=_NOT_A_PARAMETER)
    if run.operating is not None:
        tree["calibration"] = run.operating.calibration.method
        tree |= {"score_rule": run.operating.score_rule, "aims": run.operating.aims}
    flat: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), part)
        else:
            flat[prefix] = json.dumps(value)

    walk("", tree)
    return flat
