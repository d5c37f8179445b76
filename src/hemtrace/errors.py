"""The one error that is shown to a user as a sentence, without a traceback."""


class HemtraceError(Exception):
    """What was found, where, and what to do about it, in a sentence.

    The command line and the workflow scripts print its text and exit with status 1. Anything
    else that is raised is a defect of hemtrace and keeps its traceback.
    """


class StoppedError(HemtraceError):
    """Work that was told to stop, and goes on from where it was when it is run again."""
