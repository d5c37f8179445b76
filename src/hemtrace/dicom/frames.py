"""A pydicom data set -> the header of each of its pictures, in raw bytes like a plain file's."""

from collections.abc import Iterator, Mapping

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from hemtrace.dicom.header import TAGS, WANTED, Header
from hemtrace.dicom.plain import IMPLICIT_LITTLE

_SHARED_GROUPS = 0x52009229
_FRAME_GROUPS = 0x52009230


def header_of(dataset: Dataset) -> Header:
    """Give the header of a data set as pydicom read it, its values untouched."""
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    return Header(
        # Files without preamble have no file meta: PS3.5 section 10.1 makes this the default.
        syntax=str(syntax or IMPLICIT_LITTLE),
        values=_raw_values(dataset),
        little=dataset.original_encoding[1] is not False,
    )


def frame_headers(dataset: Dataset, header: Header) -> Iterator[Header]:
    """Give the header of each frame (PS3.3 C.7.6.16).

    What a functional group says, shared by all frames or of one frame, takes the place of what
    stands at the top of the data set.
    """
    shared = header.with_values(_group_values(dataset, _SHARED_GROUPS, 0))
    for index in range(header.frames):
        yield _rename_frame_type(shared.with_values(_group_values(dataset, _FRAME_GROUPS, index)))


def _group_values(dataset: Dataset, tag: int, index: int) -> dict[int, bytes]:
    """Collect the wanted values of an item's functional groups: each a sequence of one item."""
    values: dict[int, bytes] = {}
    if tag not in dataset:
        return values
    items = dataset[tag].value
    if index >= len(items):
        return values
    for group in items[index]:
        if group.VR == "SQ" and group.value:
            values.update(_raw_values(group.value[0]))
    return values


def _rename_frame_type(header: Header) -> Header:
    frame_type = header.values.get(TAGS["FrameType"])
    return header if not frame_type else header.with_values({TAGS["ImageType"]: frame_type})


def _raw_values(dataset: Dataset) -> Mapping[int, bytes]:
    values: dict[int, bytes] = {}
    for tag in WANTED & set(dataset.keys()):
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            values[tag] = element.value or b""
        else:  # pydicom has parsed it already, as it does with some elements of file meta
            values[tag] = str(element.value).encode("latin-1", "replace")
    return values
