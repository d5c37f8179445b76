"""The structured report: TID 1500, a measurement group a label and a region (PS3.16)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurement,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from hemtrace.dicom_results import concepts
from hemtrace.dicom_results.findings import Findings, slice_regions
from hemtrace.dicom_results.identity import MANUFACTURER, ModelIdentity, derive_uid
from hemtrace.dicom_results.library import make_library
from hemtrace.dicom_results.sources import Source, Sources
from hemtrace.labels import ANY, LABELS, SUBTYPES
from hemtrace.predict.study import Verdict

SERIES_NUMBER = 9701
_OBSERVER = CodedConcept("121007", "DCM", "Device")
_BRAIN = CodedConcept("12738006", "SCT", "Brain")


def make_report(
    verdict: Verdict,
    findings: Findings,
    sources: Sources,
    model: ModelIdentity,
    recipe: Sequence[str],
    made: datetime,
    notes: Sequence[str],
) -> Dataset:
    """Make the report of a study.

    Parameters
    ----------
    verdict, findings, sources, model
        What is told.
    recipe
        What UIDs are derived from.
    made
        When; the only part that differs between two runs.
    notes
        Sentences on what the reader should know beside the verdict.

    References
    ----------
    PS3.16 TID 1500, 1501, 1410, 1600; PS3.3 A.35.2 (Enhanced SR).
    """
    groups: list[MeasurementsAndQualitativeEvaluations] = [
        _describe_study(verdict, findings, sources, model, recipe, notes)
    ]
    groups.extend(
        _describe_label(label, verdict, findings, sources, model, recipe) for label in SUBTYPES
    )
    groups.extend(_outline_regions(findings, sources, model, recipe))
    content = MeasurementReport(
        observation_context=_describe_observer(model),
        procedure_reported=concepts.CT_OF_HEAD,
        imaging_measurements=groups,
    )
    # TID 1500: the library stands before the measurements, which come last.
    content[0].ContentSequence.insert(len(content[0].ContentSequence) - 1, make_library(sources))
    _part_items(content[0])
    return EnhancedSR(
        evidence=sources.instances,
        content=content,
        series_instance_uid=derive_uid("report series", *recipe),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid("report", *recipe),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=verdict.answer != "no-answer",
        is_final=False,
        is_verified=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="hemtrace RESEARCH report, not for diagnosis",
        manufacturer_model_name=model.name[:64],
        software_versions=model.version,
        device_serial_number=model.sha256[:64],
        coding_schemes=[concepts.PRIVATE_SCHEME],
        content_date=made.date(),
        content_time=made.time(),
        specific_character_set="ISO_IR 192",
    )


def _part_items(item: Dataset) -> None:
    """Let every item be shown with its name; in continuous text a viewer leaves names out."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", []):
        _part_items(child)


def _describe_observer(model: ModelIdentity) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=model.device_uid,
        name=f"{MANUFACTURER} {model.version}",
        manufacturer_name=MANUFACTURER,
        model_name=model.name,
        serial_number=model.sha256,
    )
    context = ObserverContext(observer_type=_OBSERVER, observer_identifying_attributes=device)
    return ObservationContext(observer_device_context=context)


def _describe_study(
    verdict: Verdict,
    findings: Findings,
    sources: Sources,
    model: ModelIdentity,
    recipe: Sequence[str],
    notes: Sequence[str],
) -> MeasurementsAndQualitativeEvaluations:
    presence = {
        "bleed": concepts.PRESENT,
        "no-bleed": concepts.ABSENT,
        "no-answer": concepts.UNDETERMINED,
    }[verdict.answer]
    numbers = [
        (concepts.PROBABILITY, verdict.probability if verdict.answer != "no-answer" else None),
        (concepts.STUDY_THRESHOLD, verdict.threshold),
        (concepts.SENSITIVITY, verdict.sensitivity),
        (concepts.SPECIFICITY, verdict.specificity),
    ]
    group = _make_group(
        LABELS[ANY], numbers, presence, findings, sources, model, recipe, ("study",)
    )
    texts = [
        *((concepts.RESTRICTION, mark) for mark in model.marks),
        (concepts.VERDICT, verdict.sentence),
        (
            concepts.POINT,
            f"{verdict.point}; sensitivity and specificity are of validation patients",
        ),
        (concepts.TRAINED_ON, model.trained_on),
        *(
            (concepts.NO_ANSWER if reason.stops else concepts.WARNING, reason.sentence)
            for reason in verdict.reasons
        ),
        *((concepts.COMMENT, note) for note in notes),
    ]
    for name, text in texts:
        if text:
            item = TextContentItem(name, text, RelationshipTypeValues.CONTAINS)
            group[0].ContentSequence.append(item)
    return group


