"""Heat maps as Parametric Maps of float32, one object a label, on the grid of the source."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from highdicom import (
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
    VOILUTTransformation,
)
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from hemtrace.dicom_results import concepts
from hemtrace.dicom_results.drawing import spread_heat
from hemtrace.dicom_results.findings import Findings
from hemtrace.dicom_results.identity import MANUFACTURER, ModelIdentity, derive_uid
from hemtrace.dicom_results.sources import Sources
from hemtrace.labels import LABELS

SERIES_NUMBER = 9703


def why_no_map(findings: Findings, sources: Sources) -> str | None:
    """Say why a series can have no parametric map; None where it can."""
    slices = findings.series.slices
    header = sources.slices[0].header
    if any(source.frame is not None for source in sources.slices):
        return "No parametric map is made: the source is a multi-frame file."
    if "FrameOfReferenceUID" not in header:
        return "No parametric map is made: the images name no frame of reference."
    if any(source.position_mm is None for source in sources.slices) or any(
        one.spacing_mm is None for one in slices
    ):
        return "No parametric map is made: the images do not tell position and pixel spacing."
    if len({(one.shape, one.spacing_mm) for one in slices}) > 1:
        return "No parametric map is made: the images of the series differ in size."
    orientations = np.array([source.orientation for source in sources.slices])
    if not np.allclose(orientations, orientations[0], atol=1e-4):
        return "No parametric map is made: the images of the series differ in orientation."
    positions = {tuple(source.position_mm) for source in sources.slices}  # type: ignore[arg-type]
    if len(positions) < len(slices):
        return "No parametric map is made: two images of the series have the same position."
    if any(one.cells is None for one in slices):
        return "No parametric map is made: no heat maps were made of some images."
    return None


def make_maps(
    findings: Findings,
    sources: Sources,
    model: ModelIdentity,
    recipe: Sequence[str],
    made: datetime,
) -> list[Dataset]:
    """Make a map of each flagged label, over all slices of the series.

    Cells are not scaled, so that they may be compared between slices; negative ones speak against
    the label. Between cells they are interpolated, outside the square that was judged they are 0.
    """
    slices = findings.series.slices
    orientation, spacing = sources.slices[0].orientation, slices[0].spacing_mm
    assert orientation is not None
    assert spacing is not None
    positions = [
        PlanePositionSequence("PATIENT", [float(part) for part in source.position_mm])
        for source in sources.slices
        if source.position_mm is not None
    ]
    images = [_add_thickness(header) for header in sources.instances]
    maps = []
    for number, label in enumerate((name for name in LABELS if findings.flagged[name]), 1):
        pixels = np.stack(
            [
                spread_heat(one.cells[LABELS.index(label)], one.square, one.shape)
                for one in slices
                if one.cells is not None
            ]
        )
        lowest, highest = float(pixels.min()), float(pixels.max())
        made_map = ParametricMap(
            source_images=images,
            pixel_array=pixels[..., None],
            series_instance_uid=derive_uid("map series", *recipe),
            series_number=SERIES_NUMBER,
            sop_instance_uid=derive_uid("map", label, *recipe),
            instance_number=number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=model.name[:64],
            software_versions=model.version,
            device_serial_number=model.sha256[:64],
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[[_map_values(label, lowest, highest)]],
            voi_lut_transformations=[_show_between(lowest, highest)],
            pixel_measures=PixelMeasuresSequence(
                pixel_spacing=spacing, slice_thickness=slices[0].thickness_mm
            ),
            plane_orientation=PlaneOrientationSequence(
                "PATIENT", [float(part) for part in orientation]
            ),
            plane_positions=positions,
            content_label=label.upper()[:16],
            content_description=f"Class activation for {label}, research only"[:64],
            transfer_syntax_uid=ExplicitVRLittleEndian,
            series_description="hemtrace RESEARCH class activation, not for diagnosis",
            content_date=made.date(),
            content_time=made.time(),
            specific_character_set="ISO_IR 192",
        )
        made_map.BodyPartExamined = "HEAD"
        maps.append(made_map)
    return maps


def _add_thickness(header: Dataset) -> Dataset:
    """Let a header without a thickness say that it is empty: highdicom asks for the attribute."""
    whole = Dataset()
    whole.update(header)
    whole.setdefault("SliceThickness", None)
    return whole


def _map_values(label: str, lowest: float, highest: float) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label=label.upper()[:16],
        lut_explanation=f"Class activation for {label}",
        unit=concepts.NO_UNITS,
        value_range=(lowest, highest),
        slope=1,
        intercept=0,
        quantity_definition=concepts.HEAT,
    )


def _show_between(lowest: float, highest: float) -> VOILUTTransformation:
    # The plain linear function knows no width below 1 (PS3.3 C.11.2.1.3.2).
    return VOILUTTransformation(
        voi_lut_function="LINEAR_EXACT",
        window_center=round((max(lowest, 0) + highest) / 2, 6),
        window_width=round(max(highest - max(lowest, 0), 1e-6), 6),
    )
