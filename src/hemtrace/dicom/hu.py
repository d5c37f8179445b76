"""Stored values -> Hounsfield units, and the gate that they must pass."""

from dataclasses import dataclass

import cv2
import numpy as np

from hemtrace.dicom.header import Header
from hemtrace.dicom.pixels import Layout
from hemtrace.dicom.reasons import QuarantineError

AIR_HU = -1000
# Ranges of the gate, wide on purpose: the faults that it must find are off by 1000 HU or more.
_AIR = (-1150, -800)
_SOFT = (-200, 150)
_TISSUE_FROM = -400
_BONE_FROM = 250
_TOO_DENSE_FROM = 2000
# Where air stands to which an intercept of -1000 or -1024 was added once too often. Padding stands
# there too (-2000), but has no noise.
_TWICE_AIR = (-2150, -1900)
_LEAST_SOFT = 0.03
_LEAST_SOFT_BESIDE_DENSE = 0.1
_MOST_DENSE = 0.02
_PADDING_SPREAD = 2
# A quarter of the tissue within so many HU is brain, as noisy as slices come.
_UNIFORM_SPREAD = 100
_UNIFORM_FROM = 300
# With a smaller slope 16 bits do not reach from air to bone; with a larger one all bones are alike.
_STEEPEST_SLOPE = 1000.0
_LARGEST_INTERCEPT = 100_000.0
# The gate looks at a grid of about this many pixels each way.
_GRID = 64


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate saw: shares of the picture that are air, and of the tissue, soft and bone.

    Tissue is what is denser than -400 HU; a picture without tissue has 0 for both. `fault` says
    what does not stand where it belongs.
    """

    air_share: float
    soft_share: float
    bone_share: float
    fault: str | None

    @property
    def plausible(self) -> bool:
        """Whether no fault was found."""
        return self.fault is None


@dataclass(frozen=True, slots=True)
class Rescaled:
    """HU, and how they came about."""

    hu: np.ndarray
    slope: float
    intercept: float
    padded: bool
    repaired: bool
    gate: Gate


def to_hu(header: Header, layout: Layout, stored: np.ndarray) -> Rescaled:
    """Rescale stored values to HU (PS3.3 C.11.1.1.2), repair the 12-bit fault, and judge.

    The 12-bit fault of the RSNA set: HU of a scanner were written as unsigned 12-bit values with an
    intercept near 0, which cannot express air, so that all below 0 wrapped around 4096. Whether a
    slice has it is never guessed from the header alone: the header must allow it, the values as
    they stand must fail the gate, and the repaired ones must pass it.

    MONOCHROME1 says how to display values, not what they mean, and changes nothing here.

    Parameters
    ----------
    layout, stored
        How the values were stored, and they: int16 or uint16 (rows, columns), as
        `pixels.stored_values` gives them.

    Raises
    ------
    QuarantineError
        `damaged-header` if slope or intercept are no scanner's; `implausible-hu` if the values pass
        the gate neither as they are nor repaired.
    """
    slope, intercept = _read_rescaling(header)
    hu = rescale(stored, slope, intercept)
    padding = _padding_range(header, layout)
    padded = _fill_padding(hu, stored, padding, layout, (slope, intercept))
    gate = judge(hu)
    if gate.plausible:
        return Rescaled(hu, slope, intercept, padded, False, gate)
    if _may_be_wrapped(header, intercept):
        hu = rescale(((stored.astype(np.int32) + 1000) % 4096).astype(np.uint16), 1.0, -1000.0)
        repaired = judge(hu)
        if repaired.plausible:
            return Rescaled(hu, slope, intercept, False, True, repaired)
    raise QuarantineError(
        "implausible-hu",
        f"{gate.fault}; air {gate.air_share:.0%} of the picture; soft {gate.soft_share:.0%} and "
        f"bone {gate.bone_share:.0%} of the tissue",
    )


def _read_rescaling(header: Header) -> tuple[float, float]:
    slope = header.number("RescaleSlope")
    slope = 1.0 if slope is None else slope
    intercept = header.number("RescaleIntercept") or 0.0
    if not 1 / _STEEPEST_SLOPE <= abs(slope) <= _STEEPEST_SLOPE:
        raise QuarantineError("damaged-header", f"RescaleSlope is {slope:g}")
    if abs(intercept) > _LARGEST_INTERCEPT:
        raise QuarantineError("damaged-header", f"RescaleIntercept is {intercept:g}")
    return slope, intercept


def rescale(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Apply slope and intercept.

    Returns
    -------
    int16 where all results are whole numbers (beyond its range they are set to its ends: no tissue
    or metal reaches 32,767 HU), else float32.
    """
    if slope == 1 and intercept.is_integer() and abs(intercept) < 2**15:
        return cv2.add(stored, intercept, dtype=cv2.CV_16S)
    hu = (stored * np.float64(slope) + intercept).astype(np.float32)
    if not np.array_equal(hu, np.rint(hu)):
        return hu
    ends = np.iinfo(np.int16)
    return np.clip(hu, ends.min, ends.max).astype(np.int16)


