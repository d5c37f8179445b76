"""Two runs on the same slices: which is better, by how much, and is it more than chance?"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.calibrate import apply_unseen
from hemtrace.evaluate.operating import POINTS, Operating, flagged, read_operating
from hemtrace.evaluate.scored import PROBABILITIES, Scored, scored_partition
from hemtrace.external.labels import LEVELS_OF, Level
from hemtrace.external.page import render_small_page, show_item
from hemtrace.labels import ANY, LABEL_WEIGHTS, LABELS
from hemtrace.metrics import (
    Difference,
    Estimate,
    Resamples,
    average_precision,
    compare_areas,
    difference,
    log_losses,
    mcnemar,
    resample_patients,
    roc_auc,
    why_not,
)
from hemtrace.model import ModelSpec
from hemtrace.model.file import load_spec
from hemtrace.provenance import file_digest
from hemtrace.report.cells import Table, number
from hemtrace.writing import write_whole

_UNITS = {"slices": "slice", "studies": "study", "patients": "patient"}
_NEEDED = ("slice", "patient", "study", "partition", *PROBABILITIES, *LABELS)
# Where data are compared that no training has seen, in this order.
_PARTITIONS = ("test", "external")
# Of a model's description: what says how it was made, not from what or when.
_NOT_A_PARAMETER = {"git_commit", "data_digest", "labels"}

_NAMES = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "weighted_log_loss": "weighted log loss",
}
_DATA = {
    True: "SYNTHETIC, not clinical performance",
    False: "patients",
    None: "not known whether synthetic: no model lies beside the predictions",
}
_SOURCE = "hemtrace compare"
# No replicate can tell two equal columns of scores apart: no chance is involved.
_NOTHING_CHANGED = Difference(Estimate(0.0, 0.0, 0.0), 1.0)

Figure = Callable[[np.ndarray, np.ndarray, Resamples | None], np.ndarray]


@dataclass(frozen=True)
class Run:
    """Predictions, and what is known of the model that made them.

    Attributes
    ----------
    name
        As it was given.
    predictions
        A row a slice of the test patients, sorted by slice.
    partition
        `test`, or `external`.
    level
        What has one set of labels, as in `external.labels`.
    spec, operating
        None where no model lies beside the predictions.
    synthetic
        None where it is not known.
    """

    name: str
    predictions: pl.DataFrame
    partition: str
    level: Level
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
        name=str(path),
        predictions=predictions.filter(pl.col("partition") == there[0]).sort("slice"),
        partition=there[0],
        level=_read_level(marks, table),
        spec=spec,
        operating=operating,
        synthetic=marked == "true" if marked else spec.synthetic if spec else None,
    )


def _read_level(marks: Mapping[str, str], table: Path) -> Level:
    level = marks.get("label_level", "slice")
    for known in LEVELS_OF:
        if level == known:
            return known
    raise HemtraceError(f"{table} has labels by {level!r}, which this version does not know.")


def compare_runs(
    first: Run, second: Run, replicates: int, seed: int, clip: float
) -> dict[str, Any]:
    """Compare two runs on the same test slices.

    Parameters
    ----------
    first, second
        As read.
    replicates, seed
        Of the bootstrap of whole patients, the same draws for both.
    clip
        Of the log loss.

    Returns
    -------
    `figures`: a row a level, label and figure with `first`, `second`, `difference` (first less
    second, its interval and p) and, for the AUC of patients, `delong`; `points`: of patients at
    each operating point, where both are known; `parameters` that differ; `rules`.

    Raises
    ------
    HemtraceError
        If the runs hold other test slices, or say otherwise who has a bleed.
    """
    _require_same(first, second)
    slices = [scored_partition(run.predictions, run.partition) for run in (first, second)]
    # Operating points go by the rule of a run; ranks are compared by one rule for both.
    figures = []
    for level in LEVELS_OF[first.level]:
        pair = [one.at_level(level) for one in slices]
        resamples = resample_patients(pair[0].patients, replicates, seed)
        figures += _compare_level(pair[0], pair[1], _known_labels(first), resamples, clip)
    return {
        "first": first.name,
        "second": second.name,
        "synthetic": _join_marks(first.synthetic, second.synthetic),
        "slices": len(slices[0]),
        "patients": len(np.unique(slices[0].patients)),
        "figures": figures,
        "points": _compare_points(first, second),
        "parameters": _differing(first, second),
        "rules": {
            "difference": "first less second; 95 % interval and p by the paired bootstrap of whole "
            f"patients, {replicates} replicates",
            "score": "of a study or patient the highest probability over its slices, uncalibrated",
            "delong": "DeLong's test, one row a patient",
            "mcnemar": "exact, on patients, each run at its own threshold",
            "log_loss": f"natural logarithm, probabilities held within [{clip:g}, 1 - {clip:g}]",
        },
    }


def _require_same(first: Run, second: Run) -> None:
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


def _known_labels(run: Run) -> list[str]:
    return [label for label in LABELS if not run.predictions[label].null_count()]


def _join_marks(*marks: bool | None) -> bool | None:
    return True if True in marks else None if None in marks else False


def _mean_loss(
    truth: np.ndarray, score: np.ndarray, resamples: Resamples | None, clip: float
) -> np.ndarray:
    losses = log_losses(truth, score, clip)
    if losses.ndim > 1:
        losses = losses @ LABEL_WEIGHTS
    if resamples is None:
        return np.array([losses.mean()])
    return resamples.ratio(losses, np.ones(len(losses)))


def _compare_level(
    first: Scored, second: Scored, labels: list[str], resamples: Resamples, clip: float
) -> list[dict[str, Any]]:
    unit = _UNITS[first.level]
    loss: Figure = partial(_mean_loss, clip=clip)
    figures: dict[str, Figure] = {
        "roc_auc": roc_auc,
        "average_precision": average_precision,
        "log_loss": loss,
    }
    rows = []
    for label in labels:
        column = LABELS.index(label)
        truth = first.truth[:, column]
        scores = first.probability[:, column], second.probability[:, column]
        for name, figure in figures.items():
            row = _row(first.level, label, name, figure, truth, scores, resamples)
            if name == "roc_auc" and first.level == "patients":
                row["delong"] = _delong(truth, *scores).as_dict()
            rows.append(row)
    if first.level == "slices" and len(labels) == len(LABELS):
        scores = first.probability, second.probability
        rows.append(
            _row("slices", "all", "weighted_log_loss", loss, first.truth, scores, resamples)
        )
    return [{**row, "unit": unit} for row in rows]


def _row(
    level: str,
    label: str,
    name: str,
    figure: Figure,
    truth: np.ndarray,
    scores: tuple[np.ndarray, np.ndarray],
    resamples: Resamples,
) -> dict[str, Any]:
    values = [float(figure(truth, score, None)[0]) for score in scores]
    whys = [_why(name, truth, score, _UNITS[level]) for score in scores]
    why = whys[0] or whys[1]
    if np.array_equal(*scores) and why is None:
        found = _NOTHING_CHANGED
    else:
        ours, theirs = (figure(truth, score, resamples) for score in scores)
        found = difference(values[0], values[1], ours, theirs, why, patients=resamples.patients)
    return {
        "level": level,
        "label": label,
        "figure": name,
        "n": len(truth),
        "positives": int(truth.any(axis=1).sum() if truth.ndim > 1 else truth.sum()),
        "first": None if whys[0] else values[0],
        "second": None if whys[1] else values[1],
        "difference": found.as_dict(),
        "delong": None,
    }


def _why(name: str, truth: np.ndarray, score: np.ndarray, unit: str) -> str | None:
    holes = int(np.isnan(score).sum())
    if holes:
        return f"{holes:,} of {score.size:,} scores are NaN"
    return None if name.endswith("log_loss") else why_not(truth, score, unit)


def _delong(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> Difference:
    if np.array_equal(first, second) and why_not(truth, first) is None:
        return _NOTHING_CHANGED
    return compare_areas(truth, first, second, unit="patient")


def _compare_points(first: Run, second: Run) -> list[dict[str, Any]]:
    """Compare who is found, and who is cleared, of patients at each run's own thresholds."""
    rows = []
    for point in POINTS:
        flags = [_flag_patients(run, point) for run in (first, second)]
        if flags[0] is None or flags[1] is None:
            continue
        truth = scored_partition(first.predictions, first.partition).by_patient().truth[:, ANY]
        for rate, of in (("sensitivity", truth), ("specificity", ~truth)):
            right = [flag[of] == truth[of] for flag in flags if flag is not None]
            rows.append(
                {
                    "point": point,
                    "rate": rate,
                    "n": int(of.sum()),
                    "first": float(right[0].mean()) if of.any() else None,
                    "second": float(right[1].mean()) if of.any() else None,
                    "only_first_right": int((right[0] & ~right[1]).sum()),
                    "only_second_right": int((right[1] & ~right[0]).sum()),
                    "p": mcnemar(*right) if of.any() else None,
                }
            )
    return rows


