"""A flat walk over an uncompressed little-endian file: 20 times as fast as building a data set.

Most CT slices are such files, and 752,803 of them take hours otherwise. What the walk does not
fully understand it leaves to pydicom by answering None; tests hold both to the same answers.
"""

from dataclasses import dataclass
from struct import Struct

from hemtrace.dicom.header import PIXEL_DATA, WANTED, Header

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

# PS3.5 7.1.2: these have two reserved bytes and a length of four.
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SYNTAX = 0x00020010
_DEEPEST = 16
_LONGEST_VALUE = 4096  # of a wanted element

_tag = Struct("<HH").unpack_from
_length4 = Struct("<I").unpack_from
_length2 = Struct("<H").unpack_from


@dataclass(frozen=True, slots=True)
class Walked:
    """Header of a file, and where its pixels lie: offset and length, None where it has none."""

    header: Header
    pixels: tuple[int, int] | None


class _StrangeError(Exception):
    """Something that this walk does not understand."""


def walk_file(content: bytes) -> Walked | None:
    """Find the wanted elements and the pixels of a file in an uncompressed little-endian syntax.

    The data set may stand alone, without preamble and file meta (PS3.10 7.1 asks for both, old
    archives have neither). None: another syntax, or anything that is odd.
    """
    try:
        syntax, start = find_data_set(content)
        if syntax not in (IMPLICIT_LITTLE, EXPLICIT_LITTLE):
            return None
        values, pixels = _walk(content, start, syntax == EXPLICIT_LITTLE)
    except _StrangeError:
        return None
    return Walked(Header(syntax, values), pixels)


def find_syntax(content: bytes) -> tuple[str, int] | None:
    """Name the transfer syntax, and where the data set begins; None where there is no file meta."""
    try:
        return find_data_set(content)
    except _StrangeError:
        return None


def find_data_set(content: bytes) -> tuple[str, int]:
    """Read the file meta; a bare data set is implicit unless its first element has a VR."""
    start = 132 if content[128:132] == b"DICM" else 0
    if len(content) < start + 8:
        raise _StrangeError
    group, _ = _tag(content, start)
    if group == 2:
        return _walk_meta(content, start)
    if group not in (4, 8):
        raise _StrangeError
    vr = content[start + 4 : start + 6]
    return (EXPLICIT_LITTLE if vr in _SHORT or vr in _LONG else IMPLICIT_LITTLE), start


def _walk_meta(content: bytes, start: int) -> tuple[str, int]:
    """Step over group 2, always explicit: the transfer syntax, and where the data set begins."""
    syntax, place = None, start
    while place + 8 <= len(content) and _tag(content, place)[0] == 2:
        tag, _, length, value = _element(content, place, explicit=True)
        if length == _UNDEFINED or value + length > len(content):
            raise _StrangeError
        if tag == _SYNTAX:
            syntax = content[value : value + length].rstrip(b" \0").decode("latin-1")
        place = value + length
    if syntax is None:
        raise _StrangeError
    return syntax, place


def _walk(
    content: bytes, start: int, explicit: bool
) -> tuple[dict[int, bytes], tuple[int, int] | None]:
    values: dict[int, bytes] = {}
    place, last, end = start, -1, len(content)
    while place + 8 <= end:
        tag, vr, length, value = _element(content, place, explicit)
        if tag <= last:  # PS3.5 7.1: elements ascend
            raise _StrangeError
        last = tag
        if tag == PIXEL_DATA:
            if length == _UNDEFINED:
                raise _StrangeError
            return values, (value, length)
        if length == _UNDEFINED:
            if explicit and vr != b"SQ":
                raise _StrangeError
            place = _skip_sequence(content, value, explicit)
            continue
        if value + length > end:
            raise _StrangeError
        if tag in WANTED:
            if length > _LONGEST_VALUE:
                raise _StrangeError
            values[tag] = content[value : value + length]
        place = value + length
    if place != end:
        raise _StrangeError
    return values, None


def _element(content: bytes, place: int, explicit: bool) -> tuple[int, bytes, int, int]:
    """Read the head of an element: tag, VR, length, and where its value begins."""
    group, number = _tag(content, place)
    tag = group << 16 | number
    if not explicit or group == 0xFFFE:
        return tag, b"", _length4(content, place + 4)[0], place + 8
    vr = content[place + 4 : place + 6]
    if vr in _SHORT:
        return tag, vr, _length2(content, place + 6)[0], place + 8
    if vr not in _LONG or place + 12 > len(content):
        raise _StrangeError
    return tag, vr, _length4(content, place + 8)[0], place + 12


def _skip_sequence(content: bytes, place: int, explicit: bool) -> int:
    """Step over a sequence of undefined length, whatever nests in it, without recursion."""
    ends = [_SEQUENCE_END]
    while ends:
        if place + 8 > len(content) or len(ends) > _DEEPEST:
            raise _StrangeError
        tag, vr, length, place = _element(content, place, explicit)
        if tag == ends[-1]:
            ends.pop()
        elif length == _UNDEFINED:
            if tag == _ITEM:
                ends.append(_ITEM_END)
            elif explicit and vr != b"SQ":
                raise _StrangeError
            else:
                ends.append(_SEQUENCE_END)
        else:
            place += length
    return place
