"""Headers of chosen files, for results that must name the patient; parsed in the guarded child."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader


def read_headers(
    read_content: Callable[[str], bytes],
    names: Sequence[str],
    reader: GuardedReader | None = None,
) -> list[Dataset]:
    """Read the headers of files.

    Parameters
    ----------
    read_content
        Gives the bytes of a file by its name.
    names
        Of the slices that are wanted; one that stands twice (frames of a file) is read once.
    reader
        Whose child parses them; None: one of its own.

    Returns
    -------
    A data set a name, in their order, without pixels, overlays and private elements. Names that are
    equal share one.

    Raises
    ------
    QuarantineError
        If a header cannot be parsed within the limits.
    """
    if reader is None:
        with GuardedReader(Path(), PUBLIC_SALT) as own:
            return read_headers(read_content, names, own)
    found: dict[str, Dataset] = {}
    for name in names:
        if name not in found:
            copied = reader.read_header(read_content(name))
            # Written by pydicom in the child, whatever the file was: no syntax, no length is its.
            found[name] = pydicom.dcmread(io.BytesIO(copied), force=True)
    return [found[name] for name in names]