def _flag_patients(run: Run, point: str) -> np.ndarray | None:
    if run.operating is None or "any" not in _known_labels(run):
        return None
    slices = apply_unseen(
        run.operating.calibration, scored_partition(run.predictions, run.partition)
    )
    patients = slices.at_level("patients", run.operating.score_rule)
    return flagged(patients, run.operating.points["patients"], "any", point)


def _differing(first: Run, second: Run) -> list[dict[str, str]] | None:
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


def tabulate(result: Mapping[str, Any]) -> pl.DataFrame:
    """Put the figures into a table, a row each."""
    rows = [
        {
            **{key: row[key] for key in ("level", "label", "figure", "n", "positives")},
            "first": row["first"],
            "second": row["second"],
            "difference": row["difference"]["value"],
            "low": row["difference"]["low"],
            "high": row["difference"]["high"],
            "p": row["difference"]["p"],
            "p_delong": row["delong"]["p"] if row["delong"] else None,
            "why": row["difference"]["why"],
            "data": _DATA[result["synthetic"]],
        }
        for row in result["figures"]
    ]
    numbers = ("first", "second", "difference", "low", "high", "p", "p_delong")
    return pl.DataFrame(
        rows, schema_overrides=dict.fromkeys(numbers, pl.Float64), infer_schema_length=None
    )


