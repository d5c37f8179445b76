"""The external test from folder to page, a step after the other."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hemtrace.engine import Engine, open_engine
from hemtrace.engine.passes import run_slices
from hemtrace.errors import HemtraceError
from hemtrace.evaluate.calibrate import require_unseen
from hemtrace.evaluate.operating import Operating, read_operating
from hemtrace.external.account import (
    account_labels,
    count_pictures,
    count_reasons,
    describe_operating,
    state_rules,
    tell_synthetic,
)
from hemtrace.external.agreement import score_agreement
from hemtrace.external.cq500 import READERS as CQ500_READERS
from hemtrace.external.cq500 import read_cq500_labels
from hemtrace.external.labels import ExternalLabels, read_plain_labels, read_rsna_labels
from hemtrace.external.match import show_missing, tell_examples
from hemtrace.external.overlap import count_overlap, find_development, refuse_overlap
from hemtrace.external.page import write_page
from hemtrace.external.read import UsedPictures, choose_pictures, make_predictions, read_folder
from hemtrace.external.results import summarise
from hemtrace.external.score import compare_with_internal, flatten_results, score_external
from hemtrace.familiar import Familiar, find_familiar
from hemtrace.familiar.count import count_unlike
from hemtrace.params import EvaluateParams
from hemtrace.provenance import git_commit
from hemtrace.writing import write_table, write_whole

_ONE_READER = "the label file tells one answer, not those of several readers"
READERS: dict[str, Callable[[Path, bytes], ExternalLabels]] = {
    "rsna": lambda path, salt: read_rsna_labels(path),
    "csv": read_plain_labels,
    "cq500": read_cq500_labels,
}


def evaluate_external(
    folder: Path,
    label_file: Path,
    reader: str,
    model: Path,
    out: Path,
    params: EvaluateParams,
    seed: int,
    salt: bytes,
    data: Path,
    unchecked: bool = False,
) -> dict[str, Any]:
    """Evaluate a frozen model on another data set.

    Parameters
    ----------
    folder, label_file
        The files, searched recursively, and what is true of them.
    reader
        One of `READERS`.
    model
        A model file. Without `operating.json` beside it nothing is calibrated, and no rate
        is given; without `familiar.npz` nobody knows which scans are unlike its training data.
    out
        Folder of the products: predictions.parquet, files.parquet, external.json, results.csv and
        index.html.
    params
        Bootstrap and clip; rule and thresholds are the model's.
    seed
        Fixes the bootstrap.
    salt
        By which ids are hashed: that of the development data, so that patients can be compared.
    data
        Folder of the development data: catalog.parquet, splits.parquet, predictions.parquet.
    unchecked
        Go on where nothing is at hand to compare with. Overlap that is found stops all the same.

    Returns
    -------
    What stands in external.json; and `missing_shown`, the first ids without a file as the person
    who has the label file may see them, which stand in no product.

    Raises
    ------
    HemtraceError
        If a file is missing or wrong, thresholds or familiar.npz are those of another model, a
        picture or patient stands in the development data too, or nothing is left to be scored.
    """
    if reader not in READERS:
        raise HemtraceError(f"--reader {reader}: known are {', '.join(READERS)}.")
    labels = READERS[reader](label_file, salt)
    engine = open_engine(model, "torch")
    spec, digest = engine.spec, engine.model_sha256
    familiar = find_familiar(model, digest)
    frozen = model.with_name("operating.json")
    operating = read_operating(frozen, digest) if frozen.is_file() else None
    development, why = find_development(data, spec.data_digest)
    if development is None and not unchecked:
        raise HemtraceError(
            f"Whether {folder} holds patients that the model was made on cannot be checked: {why}. "
            "Run where the development data lie, or take it on yourself with --unchecked."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    # On the disk of the products, where there is room; what is refused leaves nothing.
    with tempfile.TemporaryDirectory(prefix=".pictures-", dir=out.parent) as pictures_folder:
        shards = Path(pictures_folder)
        pictures = read_folder(folder, spec.view, salt, shards)
        counts = None
        if development is not None:
            counts = count_overlap(pictures, development)
            refuse_overlap(counts, folder, data / "catalog.parquet")
        chosen = choose_pictures(pictures, labels, salt)
        used = UsedPictures(chosen, shards, spec.has_context)
        _require_used(chosen, labels)
        # The catalog may be missing; the model itself knows on whom its thresholds were fixed.
        if operating is not None:
            require_unseen(operating.calibration, used.table["patient"].to_numpy())
        predictions = _predict(engine, used, familiar)
    levels = score_external(
        predictions,
        operating,
        labels.level,
        labels.scored,
        params.bootstrap,
        seed,
        params.clip,
    )
    result = {
        "name": out.resolve().name,
        "model_sha256": digest,
        **tell_synthetic(folder, pictures, spec),
        "git_commit": git_commit(),
        "model": {
            "sha256": digest,
            "architecture": spec.network.architecture,
            "git_commit": spec.git_commit,
            "data_digest": spec.data_digest,
            "synthetic": spec.synthetic,
        },
        "operating": describe_operating(operating, frozen),
        "labels": account_labels(labels, chosen, reader, label_file),
        "flow": count_pictures(chosen),
        "familiarity": _count_unlike(familiar, predictions, labels.level),
        "overlap": {"checked": counts is not None, "why": why or None, "counts": counts},
        "summary": summarise(levels, operating.default_point if operating else None),
        "levels": levels,
        "internal": _compare(predictions, operating, labels, params, seed, data),
        "agreement": (
            None
            if labels.ratings is None
            else score_agreement(labels.ratings, CQ500_READERS, params.bootstrap, seed)
        ),
        "agreement_why": _ONE_READER if labels.ratings is None else None,
        "rules": state_rules(operating, params),
    }
    _write(out, predictions, chosen, result)
    return result | {"missing_shown": show_missing(labels, chosen["unit"])}


def _require_used(chosen: pl.DataFrame, labels: ExternalLabels) -> None:
    if chosen["reason"].null_count():
        return
    told = ", ".join(f"{count:,} {reason}" for reason, count in count_reasons(chosen).items())
    text = (
        f"None of the {chosen.height:,} pictures can be scored: {told}. The label file names "
        f"{labels.table.height:,} units (each a {labels.level}); nothing was predicted. "
        f"{tell_examples(labels, chosen)}"
    )
    raise HemtraceError(text.strip())


def _predict(engine: Engine, used: UsedPictures, familiar: Familiar | None) -> pl.DataFrame:
    """Predict, with the column `distance` from the training slices where it can be measured."""
    probabilities, distances = [], []
    for told in run_slices(engine, used, "external"):
        probabilities.append(told.probabilities)
        if familiar is not None and told.features is not None:
            distances.append(familiar.distance(told.features))
    predictions = make_predictions(used, np.concatenate(probabilities))
    if distances:
        predictions = predictions.with_columns(distance=np.concatenate(distances))
    return predictions


def _count_unlike(
    familiar: Familiar | None, predictions: pl.DataFrame, level: str
) -> dict[str, Any]:
    if "distance" not in predictions.columns:
        return count_unlike(None, predictions)
    if level == "patient":  # such a label does not tell in which of his studies a patient bleeds
        predictions = predictions.with_columns(any=pl.lit(None, pl.UInt8))
    return count_unlike(familiar, predictions)


def _compare(
    predictions: pl.DataFrame,
    operating: Operating | None,
    labels: ExternalLabels,
    params: EvaluateParams,
    seed: int,
    data: Path,
) -> dict[str, Any]:
    path = data / "predictions.parquet"
    if not path.is_file():
        return {"why": "the predictions of the internal test are not at hand", "levels": {}}
    return compare_with_internal(
        predictions,
        pl.read_parquet(path),
        operating,
        labels.level,
        labels.scored,
        params.bootstrap,
        seed,
    )


def _write(
    out: Path, predictions: pl.DataFrame, chosen: pl.DataFrame, result: dict[str, Any]
) -> None:
    out.mkdir(exist_ok=True)
    marks = {
        "synthetic": str(result["synthetic"]).lower(),
        "label_level": result["labels"]["level"],
        "model_sha256": result["model"]["sha256"],
    }
    write_table(predictions, out / "predictions.parquet", marks)
    write_table(chosen, out / "files.parquet", marks)
    flat = flatten_results(result["levels"], result["internal"], result["mark"])
    with write_whole(out / "results.csv") as part:
        flat.write_csv(part)
    with write_whole(out / "external.json") as part:
        part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_page(result, out / "index.html")
