"""The bytes of a file -> its CT slices in Hounsfield units, or the reasons why not."""

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
from blake3 import blake3
from pydicom.dataset import Dataset

from hemtrace.dicom.frames import frame_headers, header_of
from hemtrace.dicom.geometry import (
    axis_angle_deg,
    position_mm,
    side_letters,
    spacing_mm,
    thickness_mm,
)
from hemtrace.dicom.header import Header
from hemtrace.dicom.hu import to_hu
from hemtrace.dicom.identity import pseudonym
from hemtrace.dicom.kind import check_kind, may_show, name_kernel, name_maker
from hemtrace.dicom.magic import name_content
from hemtrace.dicom.pixels import (
    check_length,
    decode_frame,
    frame_streams,
    read_layout,
    read_plain_pixels,
)
from hemtrace.dicom.plain import (
    DEFLATED,
    Walked,
    find_syntax,
    walk_file,
)
from hemtrace.dicom.reasons import QuarantineError
from hemtrace.dicom.slices import Rejected, Slice

# The RSNA set's identifiers are no valid UIDs; pydicom would warn of that once a file.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

# Short names of transfer syntaxes (PS3.6 table A-1), and which of them lose information.
ENCODINGS: dict[str, str] = {
    "1.2.840.10008.1.2": "implicit-little",
    "1.2.840.10008.1.2.1": "explicit-little",
    "1.2.840.10008.1.2.1.99": "deflated",
    "1.2.840.10008.1.2.2": "explicit-big",
    "1.2.840.10008.1.2.5": "rle",
    "1.2.840.10008.1.2.4.50": "jpeg-lossy",
    "1.2.840.10008.1.2.4.51": "jpeg-lossy-12",
    "1.2.840.10008.1.2.4.57": "jpeg-lossless",
    "1.2.840.10008.1.2.4.70": "jpeg-lossless",
    "1.2.840.10008.1.2.4.80": "jpeg-ls",
    "1.2.840.10008.1.2.4.81": "jpeg-ls-lossy",
    "1.2.840.10008.1.2.4.90": "jpeg2000",
    "1.2.840.10008.1.2.4.91": "jpeg2000-lossy",
    "1.2.840.10008.1.2.4.201": "htj2k",
    "1.2.840.10008.1.2.4.202": "htj2k",
    "1.2.840.10008.1.2.4.203": "htj2k-lossy",
}
# What a person can judge by a look at the stored values, and how large such a picture is.
_WORTH_A_LOOK = ("not-axial", "not-head")
_PICTURE_SIDE = 128
_MOST_INFLATED = 2**29  # a thousand pictures of 512 x 512


def read_plain(content: bytes, salt: bytes) -> Slice | None:
    """Read a file of one uncompressed little-endian picture; None if it is anything else.

    Only numpy and this package touch the bytes: no decoder that could crash or hang.

    Raises
    ------
    QuarantineError
        If it is such a file and cannot be used.
    """
    try:
        walked = walk_file(content)
        if walked is None or walked.pixels is None or walked.header.frames != 1:
            return None
        return _read_walked(content, walked, salt)
    except (QuarantineError, MemoryError):
        raise
    except Exception as error:  # one strange header must not end a shard's job
        raise QuarantineError("damaged-header", type(error).__name__) from None


def read_bytes(content: bytes, salt: bytes) -> Iterator[Slice | Rejected]:
    """Read a file of any encoding, picture by picture.

    May take long, or crash in a decoder: `guard.GuardedReader` keeps that in another process.

    Raises
    ------
    QuarantineError
        If the file as a whole cannot be used. A frame that cannot be is a `Rejected`.
    """
    try:
        yield from _read_bytes(content, salt)
    except (QuarantineError, MemoryError):
        raise
    except Exception as error:  # pydicom parses when asked, and may then raise anything
        raise QuarantineError("damaged-header", type(error).__name__) from None


def _read_bytes(content: bytes, salt: bytes) -> Iterator[Slice | Rejected]:
    found = find_syntax(content)
    deflated = found is not None and found[0] == DEFLATED
    if found is not None and deflated:
        # Not left to pydicom, which would unpack without bound.
        content = inflate(content[found[1] :])
    dataset = _read_dataset(content)
    header = header_of(dataset)
    if deflated:
        header = replace(header, syntax=DEFLATED)
    with _telling(header, salt):
        check_kind(header, "PixelData" in dataset)
        read_layout(header)
        check_length(dataset, header)
    multi_frame = header.frames > 1 or "PerFrameFunctionalGroupsSequence" in dataset
    frames = zip(frame_headers(dataset, header), frame_streams(dataset, header), strict=False)
    for number, (one, stream) in enumerate(frames, start=1):
        frame = number if multi_frame else None
        try:
            with _telling(one, salt):
                check_kind(one, has_pixels=True)
                made = _make_slice(one, decode_frame(stream, one), salt, frame)
            yield made
        except QuarantineError as error:
            if not multi_frame:
                raise
            yield Rejected.of(error, frame)


