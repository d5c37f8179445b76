"""What a header says of the patient, and a copy of it without pixels; only in the guarded child.

Nothing of this is wanted for a prediction: it is for the eyes of the person who gave the file, and
for results that must name the patient. pydicom parses it, so it may crash, hang or fill memory.
"""

import io
from contextlib import suppress
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from hemtrace.dicom.plain import DEFLATED, find_syntax
from hemtrace.dicom.read import inflate
from hemtrace.dicom.reasons import QuarantineError

# Keyword -> name in `identify`'s answer.
IDENTITY: dict[str, str] = {
    "StudyInstanceUID": "study_uid",
    "SeriesInstanceUID": "series_uid",
    "SOPInstanceUID": "instance_uid",
    "FrameOfReferenceUID": "frame_of_reference_uid",
    "PatientName": "patient_name",
    "PatientID": "patient_id",
    "StudyDate": "study_date",
    "StudyDescription": "study_description",
    "SeriesDescription": "series_description",
    "AccessionNumber": "accession",
    "ContrastBolusAgent": "contrast_agent",
}
# The longest value representation of them, LO and PN, has 64 characters a part (PS3.5 6.2).
_LONGEST_TEXT = 256
# The functional groups of 2,000 frames take 4 MB.
_LARGEST_HEADER = 16 * 2**20
_PIXELS = frozenset(("PixelData", "FloatPixelData", "DoubleFloatPixelData"))


def identify(content: bytes) -> dict[str, str | int]:
    """Read whose picture a file is: names of `IDENTITY`, and series_number; only what is there.

    Text is decoded by the file's character set, and cut after 256 characters; characters that
    cannot be printed are left out.

    Raises
    ------
    QuarantineError
        `damaged-header` where the file cannot be parsed.
    """
    wanted = [*IDENTITY, "SeriesNumber", "SpecificCharacterSet"]
    dataset = _parse(content, wanted)
    told: dict[str, str | int] = {}
    for keyword, name in IDENTITY.items():
        with suppress(Exception):  # each value may be damaged in its own way
            text = str(dataset.get(keyword) or "")
            if shown := "".join(c for c in text[:_LONGEST_TEXT] if c.isprintable()).strip():
                told[name] = shown
    with suppress(Exception):
        told["series_number"] = int(dataset.SeriesNumber)
    return told


def copy_header(content: bytes) -> bytes:
    """Copy the header of a file: explicit little-endian, without pixels and private elements.

    What cannot be read or written is left out, as are overlays, curves and icons.

    Raises
    ------
    QuarantineError
        `damaged-header` where the file cannot be parsed, `too-large` where it is no header.
    """
    dataset = _parse(content, None)
    kept = Dataset()
    for tag in list(dataset.keys()):
        # 50xx and 60xx: curves and overlays, which hold pictures.
        if tag.is_private or tag.group >> 8 in (0x50, 0x60) or tag.group < 0x0008:
            continue
        with suppress(Exception):
            element = dataset[tag]
            if element.keyword in _PIXELS or element.keyword == "IconImageSequence":
                continue
            alone = Dataset()
            alone.add(element)
            alone.remove_private_tags()
            _write(alone)
            kept.add(element)
    written = _write(kept)
    if len(written) > _LARGEST_HEADER:
        raise QuarantineError("too-large", f"a header of {len(written)} bytes")
    return written


def _parse(content: bytes, wanted: list[str] | None) -> Dataset:
    found = find_syntax(content)
    if found is not None and found[0] == DEFLATED:
        content = inflate(content[found[1] :])
    try:
        specific: list[Any] | None = list(wanted) if wanted else None
        return pydicom.dcmread(
            io.BytesIO(content), stop_before_pixels=True, force=True, specific_tags=specific
        )
    except MemoryError:
        raise
    except Exception as error:
        raise QuarantineError("damaged-header", type(error).__name__) from None


def _write(dataset: Dataset) -> bytes:
    dataset.preamble = bytes(128)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, implicit_vr=False, little_endian=True)
    return out.getvalue()
