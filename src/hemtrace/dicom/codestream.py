"""The picture size that a compressed stream claims, read before a decoder allocates it."""

from struct import unpack_from

# ISO 10918-1 table B.1: frames of every JPEG process but the tables DHT, JPG and DAC among them.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # F7: JPEG-LS
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


def read_size(stream: bytes) -> tuple[int, int] | None:
    """Read rows and columns of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K stream.

    None where the stream is of another kind (RLE has no size of its own) or says none.
    """
    if stream[:4] == b"\xff\x4f\xff\x51" and len(stream) >= 24:
        # ISO 15444-1 A.5.1: the reference grid, and the image's offset in it.
        width, height, left, top = unpack_from(">4I", stream, 8)
        return height - top, width - left
    if stream[:2] == b"\xff\xd8":
        return _read_jpeg_size(stream)
    return None


def _read_jpeg_size(stream: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _FRAME_MARKERS:
            rows, columns = unpack_from(">2H", stream, place + 5)
            return rows, columns
        elif marker in _WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + max(2, int.from_bytes(stream[place + 2 : place + 4], "big"))
    return None
