"""Heat maps as a Multi-frame True Color Secondary Capture (PS3.3 A.8.5)."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from highdicom import (
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
)
from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MultiFrameTrueColorSecondaryCaptureImageStorage

from hemtrace.dicom_results.drawing import Canvas, draw_slice, lay_out
from hemtrace.dicom_results.findings import BRAIN, Findings, need_hu, slice_heat, slice_regions
from hemtrace.dicom_results.identity import MANUFACTURER, ModelIdentity, derive_uid
from hemtrace.dicom_results.sources import Source, Sources
from hemtrace.labels import ANY, LABELS
from hemtrace.predict.study import SlicePrediction

SERIES_NUMBER = 9702


def make_capture(
    findings: Findings,
    sources: Sources,
    model: ModelIdentity,
    recipe: Sequence[str],
    made: datetime,
    point: str,
    every_slice: bool,
) -> Dataset:
    """Make one object of all flagged slices, each with its heat map.

    Parameters
    ----------
    findings, sources, model
        What is shown; at least one slice is flagged.
    recipe, made
        As for `report.make_report`.
    point
        Name of the operating point.
    every_slice
        Whether slices that are not flagged are shown too, without heat.

    Raises
    ------
    HemtraceError
        If a slice that is shown was kept without its Hounsfield units.
    """
    slices = findings.series.slices
    places = range(len(slices)) if every_slice else findings.places
    canvas = lay_out([slices[place].shape for place in places], 2, 1 + len(model.marks))
    frames = np.stack([_draw(findings, place, model, canvas, point) for place in places])
    made_of = sources.slices[places[0]].header
    image = _start(made_of, model, recipe, made)
    image.NumberOfFrames = len(frames)
    if len(frames) > 1:
        # What tells frames apart is in their functional groups (PS3.3 C.7.6.6.1.1).
        image.FrameIncrementPointer = 0x52009230
    image.Rows, image.Columns = canvas.shape
    image.PixelData = frames.tobytes()
    shown = [(sources.slices[place], slices[place]) for place in places]
    if any(source.burned_in for source, _ in shown):
        image.BurnedInAnnotation = "YES"
    # Without a frame of reference, a position would mean nothing.
    located = "FrameOfReferenceUID" in made_of and all(_is_located(*one) for one in shown)
    if located:
        image.FrameOfReferenceUID = made_of.FrameOfReferenceUID
        image.PositionReferenceIndicator = ""
    shared = Dataset()
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [
        _describe_frame(source, one, canvas, located) for source, one in shown
    ]
    image.SourceImageSequence = [_refer(source) for source, _ in shown]
    return image


def _draw(
    findings: Findings, place: int, model: ModelIdentity, canvas: Canvas, point: str
) -> np.ndarray:
    one, label = findings.series.slices[place], findings.shown_label(place)
    probabilities = dict(zip(LABELS, one.probabilities, strict=True))
    count = f"image {place + 1} of {len(findings.series.slices)}"
    heat, regions = None, []
    if label is None:
        first = f"not flagged at {point}   any {probabilities[LABELS[ANY]]:.3f}   {count}"
        second = f"no heat map   window {_window()}"
    else:
        heat, regions = slice_heat(one, label, model.size), slice_regions(one, label, model)
        others = "" if label == LABELS[ANY] else f"   any {probabilities[LABELS[ANY]]:.3f}"
        first = f"{label} {probabilities[label]:.3f}{others}   at {point}   {count}"
        told = (
            f"heat of {label}, 0 to this image's highest"
            if heat is not None
            else (
                f"no heat map: nothing speaks for {label} in one"
                if one.cells is not None
                else "no heat map was made"
            )
        )
        second = f"{told}   window {_window()}"
    below = [f"{MANUFACTURER} {model.version}   {model.name}   {model.sha256[:12]}", *model.marks]
    return draw_slice(canvas, need_hu(one), one.square, heat, regions, (first, second), below)


def _window() -> str:
    return f"C {BRAIN.center_hu:g} W {BRAIN.width_hu:g} HU"


def _start(
    source: Dataset, model: ModelIdentity, recipe: Sequence[str], made: datetime
) -> SOPClass:
    image = SOPClass(
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=derive_uid("capture series", *recipe),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid("capture", *recipe),
        sop_class_uid=MultiFrameTrueColorSecondaryCaptureImageStorage,
        instance_number=1,
        modality="OT",
        manufacturer=MANUFACTURER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="hemtrace RESEARCH heat maps, not for diagnosis",
        manufacturer_model_name=model.name[:64],
        software_versions=model.version,
        device_serial_number=model.sha256[:64],
        content_date=made.date(),
        content_time=made.time(),
        specific_character_set="ISO_IR 192",
    )
    image.BodyPartExamined = "HEAD"  # not paired, so that no laterality is wanted
    image.ConversionType = "WSD"  # made on a workstation
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.DerivationDescription = "Heat map of a neural network burned in. Research use only."
    image.BurnedInAnnotation = "NO"  # words, but none that name a patient (PS3.3 C.7.6.1)
    image.LossyImageCompression = "00"
    image.SamplesPerPixel, image.PlanarConfiguration = 3, 0
    image.PhotometricInterpretation = "RGB"
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelRepresentation = 0
    image.PatientOrientation = ""
    return image


def _describe_frame(source: Source, one: SlicePrediction, canvas: Canvas, located: bool) -> Dataset:
    groups = Dataset()
    if located and source.position_mm is not None and source.orientation is not None:
        assert one.spacing_mm is not None
        down, across = (side / canvas.factor for side in one.spacing_mm)
        groups.PixelMeasuresSequence = PixelMeasuresSequence(
            pixel_spacing=[round(down, 8), round(across, 8)], slice_thickness=one.thickness_mm
        )
        groups.PlanePositionSequence = PlanePositionSequence(
            "PATIENT",
            place_picture(source.position_mm, source.orientation, one.spacing_mm, canvas),
        )
        groups.PlaneOrientationSequence = PlaneOrientationSequence(
            "PATIENT", [float(part) for part in source.orientation]
        )
    return groups


def place_picture(
    position_mm: np.ndarray,
    orientation: np.ndarray,
    spacing_mm: tuple[float, float],
    canvas: Canvas,
) -> list[float]:
    """Find the centre of a picture's first pixel in the patient, mm.

    An enlarged pixel's first part lies nearer to its corner, and the words stand above the slice
    (PS3.3 C.7.6.2.1.1).
    """
    across, down = orientation[:3], orientation[3:]
    height, width = (side / canvas.factor for side in spacing_mm)
    to_corner = (1 - canvas.factor) / 2
    moved = position_mm + across * width * to_corner + down * height * (to_corner - canvas.above)
    return [round(float(part), 6) for part in moved]


def _is_located(source: Source, one: SlicePrediction) -> bool:
    return source.position_mm is not None and one.spacing_mm is not None


def _refer(source: Source) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.header.SOPClassUID
    item.ReferencedSOPInstanceUID = source.header.SOPInstanceUID
    if source.frame is not None:
        item.ReferencedFrameNumber = source.frame
    return item
