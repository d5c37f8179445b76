"""The model at work on one job: files to studies, slices shown as they are predicted."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hemtrace.dicom import Rejected, Slice
from hemtrace.dicom.guard import GuardedReader
from hemtrace.dicom.reasons import QuarantineError
from hemtrace.engine import Batcher, open_engine
from hemtrace.engine.contract import Answers, Engine
from hemtrace.familiar import find_familiar
from hemtrace.labels import ANY, LABELS
from hemtrace.predict.run import predict_studies
from hemtrace.predict.study import Prediction, RejectedFile, SlicePrediction
from hemtrace.predict.verdict import find_operating
from hemtrace.serve.jobs import Job
from hemtrace.serve.pictures import encode_preview
from hemtrace.serve.pixels import Pixels
from hemtrace.serve.readers import Readers
from hemtrace.serve.schemas import Job as Told
from hemtrace.serve.settings import Settings


@dataclass
class Result:
    """What became of a job.

    Attributes
    ----------
    prediction
        Its studies at the model's default point, the most urgent first; slices without HU.
    rejected
        Every file without a prediction, those that were not opened first.
    pixels
        The HU of its slices.
    told
        The answer of the API by operating point, as far as it was asked for.
    """

    prediction: Prediction
    rejected: tuple[RejectedFile, ...]
    pixels: Pixels
    told: dict[str, Told] = field(default_factory=dict)


class Predictor:
    """A model that is ready.

    Attributes
    ----------
    engine, operating, familiar
        The model; its operating points and its measure of the unusual, None where it has none.

    Raises
    ------
    HemtraceError
        If the model file, or what lies beside it, is damaged.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine: Engine = open_engine(settings.model, settings.runtime, settings.threads)
        self.operating = find_operating(settings.model, self.engine.model_sha256)
        self.familiar = find_familiar(settings.model, self.engine.model_sha256)
        self._shared = _Shared(self.engine)
        self._readers = Readers(settings.limits)
        self._readers.refill()
        # The first pass of a runtime takes longer than the others.
        spec = self.engine.spec
        self.engine.run(np.zeros((1, spec.channels, spec.size, spec.size), np.uint8))

    def prepare_maps(self) -> None:
        """Make a map that takes gradients: the first needs torch and the network again, seconds.

        Raises
        ------
        HemtraceError
            If the model file was replaced.
        """
        if not self.engine.has_cells and self.operating is not None:
            spec = self.engine.spec
            self.engine.heat(np.zeros((1, spec.channels, spec.size, spec.size), np.uint8), [ANY])

    def close(self) -> None:
        """Stop what puts slices of several jobs together, and what reads files."""
        self._shared.close()
        self._readers.close()

    def predict(self, job: Job) -> None:
        """Predict the files of a job; `job.result` is set at the end.

        Raises
        ------
        CancelledError
            If the study is deleted meanwhile.
        """
        limits = self.settings.limits
        pixels = Pixels(job.folder / "pixels", limits.pictures, limits.picture_bytes)
        (job.folder / "previews").mkdir()
        assert job.contents is not None
        contents = job.contents
        job.state = "reading"
        try:
            with self._readers.take() as reader:

                def identify(name: str) -> dict[str, str | int]:
                    job.check()
                    return reader.identify(contents.read(name))

                prediction = predict_studies(
                    _Reading(job, reader, pixels, limits.work_seconds).read,
                    contents.names,
                    self._shared,
                    self.operating,
                    keep_identity=True,
                    identify=identify,
                    on_slice=lambda one: _show(job, pixels, one),
                    on_map=lambda made, wanted: _count_maps(job, made, wanted),
                    familiar=self.familiar,
                )
        except BaseException:
            pixels.close()
            raise
        finally:
            self._readers.refill()
        unopened = tuple(
            RejectedFile(one.file, None, "unreadable", one.meaning) for one in contents.refused
        )
        job.result = Result(prediction, unopened + prediction.rejected, pixels)


class _Shared:
    """An engine that answers several jobs at once, whose slices it puts together."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._batcher = engine, Batcher(engine)
        self.spec, self.runtime = engine.spec, engine.runtime
        self.model_sha256, self.fallback = engine.model_sha256, engine.fallback
        self.has_cells = engine.has_cells

    def run(self, pictures: np.ndarray) -> Answers:
        """Predict slices, as `Engine.run`."""
        answers: Answers = self._batcher.submit(pictures).result()
        return answers

    def close(self) -> None:
        """End its thread."""
        self._batcher.close()

    def heat(self, pictures: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Map the evidence, as `Engine.heat`."""
        return self._engine.heat(pictures, labels)


class _Reading:
    """Reads the files of a job in the guarded child, and keeps their pixels."""

    def __init__(self, job: Job, reader: GuardedReader, pixels: Pixels, seconds: float) -> None:
        assert job.contents is not None
        self._job, self._contents = job, job.contents
        self._reader, self._pixels = reader, pixels
        self._until = time.monotonic() + seconds

    def read(self, name: str) -> Iterator[Slice | Rejected]:
        """Read the pictures of a file."""
        self._job.check()
        yield from self._read(name)
        self._job.read += 1

    def _read(self, name: str) -> Iterator[Slice | Rejected]:
        if time.monotonic() > self._until:
            yield Rejected("too-slow", "the time that the server gives to an upload was over")
            return
        try:
            content = self._contents.read(name)
        except QuarantineError as error:
            yield Rejected.of(error)
            return
        for found in self._reader.read_content(content):
            self._job.check()
            if isinstance(found, Slice):
                if not self._pixels.has_room(found.hu):
                    text = "the upload decodes to more pictures than the server allows"
                    yield Rejected("too-large", text, found.frame)
                    return
                self._job.take_room(2 * found.hu.size)
                self._pixels.add(name, found.frame, found.hu)
            yield found


def _count_maps(job: Job, made: int, wanted: int) -> None:
    """Tell whoever follows the job how far the heat maps are."""
    job.check()
    job.mapped, job.maps = made, wanted


def _show(job: Job, pixels: Pixels, one: SlicePrediction) -> None:
    """Tell whoever follows the job of a slice, with a preview."""
    job.check()
    number = job.predicted
    preview = encode_preview(pixels.read(one.file, one.frame))
    job.take_room(len(preview))
    try:
        (job.folder / "previews" / f"{number}.png").write_bytes(preview)
    except FileNotFoundError:  # the folder was wiped
        job.check()
        raise
    job.predicted += 1
    address = f"/api/v1/studies/{job.id}/previews/{number}.png"
    probability = one.by_label()[LABELS[ANY]]
    job.events.append(("slice", {"number": number, "any": probability, "preview": address}))
