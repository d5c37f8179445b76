"""From the headers of slices to what the results say of patient, study and geometry.

What a header says is copied by name, and only where it conforms: a result must not carry on what
was broken, nor private or free-text attributes that it has no use for.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from hemtrace.dicom_results.identity import derive_uid
from hemtrace.errors import HemtraceError

# Keyword -> longest value (PS3.5 6.2), characters; of a name those of each of its three groups.
_TEXTS = {
    "PatientID": 64,
    "IssuerOfPatientID": 64,
    "AccessionNumber": 16,
    "StudyID": 16,
    "StudyDescription": 64,
}
_NAMES = ("PatientName", "ReferringPhysicianName")
_PATTERNS = {
    "PatientBirthDate": r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
    "StudyDate": r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
    "StudyTime": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
    "PatientSex": r"[MFO]",
}


# Type 2 of every object's patient and study (PS3.3 C.7.1.1, C.7.2.1).
_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)


@dataclass(frozen=True)
class Source:
    """A slice that was predicted, as results refer to it.

    Attributes
    ----------
    header
        UIDs, each of them valid, and what describes the picture; nothing of the patient.
    frame
        Number within a multi-frame file, from 1; None for a file of one picture.
    position_mm, orientation
        float (3,) and (6,): PS3.3 C.7.6.2; None where the header does not tell both.
    burned_in
        Whether the header says that the source's pixels may name the patient.
    """

    header: Dataset
    frame: int | None
    position_mm: np.ndarray | None
    orientation: np.ndarray | None
    burned_in: bool

    @property
    def frames(self) -> list[int] | None:
        """The number of its frame as references want it."""
        return None if self.frame is None else [self.frame]


@dataclass(frozen=True)
class Sources:
    """The slices of the series that was predicted.

    Attributes
    ----------
    slices
        In the order of the prediction.
    texts
        What conforms of patient and study. The headers of the slices are without: highdicom warns
        of unusual names by citing them, and a warning ends in a log.
    notes
        Sentences on what had to be replaced.
    """

    slices: tuple[Source, ...]
    texts: Dataset
    notes: tuple[str, ...]

    @property
    def instances(self) -> list[Dataset]:
        """The header of every file once."""
        return list({one.header.SOPInstanceUID: one.header for one in self.slices}.values())


def read_sources(headers: Sequence[Dataset], frames: Sequence[int | None]) -> Sources:
    """Take from headers what results need.

    Parameters
    ----------
    headers
        One a slice; left as they are.
    frames
        The number of each slice within a multi-frame file.

    Raises
    ------
    HemtraceError
        If there is no header, one lacks the UID of its study or instance, or they are of several
        studies.
    """
    if not headers:
        raise HemtraceError(
            "There is no slice to report on: DICOM results need the header of at least one slice "
            "of the series that was predicted."
        )
    for header in headers:
        _check_filed(header)
    studies = {_uid(header, "StudyInstanceUID") for header in headers}
    if len(studies) > 1:
        raise HemtraceError(
            "The slices of the series name several studies; predict each study by itself, so that "
            "its results can be filed."
        )
    replaced: list[str] = []
    slices = []
    for header, frame in zip(headers, frames, strict=True):
        clean = Dataset()
        for keyword in _EMPTY:
            setattr(clean, keyword, "")
        _copy_uids(header, clean, replaced)
        _copy_picture(header, clean)
        position, orientation = _read_geometry(header, frame)
        if position is not None and orientation is not None:
            clean.ImagePositionPatient = [round(float(part), 6) for part in position]
            clean.ImageOrientationPatient = [round(float(part), 8) for part in orientation]
        burned_in = str(header.get("BurnedInAnnotation", "")).strip().upper() == "YES"
        slices.append(Source(clean, frame, position, orientation, burned_in))
    notes = []
    if replaced:
        notes.append(
            f"The source has no valid {', '.join(dict.fromkeys(replaced))}: what is derived of it "
            "stands in its place, so that a PACS files these results apart from the source."
        )
    if "FrameOfReferenceUID" not in slices[0].header:
        notes.append("The headers of the slices name no frame of reference.")
    return Sources(tuple(slices), _read_texts(headers[0]), tuple(notes))


def _read_texts(header: Dataset) -> Dataset:
    """Copy patient and study, each attribute empty where it is missing or does not conform."""
    clean = Dataset()
    charset = header.get("SpecificCharacterSet")
    names = [charset] if isinstance(charset, str) else list(charset or [])
    # An unknown character set is not carried over; pydicom has then read the bytes as Latin-1.
    if names and all(name in python_encoding for name in names):
        clean.SpecificCharacterSet = names[0] if len(names) == 1 else names
    for keyword, longest in _TEXTS.items():
        value = _one_text(header, keyword)
        if value or keyword in _EMPTY:
            setattr(clean, keyword, value[:longest])
    for keyword in _NAMES:
        groups = _one_text(header, keyword).split("=")[:3]
        setattr(clean, keyword, "=".join(_short_name(group) for group in groups))
    for keyword, pattern in _PATTERNS.items():
        value = _one_text(header, keyword)
        setattr(clean, keyword, value if re.fullmatch(pattern, value) else "")
    if _one_text(header, "PatientIdentityRemoved") in ("YES", "NO"):
        clean.PatientIdentityRemoved = _one_text(header, "PatientIdentityRemoved")
        method = _one_text(header, "DeidentificationMethod")[:64]
        if clean.PatientIdentityRemoved == "YES":
            clean.DeidentificationMethod = method or "not told by the source"
    return clean


def _short_name(group: str) -> str:
    return "^".join(group.split("^")[:5])[:64].rstrip("^ ")


def _one_text(header: Dataset, keyword: str) -> str:
    """Read a value as text without control characters; empty where there is none to be read."""
    try:
        value = header.get(keyword)
    except (ValueError, TypeError, LookupError, NotImplementedError):  # pydicom could not parse it
        return ""
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if value else None
    # A backslash would part the value in two (PS3.5 6.2).
    return "" if value is None else re.sub(r"[\x00-\x1f\x7f\\]", "", str(value)).strip()


def _uid(header: Dataset, keyword: str) -> str:
    return _one_text(header, keyword).strip("\0 ")


def _check_filed(header: Dataset) -> None:
    for keyword, name in (("StudyInstanceUID", "study"), ("SOPInstanceUID", "instance")):
        value = _uid(header, keyword)
        if not value:
            raise HemtraceError(
                f"The header of a slice has no {keyword}, so results cannot be filed with its "
                f"{name}; send it through a PACS or a tool that sets one."
            )


def _copy_uids(header: Dataset, clean: Dataset, replaced: list[str]) -> None:
    series = _uid(header, "SeriesInstanceUID") or f"series of {_uid(header, 'StudyInstanceUID')}"
    values = {
        "StudyInstanceUID": _uid(header, "StudyInstanceUID"),
        "SeriesInstanceUID": series,
        "SOPInstanceUID": _uid(header, "SOPInstanceUID"),
        "FrameOfReferenceUID": _uid(header, "FrameOfReferenceUID"),
    }
    for keyword, value in values.items():
        if not value:
            continue
        valid = UID(value, validation_mode=0).is_valid
        setattr(clean, keyword, UID(value) if valid else derive_uid("source", keyword, value))
        if not valid:
            replaced.append(keyword)
    # A slice of unknown class was read as CT, or it would not be here.
    kind = _uid(header, "SOPClassUID")
    clean.SOPClassUID = UID(kind) if UID(kind, validation_mode=0).is_valid else UID(_CT)


_CT = "1.2.840.10008.5.1.4.1.1.2"


def _copy_picture(header: Dataset, clean: Dataset) -> None:
    for keyword in ("Rows", "Columns"):
        setattr(clean, keyword, int(header.get(keyword) or 1))
    clean.Modality = "CT"
    spacing = _numbers(header.get("PixelSpacing"), 2)
    if spacing is not None and spacing.min() > 0:
        clean.PixelSpacing = [round(float(part), 8) for part in spacing]
    thickness = _numbers([header.get("SliceThickness")], 1)
    if thickness is not None and thickness[0] > 0:
        clean.SliceThickness = float(thickness[0])
    if header.get("NumberOfFrames"):
        clean.NumberOfFrames = header.NumberOfFrames


def _read_geometry(
    header: Dataset, frame: int | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    position = _numbers(_find(header, frame, "PlanePositionSequence", "ImagePositionPatient"), 3)
    orientation = _numbers(
        _find(header, frame, "PlaneOrientationSequence", "ImageOrientationPatient"), 6
    )
    if position is None or orientation is None or not _spans_a_plane(orientation):
        return None, None
    return position, orientation


def _find(header: Dataset, frame: int | None, group: str, keyword: str) -> Any:
    """Look for a value in the groups of the frame, those of all frames, and the header itself."""
    groups: list[Dataset] = []
    of_frames = header.get("PerFrameFunctionalGroupsSequence") or []
    if frame is not None and frame <= len(of_frames):
        groups.append(of_frames[frame - 1])
    groups.extend(header.get("SharedFunctionalGroupsSequence") or [])
    for one in groups:
        for item in one.get(group) or []:
            if item.get(keyword):
                return item.get(keyword)
    try:
        return header.get(keyword)
    except (ValueError, TypeError, LookupError):
        return None


def _numbers(value: Any, count: int) -> np.ndarray | None:
    try:
        numbers = np.array([float(part) for part in value])
    except (ValueError, TypeError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _spans_a_plane(orientation: np.ndarray) -> bool:
    """Whether both axes have length 1 and stand upright on each other (PS3.3 C.7.6.2.1.1)."""
    across, down = orientation[:3], orientation[3:]
    lengths = np.array([across @ across, down @ down])
    return bool(np.allclose(lengths, 1, atol=1e-2) and abs(across @ down) < 1e-2)
