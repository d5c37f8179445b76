"""What may stand in a log: no name, no UID, no address of a study."""

import logging
from pathlib import Path

_LOG = logging.getLogger("hemtrace.node")
# These libraries log what they send and get.
_TALKATIVE = ("pynetdicom", "dicomweb_client", "urllib3", "pydicom", "highdicom", "requests")


def quieten_libraries() -> None:
    """Let nothing of these libraries reach a log: their lines quote headers and addresses."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
    for name in list(logging.root.manager.loggerDict):
        # A child with a level of its own would pass its lines on.
        if name.partition(".")[0] in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def place_of(error: BaseException) -> str:
    """Name an error by its type and where it arose; its message may quote a header."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} at {Path(code.co_filename).name}:{trace.tb_lineno}"


def log_defect(error: BaseException) -> None:
    """Write where an error of hemtrace itself arose."""
    _LOG.error("defect: %s", place_of(error))
