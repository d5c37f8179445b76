"""Pixels as they are stored, bounded before anything is allocated."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from hemtrace.dicom.codestream import read_size
from hemtrace.dicom.header import Header
from hemtrace.dicom.plain import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from hemtrace.dicom.reasons import QuarantineError

# No CT has more: 2048 x 2048 is the largest matrix sold.
LARGEST_SIDE = 4096
MOST_FRAMES = 10_000
# A compressed frame is an item at least: its tag and length (PS3.5 A.4).
_ITEM_BYTES = 8
_BYTE_ORDERS = {
    IMPLICIT_LITTLE: "<",
    EXPLICIT_LITTLE: "<",
    DEFLATED: "<",
    EXPLICIT_BIG: ">",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of one picture lie in the file."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    @property
    def dtype(self) -> str:
        """Numpy's name of a word in this machine's byte order."""
        return f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}"

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed picture."""
        return self.rows * self.columns * self.bits_allocated // 8


def read_layout(header: Header) -> Layout:
    """Read and check the elements that describe the pixels (PS3.3 C.7.6.3.1).

    Raises
    ------
    QuarantineError
        `damaged-header` or `too-large`.
    """
    rows, columns = header.required("Rows"), header.required("Columns")
    if not rows or not columns:
        raise QuarantineError("damaged-header", f"a picture of {rows} x {columns}")
    if max(rows, columns) > LARGEST_SIDE:
        raise QuarantineError("too-large", f"it claims {rows} x {columns} pixels")
    if not 1 <= header.frames <= MOST_FRAMES:
        raise QuarantineError("too-large", f"it claims {header.frames} frames")
    allocated = header.required("BitsAllocated")
    stored = header.integer("BitsStored")
    stored = allocated if stored is None else stored
    high = header.integer("HighBit")
    high = stored - 1 if high is None else high
    sign = header.integer("PixelRepresentation") or 0
    if allocated not in (8, 16) or not 1 <= stored <= allocated or not stored <= high + 1:
        raise QuarantineError("damaged-header", f"{stored} of {allocated} bits are no CT's")
    if high >= allocated or sign > 1:
        raise QuarantineError("damaged-header", "the bits of a pixel make no sense")
    return Layout(rows, columns, allocated, stored, high, bool(sign))


def read_plain_pixels(content: bytes, place: tuple[int, int], header: Header) -> np.ndarray:
    """Take the one uncompressed little-endian picture out of a file.

    Raises
    ------
    QuarantineError
        `truncated` if the file ends before it does.
    """
    layout = read_layout(header)
    start, length = place
    held = min(length, len(content) - start)
    if held < layout.frame_bytes:
        raise QuarantineError("truncated", f"{held} of {layout.frame_bytes} bytes")
    dtype = "<u2" if layout.bits_allocated == 16 else "u1"
    words = np.frombuffer(content, dtype, layout.rows * layout.columns, start)
    return stored_values(words.reshape(layout.rows, layout.columns), layout)


def check_length(dataset: Dataset, header: Header) -> None:
    """See that a file holds the pixels of all frames that it claims.

    Raises
    ------
    QuarantineError
        `truncated` if it does not.
    """
    held = len(dataset.PixelData)
    if UID(header.syntax).is_encapsulated:
        due = _ITEM_BYTES * header.frames
    else:
        due = read_layout(header).frame_bytes * header.frames
    if held < due:
        raise QuarantineError("truncated", f"{held} of {due} bytes")


def frame_streams(dataset: Dataset, header: Header) -> Iterator[bytes]:
    """Give the bytes of each frame, compressed or not, in one walk over the pixels.

    Those of frames that cannot be found are empty; there is no end to them.
    """
    pixels = dataset.PixelData
    if UID(header.syntax).is_encapsulated:
        table = [
            dataset.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
        ]
        try:
            yield from generate_frames(
                pixels,
                number_of_frames=header.frames,
                extended_offsets=tuple(table) if all(table) else None,
            )
        except MemoryError:
            raise
        except Exception:  # a damaged table of offsets hides the frames after it
            pass
    else:
        size = read_layout(header).frame_bytes
        for start in range(0, len(pixels), size):
            yield pixels[start : start + size]
    yield from repeat(b"")


def decode_frame(stream: bytes, header: Header) -> np.ndarray:
    """Decode one picture of any transfer syntax that pydicom's plug-ins know.

    Raises
    ------
    QuarantineError
        `undecodable`, `truncated`, or `too-large` if the codestream claims other sizes than the
        header: a decoder would allocate what the codestream claims.
    """
    layout = read_layout(header)
    if header.syntax in _BYTE_ORDERS:
        if len(stream) < layout.frame_bytes:
            raise QuarantineError("truncated", f"{len(stream)} of {layout.frame_bytes} bytes")
        order = _BYTE_ORDERS[header.syntax]
        words = np.frombuffer(stream, f"{order}u{layout.bits_allocated // 8}")
        words = words[: layout.rows * layout.columns].reshape(layout.rows, layout.columns)
        return stored_values(words.astype(words.dtype.newbyteorder("="), copy=False), layout)
    _check_codestream(stream, layout)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decoded, _ = get_decoder(UID(header.syntax)).as_array(
                encapsulate([stream], has_bot=False),
                index=0,
                raw=True,
                correct_unused_bits=False,
                number_of_frames=1,
                rows=layout.rows,
                columns=layout.columns,
                samples_per_pixel=1,
                photometric_interpretation="MONOCHROME2",
                bits_allocated=layout.bits_allocated,
                bits_stored=layout.bits_stored,
                pixel_representation=int(layout.signed),
                pixel_keyword="PixelData",
            )
    except (MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # each plug-in raises its own kinds, those in Rust a panic
        raise QuarantineError("undecodable", type(error).__name__) from None
    if decoded.shape != (layout.rows, layout.columns) or decoded.dtype.kind not in "iu":
        raise QuarantineError("undecodable", f"the decoder gave {decoded.shape}")
    if 8 * decoded.dtype.itemsize != layout.bits_allocated:
        raise QuarantineError("undecodable", f"the decoder gave {decoded.dtype}")
    return stored_values(decoded.view(f"u{decoded.dtype.itemsize}"), layout)


def stored_values(words: np.ndarray, layout: Layout) -> np.ndarray:
    """Turn words of `bits_allocated` into values: int16 or uint16 (rows, columns).

    Of the bits that are not stored nothing may be assumed (PS3.5 8.1.1): overlays, copies of the
    sign, and what a padding has too much lie there. Compression drops them. So does this, so that
    the values are the same by every encoding.
    """
    unused = layout.bits_allocated - layout.bits_stored
    if unused:
        above = layout.bits_allocated - 1 - layout.high_bit
        words = (words << above).view(layout.dtype) >> unused
    return words.view(layout.dtype).astype("i2" if layout.signed else "u2", copy=False)


def _check_codestream(stream: bytes, layout: Layout) -> None:
    if not stream:
        raise QuarantineError("undecodable", "its codestream cannot be found")
    size = read_size(stream)
    if size is not None and size != (layout.rows, layout.columns):
        raise QuarantineError(
            "undecodable", f"the pixels are {size[0]} x {size[1]}, not as the header says"
        )
