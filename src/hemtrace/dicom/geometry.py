"""Where a slice lies in the patient (PS3.3 C.7.6.2.1.1).

In plain floats: numpy takes ten times as long for three of them.
"""

import math

from hemtrace.dicom.header import Header
from hemtrace.dicom.reasons import QuarantineError

Vector = tuple[float, ...]
# 2,048 pixels over 100 mm have 0.05 mm each, 128 over the largest field, 640 mm, have 5.
_FINEST_MM = 0.05
_COARSEST_MM = 5.0


def normal_of(header: Header) -> Vector | None:
    """Give the unit normal of a slice, turned so that its z is not negative.

    None where the header has no orientation, or one whose two axes do not span a plane.
    """
    orientation = _vector(header, "ImageOrientationPatient", 6)
    if orientation is None:
        return None
    ax, ay, az, bx, by, bz = orientation
    normal = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    length = math.hypot(*normal)
    if not 0.5 < length < 1.5:
        return None
    # A patient who was scanned feet first turns the normal; the order of slices is the same.
    sign = length if normal[2] >= 0 else -length
    return tuple(part / sign for part in normal)


def axis_angle_deg(header: Header) -> float | None:
    """Measure the angle between the normal and the body's axis, 0 to 90 degrees."""
    normal = normal_of(header)
    return None if normal is None else round(math.degrees(math.acos(min(1.0, normal[2]))), 3)


def side_letters(header: Header) -> str | None:
    """Name the directions of the patient in which columns and rows are counted.

    The two letters of PatientOrientation (PS3.3 C.7.6.1.1.1) from ImageOrientationPatient: `LP` for
    a patient on the back, seen from the feet; `RA` turned by 180 degrees, `RP` mirrored. None where
    the header has no orientation.
    """
    if normal_of(header) is None:
        return None
    along_row_and_column = _vector(header, "ImageOrientationPatient", 6) or ()
    return _letter(along_row_and_column[:3]) + _letter(along_row_and_column[3:])


def _letter(direction: Vector) -> str:
    axis = max(range(3), key=lambda at: abs(direction[at]))
    return ("RL", "AP", "FH")[axis][direction[axis] > 0]


def position_mm(header: Header) -> float | None:
    """Project the position on the normal; None where the header lacks either."""
    normal, position = normal_of(header), _vector(header, "ImagePositionPatient", 3)
    if normal is None or position is None:
        return None
    return 0.0 + round(sum(a * b for a, b in zip(normal, position, strict=True)), 4)


def spacing_mm(header: Header) -> tuple[float | None, float | None]:
    """Read the distance of pixels down a column and along a row.

    None for both where the header lacks them, or one is below 0.05 or above 5 mm: no scanner's.
    """
    spacing = _vector(header, "PixelSpacing", 2)
    if spacing is None or min(spacing) < _FINEST_MM or max(spacing) > _COARSEST_MM:
        return None, None
    return spacing[0], spacing[1]


def thickness_mm(header: Header) -> float | None:
    """Read SliceThickness; None where it is missing or no positive number."""
    thickness = _vector(header, "SliceThickness", 1)
    return None if thickness is None or thickness[0] <= 0 else thickness[0]


def _vector(header: Header, keyword: str, length: int) -> Vector | None:
    try:
        numbers = header.numbers(keyword)
    except QuarantineError:  # geometry is wanted, not needed: the picture may still be used
        return None
    return numbers if len(numbers) == length else None
