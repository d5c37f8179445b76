"""What is predicted, as tables: a row a slice, series, study or patient."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.operating import Operating
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.predict.patients import PATIENT_COLUMNS
from hemtrace.predict.study import RejectedFile, SlicePrediction, StudyPrediction
from hemtrace.predict.verdict import RESEARCH_ONLY, slice_thresholds
from hemtrace.writing import write_whole

Schema = dict[str, pl.DataType | type[pl.DataType]]
SUFFIXES = (".csv", ".parquet", ".json")
LEVELS = ("slices", "series", "studies", "patients")

_PROBABILITIES: Schema = dict.fromkeys(LABELS, pl.Float64)
_RAW: Schema = {f"raw_{label}": pl.Float64 for label in LABELS}
_FLAGS: Schema = {f"flag_{label}": pl.Boolean for label in LABELS}
_WHOSE: Schema = {"patient": pl.String, "study": pl.String}
_SLICES: Schema = {
    "file": pl.String,
    "frame": pl.Int32,
    "slice": pl.String,
    **_WHOSE,
    "series": pl.String,
    "chosen": pl.Boolean,
    "copy": pl.Boolean,
    "z_mm": pl.Float64,
    **_PROBABILITIES,
    **_FLAGS,
    **_RAW,
    "distance": pl.Float64,
    "noise_hu": pl.Float64,
    "reason": pl.String,
    "detail": pl.String,
}
_SERIES: Schema = {
    **_WHOSE,
    "series": pl.String,
    "chosen": pl.Boolean,
    "slices": pl.Int64,
    "copies": pl.Int64,
    "gaps": pl.Int64,
    "unreadable": pl.Int64,
    "step_mm": pl.Float64,
    "extent_mm": pl.Float64,
    **_PROBABILITIES,
}
_STUDIES: Schema = {
    **_WHOSE,
    "answer": pl.String,
    "any": pl.Float64,
    "threshold": pl.Float64,
    "sensitivity": pl.Float64,
    "specificity": pl.Float64,
    **dict.fromkeys(SUBTYPES, pl.Float64),
    **_FLAGS,
    "urgency": pl.Float64,
    "series": pl.Int64,
    "slices": pl.Int64,
    "rejected": pl.Int64,
    "reasons": pl.String,
    "warnings": pl.String,
    "sentence": pl.String,
}
_SCHEMAS: dict[str, Schema] = {
    "slices": _SLICES,
    "series": _SERIES,
    "studies": _STUDIES,
    "patients": PATIENT_COLUMNS,
}
_BY: Schema = {
    "point": pl.String,
    "model": pl.String,
    "model_sha256": pl.String,
    "synthetic": pl.Boolean,
    "note": pl.String,
}


@dataclass(frozen=True)
class By:
    """What predicted, told in every row.

    Attributes
    ----------
    point
        Name of the operating point; empty without one.
    model, model_sha256
        Name of the network, and digest of the model file.
    synthetic
        Whether it was trained on synthetic data.
    """

    point: str
    model: str
    model_sha256: str
    synthetic: bool

    @property
    def note(self) -> str:
        """What must be read beside any number."""
        mark = "SYNTHETIC: trained on synthetic images, not on patients. "
        return f"{mark if self.synthetic else ''}{RESEARCH_ONLY}"

    def row(self) -> dict[str, Any]:
        """Give the columns that are the same in all rows."""
        return {
            "point": self.point or None,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "synthetic": self.synthetic,
            "note": self.note,
        }


def make_table(level: str, rows: Iterable[Mapping[str, Any]], by: By) -> pl.DataFrame:
    """Make a table of rows of one level, each with the columns of `by`."""
    schema = _SCHEMAS[level]
    table = pl.DataFrame(list(rows), schema=schema, orient="row")
    return table.with_columns(
        pl.lit(value, dtype=_BY[name]).alias(name)  # type: ignore[arg-type]
        for name, value in by.row().items()
    )


def slice_rows(
    study: StudyPrediction, operating: Operating | None, point: str
) -> Iterator[dict[str, Any]]:
    """Give a row a slice of a study, copies included, as they lie along the scan."""
    thresholds = slice_thresholds(operating, point or None)
    for series in study.series:
        told = {
            "patient": study.patient,
            "study": study.key,
            "series": series.key,
            "chosen": series.chosen,
        }
        for copy, slices in ((False, series.slices), (True, series.copies)):
            for one in slices:
                yield _slice_row(one, thresholds) | told | {"copy": copy}


def rejected_rows(rejected: Iterable[RejectedFile]) -> Iterator[dict[str, Any]]:
    """Give a row of the level of slices for each file without a prediction."""
    for one in rejected:
        yield {"file": one.file, "frame": one.frame, "reason": one.reason, "detail": one.detail}


def series_rows(study: StudyPrediction) -> Iterator[dict[str, Any]]:
    """Give a row a series of a study, the chosen one first."""
    for one in study.series:
        yield {
            "patient": study.patient,
            "study": study.key,
            "series": one.key,
            "chosen": one.chosen,
            "slices": len(one.slices),
            "copies": len(one.copies),
            "gaps": one.gaps,
            "unreadable": one.unreadable,
            "step_mm": one.step_mm,
            "extent_mm": one.extent_mm,
            **{label: _plain(p) for label, p in zip(LABELS, one.scores, strict=True)},
        }


def study_row(study: StudyPrediction) -> dict[str, Any]:
    """Give the row of a study."""
    verdict, chosen = study.verdict, study.chosen
    return {
        "patient": study.patient,
        "study": study.key,
        "answer": verdict.answer,
        "any": _plain(verdict.probability),
        "threshold": verdict.threshold,
        "sensitivity": verdict.sensitivity,
        "specificity": verdict.specificity,
        **{label: _plain(p) for label, p in verdict.subtypes.items()},
        **{f"flag_{label}": flag for label, flag in verdict.flagged.items()},
        "urgency": verdict.urgency,
        "series": len(study.series),
        "slices": 0 if chosen is None else len(chosen.slices),
        "rejected": len(study.rejected),
        "reasons": " ".join(one.code for one in verdict.reasons if one.stops) or None,
        "warnings": " ".join(one.code for one in verdict.reasons if not one.stops) or None,
        "sentence": verdict.sentence,
    }


def check_out(path: Path, overwrite: bool) -> None:
    """Refuse a file that cannot be written, before hours of work.

    Raises
    ------
    HemtraceError
        If its suffix is none of `SUFFIXES`, it exists, or its folder does not or cannot be
        written to.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise HemtraceError(f"--out {path}: the file must end in {', '.join(SUFFIXES)}.")
    if path.is_dir():
        raise HemtraceError(f"--out {path} is a folder; name a file in it.")
    if path.exists() and not overwrite:
        raise HemtraceError(f"{path} exists; give another name, or --overwrite to replace it.")
    if not path.parent.is_dir():
        raise HemtraceError(f"The folder {path.parent} was not found; make it, or name another.")
    try:
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise HemtraceError(
            f"In the folder {path.parent} nothing can be written ({error.strerror}); name another."
        ) from None


