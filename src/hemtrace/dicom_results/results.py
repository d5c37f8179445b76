"""From the prediction of a study to its DICOM objects, and to files."""

import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    EnhancedSRStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
)
from pydicom.valuerep import DA, DT, TM

from hemtrace.dicom_results.capture import make_capture
from hemtrace.dicom_results.charset import set_charset
from hemtrace.dicom_results.concepts import PRIVATE_SCHEME
from hemtrace.dicom_results.findings import find_flagged
from hemtrace.dicom_results.identity import ModelIdentity, derive_uid
from hemtrace.dicom_results.parametric import make_maps, why_no_map
from hemtrace.dicom_results.report import make_report
from hemtrace.dicom_results.sources import read_sources
from hemtrace.errors import HemtraceError
from hemtrace.predict.study import StudyPrediction
from hemtrace.writing import write_whole

_KINDS = {
    EnhancedSRStorage: "SR",
    MultiFrameTrueColorSecondaryCaptureImageStorage: "SC",
    ParametricMapStorage: "PM",
}


def make_results(
    study: StudyPrediction,
    headers: Sequence[Dataset],
    model: ModelIdentity,
    *,
    capture: bool = True,
    parametric: bool = False,
    every_slice: bool = False,
    made: datetime | None = None,
) -> list[Dataset]:
    """Make the DICOM objects of a study: the report first, then captures and maps.

    The same slices, model, operating point and version of hemtrace give the same UIDs; with the
    same `made` the same bytes.

    Parameters
    ----------
    study
        Its chosen series carries `hu` and `cells` on flagged slices.
    headers
        Of the chosen series' slices, in their order; one of a multi-frame file is repeated. Left as
        they are.
    model
        What predicted.
    capture
        Whether flagged slices are shown under their heat maps.
    parametric
        Whether the heat maps of flagged labels are made as float32 too.
    every_slice
        Whether a capture shows the slices that are not flagged too, without heat.
    made
        Date and time of the content; now, unless told.

    Raises
    ------
    HemtraceError
        If no series is chosen, headers and slices differ in number, UIDs needed for filing are
        missing, or a flagged slice was kept without its Hounsfield units.
    """
    made = made or datetime.now()
    findings = find_flagged(study, model)
    slices = findings.series.slices
    if len(headers) != len(slices):
        raise HemtraceError(
            f"There are {len(headers)} headers for {len(slices)} slices of the chosen series; give "
            "one header a slice, in their order."
        )
    sources = read_sources(headers, [one.frame for one in slices])
    point = study.verdict.point
    instances = [f"{one.header.SOPInstanceUID} {one.frame}" for one in sources.slices]
    # Whatever changes the content changes the UIDs; the time alone does not.
    option = f"{study.verdict.threshold!r} {every_slice} {parametric}"
    recipe = model.recipe(point, instances, option)
    notes = [*findings.notes, *sources.notes]
    others: list[Dataset] = []
    if capture and findings.places:
        others.append(
            make_capture(findings, sources, model, recipe, made, point, every_slice=every_slice)
        )
    if parametric and findings.places:
        reason = why_no_map(findings, sources)
        if reason is None:
            others.extend(make_maps(findings, sources, model, recipe, made))
        else:
            notes.append(reason)
    report = make_report(study.verdict, findings, sources, model, recipe, made, notes)
    results = [report, *others]
    for one in results:
        _finish(one, sources.texts, made)
    return results


def write_results(
    study: StudyPrediction,
    headers: Sequence[Dataset],
    model: ModelIdentity,
    folder: Path,
    *,
    capture: bool = True,
    parametric: bool = False,
    every_slice: bool = False,
    made: datetime | None = None,
) -> list[Path]:
    """Make the DICOM objects of a study and write each as a file, named by its own UID.

    Parameters and what is raised are those of `make_results`; the folder is made where it is
    missing. A name holds nothing of the patient.
    """
    results = make_results(
        study,
        headers,
        model,
        capture=capture,
        parametric=parametric,
        every_slice=every_slice,
        made=made,
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in results:
        path = folder / f"{_KINDS[one.SOPClassUID]}.{one.SOPInstanceUID}.dcm"
        with write_whole(path) as part:
            part.write_bytes(to_bytes(one))
        paths.append(path)
    return paths


def to_bytes(made: Dataset) -> bytes:
    """Encode an object as a file's content (PS3.10)."""
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _finish(made_object: Dataset, texts: Dataset, made: datetime) -> None:
    """Say whose it is, when it was made, and in which character set."""
    made_object.update(texts)
    made_object.InstanceCreationDate = made_object.ContentDate = DA(made.date())
    made_object.InstanceCreationTime = made_object.ContentTime = TM(made.time())
    made_object.SeriesDate, made_object.SeriesTime = DA(made.date()), TM(made.time())
    if made_object.SOPClassUID != MultiFrameTrueColorSecondaryCaptureImageStorage:
        made_object.CodingSchemeIdentificationSequence = [PRIVATE_SCHEME]
    # highdicom sets the clock and random UIDs here.
    for item in made_object.get("ContributingEquipmentSequence", []):
        item.ContributionDateTime = DT(made)
    dimensions = derive_uid("dimensions", made_object.SOPInstanceUID)
    for keyword in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in made_object.get(keyword, []):
            item.DimensionOrganizationUID = dimensions
    set_charset(made_object, texts.get("SpecificCharacterSet"))
