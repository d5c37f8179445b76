"""A node in a process of its own that ends itself by SIGKILL at a chosen point, as no code sees it.

    python node_child.py CONFIG [moved|received|predicting|written|sent]

moved: the file of an object has its name, and its row is not committed. written: so are the files
of an answer, and nothing is noted of it.

What answers is a stand-in: these are tests of the queue, and torch takes seconds to import.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from noding import StandIn

from hemtrace.node import intake
from hemtrace.node.config import load_config
from hemtrace.node.intake import Intake
from hemtrace.node.outbox import Outbox
from hemtrace.node.queue import Queue
from hemtrace.node.run import run_node


def die(*_: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def take_and_die(take: Any) -> Any:
    taken = []

    def replaced(*told: Any) -> Any:
        outcome = take(*told)
        taken.append(outcome)
        return die() if len(taken) == 4 else outcome  # kept, and nobody is told

    return replaced


def main(file: Path, point: str = "") -> None:
    if point == "moved":
        intake.sync_folder = die
    elif point == "written":
        Queue.finish = die  # type: ignore[method-assign]
    elif point == "received":
        Intake.take = take_and_die(Intake.take)  # type: ignore[method-assign]
    elif point == "predicting":
        StandIn.answer = die  # type: ignore[method-assign]
    elif point == "sent":
        Outbox.mark_sent = die  # type: ignore[method-assign]
    run_node(load_config(file), lambda config: StandIn(config.folder), print)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
