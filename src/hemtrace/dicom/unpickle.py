"""Answers of a process that parses strangers' files, read so that they can do nothing."""

import io
import pickle
from typing import Any

from hemtrace.dicom.reasons import QuarantineError

# All that answers are made of beside plain values.
_KNOWN = {
    ("hemtrace.dicom.slices", "Slice"),
    ("hemtrace.dicom.slices", "Rejected"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}


def load_answer(content: bytes) -> Any:
    """Read a pickled answer; a file that took its parser over may have written it.

    Plain `pickle.loads` imports and calls whatever the bytes name.

    Raises
    ------
    QuarantineError
        `decoder-died`, if it is no pickle, or names anything but what answers are made of.
    """
    try:
        return _Restricted(io.BytesIO(content)).load()
    except QuarantineError:
        raise
    except Exception as error:  # pickle raises many things for bytes that are none
        raise QuarantineError("decoder-died", "its answer makes no sense") from error


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise QuarantineError("decoder-died", "its answer holds what no picture does")
        return super().find_class(module, name)
