"""A slice of HU -> the bytes of a DICOM file with the RSNA set's header, and its faults."""

import io
from dataclasses import dataclass

import numpy as np
from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from hemtrace.phantom.plan import Fault

# (BitsStored, PixelRepresentation, RescaleIntercept) and how often; 12 bits, unsigned, with an
# intercept above -100 is the 12-bit fault and stands in no sound file.
ENCODINGS: tuple[tuple[int, int, int], ...] = (
    (16, 1, -1024),
    (12, 0, -1024),
    (16, 1, 0),
    (16, 0, -1024),
)
ENCODING_SHARES = (0.4, 0.35, 0.1, 0.15)
# Share of the payload that the real set's one truncated file kept: 153,710 of 524,288 bytes.
_TRUNCATED_SHARE = 153_710 / 524_288


@dataclass(frozen=True)
class SeriesHeader:
    """What all slices of a scan share.

    `orientation` is ImageOrientationPatient, `encoding` one of `ENCODINGS`, `spacing_mm` the side
    of a pixel, `window` its centre and width in HU.
    """

    patient: str
    study: str
    series: str
    orientation: tuple[float, ...]
    spacing_mm: float
    encoding: tuple[int, int, int]
    window: tuple[int, int]


def encode_slice(
    hu: np.ndarray,
    outside: np.ndarray | None,
    header: SeriesHeader,
    instance: str,
    position_mm: tuple[float, float, float],
    fault: Fault | None,
) -> bytes:
    """Write one slice as DICOM.

    Parameters
    ----------
    hu
        float or int [rows, columns], HU.
    outside
        bool [rows, columns]: pixels beyond the scan's circular field, stored as -2000 where the
        encoding is 16 bits and signed; None where the scan has no such pixels.
    instance
        SOPInstanceUID, `ID_<9 hex>`.
    position_mm
        ImagePositionPatient.
    fault
        The fault that this file gets; those that concern the CSV or the size leave it sound.
    """
    bits, signed, intercept = (12, 0, 0) if fault == "twelve_bit" else header.encoding
    if fault == "twelve_bit":
        # The reverse of the repair in appian42 `src/utils/misc.py` (px += 1000; px[px >= 4096] -=
        # 4096; intercept = -1000): what is stored is HU, wrapped into 0..4095.
        stored = (np.clip(np.rint(hu), -1000, 3095) % 4096).astype(np.uint16)
    else:
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        stored = np.clip(np.rint(hu) - intercept, low, high)
        if outside is not None and bits == 16 and signed:
            stored[outside] = -2000
        stored = stored.astype(np.int16 if signed else np.uint16)
    dataset = _make_dataset(header, instance, position_mm, (bits, signed, intercept), stored)
    if fault == "multi_window":
        dataset.WindowCenter = [header.window[0], 600]
        dataset.WindowWidth = [header.window[1], 2800]
    if fault == "rle":
        dataset.compress(RLELossless, generate_instance_uid=False)
    elif fault == "jpeg2000":
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    if fault == "truncated":
        lost = round(stored.nbytes * (1 - _TRUNCATED_SHARE))
        return content.getvalue()[:-lost]
    return content.getvalue()


def accept_short_identifiers() -> None:
    """Let pydicom write `ID_...` where the standard wants a UID, as the RSNA set has it."""
    config.settings.writing_validation_mode = config.IGNORE
    config.settings.reading_validation_mode = config.IGNORE


def _make_dataset(
    header: SeriesHeader,
    instance: str,
    position_mm: tuple[float, float, float],
    encoding: tuple[int, int, int],
    stored: np.ndarray,
) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPInstanceUID = instance
    dataset.Modality = "CT"
    dataset.PatientID = header.patient
    dataset.StudyInstanceUID = header.study
    dataset.SeriesInstanceUID = header.series
    dataset.StudyID = ""
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in position_mm]
    dataset.ImageOrientationPatient = [f"{value:.6f}" for value in header.orientation]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelSpacing = [f"{header.spacing_mm:.6f}"] * 2
    dataset.BitsAllocated = 16
    dataset.BitsStored, dataset.PixelRepresentation, dataset.RescaleIntercept = encoding
    dataset.HighBit = dataset.BitsStored - 1
    dataset.WindowCenter, dataset.WindowWidth = header.window
    dataset.RescaleSlope = 1
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset
