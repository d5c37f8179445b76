"""Files in, studies with a verdict out: what the command line, the page and the node call.

Reading and windowing run ahead in a thread while the network is at work. Slices of a study may lie
anywhere among the files (those of the RSNA set do), so that a study is known to be whole only when
all files are read: until then half a kilobyte a slice is kept, and maps in a `Spool`. Then studies
are given out one by one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import polars as pl

from hemtrace.dicom import PUBLIC_SALT, Rejected, Slice
from hemtrace.engine.contract import CHUNK, Engine
from hemtrace.evaluate.operating import Operating
from hemtrace.evaluate.scored import Rule
from hemtrace.ingest.series import place_in_series
from hemtrace.predict.ahead import Read, read_pictures, run_ahead
from hemtrace.predict.collect import Collected
from hemtrace.predict.gradient_maps import add_maps
from hemtrace.predict.place import PlacedStudy, count_strays, list_rejected, place_studies
from hemtrace.predict.refuse import find_reasons, sort_reasons
from hemtrace.predict.spool import Spool
from hemtrace.predict.study import (
    Identity,
    Prediction,
    Reason,
    RejectedFile,
    SeriesPrediction,
    SlicePrediction,
    StudyPrediction,
)
from hemtrace.predict.verdict import judge, name_point
from hemtrace.shards.context import find_neighbours, read_context

# Of a model without operating points; its studies get no answer anyway.
_RULE: Rule = "highest"


class Familiar(Protocol):
    """What knows the features of the training slices (`hemtrace.familiar`)."""

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Give distances (N,) of features (N, F)."""
        ...

    def judge(self, distances: np.ndarray) -> Reason | None:
        """Tell whether a series with these distances is unlike the training data."""
        ...


