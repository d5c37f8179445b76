"""One DICOM file -> its Hounsfield units and the header facts that hemtrace keeps.

Identifiers of a person never leave this module: patient, study and series become pseudonyms here.
"""

import hashlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

# The RSNA set's identifiers are no valid UIDs; pydicom would warn of that once a file.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

RSNA_ID = re.compile(r"ID_[0-9a-f]{8,10}")

REASONS: dict[str, str] = {
    "not-dicom": "the file is no DICOM file",
    "unreadable": "the file could not be opened",
    "damaged-header": "the header lacks what is needed, or holds no sense",
    "not-ct": "the modality is not CT",
    "not-greyscale": "the picture has colours or several frames",
    "no-patient": "no PatientID, so that it cannot be split by patient",
    "truncated": "the file ends before its pixels do",
    "undecodable": "the pixels cannot be decoded",
    "unlabelled": "the label file has no rows for it",
    "incomplete-labels": "the label file lacks some of its six rows",
    "conflicting-labels": "the label file contradicts itself about it",
}


class QuarantineError(Exception):
    """A file that cannot be used: a reason code out of `REASONS`, and what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail or REASONS[reason]}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Slice:
    """A readable CT slice.

    Attributes
    ----------
    hu
        float32 (rows, columns), Hounsfield units.
    patient, study, series
        Pseudonyms; `patient` is None where the header names none.
    z_mm
        Position along the normal of the slice, mm; None where the header lacks the geometry.
    spacing_mm
        Size of a pixel down a column, mm; None where the header lacks it.
    pixel_sha256
        Digest of the stored pixels; None for a slice of one value, which says nothing of whose
        it is.
    repaired
        Whether the 12-bit fault was found and undone.
    """

    hu: np.ndarray
    patient: str | None
    study: str | None
    series: str | None
    z_mm: float | None
    spacing_mm: float | None
    pixel_sha256: str | None
    repaired: bool


def read_slice(path: Path) -> Slice:
    """Read a CT slice.

    Raises
    ------
    QuarantineError
        If the file is no DICOM, no CT, no single greyscale picture, truncated or undecodable.
    """
    try:
        return _read_slice(path)
    except QuarantineError:
        raise
    except OSError as error:
        raise QuarantineError("unreadable", error.strerror or type(error).__name__) from None
    except Exception as error:  # a value is parsed when asked for, and may raise anything
        raise QuarantineError("damaged-header", type(error).__name__) from None


def _read_slice(path: Path) -> Slice:
    dataset = _read_dataset(path)
    pixels = _decode(dataset)
    hu, repaired = stored_to_hu(dataset, pixels)
    constant = pixels.min() == pixels.max()
    return Slice(
        hu=hu,
        patient=pseudonym(_text(dataset, "PatientID")),
        study=pseudonym(_text(dataset, "StudyInstanceUID")),
        series=pseudonym(_text(dataset, "SeriesInstanceUID")),
        z_mm=_position_along_normal(dataset),
        spacing_mm=_spacing(dataset),
        pixel_sha256=None if constant else pixel_digest(pixels),
        repaired=repaired,
    )


def slice_key(relative_path: Path) -> str:
    """Name a slice without naming a person.

    The RSNA set's file names are pseudonyms and stay; any other name, which may hold a person's,
    becomes a digest of the path.
    """
    if RSNA_ID.fullmatch(relative_path.stem):
        return relative_path.stem
    return "S" + _digest(relative_path.as_posix())


def pseudonym(identifier: str | None) -> str | None:
    """Replace an identifier by a stable digest; one that is an RSNA pseudonym already stays."""
    if not identifier:
        return None
    return identifier if RSNA_ID.fullmatch(identifier) else "P" + _digest(identifier)


def stored_to_hu(dataset: Dataset, pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """Rescale stored values to Hounsfield units (PS3.3 C.11.1.1.2).

    Returns the float32 HU, and whether the RSNA set's 12-bit fault was undone first. It shows in
    the header: unsigned 12-bit values with an intercept near 0 could not express air, so they
    were shifted by 1000 and wrapped at 4096.
    """
    slope = float(dataset.get("RescaleSlope", None) or 1)
    intercept = float(dataset.get("RescaleIntercept", None) or 0)
    wrapped = (
        dataset.get("BitsStored") == 12
        and dataset.get("PixelRepresentation") == 0
        and intercept > -100
    )
    if wrapped:
        pixels = (pixels.astype(np.int32) + 1000) % 4096
        intercept = -1000.0
    return pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept), wrapped


def pixel_digest(pixels: np.ndarray) -> str:
    """Digest the stored values with their shape, whatever the file's encoding."""
    values = np.ascontiguousarray(pixels, dtype="<i4")
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()


def _read_dataset(path: Path) -> Dataset:
    try:
        dataset = pydicom.dcmread(path)
    except InvalidDicomError:
        # Old archives hold files without preamble; anything that is no DICOM then lacks Modality.
        try:
            dataset = pydicom.dcmread(path, force=True)
        except Exception as error:
            raise QuarantineError("not-dicom", type(error).__name__) from None
    except OSError:
        raise
    except Exception as error:  # a damaged header may raise anything
        raise QuarantineError("not-dicom", type(error).__name__) from None
    try:
        modality = dataset.get("Modality")
        described = "Rows" in dataset and "Columns" in dataset
    except Exception as error:  # values are parsed when first asked for
        raise QuarantineError("not-dicom", type(error).__name__) from None
    if modality is None and not described:
        raise QuarantineError("not-dicom")
    if modality != "CT":
        raise QuarantineError("not-ct", f"Modality is {modality}")
    return dataset


def _decode(dataset: Dataset) -> np.ndarray:
    if "PixelData" not in dataset:
        raise QuarantineError("truncated", "no pixels")
    if dataset.get("SamplesPerPixel", 1) != 1 or int(dataset.get("NumberOfFrames", None) or 1) != 1:
        raise QuarantineError("not-greyscale")
    if not dataset.file_meta.get("TransferSyntaxUID"):
        # Files without preamble have no file meta: PS3.5 section 10.1 makes this the default.
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        due = dataset.Rows * dataset.Columns * dataset.get("BitsAllocated", 16) // 8
        if len(dataset.PixelData) < due:
            raise QuarantineError("truncated", f"{len(dataset.PixelData)} of {due} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dataset.pixel_array
    except Exception as error:  # each plug-in raises its own kinds
        raise QuarantineError("undecodable", type(error).__name__) from None


def _position_along_normal(dataset: Dataset) -> float | None:
    """Project the position on the slice's normal (PS3.3 C.7.6.2.1.1)."""
    try:
        position = np.array(dataset.ImagePositionPatient, dtype=float)
        orientation = np.array(dataset.ImageOrientationPatient, dtype=float)
        return round(float(np.cross(orientation[:3], orientation[3:]) @ position), 4)
    except (AttributeError, TypeError, ValueError):
        return None


def _spacing(dataset: Dataset) -> float | None:
    try:
        return float(dataset.PixelSpacing[0])
    except (AttributeError, TypeError, ValueError, IndexError):
        return None


def _text(dataset: Dataset, name: str) -> str | None:
    value = dataset.get(name)
    return str(value).strip() or None if value is not None else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6, person=b"hemtrace").hexdigest()