def print_comparison(result: Mapping[str, Any]) -> str:
    """Lay the comparison out for a terminal."""
    shown = ("level", "label", "figure", "first", "second", "difference", "low", "high", "p")
    lines = []
    if result["synthetic"]:
        lines.append("SYNTHETIC, not clinical performance.")
    lines.append(
        f"First {result['first']}, second {result['second']}: {result['slices']:,} slices of "
        f"{result['patients']:,} patients. Difference: {result['rules']['difference']}."
    )
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=200,
        float_precision=4,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
    ):
        lines.append(str(tabulate(result).select(*shown, "p_delong")))
        if result["points"]:
            lines += ["Patients at the operating points (exact McNemar):"]
            lines.append(str(pl.DataFrame(result["points"])))
        if result["parameters"]:
            lines += ["Parameters that differ:", str(pl.DataFrame(result["parameters"]))]
    return "\n".join(lines)


def write_comparison(result: Mapping[str, Any], path: Path) -> None:
    """Write a comparison as `.html`, `.csv` or `.json`.

    Raises
    ------
    HemtraceError
        If the suffix is another.
    """
    makers: dict[str, Callable[[Mapping[str, Any]], str]] = {
        ".html": render_comparison,
        ".csv": lambda found: tabulate(found).write_csv(),
        ".json": lambda found: json.dumps(found, indent=2, allow_nan=False) + "\n",
    }
    if path.suffix not in makers:
        raise HemtraceError(f"{path}: the name must end in {', '.join(makers)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        part.write_text(makers[path.suffix](result), encoding="utf-8")


def render_comparison(result: Mapping[str, Any]) -> str:
    """Render one offline page."""
    levels = dict.fromkeys(row["level"] for row in result["figures"])
    tables = {level: _figure_table(result, level) for level in levels}
    caption = f"Difference: {result['rules']['difference']}."
    sections = [
        {
            "id": level,
            "title": f"By {_UNITS[level]}",
            "text": [],
            "show": [show_item(_SOURCE, table=level, caption=caption)],
        }
        for level in levels
    ]
    if result["points"]:
        tables["points"] = _point_table(result["points"])
        caption = f"Any bleed, by patient, at the operating points: {result['rules']['mcnemar']}."
        show = [show_item(_SOURCE, table="points", caption=caption)]
        sections.append({"id": "points", "title": "Operating points", "text": [], "show": show})
    tables["parameters"] = _parameter_table(result["parameters"])
    show = [show_item(_SOURCE, table="parameters", caption="Parameters of the models that differ.")]
    sections.append({"id": "parameters", "title": "Parameters", "text": [], "show": show})
    rules = result["rules"]
    return render_small_page(
        title="Two runs compared",
        lead=f"First: {result['first']}. Second: {result['second']}. {result['slices']:,} slices "
        f"of {result['patients']:,} patients, the same for both.",
        synthetic=result["synthetic"] is True,
        synthetic_why="At least one of the runs rests on computed slices.",
        headlines=[],
        sections=sections,
        tables=tables,
        pictures={},
        limits=[
            "Many figures are compared: of twenty p values one lies below 0.05 by chance alone.",
            f"Score {rules['score']}.",
            f"Log loss: {rules['log_loss']}.",
            *([] if result["synthetic"] is not None else [_DATA[None] + "."]),
        ],
    )


def _figure_table(result: Mapping[str, Any], level: str) -> Table:
    rows = []
    for row in result["figures"]:
        if row["level"] != level:
            continue
        change = row["difference"]
        told = change["why"] or ""
        if change["value"] is not None:
            bounds = change["low"], change["high"]
            inside = "" if None in bounds else f"\n{bounds[0]:+.4f} to {bounds[1]:+.4f}"
            told = f"{change['value']:+.4f}{inside}"
        p = [_told_p(change["p"])]
        if level == "patients":
            p.append(_told_p(row["delong"]["p"]) if row["delong"] else "")
        name = f"{row['label']}, {_NAMES[row['figure']]}"
        rows.append([name, number(row["first"], 4), number(row["second"], 4), told, *p])
    columns = ["label, figure", "first", "second", "difference", "p"]
    return Table([*columns, "p, DeLong"] if level == "patients" else columns, rows)


def _told_p(p: float | None) -> str:
    return "none" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _point_table(rows: list[dict[str, Any]]) -> Table:
    columns = ("point, rate", "patients", "first", "second", "only first\nright")
    return Table(
        (*columns, "only second\nright", "p, McNemar"),
        [
            (
                f"{row['point']}, {row['rate']}",
                f"{row['n']:,}",
                number(row["first"]),
                number(row["second"]),
                f"{row['only_first_right']:,}",
                f"{row['only_second_right']:,}",
                _told_p(row["p"]),
            )
            for row in rows
        ],
    )


def _parameter_table(rows: list[dict[str, str]] | None) -> Table:
    columns = ("parameter", "first", "second")
    if rows is None:
        return Table(columns, [("not known: a model is not at hand", "", "")], text=True)
    told = [(row["name"], row["first"], row["second"]) for row in rows]
    return Table(columns, told or [("none differs", "", "")], text=True)
