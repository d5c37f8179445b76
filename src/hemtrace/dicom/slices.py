"""What is known of a slice once its file has been read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from hemtrace.dicom.reasons import QuarantineError


@dataclass(frozen=True, slots=True)
class Slice:
    """A readable CT slice of a head.

    Attributes
    ----------
    hu
        (rows, columns), Hounsfield units: int16 where all are whole numbers, else float32.
    frame
        Number within a multi-frame file, from 1; None for a file of one picture.
    patient, study, series, instance
        Salted hashes of the header's identifiers (`identity.pseudonym`); None where it has none.
    encoding
        Short name of the transfer syntax, such as `explicit-little`, `rle`, `jpeg2000`.
    lossy
        Whether the pixels went through a lossy compression at some time.
    bits_stored, signed, slope, intercept
        How the values were stored; before a repair.
    spacing_mm, spacing_across_mm
        Distance of neighbouring pixels down a column, and along a row.
    thickness_mm
        SliceThickness.
    z_mm, tilt_deg
        Position along the normal of the slice, and the angle between that normal and the body's
        axis (0 without gantry tilt).
    orientation
        Where columns and rows lead in the patient, such as `LP` (`geometry.side_letters`).
    manufacturer, kernel
        One of a fixed list of makers, and `soft` or `sharp`; None where the header does not tell.
    padded
        Whether pixels of the header's padding value were set to air.
    repaired
        Whether the 12-bit fault was found and undone.
    air_share, soft_share, bone_share
        Shares of the pixels, which the HU gate judged by.
    pixel_blake3
        Digest of the HU with their shape, whatever the encoding; None for a slice of one value,
        which says nothing of whose it is.
    may_show
        Whether no name can be burned into the pixels, as far as the header tells.
    """

    hu: np.ndarray
    frame: int | None
    patient: str | None
    study: str | None
    series: str | None
    instance: str | None
    encoding: str
    lossy: bool
    bits_stored: int
    signed: bool
    slope: float
    intercept: float
    spacing_mm: float | None
    spacing_across_mm: float | None
    thickness_mm: float | None
    z_mm: float | None
    tilt_deg: float | None
    orientation: str | None
    manufacturer: str | None
    kernel: str | None
    padded: bool
    repaired: bool
    air_share: float
    soft_share: float
    bone_share: float
    pixel_blake3: str | None
    may_show: bool = True


@dataclass(frozen=True, slots=True)
class Rejected:
    """A picture that cannot be used.

    Attributes
    ----------
    reason, detail, frame
        Code out of `REASONS`, what was found, and the number within a multi-frame file.
    facts
        Those attributes of a `Slice` that the header told.
    picture
        Stored values, coarsened to at most 128 pixels a side, for people to look at; None where
        there are none, or where a name may be burned into them.
    """

    reason: str
    detail: str = ""
    frame: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    picture: np.ndarray | None = None

    @classmethod
    def of(cls, error: QuarantineError, frame: int | None = None) -> Self:
        """Make a row of an error."""
        return cls(error.reason, error.detail, frame, error.facts, error.picture)
