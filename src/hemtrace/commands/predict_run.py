"""What `hemtrace predict` does, study by study, so that an archive of any size fits in memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hemtrace.commands.predict_results import ResultFolder
from hemtrace.commands.predict_screen import Screen
from hemtrace.dicom import read_salt
from hemtrace.engine import open_engine
from hemtrace.errors import HemtraceError
from hemtrace.evaluate.operating import Operating
from hemtrace.familiar import find_familiar
from hemtrace.predict.overlays import flagged_slices, name_overlay, write_overlay
from hemtrace.predict.paths import Archive
from hemtrace.predict.patients import Patients
from hemtrace.predict.pixels import add_hu
from hemtrace.predict.run import PredictedFiles
from hemtrace.predict.study import StudyPrediction
from hemtrace.predict.tables import (
    By,
    check_out,
    make_table,
    rejected_rows,
    series_rows,
    slice_rows,
    study_row,
    write_results_table,
)
from hemtrace.predict.verdict import find_operating, name_point, slice_thresholds

# Rows as dictionaries take ten times the memory of a table's.
_ROWS_AT_ONCE = 5000


@dataclass(frozen=True)
class Wanted:
    """What shall be made of the predictions, as the command's options say."""

    out: Path | None = None
    level: str | None = None
    heatmaps: Path | None = None
    dicom: Path | None = None
    parametric: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Refuse what could not be written, before hours of work.

        Raises
        ------
        HemtraceError
            If a file exists, a folder holds something, or a name is impossible.
        """
        if self.out is not None:
            check_out(self.out, self.overwrite)
        for option, folder in (("--heatmaps", self.heatmaps), ("--dicom", self.dicom)):
            if folder is None:
                continue
            if folder.exists() and not folder.is_dir():
                raise HemtraceError(f"{option} {folder} is no folder; name a folder.")
            if folder.is_dir() and any(folder.iterdir()) and not self.overwrite:
                raise HemtraceError(
                    f"The folder {folder} is not empty; name another one, or --overwrite to put "
                    "results beside what is there."
                )
        if self.parametric and self.dicom is None:
            raise HemtraceError("--parametric is for DICOM results; name a folder by --dicom.")


def run(
    paths: Sequence[Path],
    model: Path,
    point: str | None,
    wanted: Wanted,
    runtime: str = "auto",
    threads: int | None = None,
    salt_file: str | None = None,
) -> bool:
    """Predict and write what is wanted; tell whether anything could be predicted.

    Raises
    ------
    HemtraceError
        If a path is missing, the model cannot be used, or a result cannot be written.
    """
    wanted.check()
    salt = read_salt(salt_file)
    with Archive(paths, salt) as archive, Screen() as screen:
        engine = open_engine(model, runtime, threads)
        operating = find_operating(model, engine.model_sha256)
        name = name_point(operating, point)
        by = By(name, engine.spec.network.architecture, engine.model_sha256, engine.spec.synthetic)
        screen.begin(by, engine, operating, len(archive.names))
        with PredictedFiles(
            archive.read,
            archive.names,
            engine,
            operating,
            keep_maps=wanted.heatmaps is not None or wanted.dicom is not None,
            keep_identity=False,
            identify=archive.identify,
            on_progress=screen.show_progress,
            on_map=screen.show_maps,
            point=point,
            familiar=find_familiar(model, engine.model_sha256),
            salt=salt,
        ) as predicted:
            kept = _Tables(wanted, operating, name, by)
            results = (
                None
                if wanted.dicom is None
                else ResultFolder(wanted.dicom, archive, engine, operating, name, wanted.parametric)
            )
            for number, study in enumerate(predicted.studies()):
                kept.add(study)
                screen.add(study)
                shown = _add_pixels(study, operating, name, archive, wanted)
                if wanted.heatmaps is not None:
                    _draw(shown, number, operating, wanted.heatmaps, by)
                if results is not None:
                    results.write(shown, number)
            rejected = predicted.rejected
            table = kept.finish(rejected_rows(rejected))
            if wanted.out is not None:
                write_results_table(table, wanted.out, rejected, by)
            screen.finish(
                table if wanted.out is None and wanted.level is not None else None,
                rejected,
                predicted.slices,
                [] if results is None else results.failed,
            )
            return predicted.slices > 0


class _Tables:
    """Gathers the rows of the wanted level."""

    def __init__(self, wanted: Wanted, operating: Operating | None, point: str, by: By) -> None:
        self.level = wanted.level or ("studies" if wanted.out is None else "slices")
        self._operating, self._point, self._by = operating, point, by
        self._patients = Patients(operating, point)
        self._rows: list[Mapping[str, Any]] = []
        self._tables: list[pl.DataFrame] = []

    def add(self, study: StudyPrediction) -> None:
        """Take a study."""
        if self.level == "patients":
            self._patients.add(study)
            return
        self._rows.extend(self._make_rows(study))
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._end()

    def finish(self, rejected: Iterator[dict[str, Any]]) -> pl.DataFrame:
        """Give the table; that of slices ends with the files without a prediction."""
        if self.level == "patients":
            self._rows.extend(self._patients.rows())
        elif self.level == "slices":
            self._rows.extend(rejected)
        self._end()
        return pl.concat(self._tables)

    def _make_rows(self, study: StudyPrediction) -> Iterator[Mapping[str, Any]]:
        if self.level == "slices":
            yield from slice_rows(study, self._operating, self._point)
        elif self.level == "series":
            yield from series_rows(study)
        else:
            yield study_row(study)

    def _end(self) -> None:
        self._tables.append(make_table(self.level, self._rows, self._by))
        self._rows.clear()


def _add_pixels(
    study: StudyPrediction,
    operating: Operating | None,
    point: str,
    archive: Archive,
    wanted: Wanted,
) -> StudyPrediction:
    if wanted.heatmaps is None and wanted.dicom is None:
        return study
    places = flagged_slices(study, slice_thresholds(operating, point or None))
    return add_hu(study, [place for place, _ in places], archive.read)


def _draw(
    study: StudyPrediction, number: int, operating: Operating | None, folder: Path, by: By
) -> None:
    chosen = study.chosen
    for place, label in flagged_slices(study, slice_thresholds(operating, by.point or None)):
        assert chosen is not None
        one = chosen.slices[place]
        if one.hu is not None:
            name = name_overlay(study, number, place, one)
            model = f"{by.model} {by.model_sha256[:12]}, point {by.point}"
            write_overlay(one, label, folder / name, model, by.synthetic)
