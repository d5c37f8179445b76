"""What leaves the page: a table of slices, and the results as DICOM in a zip."""

import csv
import io
import threading
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hemtrace import __version__
from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.dicom.reasons import QuarantineError
from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.predict.headers import read_headers
from hemtrace.predict.study import StudyPrediction
from hemtrace.predict.tables import By
from hemtrace.predict.verdict import flag_slice, slice_thresholds, tell_training
from hemtrace.serve import schemas
from hemtrace.serve.answers import choose_point, judge_studies
from hemtrace.serve.jobs import Job
from hemtrace.serve.prediction import Predictor, Result

if TYPE_CHECKING:  # highdicom takes a second to load
    from hemtrace.dicom_results.identity import ModelIdentity

# Spreadsheets take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Warnings are a process's, not a thread's.
_QUIET = threading.Lock()


def make_table(told: schemas.Job, model: schemas.Model) -> str:
    """Make a CSV of a job: a row a slice, then a row a file without a prediction.

    Every row ends with what predicted, in the columns of `predict.tables`: rows are copied alone.
    """
    out = io.StringIO()
    by = By(told.point, model.name, model.sha256, model.synthetic).row()
    # As polars writes them, in the tables of `hemtrace predict`.
    closing = [str(value).lower() if isinstance(value, bool) else value for value in by.values()]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["study", "series", "chosen", "slice", "file", "frame", "z_mm"]
        + [f"p_{label}" for label in LABELS]
        + [f"flagged_{label}" for label in LABELS]
        + ["study_answer", "study_score", "reason", *by]
    )
    for number, study in enumerate(told.studies, 1):
        verdict = study.verdict
        for series in study.series:
            for one in series.slices:
                writer.writerow(
                    [number, series.number + 1, int(series.chosen), one.place + 1]
                    + [_write(one.file), one.frame, one.z_mm]
                    + [one.probabilities[label] for label in LABELS]
                    + [_flag(one.flagged[label]) for label in LABELS]
                    + [verdict.answer, verdict.probability, None, *closing]
                )
    for lost in told.rejected:
        empty = [None] * (1 + 2 * len(LABELS) + 2)
        row = [None, None, None, None, _write(lost.file), lost.frame, *empty, _write(lost.meaning)]
        writer.writerow([*row, *closing])
    return out.getvalue()


def make_results_zip(job: Job, predictor: Predictor, point: str | None, path: Path) -> None:
    """Write the DICOM results of a job at an operating point as a zip.

    Raises
    ------
    Problem
        422 where the model has no such point.
    HemtraceError
        If no study of it can have results.
    """
    from hemtrace.dicom_results.results import make_results, to_bytes

    result: Result = job.result
    name = choose_point(predictor.operating, point)
    model = identify_model(predictor, name)
    studies = judge_studies(result, predictor, name)
    limits = predictor.settings.limits
    failed: list[str] = []
    part = path.with_suffix(".part")
    with (
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out,
        GuardedReader(Path(), PUBLIC_SALT, limits.read_seconds, limits.read_memory_gb) as reader,
        _QUIET,
        warnings.catch_warnings(),
    ):
        # Libraries warn of an unusual value by citing it; a log must not hold it.
        warnings.simplefilter("ignore")
        for number, study in enumerate(studies, 1):
            try:
                files = [one.file for one in study.chosen.slices] if study.chosen else []
                assert job.contents is not None
                headers = read_headers(job.contents.read, files, reader)
                whole = _add_pixels(study, result, model.slice_thresholds)
                made = make_results(whole, headers, model, made=job.finished)
            except (HemtraceError, QuarantineError) as error:
                failed.append(str(error))
                text = f"No DICOM results were made of this study: {error}\n"
                out.writestr(f"study-{number}-without-results.txt", text)
                continue
            for place, one in enumerate(made, 1):
                folder = f"study-{number}/" if len(studies) > 1 else ""
                out.writestr(f"{folder}{one.Modality}-{place}.dcm", to_bytes(one))
    if len(failed) == len(studies):
        part.unlink()
        raise HemtraceError(
            f"No DICOM results can be made: {failed[0]}"
            if failed
            else "No DICOM results can be made: no study was found in the files."
        )
    part.replace(path)


def identify_model(predictor: Predictor, point: str) -> "ModelIdentity":
    """Name the model as its DICOM results do (`dicom_results.ModelIdentity`)."""
    from hemtrace.dicom_results.identity import ModelIdentity

    spec = predictor.engine.spec
    return ModelIdentity(
        name=spec.network.architecture,
        version=__version__,
        sha256=predictor.engine.model_sha256,
        synthetic=spec.synthetic,
        trained_on=tell_training(spec),
        slice_thresholds=slice_thresholds(predictor.operating, point or None),
        region_threshold=predictor.settings.map_threshold,
        size=spec.size,
    )


def _add_pixels(
    study: StudyPrediction, result: Result, thresholds: Mapping[str, float | None]
) -> StudyPrediction:
    """Give the flagged slices of the chosen series their HU, which captures show."""
    series = []
    for one in study.series:
        if not one.chosen:
            series.append(one)
            continue
        slices = [
            replace(own, hu=result.pixels.read(own.file, own.frame))
            if any(flag_slice(own, dict(thresholds)).values())
            else own
            for own in one.slices
        ]
        series.append(replace(one, slices=tuple(slices)))
    return replace(study, series=tuple(series))


def _write(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _flag(flag: bool | None) -> int | None:
    return None if flag is None else int(flag)
