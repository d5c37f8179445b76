"""DICOM results of predicted studies, in a folder of their own each."""

from pathlib import Path

from hemtrace import __version__
from hemtrace.dicom.reasons import QuarantineError
from hemtrace.engine.contract import Engine
from hemtrace.errors import HemtraceError
from hemtrace.evaluate.operating import Operating
from hemtrace.predict.headers import read_headers
from hemtrace.predict.paths import Archive
from hemtrace.predict.study import StudyPrediction
from hemtrace.predict.verdict import slice_thresholds, tell_training


class ResultFolder:
    """Writes the DICOM results of one study after the other.

    Parameters
    ----------
    folder
        Gets a folder a study, named by its pseudonym.
    archive
        Where the headers are read.
    engine, operating, point
        What predicted.
    parametric
        Whether heat maps are made as parametric maps too.

    Attributes
    ----------
    failed
        A sentence for each study of which no results could be made.
    """

    def __init__(
        self,
        folder: Path,
        archive: Archive,
        engine: Engine,
        operating: Operating | None,
        point: str,
        parametric: bool,
    ) -> None:
        from hemtrace.dicom_results import ModelIdentity

        self._folder, self._archive, self._parametric = folder, archive, parametric
        self._model = ModelIdentity(
            name=engine.spec.network.architecture,
            version=__version__,
            sha256=engine.model_sha256,
            synthetic=engine.spec.synthetic,
            trained_on=tell_training(engine.spec),
            slice_thresholds=slice_thresholds(operating, point or None),
            size=engine.spec.size,
        )
        self.failed: list[str] = []

    def write(self, study: StudyPrediction, number: int) -> None:
        """Write the results of a study; one of which none can be made is noted and passed over."""
        from hemtrace.dicom_results import write_results

        name = study.key or f"study-{number + 1}"
        chosen = study.chosen
        try:
            names = [] if chosen is None else [one.file for one in chosen.slices]
            headers = read_headers(self._archive.content, names, self._archive.reader)
            write_results(
                study, headers, self._model, self._folder / name, parametric=self._parametric
            )
        except (HemtraceError, QuarantineError) as error:
            self.failed.append(f"No DICOM results of the study {name}: {error}")