class PredictedFiles:
    """Files of which every slice has been predicted; gives out their studies.

    Parameters
    ----------
    read
        Gives the slices of a file, as `dicom.guard.GuardedReader.read`; called from a thread, and
        not after this is made.
    names
        Of the files.
    engine
        What predicts.
    operating
        Calibration and thresholds of that model; None: no study gets an answer.
    keep_hu
        Keep the Hounsfield units of every slice: 0.5 MB each, in memory.
    keep_maps
        Keep the cells of the heat maps and where the head lies.
    keep_identity
        Let the first slice of each series carry its identity; needs `identify`.
    identify
        Gives `dicom.whose.identify` of a file; called in the caller's thread, once a series at
        most, after all files were read. None: contrast agent is not looked for.
    on_slice
        Called with each slice as it is predicted.
    on_progress
        Called with the number of files that are done, and that of all.
    on_map
        Called where heat maps take gradients, with the number that are made, and of those that are
        wanted so far: a series is looked at after the other.
    point
        Name of the operating point; None: the model's default.
    familiar
        None: how unlike the training data a study is, is not measured.
    salt
        Of the pseudonyms; that of the reader.

    Raises
    ------
    HemtraceError
        If the model has no such point.
    """

    def __init__(
        self,
        read: Callable[[str], Iterable[Slice | Rejected]],
        names: Sequence[str],
        engine: Engine,
        operating: Operating | None,
        *,
        keep_hu: bool = False,
        keep_maps: bool = True,
        keep_identity: bool = False,
        identify: Callable[[str], Mapping[str, str | int]] | None = None,
        on_slice: Callable[[SlicePrediction], None] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_map: Callable[[int, int], None] | None = None,
        point: str | None = None,
        familiar: Familiar | None = None,
        salt: bytes = PUBLIC_SALT,
    ) -> None:
        self.point = name_point(operating, point)
        self.files = len(names)
        self._engine, self._operating, self._familiar = engine, operating, familiar
        self._identify, self._keep_identity = identify, keep_identity
        self._on_slice, self._on_map, self._keep_maps = on_slice, on_map, keep_maps
        self._made = self._wanted = 0
        self._collected = Collected(operating, None if familiar is None else familiar.distance)
        # Pictures are needed a second time by a network that sees neighbours, which are known only
        # at the end, and by one whose maps take gradients.
        self._keep_pictures = engine.spec.has_context or (keep_maps and not engine.has_cells)
        self._pictures = Spool()
        self._places: np.ndarray | None = None
        self.slices = 0
        try:
            pictures = read_pictures(read, names, engine.spec, salt, keep_hu, keep_maps)
            self._predict(run_ahead(pictures), on_progress or (lambda done, files: None))
            self._rows = self._collected.table()
            if engine.spec.has_context:
                self._predict_in_context()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Forget the maps."""
        self.close()

    def close(self) -> None:
        """Forget the maps."""
        self._collected.close()
        self._pictures.close()

    @property
    def rejected(self) -> tuple[RejectedFile, ...]:
        """What has no prediction, in the order in which it was read."""
        return list_rejected(self._rows)

    def studies(self) -> Iterator[StudyPrediction]:
        """Give out the studies, in the order in which their first file was read."""
        rule = self._operating.score_rule if self._operating else _RULE
        strays = count_strays(self._rows)
        for placed in place_studies(self._rows, self._collected.slice_of, rule):
            yield self._finish(placed, strays)

    def _predict(self, reads: Iterator[Read], tell: Callable[[int, int], None]) -> None:
        done, current = 0, None
        waiting: list[Read] = []
        try:
            for found in reads:
                if current is not None and found.row["file"] != current:
                    done += 1
                current = found.row["file"]
                self._collected.add_row(found)
                if found.picture is not None:
                    if self._keep_pictures:
                        self._pictures.append(found.picture)
                    waiting.append(found)
                # The first slice goes alone, so that it is shown at once.
                if len(waiting) >= (CHUNK if self.slices else 1):
                    self._run_chunk(waiting)
                    waiting.clear()
                    tell(done, self.files)
            self._run_chunk(waiting)
            tell(self.files, self.files)
        finally:
            reads.close()  # type: ignore[attr-defined]

    def _run_chunk(self, reads: Sequence[Read]) -> None:
        if not reads or self._engine.spec.has_context:
            return
        pictures = np.stack([one.picture for one in reads if one.picture is not None])
        self._take(pictures, [one.row for one in reads])

    def _predict_in_context(self) -> None:
        """Predict slices between their neighbours, which were not known before."""
        placed = place_in_series(self._rows.with_columns(is_copy=pl.lit(False)))
        ours = placed.filter(pl.col("row").is_not_null()).sort("row")
        self._places = find_neighbours(placed, ours)
        for start in range(0, ours.height, CHUNK):
            rows = ours[start : start + CHUNK].to_dicts()
            self._take(self._read_pictures(np.arange(start, start + len(rows))), rows)

    def _take(self, pictures: np.ndarray, rows: Sequence[Mapping[str, object]]) -> None:
        self._collected.add_answers(self._engine.run(pictures), self._keep_maps)
        self.slices += len(rows)
        if self._on_slice is not None:
            for row in rows:
                self._on_slice(self._collected.slice_of(row))

    def _finish(self, placed: PlacedStudy, strays: int) -> StudyPrediction:
        series = tuple(self._add_maps(self._add_identity(one)) for one in placed.series)
        chosen = next((one for one in series if one.chosen), None)
        identity = None if chosen is None else chosen.slices[0].identity
        reasons = list(find_reasons(series, placed.rejected, identity, strays))
        if chosen is not None:
            reasons += self._check_familiar(chosen)
        if not self._keep_identity:
            series = tuple(_strip_identity(one) for one in series)
        known = sort_reasons(reasons)
        return StudyPrediction(
            key=placed.key,
            patient=placed.patient,
            series=series,
            verdict=judge(series, self._operating, self.point or None, known),
            rejected=placed.rejected,
            reasons=known,
        )

    def _add_identity(self, series: SeriesPrediction) -> SeriesPrediction:
        if self._identify is None or not (self._keep_identity or series.chosen):
            return series
        first = series.slices[0]
        told = self._identify(first.file)
        known = {field.name: told[field.name] for field in fields(Identity) if field.name in told}
        identified = replace(first, identity=Identity(**known))  # type: ignore[arg-type]
        return replace(series, slices=(identified, *series.slices[1:]))

    def _check_familiar(self, series: SeriesPrediction) -> list[Reason]:
        distances = [one.distance for one in series.slices if one.distance is not None]
        if self._familiar is None or not distances:
            text = (
                "How unlike the training data the pictures are was not measured: the model has no "
                "familiar.npz beside it, or its network has no features to compare."
            )
            return [Reason("familiarity-unknown", text, False)]
        reason = self._familiar.judge(np.array(distances))
        return [] if reason is None else [reason]

    def _add_maps(self, series: SeriesPrediction) -> SeriesPrediction:
        if self._engine.has_cells or not self._keep_maps or self._operating is None:
            return series
        return add_maps(series, self._engine, self._operating, self._pictures_of, self._tell_maps)

    def _tell_maps(self, made: int, wanted: int) -> None:
        self._made += made
        self._wanted += wanted
        if self._on_map is not None:
            self._on_map(self._made, self._wanted)

    def _pictures_of(self, slices: Sequence[SlicePrediction]) -> np.ndarray:
        return self._read_pictures(np.array([one.facts["row"] for one in slices]))

    def _read_pictures(self, rows: np.ndarray) -> np.ndarray:
        """Read kept pictures by their rows, each between its neighbours where these count."""
        if self._places is None:
            return np.stack([self._pictures.read(row) for row in rows.tolist()])
        return read_context(
            lambda _, row: self._pictures.read(row), self._places[rows], self._pictures.shape
        )


def predict_studies(
    read: Callable[[str], Iterable[Slice | Rejected]],
    names: Sequence[str],
    engine: Engine,
    operating: Operating | None,
    *,
    keep_hu: bool = False,
    keep_maps: bool = True,
    keep_identity: bool = False,
    identify: Callable[[str], Mapping[str, str | int]] | None = None,
    on_slice: Callable[[SlicePrediction], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_map: Callable[[int, int], None] | None = None,
    point: str | None = None,
    familiar: Familiar | None = None,
    salt: bytes = PUBLIC_SALT,
) -> Prediction:
    """Predict the studies of some files, all of them in memory at the end.

    Parameters and what is raised are those of `PredictedFiles`, which gives out the studies of a
    whole archive one by one.
    """
    with PredictedFiles(
        read,
        names,
        engine,
        operating,
        keep_hu=keep_hu,
        keep_maps=keep_maps,
        keep_identity=keep_identity,
        identify=identify,
        on_slice=on_slice,
        on_progress=on_progress,
        on_map=on_map,
        point=point,
        familiar=familiar,
        salt=salt,
    ) as predicted:
        studies = sorted(predicted.studies(), key=lambda study: -study.verdict.urgency)
        return Prediction(
            studies=tuple(studies),
            rejected=predicted.rejected,
            files=predicted.files,
            model_sha256=engine.model_sha256,
            runtime=engine.runtime,
            synthetic=engine.spec.synthetic,
            calibrated=operating is not None,
        )


def _strip_identity(series: SeriesPrediction) -> SeriesPrediction:
    if not series.slices or series.slices[0].identity is None:
        return series
    first = replace(series.slices[0], identity=None)
    return replace(series, slices=(first, *series.slices[1:]))