def _read_dataset(content: bytes) -> Dataset:
    try:
        # Old archives hold files without preamble; what is no DICOM then lacks everything.
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        known = {"Modality", "SOPClassUID", "Rows"} & {
            pydicom.datadict.keyword_for_tag(tag)
            for tag in dataset.keys()  # noqa: SIM118 - iterating would parse the values
        }
    except MemoryError:
        raise
    except Exception as error:  # a damaged header may raise anything
        detail = name_content(content) or type(error).__name__
        raise QuarantineError("not-dicom", detail) from None
    if not known:
        if "DirectoryRecordSequence" in dataset:
            raise QuarantineError("not-dicom", "a DICOMDIR: the contents of a medium, no picture")
        if content[128:132] == b"DICM":
            raise QuarantineError("truncated", "the file ends within its header")
        raise QuarantineError("not-dicom", name_content(content))
    return dataset


def inflate(packed: bytes) -> bytes:
    """Unpack a deflated data set (PS3.5 A.5), up to a bound.

    Raises
    ------
    QuarantineError
        If it is damaged, or unpacks to more.
    """
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(packed, _MOST_INFLATED)
    except zlib.error:
        raise QuarantineError("undecodable", "the deflated data set is damaged") from None
    if not unpacker.eof and len(content) >= _MOST_INFLATED:
        raise QuarantineError("too-large", f"it unpacks to more than {_MOST_INFLATED} bytes")
    return content


@contextmanager
def _telling(header: Header, salt: bytes) -> Iterator[None]:
    """Let what is refused within tell what its header says."""
    try:
        yield
    except QuarantineError as error:
        error.facts = _read_facts(header, salt)
        with suppress(QuarantineError):
            layout = read_layout(header)
            error.facts |= {"bits_stored": layout.bits_stored, "signed": layout.signed}
        raise


def _read_walked(content: bytes, walked: Walked, salt: bytes) -> Slice:
    assert walked.pixels is not None
    header = walked.header
    with _telling(header, salt):
        try:
            check_kind(header, has_pixels=True)
        except QuarantineError as error:
            # No decoder is asked for the pixels of what the header refuses; these cost nothing.
            if error.reason in _WORTH_A_LOOK and may_show(header):
                with suppress(QuarantineError):
                    error.picture = _coarsen(read_plain_pixels(content, walked.pixels, header))
            raise
        stored = read_plain_pixels(content, walked.pixels, header)
        return _make_slice(header, stored, salt, None)


def _coarsen(stored: np.ndarray) -> np.ndarray:
    step = -(-max(stored.shape) // _PICTURE_SIDE)
    return np.ascontiguousarray(stored[::step, ::step])


def _make_slice(header: Header, stored: np.ndarray, salt: bytes, frame: int | None) -> Slice:
    layout = read_layout(header)
    try:
        found = to_hu(header, layout, stored)
    except QuarantineError as error:
        error.picture = _coarsen(stored) if may_show(header) else None
        raise
    return Slice(
        hu=found.hu,
        frame=frame,
        bits_stored=layout.bits_stored,
        signed=layout.signed,
        slope=found.slope,
        intercept=found.intercept,
        padded=found.padded,
        repaired=found.repaired,
        air_share=found.gate.air_share,
        soft_share=found.gate.soft_share,
        bone_share=found.gate.bone_share,
        pixel_blake3=digest_hu(found.hu),
        **_read_facts(header, salt),
    )


def _read_facts(header: Header, salt: bytes) -> dict[str, Any]:
    """Read those attributes of a `Slice` that any header may tell; never fails."""
    down, across = spacing_mm(header)
    encoding = ENCODINGS.get(header.syntax, "other")
    return {
        "patient": pseudonym(header.text("PatientID"), salt),
        "study": pseudonym(header.text("StudyInstanceUID"), salt),
        "series": pseudonym(header.text("SeriesInstanceUID"), salt),
        "instance": pseudonym(header.text("SOPInstanceUID"), salt),
        "encoding": encoding,
        "lossy": "lossy" in encoding or header.text("LossyImageCompression") == "01",
        "spacing_mm": down,
        "spacing_across_mm": across,
        "thickness_mm": thickness_mm(header),
        "z_mm": position_mm(header),
        "tilt_deg": axis_angle_deg(header),
        "orientation": side_letters(header),
        "manufacturer": name_maker(header),
        "kernel": name_kernel(header),
        "may_show": may_show(header),
    }


def digest_hu(hu: np.ndarray) -> str | None:
    """Digest HU with their shape; None for a slice of one value, which says nothing of whose it is.

    The same picture has the same digest in any encoding and any way of storing it.
    """
    if hu.min() == hu.max():
        return None
    values = np.ascontiguousarray(hu, dtype="<i2" if hu.dtype == np.int16 else "<f4")
    return blake3(repr(values.shape).encode()).update(values.view(np.uint8).data).hexdigest()
