"""`python -m hemtrace.tracking ROOT`: send records until whoever started this has ended."""

import os
import select
import sys
from pathlib import Path

from hemtrace.tracking.send import send_records

_SECONDS = 10.0  # between two sendings, and how old a live figure may be
_MOST_SECONDS = 300.0  # where the server is down
_TROUBLED_SECONDS = 3  # for a request of the last sending, where the server was down


def main(root: Path) -> None:
    """Send, wait, send again; and once more when standard input is closed."""
    os.nice(10)
    # It tries again anyway, later: no request need be made twice at once.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    wait = _SECONDS
    while True:
        told = send_records(root)
        for sentence in told:
            print(sentence, flush=True)
        wait = min(2 * wait, _MOST_SECONDS) if told else _SECONDS
        if select.select([sys.stdin], [], [], wait)[0]:
            break
    if told:
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(_TROUBLED_SECONDS)
    send_records(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
