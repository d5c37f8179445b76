"""Any DICOM file -> CT slices of a head in Hounsfield units, or the reasons why not.

Identifiers of a person never leave this package: they become salted hashes here.
"""

from hemtrace.dicom.identity import PUBLIC_SALT, pseudonym, read_salt, slice_key
from hemtrace.dicom.read import read_bytes, read_plain
from hemtrace.dicom.reasons import REASONS, STEPS, QuarantineError
from hemtrace.dicom.slices import Rejected, Slice

__all__ = [
    "PUBLIC_SALT",
    "REASONS",
    "STEPS",
    "QuarantineError",
    "Rejected",
    "Slice",
    "pseudonym",
    "read_bytes",
    "read_plain",
    "read_salt",
    "slice_key",
]