def _describe_label(
    label: str,
    verdict: Verdict,
    findings: Findings,
    sources: Sources,
    model: ModelIdentity,
    recipe: Sequence[str],
) -> MeasurementsAndQualitativeEvaluations:
    threshold = model.slice_thresholds.get(label)
    answered = verdict.answer != "no-answer"
    flagged = verdict.flagged.get(label, False)
    if not answered or threshold is None or (flagged and verdict.answer == "no-bleed"):
        presence = concepts.UNDETERMINED
    else:
        presence = concepts.PRESENT if flagged else concepts.ABSENT
    numbers = [
        (concepts.PROBABILITY, verdict.subtypes.get(label) if answered else None),
        (concepts.SLICE_THRESHOLD, threshold),
    ]
    return _make_group(label, numbers, presence, findings, sources, model, recipe, ("label", label))


def _make_group(
    label: str,
    numbers: Sequence[tuple[CodedConcept, float | None]],
    presence: CodedConcept,
    findings: Findings,
    sources: Sources,
    model: ModelIdentity,
    recipe: Sequence[str],
    key: tuple[str, ...],
) -> MeasurementsAndQualitativeEvaluations:
    """Make a group of a label: its numbers, its presence, and the slices that are flagged."""
    measurements = [
        Measurement(name, round(float(value), 6), concepts.NO_UNITS)
        for name, value in numbers
        if value is not None and np.isfinite(value)
    ]
    column = LABELS.index(label)
    images = []
    for place in findings.flagged[label]:
        source = sources.slices[place]
        measurements.append(
            Measurement(
                concepts.SLICE_PROBABILITY,
                round(float(findings.series.slices[place].probabilities[column]), 6),
                concepts.NO_UNITS,
                referenced_images=[_refer(SourceImageForMeasurement, source)],
            )
        )
        images.append(_refer(SourceImageForMeasurementGroup, source))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derive_uid("group", *key, *recipe), identifier=f"hemtrace {' '.join(key)}"
        ),
        finding_type=concepts.LABEL_CODES[label],
        finding_sites=[FindingSite(anatomic_location=_BRAIN)],
        algorithm_id=_identify(model),
        measurements=measurements,
        qualitative_evaluations=[QualitativeEvaluation(concepts.PRESENCE, presence)],
        source_images=images or None,
    )


def _outline_regions(
    findings: Findings, sources: Sources, model: ModelIdentity, recipe: Sequence[str]
) -> list[PlanarROIMeasurementsAndQualitativeEvaluations]:
    groups = []
    for place in findings.places:
        one, source = findings.series.slices[place], sources.slices[place]
        for label in findings.labels_at(place):
            for number, region in enumerate(slice_regions(one, label, model), 1):
                name = (label, str(place + 1), str(number))
                areas = [] if region.area_mm2 is None else [round(region.area_mm2, 2)]
                groups.append(
                    PlanarROIMeasurementsAndQualitativeEvaluations(
                        tracking_identifier=TrackingIdentifier(
                            uid=derive_uid("region", *name, *recipe),
                            identifier="{} image {} region {}".format(*name),
                        ),
                        referenced_region=ImageRegion(
                            GraphicTypeValues.POLYLINE,
                            close_outline(region.outline, one.shape),
                            _refer(SourceImageForRegion, source),
                        ),
                        finding_type=concepts.LABEL_CODES[label],
                        method=concepts.REGION_METHOD,
                        algorithm_id=_identify(model),
                        measurements=[
                            Measurement(concepts.AREA, area, concepts.SQUARE_MM) for area in areas
                        ],
                    )
                )
    return groups


def close_outline(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Turn corners (row, column) into a closed polyline of (column, row) within the image.

    Both count from the upper left corner of the first pixel (PS3.3 C.18.6.1.2).
    """
    inside = np.clip(outline, 0, np.array(shape))
    across_first = inside[:, ::-1].astype(np.float32)
    return np.vstack([across_first, across_first[:1]])


def _identify(model: ModelIdentity) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=f"{MANUFACTURER} {model.name}",
        version=model.version,
        manufacturer=MANUFACTURER,
        parameters=[f"model file SHA-256 {model.sha256}"],
    )


def _refer(kind: Any, source: Source) -> Any:
    header = source.header
    return kind(header.SOPClassUID, header.SOPInstanceUID, source.frames)
