"""Head CT or not, by the header alone: what a file is, before its pixels are decoded."""

import re

from hemtrace.dicom.geometry import axis_angle_deg, spacing_mm
from hemtrace.dicom.header import Header
from hemtrace.dicom.reasons import QuarantineError

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# CT, enhanced CT, legacy converted enhanced CT; each must have Rows (PS3.3 A.3.3, A.38.1.3).
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_STEEPEST_DEG = 45.0
_MOST_STRETCHED = 1.02
# How words begin that PS3.16 CID 4031 and scanners call the head by; a field of many parts has one.
HEAD_PARTS = (
    "HEAD", "BRAIN", "SKULL", "CRANI", "NEURO", "ORBIT", "SINUS", "PARANASAL", "FACE", "FACIAL",
    "CEREB",
)  # fmt: skip
# Whole words, since a HEART has an EAR in it and a FOREARM too, and a HIPPOCAMPUS a HIP.
OTHER_PARTS = (
    "ABDOMEN", "ABDOMENPELVIS", "ANKLE", "ARM", "BREAST", "CHEST", "CHESTABDOMEN",
    "CHESTABDPELVIS", "COLON", "CSPINE", "ELBOW", "EXTREMITY", "FEMUR", "FOOT", "FOREARM", "HAND",
    "HEART", "HIP", "HUMERUS", "KNEE", "LEG", "LIVER", "LSPINE", "LUNG", "NECK", "NECKCHEST",
    "NECKCHESTABDOMEN", "NECKCHESTABDPELVIS", "PELVIS", "SHOULDER", "SPINE", "THIGH", "THORAX",
    "TSPINE", "UPPERARM", "WRIST",
)  # fmt: skip
_HEAD = re.compile(rf"\b({'|'.join(HEAD_PARTS)}|EARS?\b)")
_OTHER = re.compile(rf"\b({'|'.join(OTHER_PARTS)})S?\b")
_MAKERS = {
    "ge": "GE",
    "siemens": "SIEMENS",
    "philips": "PHILIPS",
    "canon": "TOSHIBA|CANON",
    "hitachi": "HITACHI",
    "neusoft": "NEUSOFT",
    "united-imaging": "UNITED|UIH",
}
# Names of reconstruction kernels: GE, then Philips; Siemens (H31s, Hr40, J60f) and Canon (FC21,
# FC81) number theirs.
_SOFT_NAMES = (
    *("SOFT", "STANDARD", "STND", "STND+", "STD", "STD+"),
    *("UA", "UB", "UC", "BRAIN", "A", "B"),
)
_SHARP_NAMES = ("BONE", "BONEPLUS", "DETAIL", "EDGE", "LUNG", "YA", "YB", "YC", "YD", "D", "E")
_SIEMENS = re.compile(r"[A-Z]{1,2}(\d\d)[A-Z]?")
_CANON = re.compile(r"FC(\d\d)")


def check_kind(header: Header, has_pixels: bool) -> None:
    """Refuse what is no axial CT slice of a head, in this order of checks.

    Reports by their SOP class; secondary captures by theirs; another modality; localizers
    (ImageType); objects without pixels; colours; values other than HU (RescaleType, PS3.3
    C.11.1.1.2); a normal more than 45 degrees off the body's axis, which no gantry tilts; pixels
    that are no squares, which no scanner makes and a square crop would distort; a BodyPartExamined
    that names another part and not the head. What the header does not tell is left to the picture.

    Raises
    ------
    QuarantineError
        With the code of the first check that fails.
    """
    sop_class = header.text("SOPClassUID") or ""
    if sop_class.startswith(_REPORTS):
        raise QuarantineError("dose-report")
    if sop_class == _SECONDARY_CAPTURE or sop_class.startswith(_SECONDARY_CAPTURE + "."):
        raise QuarantineError("secondary-capture")
    modality = header.text("Modality")
    is_ct_image = sop_class == _CT_IMAGE or sop_class.startswith(_CT_IMAGE + ".")
    if modality is None:
        if is_ct_image and not has_pixels:
            raise QuarantineError("truncated", "the file ends within its header")
        raise QuarantineError("damaged-header", "Modality is missing")
    if modality == "SR":
        raise QuarantineError("dose-report")
    if modality != "CT":
        raise QuarantineError("not-ct")
    kinds = {*header.words("ImageType"), *header.words("FrameType")}
    if kinds & {"LOCALIZER", "SCOUT"}:
        raise QuarantineError("localizer")
    if not has_pixels:
        if header.integer("Rows") is not None:
            raise QuarantineError("truncated", "the file ends before its pixels")
        if is_ct_image:
            raise QuarantineError("truncated", "the file ends within its header")
        raise QuarantineError("no-pixels")
    colours = header.text("PhotometricInterpretation")
    if colours is None:
        raise QuarantineError("damaged-header", "PhotometricInterpretation is missing")
    if header.integer("SamplesPerPixel") not in (None, 1) or not colours.startswith("MONOCHROME"):
        raise QuarantineError("not-greyscale")
    if header.text("RescaleType") not in (None, "HU", "US"):  # US: unspecified
        raise QuarantineError("not-hu", "RescaleType is not HU")
    angle = axis_angle_deg(header)
    if angle is not None and angle > _STEEPEST_DEG:
        raise QuarantineError("not-axial", f"the slice stands at {angle:.0f} degrees")
    down, across = spacing_mm(header)
    if down and across and max(down / across, across / down) > _MOST_STRETCHED:
        raise QuarantineError("damaged-header", f"pixels of {down:g} x {across:g} mm")
    # Underscores and digits would be parts of a word.
    part = re.sub("[^A-Z]+", " ", (header.text("BodyPartExamined") or "").upper())
    if _OTHER.search(part) and not _HEAD.search(part):
        raise QuarantineError("not-head")


def may_show(header: Header) -> bool:
    """Say whether no name can be burned into the pixels, as far as the header tells.

    Not where BurnedInAnnotation says YES (PS3.3 C.7.6.1.1), nor where the image is derived and
    secondary, as what a workstation saves of its screen.
    """
    if header.text("BurnedInAnnotation") == "YES":
        return False
    return not {"DERIVED", "SECONDARY"} <= {*header.words("ImageType"), *header.words("FrameType")}


def name_maker(header: Header) -> str | None:
    """Name the scanner's maker out of a fixed list; the header's own text is not kept."""
    text = (header.text("Manufacturer") or "").upper()
    if not text:
        return None
    found = (name for name, pattern in _MAKERS.items() if re.search(rf"\b({pattern})", text))
    return next(found, "other")


def name_kernel(header: Header) -> str | None:
    """Call the reconstruction kernel `soft` or `sharp`; None where its name is not known."""
    words = header.words("ConvolutionKernel")
    name = words[0].upper() if words else ""
    if name in _SOFT_NAMES:
        return "soft"
    if name in _SHARP_NAMES:
        return "sharp"
    if canon := _CANON.fullmatch(name):  # FC30 and FC80 upwards are for bone and lung
        return "sharp" if int(canon[1]) in range(30, 40) or int(canon[1]) >= 80 else "soft"
    if siemens := _SIEMENS.fullmatch(name):  # the number rises with sharpness, from 10 to 90
        return "soft" if int(siemens[1]) < 50 else "sharp"
    return None
