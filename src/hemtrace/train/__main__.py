"""`python -m hemtrace.train JOB.json`: one process of a training, by itself or under torchrun."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from hemtrace.errors import HemtraceError, StoppedError
from hemtrace.train.job import TrainJob, train_model
from hemtrace.train.processes import STOPPED_STATUS, leave_sentence

_POLL_SECONDS = 0.5


def end_with_parent() -> None:
    """End this process when the one that started it is gone, killed with -9, say.

    It would train on beside the next run, and write to its checkpoint.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main(path: Path) -> int:
    """Train by the job of a file; the exit status."""
    end_with_parent()
    # Until the loop takes note of it: a stop while all is being set up loses nothing.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(STOPPED_STATUS))
    try:
        train_model(TrainJob.model_validate_json(path.read_text()))
    except HemtraceError as error:
        leave_sentence(error)
        print(f"hemtrace: {error}", file=sys.stderr)
        return STOPPED_STATUS if isinstance(error, StoppedError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
