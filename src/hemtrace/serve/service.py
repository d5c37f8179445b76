"""What lives as long as the server: model, folders, jobs, sample; pages are served meanwhile."""

import asyncio
import logging
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from hemtrace.errors import HemtraceError
from hemtrace.serve.jobs import Job, Jobs
from hemtrace.serve.problems import Problem, log_defect
from hemtrace.serve.sample import make_sample
from hemtrace.serve.settings import Settings
from hemtrace.serve.store import Store
from hemtrace.serve.unpack import Contents, list_contents
from hemtrace.serve.uploads import Uploaded

if TYPE_CHECKING:  # torch and its like take seconds, in which the page is shown already
    from hemtrace.serve.prediction import Predictor

_LOG = logging.getLogger("hemtrace.serve")
# Their lines quote headers.
_TALKATIVE = ("highdicom", "pydicom", "openvino", "PIL")
_STARTING = {"Retry-After": "5"}
_LONGEST_START = 120.0
_OFTEN, _PAUSE = 5.0, 0.05


class Service:
    """The parts of a running server.

    Attributes
    ----------
    settings, store, jobs
        What it was told; where studies lie; the studies.
    ready
        The model, once it is loaded, or why it is not.
    streams
        Connections that follow events.

    Raises
    ------
    HemtraceError
        If no private folder can be made.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.folder)
        self.jobs = Jobs(settings, self.store, self._work)
        self.ready: Future[Predictor] = Future()
        self.streams = 0
        self._sample: list[Uploaded] | None = None
        self._sample_lock = threading.Lock()
        self._imports = threading.Lock()
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if self.store.wiped_leftovers:
            _LOG.info("wiped %d folders of servers that were killed", self.store.wiped_leftovers)

    def start(self) -> None:
        """Load the model in a thread."""
        threading.Thread(target=self._load, name="hemtrace-load", daemon=True).start()

    async def run_expiry(self) -> None:
        """Wipe what nobody has looked at for its time, again and again."""
        pause = min(_OFTEN, max(0.05, 15 * self.settings.keep_minutes))
        while True:
            await asyncio.sleep(pause)
            if wiped := await asyncio.to_thread(self.jobs.expire):
                _LOG.info("wiped %d studies that nobody looked at any more", wiped)
            if wiped := await asyncio.to_thread(self.store.wipe_again):
                _LOG.info("wiped %d folders that could not be wiped before", wiped)

    def close(self) -> None:
        """Stop all work and wipe everything."""
        self.jobs.close()
        if self.state == "ready":
            self.ready.result().close()
        self.store.close()

    @property
    def state(self) -> str:
        """Whether the model is there: starting, ready or failed."""
        if not self.ready.done():
            return "starting"
        return "failed" if self.ready.exception() else "ready"

    async def wait(self) -> "Predictor":
        """Wait for the model.

        Raises
        ------
        Problem
            503 where it does not come.
        """
        with suppress(TimeoutError, HemtraceError):
            async with asyncio.timeout(_LONGEST_START):
                return await asyncio.shield(asyncio.wrap_future(self.ready))
        raise Problem(503, "The model is not ready. Wait a minute and try again.", _STARTING)

    def sample(self) -> Contents:
        """Give the files of the sample study; they are made once."""
        with self._sample_lock, self._imports:
            if self._sample is None:
                self._sample = make_sample(self.store.folder / "sample")
        return list_contents(self._sample, self.settings.limits)

    def _load(self) -> None:
        try:
            with self._imports:
                # All that requests import later: two threads that import torch, scipy or highdicom
                # at once may each find half of a module.
                from hemtrace.dicom_results import results  # noqa: F401
                from hemtrace.serve import answers, exports, pictures, summary  # noqa: F401
                from hemtrace.serve.prediction import Predictor
            self.ready.set_result(Predictor(self.settings))
        except HemtraceError as error:
            self.ready.set_exception(error)
            return
        except Exception as error:
            log_defect(error)
            self.ready.set_exception(HemtraceError(f"The model could not be loaded: {error}"))
            return
        _LOG.info("the model is ready")
        # So that the first study does not wait for it; one that comes meanwhile waits no longer.
        with suppress(HemtraceError), self._imports:
            self.ready.result().prepare_maps()
        if self.settings.sample_ahead:
            with suppress(OSError):  # the server was stopped meanwhile
                self.sample()

    def _work(self, job: Job) -> None:
        while not self.ready.done():
            job.check()
            time.sleep(_PAUSE)
        predictor = self.ready.result()
        if job.sample:
            job.contents = self.sample()
            job.files = len(job.contents.names)
        predictor.predict(job)
