"""What became of files and labels, and what the figures rest on, in counts and sentences."""

from pathlib import Path
from typing import Any

import polars as pl

from hemtrace.evaluate.calibrate import METHODS
from hemtrace.evaluate.operating import Operating
from hemtrace.evaluate.scored import SCORE_RULES
from hemtrace.external.labels import ExternalLabels, tell_unmatched
from hemtrace.ingest.series import STUDY
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec
from hemtrace.params import EvaluateParams
from hemtrace.provenance import file_digest

_LISTED = 20


def tell_result(result: dict[str, Any]) -> list[str]:
    """Say the main figures in sentences, for a terminal."""
    flow = result["flow"]
    told = []
    if result["synthetic"]:
        told.append(f"SYNTHETIC, not clinical performance: {result['synthetic_why']}")
    told.append(
        f"Files: {flow['files']:,}; scored slices: {flow['used']:,}, patients: "
        f"{flow['patients']:,}."
    )
    if not result["overlap"]["checked"]:
        told.append(f"Overlap could not be checked: {result['overlap']['why']}.")
    for level, found in result["levels"].items():
        for label, own in found["labels"].items():
            area = own["roc_auc"]
            value = f"not estimable: {area['why']}"
            if area["value"] is not None:
                value = f"{area['value']:.3f}"
                if area["low"] is not None:
                    value += f" ({area['low']:.3f} to {area['high']:.3f})"
            counts = f"{own['positives']:,} of {own['n']:,} positive"
            told.append(f"{level:9} {label:17} ROC AUC {value}; {counts}")
    return told


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
        "scored": list(labels.scored),
        "not_scored": not_scored,
        **labels.facts,
        **tell_unmatched(labels, chosen["unit"]),
        "units_scored": used,
        "studies_unlabelled": unlabelled.len(),
        "studies_unlabelled_first": unlabelled[:_LISTED].to_list(),
    }


def describe_operating(operating: Operating, path: Path) -> dict[str, Any]:
    """Say what calibration and thresholds are."""
    return {
        "sha256": file_digest(path),
        "calibration": f"{operating.calibration.method}: {METHODS[operating.calibration.method]}",
        "score_rule": operating.score_rule,
        "default_point": operating.default_point,
        "aims": operating.aims,
        "validation_patients": operating.validation_patients,
    }


def state_rules(operating: Operating, params: EvaluateParams) -> dict[str, str]:
    """State how figures are defined."""
    return {
        "score": "The score of a study or patient is "
        f"{SCORE_RULES[operating.score_rule]}, calibrated slice by slice.",
        "interval": f"95 %, percentile bootstrap of whole patients, {params.bootstrap} replicates",
        "in the large": "shift of the log-odds that makes mean probability and share equal; above "
        "0 the probabilities are too low",
        "log loss": f"natural logarithm, probabilities held within [{params.clip:g}, "
        f"1 - {params.clip:g}]",
    }


def tell_synthetic(folder: Path, pictures: pl.DataFrame, spec: ModelSpec) -> tuple[bool, str]:
    """Say whether model or data are synthetic, and which, in a sentence.

    The phantom's table lies among the files, or beside their folder.
    """
    beside = any((place / "phantom.parquet").is_file() for place in (folder, folder.parent))
    among = bool(pictures["file"].str.ends_with("phantom.parquet").any())
    is_phantom = beside or among
    if spec.synthetic and is_phantom:
        return True, "The model was trained on computed slices, and these slices are computed too."
    if spec.synthetic:
        return True, "The model was trained on computed slices, not on those of patients."
    if is_phantom:
        return True, "The slices behind every figure were computed, not taken from patients."
    return False, ""
