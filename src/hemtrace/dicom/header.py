"""The few elements of a DICOM header that hemtrace needs, as bytes and as values.

Every way of reading a file ends in a `Header`, so that what follows cannot differ between them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hemtrace.dicom.reasons import QuarantineError

# PS3.6, by keyword.
TAGS: dict[str, int] = {
    "ImageType": 0x00080008,
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "Modality": 0x00080060,
    "Manufacturer": 0x00080070,
    "FrameType": 0x00089007,
    "PatientID": 0x00100020,
    "BodyPartExamined": 0x00180015,
    "SliceThickness": 0x00180050,
    "ConvolutionKernel": 0x00181210,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "ImagePositionPatient": 0x00200032,
    "ImageOrientationPatient": 0x00200037,
    "SamplesPerPixel": 0x00280002,
    "PhotometricInterpretation": 0x00280004,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "PixelSpacing": 0x00280030,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "HighBit": 0x00280102,
    "PixelRepresentation": 0x00280103,
    "PixelPaddingValue": 0x00280120,
    "PixelPaddingRangeLimit": 0x00280121,
    "BurnedInAnnotation": 0x00280301,
    "RescaleIntercept": 0x00281052,
    "RescaleSlope": 0x00281053,
    "RescaleType": 0x00281054,
    "LossyImageCompression": 0x00282110,
}
WANTED = frozenset(TAGS.values())
PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True, slots=True)
class Header:
    """Raw values of the wanted elements of one picture.

    Attributes
    ----------
    syntax
        Transfer syntax UID.
    values
        Bytes by tag, as they stand in the file.
    little
        Byte order of the binary values among them.
    """

    syntax: str
    values: Mapping[int, bytes]
    little: bool = True

    def words(self, keyword: str) -> tuple[str, ...]:
        """Give the parts of a text element; empty where it is missing or blank."""
        value = self.values.get(TAGS[keyword], b"")
        # Latin-1 takes any byte: names in other character sets are hashed, never shown.
        text = value.decode("latin-1").strip(" \0")
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def text(self, keyword: str) -> str | None:
        """Give a text element as it stands, None where it is missing or blank."""
        return self.values.get(TAGS[keyword], b"").decode("latin-1").strip(" \0") or None

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Give the decimal strings of an element.

        Raises
        ------
        QuarantineError
            `damaged-header` where one is no finite number.
        """
        try:
            found = tuple(float(word) for word in self.words(keyword))
        except ValueError:
            raise QuarantineError("damaged-header", f"{keyword} is no number") from None
        if not all(map(math.isfinite, found)):
            raise QuarantineError("damaged-header", f"{keyword} is no finite number")
        return found

    def number(self, keyword: str) -> float | None:
        """Give the one decimal string of an element, None where it is missing."""
        found = self.numbers(keyword)
        if len(found) > 1:
            raise QuarantineError("damaged-header", f"{keyword} has {len(found)} values")
        return found[0] if found else None

    def integer(self, keyword: str) -> int | None:
        """Give an unsigned 16-bit element, None where it is missing."""
        value = self.values.get(TAGS[keyword])
        if not value:
            return None
        if len(value) != 2:
            raise QuarantineError("damaged-header", f"{keyword} is no 16-bit number")
        return int.from_bytes(value, "little" if self.little else "big")

    def required(self, keyword: str) -> int:
        """Give an unsigned 16-bit element that pixels cannot be read without."""
        value = self.integer(keyword)
        if value is None:
            raise QuarantineError("damaged-header", f"{keyword} is missing")
        return value

    @property
    def frames(self) -> int:
        """Number of pictures in the file."""
        found = self.number("NumberOfFrames")
        return 1 if found is None else int(found)

    def with_values(self, values: Mapping[int, bytes]) -> "Header":
        """Let the values of a frame take the place of the file's."""
        return replace(self, values={**self.values, **values})
