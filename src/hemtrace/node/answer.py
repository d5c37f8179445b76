"""One study of the queue -> its verdict and its DICOM results."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from pydicom.dataset import Dataset

from hemtrace import __version__
from hemtrace.dicom import PUBLIC_SALT, QuarantineError, Rejected, Slice
from hemtrace.dicom.guard import GuardedReader
from hemtrace.engine import open_engine
from hemtrace.errors import HemtraceError
from hemtrace.familiar import find_familiar
from hemtrace.node.config import NodeConfig
from hemtrace.node.intake import NOT_CT
from hemtrace.node.records import Answer, Task, Told
from hemtrace.predict.headers import read_headers
from hemtrace.predict.pixels import add_hu
from hemtrace.predict.refuse import sort_reasons
from hemtrace.predict.run import predict_studies
from hemtrace.predict.study import Reason, StudyPrediction
from hemtrace.predict.verdict import (
    find_operating,
    flag_slice,
    name_point,
    slice_thresholds,
    tell_training,
)

# Between a bleed and none, as every study without an answer.
_UNKNOWN_URGENCY = 0.5


class Answerer:
    """A model that answers the studies of a node, one at a time.

    Parameters
    ----------
    config
        Names the model and what is made of a study.

    Raises
    ------
    HemtraceError
        If the model, or what lies beside it, cannot be used, or has no such operating point.
    """

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._engine = open_engine(config.model, config.runtime, config.threads)
        sha256 = self._engine.model_sha256
        self._operating = find_operating(config.model, sha256)
        self._point = name_point(self._operating, config.point)
        self._familiar = find_familiar(config.model, sha256)
        limits = config.limits
        # Its child takes a second to start; it ends with this process.
        self._reader = GuardedReader(
            config.folder, PUBLIC_SALT, limits.read_seconds, limits.read_memory_gb
        )

    def describe(self) -> str:
        """Tell what the model is, as JSON for the worklist."""
        spec = self._engine.spec
        return json.dumps(
            {
                "name": spec.network.architecture,
                "sha256": self._engine.model_sha256,
                "synthetic": spec.synthetic,
                "trained_on": tell_training(spec),
                "point": self._point,
                "runtime": self._engine.runtime,
                "version": __version__,
            }
        )

    def answer(self, task: Task) -> Answer:
        """Predict a study and make its results.

        The same slices give objects with the same UIDs, whenever they are made; the same `made` the
        same bytes.

        Raises
        ------
        HemtraceError
            If a file is gone.
        """
        if not task.files:
            sentence = f"No CT image of this study was kept. {NOT_CT} Nothing is sent back."
            return Answer(Told("no-answer", sentence, None, _UNKNOWN_URGENCY))
        reader, folder = self._reader, self._config.folder
        prediction = predict_studies(
            stop_after(reader.read, self._config.limits.study_seconds),
            task.files,
            self._engine,
            self._operating,
            identify=lambda name: reader.identify((folder / name).read_bytes()),
            point=self._point or None,
            familiar=self._familiar,
        )
        if not prediction.studies:
            causes = sorted({one.meaning for one in prediction.rejected})
            sentence = f"Nothing could be predicted: {'; '.join(causes)}."
            return Answer(Told("no-answer", sentence, None, _UNKNOWN_URGENCY))
        study = _tell_late(prediction.studies[0], task)
        verdict = study.verdict
        told = Told(verdict.answer, verdict.sentence, verdict.probability, verdict.urgency)
        try:
            return Answer(told, tuple(self._make_results(study, task)))
        except (HemtraceError, QuarantineError) as error:
            sentence = f"{told.sentence} No results are sent back: {error}"
            return Answer(replace(told, sentence=sentence))

    def _make_results(self, study: StudyPrediction, task: Task) -> list[Dataset]:
        # highdicom takes seconds to import.
        from hemtrace.dicom_results import ModelIdentity, make_results

        options = self._config.results
        thresholds = slice_thresholds(self._operating, self._point or None)
        chosen = study.chosen
        slices = () if chosen is None else chosen.slices
        if study.verdict.answer == "bleed" and (options.capture or options.parametric):
            shown = [
                place
                for place, one in enumerate(slices)
                if options.every_slice or any(flag_slice(one, dict(thresholds)).values())
            ]
            study = add_hu(study, shown, self._reader.read)
        spec = self._engine.spec
        model = ModelIdentity(
            name=spec.network.architecture,
            version=__version__,
            sha256=self._engine.model_sha256,
            synthetic=spec.synthetic,
            trained_on=tell_training(spec),
            slice_thresholds=thresholds,
            size=spec.size,
        )
        folder = self._config.folder
        headers = read_headers(
            lambda name: (folder / name).read_bytes(), [one.file for one in slices], self._reader
        )
        return make_results(
            study,
            headers,
            model,
            capture=options.capture,
            parametric=options.parametric,
            every_slice=options.every_slice,
            made=datetime.fromtimestamp(task.made),
        )


def stop_after(
    read: Callable[[str], Iterable[Slice | Rejected]],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[str], Iterator[Slice | Rejected]]:
    """Read files until a study has taken so long; those that are left are rejected as too slow.

    A thousand files that each hang their decoder for its time would else hold up all others.
    """
    spent = 0.0

    def read_in_time(name: str) -> Iterator[Slice | Rejected]:
        nonlocal spent
        if spent > seconds:
            yield Rejected("too-slow", f"the study took longer than {seconds:g} s")
            return
        found = iter(read(name))
        while True:
            started = clock()
            one = next(found, None)
            spent += clock() - started
            if one is None:
                return
            yield one

    return read_in_time


def _tell_late(study: StudyPrediction, task: Task) -> StudyPrediction:
    """Say in the results of a later revision that there was an answer before."""
    if not task.late:
        return study
    text = (
        f"This is answer {task.revision} on this study: {task.late} more slices came after the "
        "answer before, which it replaces."
    )
    verdict = study.verdict
    reasons = sort_reasons([*verdict.reasons, Reason("late-slices", text, False)])
    told = replace(verdict, reasons=reasons, sentence=f"{verdict.sentence} {text}")
    return replace(study, verdict=told)