def write_results_table(
    table: pl.DataFrame, path: Path, rejected: Iterable[RejectedFile], by: By
) -> None:
    """Write a table by the suffix of its name, whole or not at all.

    JSON holds what predicted once, the rows, and the files without a prediction.

    Raises
    ------
    HemtraceError
        If the disk is full.
    """
    writers: dict[str, Callable[[Path], Any]] = {
        ".csv": table.write_csv,
        ".parquet": table.write_parquet,
        ".json": lambda part: part.write_text(_to_json(table, rejected, by), encoding="utf-8"),
    }
    with write_whole(path) as part:
        writers[path.suffix.lower()](part)


def _to_json(table: pl.DataFrame, rejected: Iterable[RejectedFile], by: By) -> str:
    told = by.row() | {
        "rows": table.drop(list(by.row())).to_dicts(),
        "rejected": [
            {"file": one.file, "frame": one.frame, "reason": one.reason, "detail": one.detail}
            for one in rejected
        ],
    }
    return json.dumps(told, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _slice_row(one: SlicePrediction, thresholds: Mapping[str, float | None]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "file": one.file,
        "frame": one.frame,
        "slice": one.key,
        "z_mm": one.z_mm,
        "distance": _plain(one.distance),
        "noise_hu": _plain(one.noise_hu),
    }
    for label, probability, raw in zip(LABELS, one.probabilities, one.raw, strict=True):
        limit = thresholds[label]
        row[label], row[f"raw_{label}"] = _plain(probability), _plain(raw)
        row[f"flag_{label}"] = None if limit is None else bool(probability >= limit)
    return row


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
