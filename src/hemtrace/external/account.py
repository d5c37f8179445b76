"""What became of files and labels, and what the figures rest on, in counts and sentences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from hemtrace.evaluate.calibrate import METHODS
from hemtrace.evaluate.operating import Operating
from hemtrace.evaluate.scored import SCORE_RULES
from hemtrace.external.labels import ExternalLabels
from hemtrace.external.match import tell_unmatched
from hemtrace.external.score import NO_OPERATING
from hemtrace.familiar.count import tell_unlike
from hemtrace.ingest.series import STUDY
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec
from hemtrace.params import EvaluateParams
from hemtrace.provenance import file_digest
from hemtrace.report.render import SYNTHETIC
from hemtrace.report.small_page import note_few

_SYNTHETIC_MARK = "SYNTHETIC, not clinical performance"
_MODEL_MARK = "model trained on SYNTHETIC data, not clinical performance"
_MODEL_BANNER = "MODEL TRAINED ON SYNTHETIC DATA \N{EN DASH} not clinical performance"
# Why a picture has no label that can be used.
_NO_LABEL = ("unlabelled", "incomplete-labels", "conflicting-labels")
_LISTED = 20
_EXAMPLES = 3


def tell_result(result: dict[str, Any]) -> list[str]:
    """Say the main figures in sentences, for a terminal."""
    flow = result["flow"]
    told = []
    if result["synthetic"]:
        # The first letter alone: the mark has capitals of its own.
        mark = result["mark"][0].upper() + result["mark"][1:]
        told.append(f"{mark}: {result['synthetic_why']}")
    told.append(
        f"Files: {flow['files']:,}; scored slices: {flow['used']:,}, patients: "
        f"{flow['patients']:,}."
    )
    told.append(tell_unlike(result["familiarity"]))
    if not result["overlap"]["checked"]:
        told.append(f"Overlap could not be checked: {result['overlap']['why']}.")
    if result["operating"]["why"]:
        told.append(f"No sensitivity or specificity: {result['operating']['why']}.")
    told += _tell_labels(result["labels"], result["missing_shown"])
    told += filter(None, [tell_partly(result["labels"])])
    lacking: dict[tuple[str, str], list[str]] = {}
    for level, found in result["levels"].items():
        for label, own in found["labels"].items():
            counts = f"{own['positives']:,} of {own['n']:,} positive"
            counts += f"; patients: {found['patients']:,}" if level != "patients" else ""
            if own["roc_auc"]["value"] is not None:
                told.append(f"{level:9} {label:17} ROC AUC {_tell_value(own['roc_auc'])}; {counts}")
                continue
            lacking.setdefault((own["roc_auc"]["why"], level), []).append(label)
            point = result["operating"].get("default_point")
            if rates := _tell_rates(own["points"].get(point, {})):
                at = f"at the frozen point {point}"
                told.append(f"{level:9} {label:17} {rates} {at}; {counts}")
    if lacking:
        causes = [f"{why} ({level}: {', '.join(names)})" for (why, level), names in lacking.items()]
        told.append(f"ROC AUC not estimable: {'; '.join(causes)}.")
    return told


def _tell_rates(rates: Mapping[str, Any]) -> str:
    """Say what can be told at an operating point without an area, such as a specificity."""
    return "; ".join(
        f"{name} {_tell_value(rates[name])}"
        for name in ("sensitivity", "specificity")
        if name in rates and rates[name]["value"] is not None
    )


def _tell_value(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return f"{found['value']:.3f} (no interval: {found['why']})"
    few = f", {note_few(found)}" if note_few(found) else ""
    return f"{found['value']:.3f} (95 %: {found['low']:.3f} to {found['high']:.3f}{few})"


def _tell_labels(labels: Mapping[str, Any], shown: list[str]) -> list[str]:
    """Say what of the label file has no file, and what of the files has no label."""
    told = []
    if missing := labels["units_without_picture"]:
        has = "has" if missing == 1 else "have"
        told.append(
            f"Of {labels['units']:,} ids {missing:,} {has} no file, e.g. {', '.join(shown)}."
        )
    if strangers := labels["studies_unlabelled"]:
        first = ", ".join(labels["studies_unlabelled_first"][:_EXAMPLES])
        told.append(f"Studies without a label: {strangers:,}, by pseudonym e.g. {first}.")
    return [*told, f"Understood as an id: {labels['ids']}."] if told else []


def tell_partly(labels: Mapping[str, Any]) -> str:
    """Warn of studies of whose scored series some slices alone have labels; or say nothing."""
    if not labels["studies_partly_labelled"]:
        return ""
    return (
        f"Warning: partly labelled studies: {labels['studies_partly_labelled']:,}; slices in them "
        f"without labels of use: {labels['slices_unlabelled_there']:,}. Truth and score of such a "
        "study, and of its patient, come from the labelled slices alone: a bleed in the others is "
        "not known of, and counts as none."
    )


def count_partly(chosen: pl.DataFrame) -> dict[str, int]:
    """Count studies of which a series is scored without some of its slices, for want of labels.

    Another series of the study does not count: of each study one series is chosen in any case.
    """
    place = ["patient", STUDY.meta.output_name(), "series"]
    rows = chosen.with_columns(STUDY)
    used = rows.filter(pl.col("reason").is_null()).select(place).unique()
    lost = rows.filter(pl.col("reason").is_in(_NO_LABEL)).join(
        used, on=place, how="semi", nulls_equal=True
    )
    return {
        "studies_partly_labelled": lost.select(place[:2]).unique().height,
        "slices_unlabelled_there": lost.height,
    }


def count_reasons(chosen: pl.DataFrame) -> dict[str, int]:
    """Count the pictures that are not used, by reason."""
    return dict(chosen.drop_nulls("reason").group_by("reason").len().sort("reason").iter_rows())


def count_pictures(chosen: pl.DataFrame) -> dict[str, Any]:
    """Count files, pictures, and what is left of them."""
    used = chosen.filter(pl.col("reason").is_null())
    return {
        "files": chosen["file"].n_unique(),
        "pictures": chosen.height,
        "heads": chosen.height - chosen["row"].null_count(),
        "used": used.height,
        "series": used.select("patient", "study", "series").unique().height,
        "studies": used.select("patient", STUDY).unique().height,
        "patients": used["patient"].n_unique(),
        "quarantined": count_reasons(chosen),
    }


def account_labels(
    labels: ExternalLabels, chosen: pl.DataFrame, reader: str, path: Path
) -> dict[str, Any]:
    """Account for every unit of the label file, and every study without one."""
    heads = chosen.filter(pl.col("row").is_not_null())
    lost = heads.filter(pl.col("unit").is_null()).select(study=STUDY).drop_nulls()
    known = heads.filter(pl.col("unit").is_not_null()).select(study=STUDY)
    unlabelled = lost.join(known, on="study", how="anti").unique().sort("study")["study"]
    used = chosen.filter(pl.col("reason").is_null())["unit"].n_unique()
    not_scored = [
        f"{label} is not scored: the label file says nothing of it."
        for label in LABELS
        if label not in labels.scored
    ]
    return {
        "reader": reader,
        "sha256": file_digest(path),
        "level": labels.level,
        "ids": labels.ids,
        "scored": list(labels.scored),
        "not_scored": not_scored,
        **labels.facts,
        **tell_unmatched(labels, chosen["unit"]),
        "units_scored": used,
        **count_partly(chosen),
        "studies_unlabelled": unlabelled.len(),
        "studies_unlabelled_first": unlabelled[:_LISTED].to_list(),
    }


def describe_operating(operating: Operating | None, path: Path) -> dict[str, Any]:
    """Say what calibration and thresholds are, or why there are none."""
    if operating is None:
        return {"why": NO_OPERATING, "calibration": f"none: {METHODS['none']}"}
    return {
        "why": None,
        "sha256": file_digest(path),
        "calibration": f"{operating.calibration.method}: {METHODS[operating.calibration.method]}",
        "score_rule": operating.score_rule,
        "default_point": operating.default_point,
        "aims": operating.aims,
        "validation_patients": operating.validation_patients,
    }


def state_rules(operating: Operating | None, params: EvaluateParams) -> dict[str, str]:
    """State how figures are defined."""
    rule = SCORE_RULES[operating.score_rule if operating else "highest"]
    changed = "calibrated slice by slice" if operating else "uncalibrated"
    return {
        "score": f"The score of a study or patient is {rule}, {changed}.",
        "interval": f"95 %, percentile bootstrap of whole patients, {params.bootstrap} replicates; "
        "exact binomial (Clopper-Pearson) for a share of rows that are each another patient's",
        "in the large": "shift of the log-odds that makes mean probability and share equal; above "
        "0 the probabilities are too low",
        "log loss": f"natural logarithm, probabilities held within [{params.clip:g}, "
        f"1 - {params.clip:g}]",
    }


def tell_synthetic(folder: Path, pictures: pl.DataFrame, spec: ModelSpec) -> dict[str, Any]:
    """Say whether model or data are synthetic, and which.

    The phantom's table lies among the files, or beside their folder. Of scans without it nothing
    tells whether they are computed: only what is known of the model is said then.

    Returns
    -------
    `synthetic`: whether anything is; `synthetic_why`: a sentence; `synthetic_banner`: of the page;
    `mark`: what stands in the column `data` of each figure.
    """
    folder = folder.resolve()
    beside = any((place / "phantom.parquet").is_file() for place in (folder, folder.parent))
    among = bool(pictures["file"].str.ends_with("phantom.parquet").any())
    is_phantom = beside or among
    mark, banner, why = _SYNTHETIC_MARK, SYNTHETIC, ""
    if spec.synthetic and is_phantom:
        why = "The model was trained on computed slices, and these slices are computed too."
    elif spec.synthetic:
        mark, banner = _MODEL_MARK, _MODEL_BANNER
        why = (
            "The model was trained on computed slices, not on those of patients; nothing beside "
            "these scans says that they are computed too."
        )
    elif is_phantom:
        why = "The slices behind every figure were computed, not taken from patients."
    else:
        mark, banner = "patients", ""
    return {
        "synthetic": bool(spec.synthetic or is_phantom),
        "synthetic_why": why,
        "synthetic_banner": banner,
        "mark": mark,
    }