def judge(hu: np.ndarray) -> Gate:
    """Say whether air, soft tissue and bone stand where they belong.

    The rule, on a grid of 64 x 64 pixels. What lies below air, on a twentieth of the picture or
    more, must not be noise around -2000 HU: that is air to which an intercept was added twice. Of a
    picture with tissue on 2 % of it or more:

    - 1 % or more must be air or padding (below -800 HU), and what is below -400 HU must not be one
      value alone: the edge of a head passes through all of them, that of padding does not.
    - Of the tissue at least 3 % must be soft (-200 to 150 HU), or 10 % where more than 2 % of it is
      denser than 2000 HU.
    - No quarter of the tissue may lie within 100 HU above 300 HU, unless at the greatest value of
      all: brain is so uniform, bone is not unless it was cut off.

    A picture with less tissue is plausible: whether it shows a head is another question.
    """
    down, across = (max(1, side // _GRID) for side in hu.shape)
    sample = np.sort(hu[::down, ::across], axis=None)
    count = sample.size
    air_from, air_to, tissue_from, soft_from, soft_to, bone_from, dense_from, hard_from = (
        np.searchsorted(
            sample,
            (*_AIR, _TISSUE_FROM, *_SOFT, _BONE_FROM, _UNIFORM_FROM, _TOO_DENSE_FROM),
        ).tolist()
    )
    tissue = count - tissue_from
    soft = soft_to - soft_from
    fault = None
    if tissue >= 0.02 * count:
        least_soft = _LEAST_SOFT
        if count - hard_from > _MOST_DENSE * tissue:
            least_soft = _LEAST_SOFT_BESIDE_DENSE
        if air_to < 0.01 * count:
            fault = "no air"
        elif int(sample[tissue_from - 1]) - int(sample[0]) <= _PADDING_SPREAD:
            fault = "padding and no air"
        elif soft < least_soft * tissue:
            fault = "hardly any soft tissue"
        elif _has_uniform(sample[dense_from:], tissue // 4):
            fault = "bone as uniform as brain"
    if fault is None and air_from >= 0.05 * count:
        low, middle, high = (int(sample[air_from * tenth // 10]) for tenth in (1, 5, 9))
        if _TWICE_AIR[0] <= middle <= _TWICE_AIR[1] and high - low > _PADDING_SPREAD:
            fault = "noise far below air"
    return Gate(
        air_share=(air_to - air_from) / count,
        soft_share=soft / tissue if tissue else 0.0,
        bone_share=(count - bone_from) / tissue if tissue else 0.0,
        fault=fault,
    )


def _has_uniform(ascending: np.ndarray, length: int) -> bool:
    """Say whether so many neighbours lie within 100 HU, the greatest value left out."""
    if len(ascending) <= length:
        return False
    end = int(np.searchsorted(ascending, ascending[-1]))
    if end <= length:
        return False
    return bool((ascending[length:end] - ascending[: end - length]).min() < _UNIFORM_SPREAD)


def _may_be_wrapped(header: Header, intercept: float) -> bool:
    return (
        header.integer("BitsStored") == 12
        and header.integer("PixelRepresentation") == 0
        and intercept > -100
    )


def _padding_range(header: Header, layout: Layout) -> tuple[int, int] | None:
    """Give the lowest value that is padding, and how many more there are (PS3.3 C.7.5.1.1.2).

    The header's words are compared by their bits: archives hold 63536 for a signed -2000.
    """
    value = header.integer("PixelPaddingValue")
    if value is None:
        return None
    limit = header.integer("PixelPaddingRangeLimit")
    words = np.array((value, value if limit is None else limit), dtype=np.uint16)
    low, high = sorted(words.view("i2" if layout.signed else "u2").tolist())
    more = high - low
    if more >> layout.bits_stored:
        return None  # every value would be padding
    # Of a padding that needs more bits than are stored the pixels hold the lower ones.
    low &= (1 << layout.bits_stored) - 1
    is_negative = layout.signed and low >> (layout.bits_stored - 1)
    return (low - (1 << layout.bits_stored) if is_negative else low), more


def _fill_padding(
    hu: np.ndarray,
    stored: np.ndarray,
    padding: tuple[int, int] | None,
    layout: Layout,
    rescaling: tuple[float, float],
) -> bool:
    """Set padding that would show as tissue to air, in place; say whether any was.

    Padding below air is black in every window and stays. A value of tissue may stand in the head as
    well: only patches that touch the border are padding.
    """
    if padding is None:
        return False
    low, more = padding
    slope, intercept = rescaling
    mask = (1 << layout.bits_stored) - 1
    highest = mask >> 1 if layout.signed else mask
    is_whole = low + more <= highest  # else the range goes on at the lowest value
    if is_whole and max(low * slope, (low + more) * slope) + intercept <= AIR_HU:
        return False
    found = ((stored.view(np.uint16) - np.uint16(low & 0xFFFF)) & np.uint16(mask)) <= more
    if not found.any() or hu[found].max() <= AIR_HU:
        return False
    _, patches = cv2.connectedComponents(found.astype(np.uint8), connectivity=4)
    edge = np.concatenate((patches[0], patches[-1], patches[:, 0], patches[:, -1]))
    touching = np.unique(edge[edge > 0])
    if not touching.size:
        return False
    hu[np.isin(patches, touching)] = AIR_HU
    return True
