"""Stacks of slices as NIfTI-1, which the page's viewer takes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

# NIfTI-1.1, nifti1.h: offsets and codes of the fields that are set; the rest is 0.
_HEADER_BYTES, _DATA_START = 348, 352
_CODES = {"uint8": (2, 8), "int16": (4, 16)}
_MILLIMETRES, _SCANNER, _UNKNOWN = 2, 1, 0
_USUAL_STEP_MM = 5.0


def make_header(
    kind: str,
    shape: tuple[int, int, int],
    size_mm: tuple[float, float, float],
    is_usual: bool,
) -> bytes:
    """Make the header of a stack, and the four bytes between it and the data.

    Parameters
    ----------
    kind
        `int16` or `uint8`, little-endian.
    shape
        Slices, rows, columns.
    size_mm
        Distance of slices, of rows, of columns.
    is_usual
        Whether columns grow to the patient's left and rows to his back (`sides.USUAL_SIDES`).

    Returns
    -------
    352 bytes. Columns run along i, rows along j, slices along k. DICOM's axes point to the
    patient's left and back, NIfTI's to the right and front, so that i and j have negative steps
    (DICOM PS3.3 C.7.6.2.1.1). The tilt of a gantry is not told: the viewer shows slice by slice.
    Where a stack does not lie as usual the sform's code is 0, so that a reader takes no side of it
    for the patient's; its matrix stays that of the screen.
    """
    slices, rows, columns = shape
    step, down, across = size_mm
    code, bits = _CODES[kind]
    header = np.zeros(
        1,
        dtype=np.dtype(
            {
                "names": [
                    "sizeof_hdr", "dim", "datatype", "bitpix", "pixdim", "vox_offset",
                    "scl_slope", "xyzt_units", "sform_code", "srow", "magic",
                ],
                "formats": [
                    "<i4", "<8i2", "<i2", "<i2", "<8f4", "<f4", "<f4", "u1", "<i2", "<12f4", "S4",
                ],
                "offsets": [0, 40, 70, 72, 76, 108, 112, 123, 254, 280, 344],
                "itemsize": _HEADER_BYTES,
            }
        ),
    )  # fmt: skip
    header["sizeof_hdr"] = _HEADER_BYTES
    header["dim"] = [3, columns, rows, slices, 1, 1, 1, 1]
    header["datatype"], header["bitpix"] = code, bits
    # The first is the sign that a quaternion would have.
    header["pixdim"] = [1, across, down, step, 0, 0, 0, 0]
    header["vox_offset"], header["scl_slope"] = _DATA_START, 1
    header["xyzt_units"], header["sform_code"] = _MILLIMETRES, _SCANNER if is_usual else _UNKNOWN
    middle = (columns - 1) / 2 * across, (rows - 1) / 2 * down, -(slices - 1) / 2 * step
    header["srow"] = [
        -across, 0, 0, middle[0],
        0, -down, 0, middle[1],
        0, 0, step, middle[2],
    ]  # fmt: skip
    header["magic"] = b"n+1"
    return header.tobytes() + bytes(_DATA_START - _HEADER_BYTES)


def measure_voxel(
    z_mm: Sequence[float | None], spacing_mm: tuple[float, float] | None
) -> tuple[float, float, float]:
    """Give the distance of slices, rows and columns.

    That of slices is the median of their steps; 5 mm where fewer than two positions are known, and
    1 mm a pixel where the header does not tell.
    """
    known = [z for z in z_mm if z is not None]
    steps = np.abs(np.diff(known))
    steps = steps[steps > 0]
    step = float(np.median(steps)) if steps.size else _USUAL_STEP_MM
    down, across = spacing_mm or (1.0, 1.0)
    return step, down, across


class StackWriter:
    """Writes a stack slice by slice; one of another shape is cut, or filled up, in its middle.

    Parameters
    ----------
    path
        The file; it should be renamed when it is whole.
    kind, shape, size_mm, is_usual
        As for `make_header`.
    fill
        Of what lies beyond a smaller slice.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        shape: tuple[int, int, int],
        size_mm: tuple[float, float, float],
        fill: int,
        *,
        is_usual: bool,
    ) -> None:
        self._kind, self._shape, self._fill = np.dtype(kind).newbyteorder("<"), shape[1:], fill
        self._stream = path.open("wb")
        self._stream.write(make_header(kind, shape, size_mm, is_usual))

    def write(self, image: np.ndarray) -> None:
        """Add a slice: (rows, columns), whole numbers within the range of `kind`."""
        fitted = fit_shape(image, self._shape, self._fill)
        self._stream.write(np.ascontiguousarray(fitted, dtype=self._kind).data)

    def close(self) -> None:
        """Complete the file."""
        self._stream.close()


def fit_shape(image: np.ndarray, shape: tuple[int, ...], fill: int) -> np.ndarray:
    """Cut or fill up an image to a shape, its middle staying in the middle."""
    if image.shape == shape:
        return image
    whole = np.full(shape, fill, dtype=image.dtype)
    source, target = [], []
    for have, want in zip(image.shape, shape, strict=True):
        cut = max(0, (have - want) // 2)
        at = max(0, (want - have) // 2)
        length = min(have, want)
        source.append(slice(cut, cut + length))
        target.append(slice(at, at + length))
    whole[tuple(target)] = image[tuple(source)]
    return whole
