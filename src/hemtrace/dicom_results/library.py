"""The image library of the report: TID 1600, with what the headers tell of each image.

highdicom's own takes it for granted that every CT slice tells spacing, thickness and position.
"""

from collections.abc import Sequence

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from hemtrace.dicom_results.sources import Sources

_CONTAINS = RelationshipTypeValues.CONTAINS
_CONTEXT = RelationshipTypeValues.HAS_ACQ_CONTEXT
_PIXELS = CodedConcept("{pixels}", "UCUM", "Pixels")
_VECTOR = CodedConcept("{-1:1}", "UCUM", "{-1:1}")
_MM = codes.UCUM.Millimeter
_POSITION = ("ImagePositionPatientX", "ImagePositionPatientY", "ImagePositionPatientZ")
_ORIENTATION = tuple(
    f"ImageOrientationPatient{axis}{part}" for axis in ("Row", "Column") for part in "XYZ"
)


def make_library(sources: Sources) -> ContainerContentItem:
    """Make the library of every file of a series.

    References
    ----------
    PS3.16 TID 1600, 1601, 1602, 1604.
    """
    library = ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=_CONTAINS)
    group = ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=_CONTAINS)
    shared: list[ContentItem] = [
        CodeContentItem(codes.DCM.Modality, codes.cid29.ComputedTomography, _CONTEXT)
    ]
    uid = sources.instances[0].get("FrameOfReferenceUID")
    if uid:
        shared.append(UIDRefContentItem(codes.DCM.FrameOfReferenceUID, uid, _CONTEXT))
    told = [_tell(header) for header in sources.instances]
    # What holds for every image is said once, as TID 1600 allows.
    common = [name for name in told[0] if all(one.get(name) == told[0][name] for one in told)]
    shared.extend(_make_number(name, *told[0][name]) for name in common)
    group.ContentSequence = ContentSequence(shared)
    for header, numbers in zip(sources.instances, told, strict=True):
        entry = ImageContentItem(
            codes.SCT.Source,
            header.SOPClassUID,
            header.SOPInstanceUID,
            relationship_type=_CONTAINS,
        )
        own = [_make_number(name, *numbers[name]) for name in numbers if name not in common]
        if own:
            entry.ContentSequence = ContentSequence(own)
        group.ContentSequence.append(entry)
    library.ContentSequence = ContentSequence([group])
    return library


def _tell(header: Dataset) -> dict[str, tuple[float, CodedConcept]]:
    """Collect the numbers that a header tells of an image, with their units."""
    # Of a multi-frame file the position is that of one frame, and says nothing of the file.
    single = "NumberOfFrames" not in header
    return {
        "PixelDataRows": (int(header.Rows), _PIXELS),
        "PixelDataColumns": (int(header.Columns), _PIXELS),
        **_name(
            ("VerticalPixelSpacing", "HorizontalPixelSpacing"), header.get("PixelSpacing"), _MM
        ),
        **_name(("SliceThickness",), [header.get("SliceThickness")], _MM),
        **_name(_POSITION, header.get("ImagePositionPatient") if single else None, _MM),
        **_name(_ORIENTATION, header.get("ImageOrientationPatient") if single else None, _VECTOR),
    }


def _name(
    keywords: Sequence[str], values: Sequence[float | None] | None, unit: CodedConcept
) -> dict[str, tuple[float, CodedConcept]]:
    """Give each number its name; none where the header does not tell them."""
    return {
        keyword: (float(value), unit)
        for keyword, value in zip(keywords, values or (), strict=False)
        if value is not None
    }


def _make_number(keyword: str, value: float, unit: CodedConcept) -> NumContentItem:
    return NumContentItem(getattr(codes.DCM, keyword), value, unit, relationship_type=_CONTEXT)
