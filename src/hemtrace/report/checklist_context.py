"""What the answers of the checklists may name, taken from a run and put in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec
from hemtrace.params import TrainParams
from hemtrace.report.cells import interval, number
from hemtrace.report.elsewhere import split_rows, tell_external
from hemtrace.split import DROPPED


@dataclass(frozen=True)
class Part:
    """Counts of a partition: patients, those with a bleed, slices, and those with a bleed."""

    patients: int
    positive_patients: int
    slices: int
    positive_slices: int


@dataclass(frozen=True)
class ChecklistContext:
    """All that answers may name, ready to be printed.

    Attributes
    ----------
    synthetic, who
        Whether the data are the phantom; "synthetic patients" or "patients".
    title
        Of the report.
    architecture, weights, windows, size, crop, members, folds, has_context, classifier
        Of the model; `windows` and `crop` in words, `folds` 1 for a plain split.
    training
        The section `train` of the parameters the model was made with.
    seed, commit
        Of the training.
    files, pictures, used, quarantined, reasons
        Counts of ingest; `reasons` is the number of different ones.
    development, test
        Counts of the split; development is training and validation, or all folds.
    auc_slices, auc_patients, average_precision, log_loss
    sensitivity, specificity, sensitivity_patients, specificity_patients
        Test figures of any bleed with their intervals, in words; of slices where not said.
    not_estimable
        Labels whose test AUC is not.
    interval_rule, score_rule, calibration
        Rules of the evaluation, in words.
    points, point
        Names of the operating points; the one that sensitivity and specificity are given at.
    systems
        Systems compared, 0 for none.
    masks, cells
        Whether lesion masks scored the heat maps; cells of a heat map.
    has_intervals
        Whether intervals were asked for.
    external
        Names of the external data sets, patients, how to call them, and the AUCs; None without.
    external_told
        What external tests there are, or why there is none, and how to make one.
    anchors
        Id and title of each section that the report has.
    """

    synthetic: bool
    who: str
    title: str
    architecture: str
    weights: str
    windows: str
    size: int
    crop: str
    members: int
    folds: int
    has_context: bool
    classifier: str
    training: dict[str, Any]
    seed: int
    commit: str
    files: int
    pictures: int
    used: int
    quarantined: int
    reasons: int
    development: Part
    test: Part
    auc_slices: str
    auc_patients: str
    sensitivity: str
    specificity: str
    sensitivity_patients: str
    specificity_patients: str
    average_precision: str
    log_loss: str
    not_estimable: tuple[str, ...]
    interval_rule: str
    score_rule: str
    calibration: str
    points: tuple[str, ...]
    point: str
    systems: int
    masks: bool
    cells: str
    has_intervals: bool
    external: dict[str, Any] | None
    external_told: str
    anchors: Mapping[str, str]


def checklist_context(
    *,
    title: str,
    spec: ModelSpec,
    metrics: Mapping[str, Any],
    flow: Mapping[str, Any],
    split: pl.DataFrame,
    localisation: Mapping[str, Any],
    comparison: Mapping[str, Any],
    external: Sequence[Mapping[str, Any]],
    anchors: Mapping[str, str],
) -> ChecklistContext:
    """Take from a run what the answers name; the only place that knows where it lies.

    Parameters
    ----------
    title
        Of the report.
    spec, metrics, flow, localisation, comparison
        As in `Evidence`.
    split
        As in `Evidence`: a row a partition, or a fold in place of train and val.
    external
        As in `Evidence`.
    anchors
        Id and title of each section that the report shows.
    """
    slices, patients = (metrics["partitions"]["test"][level] for level in ("slices", "patients"))
    of_any, point, rules = slices["labels"]["any"], metrics["default_point"], metrics["rules"]
    by_patient = patients["labels"]["any"]["points"][point]
    return ChecklistContext(
        synthetic=spec.synthetic,
        who="synthetic patients" if spec.synthetic else "patients",
        title=title,
        architecture=spec.network.architecture,
        weights=spec.weights.rstrip("."),
        windows=", ".join(f"{w.name} {w.center_hu:g}/{w.width_hu:g} HU" for w in spec.windows),
        size=spec.size,
        crop="a square around the head" if spec.crop == "head" else "the whole slice",
        members=spec.members,
        folds=max(1, split.filter(pl.col("partition").str.starts_with("fold ")).height),
        has_context=spec.has_context,
        classifier=spec.network.classifier,
        training=TrainParams().model_dump(mode="json") | spec.train,
        seed=spec.seed,
        commit=spec.git_commit,
        **{name: flow[name] for name in ("files", "pictures", "used")},
        quarantined=sum(flow["quarantined"].values()),
        reasons=len(flow["quarantined"]),
        development=_count_part(split.filter(~pl.col("partition").is_in(["test", DROPPED]))),
        test=_count_part(split.filter(pl.col("partition") == "test")),
        auc_slices=_say(of_any["roc_auc"]),
        auc_patients=_say(patients["labels"]["any"]["roc_auc"]),
        sensitivity=_say(of_any["points"][point]["sensitivity"]),
        specificity=_say(of_any["points"][point]["specificity"]),
        sensitivity_patients=_say(by_patient["sensitivity"]),
        specificity_patients=_say(by_patient["specificity"]),
        average_precision=_say(of_any["average_precision"]),
        log_loss=_say(slices["weighted_log_loss"]),
        not_estimable=tuple(
            label for label in LABELS if slices["labels"][label]["roc_auc"]["value"] is None
        ),
        interval_rule=rules["interval"],
        score_rule=rules["score"],
        calibration=rules["calibration"],
        points=tuple(rules["points"]),
        point=point,
        systems=len(comparison["systems"]),
        masks=localisation["labels"] is not None,
        cells=" x ".join(map(str, localisation["cells"])),
        has_intervals=bool(rules["bootstrap"]),
        external=_sum_up_external(external),
        external_told=tell_external(external),
        anchors=dict(anchors),
    )


def _count_part(rows: pl.DataFrame) -> Part:
    columns = ("patients", "positive_patients", "slices", "any")
    return Part(*(int(rows[column].sum()) for column in columns))


def _say(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "not estimable"
    bounds = interval(estimate)
    return number(estimate["value"]) + (f" (95 % interval {bounds})" if bounds else "")


def _sum_up_external(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Take of each data set the highest level that was scored; None where there is no data set."""
    sound, _ = split_rows(rows)
    best: dict[str, Mapping[str, Any]] = {}
    for level in ("slices", "studies", "patients"):
        best |= {row["name"]: row for row in sound if row["level"] == level}
    if not best:
        return None
    chosen = [best[name] for name in sorted(best)]
    computed = {row["synthetic"] for row in chosen}
    who = {
        frozenset({True}): "synthetic patients",
        frozenset({False}): "patients",
    }.get(frozenset(computed), "patients and synthetic patients")
    return {
        "name": " and ".join(row["name"] for row in chosen),
        "patients": sum(row["patients"] for row in chosen),
        "who": who,
        "auc": " and ".join(f"{_say(row['roc_auc'])} by {row['level']}" for row in chosen),
    }
