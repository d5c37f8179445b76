"""A node at work: threads that each do one thing, and SQLite between them."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from hemtrace.errors import HemtraceError
from hemtrace.node.config import NodeConfig
from hemtrace.node.disk import make_folder, sync_folder
from hemtrace.node.intake import Intake
from hemtrace.node.outbox import Outbox
from hemtrace.node.page import PageServer
from hemtrace.node.privacy import log_defect, place_of, quieten_libraries
from hemtrace.node.queue import Queue
from hemtrace.node.receive import Receiver
from hemtrace.node.records import Answer, Answers, ResultFile, Task
from hemtrace.node.schema import Database, hold_folder, make_private
from hemtrace.node.send import Transport, make_transport, send_next
from hemtrace.node.upkeep import RESULTS, recover, wipe
from hemtrace.node.watch import Watcher, watch_for_ever
from hemtrace.node.worklist import note_model
from hemtrace.writing import write_whole

_LOG = logging.getLogger("hemtrace.node")
# How often a thread looks whether there is something to do.
_LOOK_SECONDS = 0.25
_AFTER_DEFECT_SECONDS = 5
_WIPE_SECONDS = 60
_STOP_SECONDS = 20


class Node:
    """A node: it works from when it is entered until it is left.

    Parameters
    ----------
    config
        As loaded.
    answers
        What answers the studies.

    Raises
    ------
    HemtraceError
        If its folder, a port, a secret or a certificate cannot be used.
    """

    def __init__(self, config: NodeConfig, answers: Answers) -> None:
        self._config, self._answers = config, answers
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Put back what a crash left half done, and begin."""
        try:
            self._start()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; a study that is at work is begun anew by the next start."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        self._stack.close()

    def _start(self) -> None:
        config = self._config
        quieten_libraries()
        # A warning cites the value that it warns of, which may be a name.
        warnings.simplefilter("ignore")
        transports = {to.name: make_transport(to, config) for to in config.send}
        make_private(config.folder)
        self._stack.callback(os.close, hold_folder(config.folder))
        database = Database(config.folder, create=True)
        self._stack.callback(database.close)
        broken = recover(database, list(transports))
        if broken:
            _LOG.warning("%d predictions were broken off, and are made again", broken)
        note_model(database, self._answers.describe())
        self.queue = Queue(database, config.retries)
        outbox = Outbox(database, config.retries)
        self.intake = Intake(self.queue, config)
        self._stack.callback(self.intake.close)
        watchers = [Watcher(one, config, self.intake, database) for one in config.watch]
        if config.page is not None:
            self._stack.enter_context(PageServer(database, config.page))
        self._begin("close", self._close_quiet)
        self._begin("predict", self._predict_next)
        for name, transport in transports.items():
            self._begin(f"send {name}", _sending(outbox, name, transport, config))
        self._begin("wipe", lambda: self._wipe(database), _WIPE_SECONDS)
        for watch, watcher in zip(config.watch, watchers, strict=True):
            self._begin(f"watch {watch.name}", lambda one=watcher: self._watch(one))  # type: ignore[misc]
        if config.listen is not None:
            # The last to start, the first to stop: what it takes in is sure to be seen to.
            self._stack.enter_context(Receiver(self.intake, config.listen, config.limits))

    def _begin(self, name: str, step: Callable[[], bool], pause: float = _LOOK_SECONDS) -> None:
        def repeat() -> None:
            while not self._stopping.is_set():
                try:
                    rest = 0.0 if step() else pause
                except Exception as error:
                    # A defect, or a disk that is full: the others go on, and so does this later.
                    log_defect(error)
                    rest = _AFTER_DEFECT_SECONDS
                self._stopping.wait(rest)

        thread = threading.Thread(target=repeat, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _close_quiet(self) -> bool:
        self.queue.close_quiet(self._config.complete_after_seconds)
        return False

    def _predict_next(self) -> bool:
        task = self.queue.claim(self._config.order)
        if task is None:
            return False
        if task.attempts > self._config.retries.times:
            self.queue.fail(task, "The node ended each time that it predicted this study.")
            _LOG.error("study %d: it is given up, as the node ended each time", task.study)
            return True
        _LOG.info("study %d: prediction of %d files begins", task.study, len(task.files))
        try:
            self._keep(task, self._answers.answer(task))
        except Exception as error:
            told = str(error) if isinstance(error, HemtraceError) else place_of(error)
            gone = self.queue.fail(task, f"The prediction failed: {told}")
            _LOG.error(
                "study %d: prediction failed (%s)%s",
                task.study,
                place_of(error),
                ", and is given up" if gone else "",
            )
        return True

    def _keep(self, task: Task, answer: Answer) -> None:
        """Write the results, then note them: they stay the same, however often they are sent."""
        folder = self._config.folder
        make_folder(folder / RESULTS / f"{task.study:06d}")
        written = []
        for place, one in enumerate(answer.results):
            file = f"{RESULTS}/{task.study:06d}/{task.revision}-{place}.dcm"
            with write_whole(folder / file) as part:
                one.save_as(part, enforce_file_format=True)
            size = (folder / file).stat().st_size
            written.append(ResultFile(str(one.SOPInstanceUID), file, size))
        sync_folder(folder / RESULTS / f"{task.study:06d}")
        names = [to.name for to in self._config.send]
        fresh = self.queue.finish(task, answer.told, written, names)
        _LOG.info("study %d: answered; %d new results", task.study, fresh)

    def _wipe(self, database: Database) -> bool:
        config = self._config
        gone = wipe(database, config.keep_hours * 3600, config.keep_dead_days * 86400)
        if gone:
            self.intake.forget_bytes()
            _LOG.info("%d studies were wiped", len(gone))
        return False

    def _watch(self, watcher: Watcher) -> bool:
        most = self._config.retries.most_seconds
        watch_for_ever(watcher, most, self._stopping.wait)
        return False


def run_node(
    config: NodeConfig, make_answers: Callable[[NodeConfig], Answers], tell: Callable[[str], None]
) -> None:
    """Be a node until this process is told to end (SIGTERM, SIGINT).

    Parameters
    ----------
    config
        As loaded.
    make_answers
        Makes what answers the studies.
    tell
        Shows a sentence to whoever started it.

    Raises
    ------
    HemtraceError
        As `Node`, and what `make_answers` raises.
    """
    os.umask(0o077)  # whatever is written from here on is for this user alone
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    _LOG.setLevel(logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Node(config, make_answers(config)):
        listen, page = config.listen, config.page
        if listen is not None:
            tell(f"Listening as {listen.ae_title} on {listen.host} port {listen.port}.")
        for one in config.watch:
            tell(f"Watching {one.name}.")
        if page is not None:
            tell(f"The worklist is at http://{page.host}:{page.port}/ Research use only.")
        stop.wait()


def _sending(
    outbox: Outbox, name: str, transport: Transport, config: NodeConfig
) -> Callable[[], bool]:
    return lambda: send_next(outbox, name, transport, config.folder)
