"""Results as DICOM: judged by pydicom, dicom3tools' dciodvfy and dcmtk, none of which made them."""

import logging
import shutil
import subprocess
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from hemtrace.dicom_results import ModelIdentity, make_results, write_results
from hemtrace.dicom_results.results import to_bytes
from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.predict.study import (
    Reason,
    SeriesPrediction,
    SlicePrediction,
    StudyPrediction,
    Verdict,
)
from hemtrace.window import Square

THRESHOLDS: dict[str, float | None] = dict.fromkeys(LABELS, 0.25) | {"epidural": None}
MODEL = ModelIdentity(
    name="efficientnet_b4",
    version="0.1.0",
    sha256="3f" * 32,
    synthetic=True,
    trained_on="Slices of 100 synthetic heads.",
    slice_thresholds=THRESHOLDS,
    size=64,
)
MADE = datetime(2026, 11, 24, 20, 15, 30)
# epidural, intraparenchymal, intraventricular, subarachnoid, subdural, any
BLEEDING = np.array([0.9, 0.1, 0.02, 0.3, 0.7, 0.8])
CLEAR = np.full(6, 0.01)
HTML_NAME = "<script>alert(1)</script>^<b>Eve</b> & Co"
Study = tuple[StudyPrediction, list[Dataset]]


def head_hu(rows: int = 96, columns: int = 96) -> np.ndarray:
    """A disc of brain in a ring of bone in air."""
    down, across = np.mgrid[:rows, :columns]
    away = np.hypot(down - rows / 2, across - columns / 2)
    hu = np.full((rows, columns), -1000, np.int16)
    hu[away < 42] = 1000
    hu[away < 38] = 30 + (across[away < 38] % 5)
    return hu


def make_header(number: int, **changes: Any) -> Dataset:
    header = Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    header.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.1.{number + 1}"
    header.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2"
    header.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.3"
    header.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.4"
    header.Modality = "CT"
    header.PatientName, header.PatientID = "Doe^Jane", "P1"
    header.PatientBirthDate, header.PatientSex = "19500101", "F"
    header.StudyDate, header.StudyTime = "20260102", "101112"
    header.AccessionNumber, header.StudyID = "A1", "S1"
    header.ReferringPhysicianName = "Ray^X"
    header.Rows = header.Columns = 96
    header.PixelSpacing = [2.5, 2.0]
    header.SliceThickness = 5
    header.ImagePositionPatient = [-96.0, -120.0, 10.0 + 5 * number]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for keyword, value in changes.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    return header


def make_slice(number: int, probabilities: np.ndarray, **changes: Any) -> SlicePrediction:
    cells = np.full((6, 8, 8), -1, np.float32)
    cells[:, 2:4, 3:6] = np.array([[2, 3, 2], [1, 2, 1]])
    cells[:, 6, 1] = 2.5
    one = SlicePrediction(
        file=f"{number}.dcm",
        frame=None,
        key=str(number),
        z_mm=10.0 + 5 * number,
        shape=(96, 96),
        spacing_mm=(2.5, 2.0),
        thickness_mm=5.0,
        square=Square(8, -4, 88),
        probabilities=probabilities,
        raw=probabilities,
        cells=cells,
        hu=head_hu(),
    )
    return replace(one, **changes)


def make_verdict(answer: str, slices: Sequence[SlicePrediction], **changes: Any) -> Verdict:
    highest = np.max([one.probabilities for one in slices], axis=0)
    verdict = Verdict(
        answer=answer,  # type: ignore[arg-type]
        point="balanced",
        probability=None if answer == "no-answer" else float(highest[-1]),
        threshold=0.41,
        sensitivity=0.97,
        specificity=0.93,
        subtypes=dict(zip(LABELS, map(float, highest), strict=True)),
        flagged={
            label: THRESHOLDS[label] is not None and bool(p >= 0.25)
            for label, p in zip(LABELS, highest, strict=True)
        },
        urgency=0.5,
        reasons=(),
        sentence={
            "bleed": "A bleed is likely: subdural.",
            "no-bleed": "No bleed is found.",
            "no-answer": "No answer.",
        }[answer],
    )
    return replace(verdict, **changes)


def make_study(
    probabilities: Sequence[np.ndarray] = (CLEAR, BLEEDING, BLEEDING, CLEAR),
    answer: str = "bleed",
    headers: dict[str, Any] | None = None,
    slices: dict[str, Any] | None = None,
    **verdict: Any,
) -> Study:
    ours = [make_slice(k, p, **slices or {}) for k, p in enumerate(probabilities)]
    told = make_verdict(answer, ours, **verdict)
    series = SeriesPrediction("series", tuple(ours), True, np.max(probabilities, axis=0))
    study = StudyPrediction("study", "patient", (series,), told)
    return study, [make_header(k, **headers or {}) for k in range(len(ours))]


NO_ANSWER = (
    Reason("sharp-kernel", "The images were made with a sharp kernel.", True),
    Reason("thick", "Slices are thick.", False),
)
NEGATIVE = np.full((6, 8, 8), -1, np.float32)
CASES: dict[str, Callable[[], Study]] = {
    "bleed": make_study,
    "no bleed": lambda: make_study([CLEAR] * 3, "no-bleed"),
    "no answer": lambda: make_study(answer="no-answer", reasons=NO_ANSWER),
    "no threshold": lambda: make_study(threshold=None, sensitivity=None, specificity=None),
    "one slice": lambda: make_study([BLEEDING]),
    "nothing speaks for it": lambda: make_study(slices={"cells": NEGATIVE}),
    "no heat maps": lambda: make_study(slices={"cells": None}),
    "no spacing": lambda: make_study(
        headers={"PixelSpacing": None}, slices={"spacing_mm": None, "z_mm": None}
    ),
    "no position": lambda: make_study(headers={"ImagePositionPatient": None}),
    "no thickness": lambda: make_study(
        headers={"SliceThickness": None}, slices={"thickness_mm": None}
    ),
    "no frame of reference": lambda: make_study(headers={"FrameOfReferenceUID": None}),
    "no patient": lambda: make_study(
        headers={
            "PatientName": None,
            "PatientID": None,
            "PatientBirthDate": None,
            "PatientSex": None,
            "StudyDate": None,
            "StudyTime": None,
            "StudyID": None,
            "AccessionNumber": None,
            "ReferringPhysicianName": None,
        }
    ),
    "name of HTML": lambda: make_study(headers={"PatientName": HTML_NAME}),
    "name in Latin-1": lambda: make_study(
        headers={"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Zoë"}
    ),
    "name in Japanese": lambda: make_study(
        headers={
            "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
            "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        }
    ),
    "name in UTF-8": lambda: make_study(
        headers={"SpecificCharacterSet": "ISO_IR 192", "PatientName": "王^小东=Żółć"}
    ),
    "name beyond its set": lambda: make_study(headers={"PatientName": "Łoś^Zoë"}),
    "UIDs of the RSNA set": lambda: rsna_study(),
}


def rsna_study() -> Study:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study, headers = make_study(
            headers={
                "StudyInstanceUID": "ID_0a",
                "SeriesInstanceUID": "ID_0b",
                "FrameOfReferenceUID": None,
            }
        )
        for number, header in enumerate(headers):
            header.SOPInstanceUID = f"ID_{number}"
    return study, headers


def run_tool(name: str, *arguments: str | Path) -> str:
    """Run a program of another toolkit, and give all that it prints."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([name, *map(str, arguments)], capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    # dciodvfy ends with 1 where it warns.
    assert name == "dciodvfy" or done.returncode == 0, said
    return said


def parse(one: Dataset) -> Dataset:
    """Take an object through bytes, as another program would read it."""
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(to_bytes(one)))


def find_items(item: Dataset, meaning: str) -> list[Dataset]:
    """All content items below one whose name has this meaning."""
    found = []
    for child in item.get("ContentSequence", []):
        names = child.get("ConceptNameCodeSequence", [])
        if any(name.CodeMeaning == meaning for name in names):
            found.append(child)
        found.extend(find_items(child, meaning))
    return found


def find_group(report: Dataset, identifier: str) -> Dataset:
    for group in find_items(report, "Measurement Group"):
        if find_items(group, "Tracking Identifier")[0].TextValue == identifier:
            return group
    raise AssertionError(f"no group {identifier}")


def number_of(group: Dataset, meaning: str) -> float:
    (item,) = find_items(group, meaning)
    return float(item.MeasuredValueSequence[0].NumericValue)


def presence_of(group: Dataset) -> str:
    return str(find_items(group, "Presence of property")[0].ConceptCodeSequence[0].CodeMeaning)


def texts_of(report: Dataset, meaning: str) -> list[str]:
    return [item.TextValue for item in find_items(report, meaning)]


@pytest.mark.parametrize("case", CASES)
def test_dciodvfy_and_dcmtk_find_no_error(case: str, tmp_path: Path) -> None:
    study, headers = CASES[case]()
    paths = write_results(study, headers, MODEL, tmp_path, parametric=True, made=MADE)
    for path in paths:
        said = run_tool("dciodvfy", path)
        assert "Error" not in said, said
        assert "E: " not in run_tool("dcmdump", path)
    # It checks the templates' relations, which dciodvfy does not.
    assert "E: " not in run_tool("dsrdump", paths[0])


def test_dciodvfy_finds_what_is_broken(tmp_path: Path) -> None:
    (path,) = write_results(*CASES["no bleed"](), MODEL, tmp_path, made=MADE)
    broken = pydicom.dcmread(path)
    del broken.CompletionFlag
    broken.save_as(path)
    assert "Error" in run_tool("dciodvfy", path)


def test_report_says_what_was_predicted() -> None:
    report = parse(make_results(*make_study(), MODEL, made=MADE)[0])
    study = find_group(report, "hemtrace study")
    assert number_of(study, "Calibrated probability of finding") == 0.8
    assert number_of(study, "Operating point threshold of study") == 0.41
    assert number_of(study, "Case Sensitivity") == 0.97
    assert number_of(study, "Case Specificity") == 0.93
    assert presence_of(study) == "Present"
    assert texts_of(study, "Conclusion") == ["A bleed is likely: subdural."]
    assert texts_of(study, "CAD Operating Point Description")[0].startswith("balanced;")
    told = {
        label: (
            number_of(group, "Calibrated probability of finding"),
            presence_of(group),
            len(find_items(group, "Calibrated probability on image")),
        )
        for label in LABELS[:-1]
        for group in [find_group(report, f"hemtrace label {label}")]
    }
    assert told == {
        "epidural": (0.9, "Undetermined", 0),  # its point is not estimable
        "intraparenchymal": (0.1, "Absent", 0),
        "intraventricular": (0.02, "Absent", 0),
        "subarachnoid": (0.3, "Present", 2),
        "subdural": (0.7, "Present", 2),
    }
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert "RESEARCH" in report.SeriesDescription
    assert report.DeviceSerialNumber == MODEL.sha256


def test_marks_stand_in_every_object() -> None:
    report, capture, *maps = make_results(*make_study(), MODEL, parametric=True, made=MADE)
    assert texts_of(report, "Restriction of use") == list(MODEL.marks)
    assert "SYNTHETIC" in " ".join(MODEL.marks)
    assert all("RESEARCH" in one.SeriesDescription for one in (report, capture, *maps))
    assert all(one.ContentQualification == "RESEARCH" for one in maps)
    real = replace(MODEL, synthetic=False)
    assert len(texts_of(make_results(*make_study(), real)[0], "Restriction of use")) == 1


def test_flagged_images_and_only_they_are_referenced() -> None:
    study, headers = make_study()
    report = parse(make_results(study, headers, MODEL, made=MADE)[0])
    group = find_group(report, "hemtrace label subdural")
    used = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in find_items(group, "Source of Measurement")
    ]
    assert set(used) == {headers[1].SOPInstanceUID, headers[2].SOPInstanceUID}
    library = find_items(find_items(report, "Image Library")[0], "Source (attribute)")
    listed = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in library]
    assert listed == [header.SOPInstanceUID for header in headers]


def test_area_of_a_region_is_that_within_its_outline() -> None:
    report = parse(make_results(*make_study(), MODEL, made=MADE)[0])
    groups = [g for g in find_items(report, "Measurement Group") if find_items(g, "Area")]
    # Two slices of three labels with a warm part each; the second warm spot lies outside the head.
    assert len(groups) >= 6
    for group in groups:
        (scoord,) = find_items(group, "Image Region")
        corners = np.array(scoord.GraphicData, np.float32).reshape(-1, 2)
        assert scoord.GraphicType == "POLYLINE"
        assert (corners[0] == corners[-1]).all()
        # OpenCV's sum over the corners, in pixels of 2.5 x 2.0 mm; corners keep an eighth off.
        area = cv2.contourArea(corners) * 2.5 * 2.0
        assert number_of(group, "Area") == pytest.approx(area, rel=0.2)
        assert ((corners >= 0) & (corners <= 96)).all()


def test_region_covers_the_warmest_cell_and_first_coordinate_is_the_column() -> None:
    report = parse(make_results(*make_study(), MODEL, made=MADE)[0])
    group = find_group(report, "subdural image 2 region 1")
    (scoord,) = find_items(group, "Image Region")
    corners = np.array(scoord.GraphicData, np.float32).reshape(-1, 2)
    # The warmest cell is row 2, column 4 of 8 in a square of 88 pixels from (8, -4) on.
    row, column = 8 + 2.5 * 11, -4 + 4.5 * 11
    assert cv2.pointPolygonTest(corners, (column, row), False) == 1
    assert cv2.pointPolygonTest(corners, (row, column), False) == -1


def test_no_answer_gives_reasons_and_no_numbers_of_findings() -> None:
    results = make_results(*CASES["no answer"](), MODEL, parametric=True, made=MADE)
    (report,) = results
    assert report.CompletionFlag == "PARTIAL"
    assert texts_of(report, "Reason for no answer") == [NO_ANSWER[0].sentence]
    assert texts_of(report, "Reason for caution") == [NO_ANSWER[1].sentence]
    assert not find_items(report, "Calibrated probability of finding")
    assert not find_items(report, "Image Region")
    presences = [presence_of(group) for group in find_items(report, "Measurement Group")]
    assert presences == ["Undetermined"] * 6


def test_no_bleed_leaves_the_images_as_they_are_and_says_so() -> None:
    (report,) = make_results(*CASES["no bleed"](), MODEL, parametric=True, made=MADE)
    assert presence_of(find_group(report, "hemtrace study")) == "Absent"
    assert any("no heat map" in text for text in texts_of(report, "Comment"))


def test_images_above_their_threshold_in_a_study_below_its_own_are_undetermined() -> None:
    (report,) = make_results(*make_study(answer="no-bleed"), MODEL, made=MADE)
    assert presence_of(find_group(report, "hemtrace study")) == "Absent"
    assert presence_of(find_group(report, "hemtrace label subdural")) == "Undetermined"
    assert presence_of(find_group(report, "hemtrace label intraparenchymal")) == "Absent"


def test_maps_that_speak_against_a_label_give_no_region() -> None:
    report, capture = make_results(*CASES["nothing speaks for it"](), MODEL, made=MADE)
    assert not find_items(report, "Image Region")
    # Slices are shown all the same, without a single pixel of heat: grey where no words stand.
    frame = parse(capture).pixel_array[0]
    shown = frame[60:-90]
    assert (shown[..., 0] == shown[..., 2]).all()


def test_capture_shows_flagged_slices_only_unless_told() -> None:
    study, headers = make_study()
    report, capture = make_results(study, headers, MODEL, made=MADE)
    assert (report.Modality, capture.NumberOfFrames) == ("SR", 2)
    sources = [item.ReferencedSOPInstanceUID for item in capture.SourceImageSequence]
    assert sources == [header.SOPInstanceUID for header in headers[1:3]]
    assert capture.BurnedInAnnotation == "NO"
    every = make_results(study, headers, MODEL, every_slice=True, made=MADE)[1]
    assert every.NumberOfFrames == 4
    assert every.SOPInstanceUID != capture.SOPInstanceUID
    assert [one.Modality for one in make_results(study, headers, MODEL, capture=False)] == ["SR"]


def test_capture_is_grey_but_for_the_warm_part_and_nothing_of_the_slice_is_covered() -> None:
    study, headers = make_study()
    capture = parse(make_results(study, headers, MODEL, made=MADE)[1])
    frame = capture.pixel_array[0]
    # Rows of 96 pixels are enlarged sixfold; two lines of words above.
    slice_part = frame[56 : 56 + 576]
    assert slice_part.shape == (576, 576, 3)
    small = slice_part[3::6, 3::6].astype(int)
    brain = np.clip((head_hu() - 0) / 80 * 255, 0, 255)
    colour = np.abs(small - small.mean(axis=2, keepdims=True)).max(axis=2) > 2
    assert 0.02 < colour.mean() < 0.5
    # Around what is seen to be warm, a tint below notice remains.
    cold = cv2.dilate(colour.astype(np.uint8), np.ones((9, 9))) == 0
    assert cold.mean() > 0.3
    assert np.abs(small[..., 0] - brain)[cold].max() <= 1
    # The cell of the warmest heat, from (8, -4) on, is coloured; the corner of the air is not.
    assert colour[8 + 27, -4 + 49]
    assert not colour[2, 2]


def test_capture_names_no_patient_but_keeps_that_the_source_may() -> None:
    study, headers = make_study(headers={"BurnedInAnnotation": "YES"})
    assert make_results(study, headers, MODEL)[1].BurnedInAnnotation == "YES"
    plain = make_results(*make_study(), MODEL, made=MADE)[1]
    other = make_results(*make_study(headers={"PatientName": "Other^One"}), MODEL, made=MADE)[1]
    assert plain.PixelData == other.PixelData


def test_capture_of_slices_that_differ_in_size_is_padded() -> None:
    study, headers = make_study()
    slices = list(study.series[0].slices)
    slices[2] = replace(slices[2], shape=(80, 64), hu=head_hu(80, 64))
    headers[2].Rows, headers[2].Columns = 80, 64
    study = replace(study, series=(replace(study.series[0], slices=tuple(slices)),))
    report, capture = make_results(study, headers, MODEL, parametric=True, made=MADE)
    assert capture.pixel_array.shape[0] == 2
    assert any("differ in size" in text for text in texts_of(report, "Comment"))


def to_patient(frame: Dataset, row: float, column: float) -> np.ndarray:
    """PS3.3 equation C.7.6.2.1-1 by hand."""
    position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
    cosines = np.array(frame.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    down, across = map(float, frame.PixelMeasuresSequence[0].PixelSpacing)
    return position + cosines[:3] * across * column + cosines[3:] * down * row


def test_pixels_of_a_capture_lie_where_those_of_the_slice_do() -> None:
    study, headers = make_study()
    capture = parse(make_results(study, headers, MODEL, made=MADE)[1])
    assert capture.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    frame = capture.PerFrameFunctionalGroupsSequence[0]
    # Pixel (10, 20) of the slice covers rows 60 to 65 and columns 120 to 125, after 56 of words.
    expected = np.array([-96.0 + 20 * 2.0, -120.0 + 10 * 2.5, 15.0])
    assert to_patient(frame, 56 + 62.5, 122.5) == pytest.approx(expected, abs=1e-4)


def read_ge(folder: Path, bleeding: Sequence[int]) -> Study:
    headers, slices = [], []
    for number, path in enumerate(sorted(folder.glob("*.dcm"))):
        header = pydicom.dcmread(path)
        hu = header.pixel_array * header.RescaleSlope + header.RescaleIntercept
        slices.append(
            make_slice(
                number,
                BLEEDING if number in bleeding else CLEAR,
                shape=hu.shape,
                spacing_mm=tuple(map(float, header.PixelSpacing)),
                thickness_mm=float(header.SliceThickness),
                square=Square(30, 30, 452),
                hu=hu.astype(np.int16),
            )
        )
        del header.PixelData
        headers.append(header)
    series = SeriesPrediction("series", tuple(slices), True, BLEEDING)
    return StudyPrediction("s", "p", (series,), make_verdict("bleed", slices)), headers


def test_gantry_tilt_is_kept(ge_head: Path, tmp_path: Path) -> None:
    study, headers = read_ge(ge_head, [12, 13])
    paths = write_results(study, headers, MODEL, tmp_path, parametric=True, made=MADE)
    for path in paths:
        assert "Error" not in run_tool("dciodvfy", path)
    capture, one_map = pydicom.dcmread(paths[1]), pydicom.dcmread(paths[2])
    frame = capture.PerFrameFunctionalGroupsSequence[1]
    expected = np.array(headers[13].ImagePositionPatient, float)
    assert to_patient(frame, 56, 0) == pytest.approx(expected, abs=1e-3)
    shared = one_map.SharedFunctionalGroupsSequence[0]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == pytest.approx(
        list(headers[0].ImageOrientationPatient), abs=1e-6
    )
    positions = {
        tuple(np.round(list(group.PlanePositionSequence[0].ImagePositionPatient), 6))
        for group in one_map.PerFrameFunctionalGroupsSequence
    }
    assert positions == {tuple(np.round(list(one.ImagePositionPatient), 6)) for one in headers}


def test_parametric_map_holds_the_cells_of_each_slice() -> None:
    study, headers = make_study([CLEAR, BLEEDING, CLEAR])
    slices = list(study.series[0].slices)
    slices[0] = replace(slices[0], cells=np.full((6, 8, 8), 0.5, np.float32))
    study = replace(study, series=(replace(study.series[0], slices=tuple(slices)),))
    _, _, *maps = make_results(study, headers, MODEL, parametric=True, made=MADE)
    assert [one.ContentLabel for one in maps] == ["SUBARACHNOID", "SUBDURAL", "ANY"]
    read = parse(maps[1])
    pixels = np.frombuffer(read.FloatPixelData, np.float32).reshape(3, 96, 96)
    order = [
        float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        for group in read.PerFrameFunctionalGroupsSequence
    ]
    by_position = dict(zip(order, pixels, strict=True))
    assert sorted(by_position) == [10.0, 15.0, 20.0]
    inside = by_position[10.0][8:96, :84]
    assert (inside == 0.5).all()
    assert (by_position[10.0][:8] == 0).all()
    # The middle of cell (2, 4), of 11 pixels a side, in the square from (8, -4) on.
    assert by_position[15.0][8 + 27, -4 + 49] == 3
    mapping = read.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert read.StudyInstanceUID == headers[0].StudyInstanceUID
    assert read.FrameOfReferenceUID == headers[0].FrameOfReferenceUID


@pytest.mark.parametrize("case", ["no spacing", "no position", "no frame of reference"])
def test_missing_parametric_map_is_told(case: str) -> None:
    results = make_results(*CASES[case](), MODEL, parametric=True, made=MADE)
    assert [one.Modality for one in results] == ["SR", "OT"]
    assert any("No parametric map" in text for text in texts_of(results[0], "Comment"))


def test_the_same_study_gives_the_same_bytes() -> None:
    first = [
        to_bytes(one) for one in make_results(*make_study(), MODEL, parametric=True, made=MADE)
    ]
    again = [
        to_bytes(one) for one in make_results(*make_study(), MODEL, parametric=True, made=MADE)
    ]
    assert first == again


def uids_of(results: Sequence[Dataset]) -> list[str]:
    return [uid for one in results for uid in (one.SOPInstanceUID, one.SeriesInstanceUID)]


def test_uids_depend_on_slices_model_and_point_and_not_on_the_time() -> None:
    study, headers = make_study()
    ours = uids_of(make_results(study, headers, MODEL, parametric=True, made=MADE))
    later = datetime(2027, 1, 1)
    assert uids_of(make_results(study, headers, MODEL, parametric=True, made=later)) == ours
    # Report, capture and maps lie in series of their own.
    assert len(set(ours)) == 2 + 2 + 3 + 1
    others = [
        make_results(study, headers, replace(MODEL, sha256="40" * 32), parametric=True),
        make_results(study, headers, replace(MODEL, version="0.2.0"), parametric=True),
        make_results(*make_study(point="rule-in"), MODEL, parametric=True),
        make_results(*make_study([CLEAR, BLEEDING]), MODEL, parametric=True),
    ]
    for other in others:
        assert not set(uids_of(other)) & set(ours)
    for uid in ours:
        assert pydicom.uid.UID(uid).is_valid
        assert uid.startswith("2.25.")


def all_uids(item: Dataset) -> list[str]:
    return [
        str(element.value)
        for element in item.iterall()
        if element.VR == "UI" and element.value and not str(element.value).startswith("1.2.840")
    ]


@pytest.mark.parametrize("case", ["bleed", "UIDs of the RSNA set"])
def test_no_uid_is_invalid_or_made_at_random(case: str) -> None:
    first, again = (
        [all_uids(one) for one in make_results(*CASES[case](), MODEL, parametric=True)]
        for _ in range(2)
    )
    assert first == again
    assert all(pydicom.uid.UID(uid).is_valid for uids in first for uid in uids)


@pytest.mark.parametrize(
    ("case", "charset", "name"),
    [
        ("bleed", None, "Doe^Jane"),
        ("name of HTML", None, HTML_NAME),
        ("name in Latin-1", "ISO_IR 100", "Müller^Zoë"),
        ("name in Japanese", ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("name in UTF-8", "ISO_IR 192", "王^小东=Żółć"),
        ("name beyond its set", "ISO_IR 192", "Łoś^Zoë"),
    ],
)
def test_patient_and_character_set_are_those_of_the_source(
    case: str, charset: str | list[str] | None, name: str
) -> None:
    study, headers = CASES[case]()
    for one in map(parse, make_results(study, headers, MODEL, parametric=True, made=MADE)):
        assert one.get("SpecificCharacterSet") == charset
        assert str(one.PatientName) == name
        for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
            assert one.get(keyword) == headers[0].get(keyword)
        assert one.AccessionNumber == "A1"
        assert one.StudyInstanceUID == headers[0].StudyInstanceUID


def test_a_sentence_beyond_the_character_set_is_written_in_utf8() -> None:
    study, headers = make_study(
        headers={"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Zoë"},
        sentence="Вероятно кровоизлияние.",
    )
    report = parse(make_results(study, headers, MODEL, made=MADE)[0])
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert str(report.PatientName) == "Müller^Zoë"
    assert texts_of(report, "Conclusion") == ["Вероятно кровоизлияние."]


def test_html_in_a_name_stays_text_in_dcmtks_page(tmp_path: Path) -> None:
    report = write_results(*CASES["name of HTML"](), MODEL, tmp_path, made=MADE)[0]
    run_tool("dsr2html", report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8", "replace")
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "Research use only" in page
    # Names stand beside their numbers.
    assert "Calibrated probability of finding" in page


def test_no_name_ends_in_warnings_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    # highdicom warns of a name of one component by citing it.
    study, headers = make_study(headers={"PatientName": "Unmistakable", "PatientID": "ID-4711"})
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        make_results(study, headers, MODEL, parametric=True, made=MADE)
    said = caplog.text + "".join(str(one.message) for one in warned)
    assert "Unmistakable" not in said
    assert "4711" not in said


def test_headers_are_left_as_they_are() -> None:
    study, headers = make_study(headers={"PatientSex": None})
    before = [header.to_json() for header in headers]
    make_results(study, headers, MODEL, parametric=True, made=MADE)
    assert [header.to_json() for header in headers] == before


def test_broken_values_are_not_carried_on(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study, headers = make_study(
            headers={
                "PatientSex": "unknown",
                "PatientBirthDate": "1950-13-45",
                "StudyDate": "tomorrow",
                "StudyTime": "25:00",
                "StudyID": "longer than sixteen characters",
                "SpecificCharacterSet": "ISO_IR 999",
                "ImageOrientationPatient": [1, 0, 0, 1, 0, 0],
                "PatientName": "A^B^C^D^E^F=G=H=I",
            }
        )
    paths = write_results(study, headers, MODEL, tmp_path, parametric=True, made=MADE)
    report = pydicom.dcmread(paths[0])
    assert (report.PatientSex, report.StudyDate, report.StudyTime) == ("", "", "")
    assert str(report.PatientName) == "A^B^C^D^E=G=H"
    for path in paths:
        assert "Error" not in run_tool("dciodvfy", path)


def test_derived_uids_are_told_and_the_same_for_the_whole_study() -> None:
    study, headers = rsna_study()
    report, capture = make_results(study, headers, MODEL, made=MADE)
    assert report.StudyInstanceUID == capture.StudyInstanceUID
    assert report.StudyInstanceUID.startswith("2.25.")
    assert any("StudyInstanceUID" in text for text in texts_of(report, "Comment"))
    assert not any("ID_0a" in text for text in texts_of(report, "Comment"))


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID"])
def test_a_slice_that_cannot_be_filed_is_refused_in_a_sentence(keyword: str) -> None:
    study, headers = make_study()
    delattr(headers[1], keyword)
    with pytest.raises(HemtraceError, match=keyword):
        make_results(study, headers, MODEL)


def test_what_does_not_belong_together_is_refused_in_a_sentence() -> None:
    study, headers = make_study()
    with pytest.raises(HemtraceError, match="3 headers for 4 slices"):
        make_results(study, headers[:3], MODEL)
    other = [*headers[:3], make_header(3, StudyInstanceUID="1.2.3")]
    with pytest.raises(HemtraceError, match="several studies"):
        make_results(study, other, MODEL)
    with pytest.raises(HemtraceError, match="0 chosen series"):
        make_results(replace(study, series=()), [], MODEL)
    with pytest.raises(HemtraceError, match="Hounsfield"):
        make_results(*make_study(slices={"hu": None}), MODEL)


def test_frames_of_a_multi_frame_file_are_referenced_by_number(tmp_path: Path) -> None:
    study, _ = make_study([CLEAR, BLEEDING, CLEAR])
    slices = tuple(replace(s, frame=k) for k, s in enumerate(study.series[0].slices, 1))
    study = replace(study, series=(replace(study.series[0], slices=slices),))
    header = make_header(
        0,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
        NumberOfFrames=3,
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
    )
    header.PerFrameFunctionalGroupsSequence = []
    for number in range(3):
        frame, plane, turn = Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = [-96.0, -120.0, 10.0 + 5 * number]
        turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = [plane], [turn]
        header.PerFrameFunctionalGroupsSequence.append(frame)
    paths = write_results(study, [header] * 3, MODEL, tmp_path, parametric=True, made=MADE)
    for path in paths:
        assert "Error" not in run_tool("dciodvfy", path)
    report, capture = map(pydicom.dcmread, paths)
    group = find_group(report, "subdural image 2 region 1")
    region = find_items(group, "Image Region")[0]
    assert region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber == 2
    assert capture.SourceImageSequence[0].ReferencedFrameNumber == 2
    frame = capture.PerFrameFunctionalGroupsSequence[0]
    assert frame.PlanePositionSequence[0].ImagePositionPatient[2] == 15
    assert any("multi-frame" in text for text in texts_of(report, "Comment"))


def test_files_are_named_by_nothing_of_the_patient(tmp_path: Path) -> None:
    paths = write_results(*make_study(), MODEL, tmp_path / "new", parametric=True, made=MADE)
    assert [path.name.split(".")[0] for path in paths] == ["SR", "SC", "PM", "PM", "PM"]
    for path in paths:
        read = pydicom.dcmread(path)
        assert path.name.endswith(f"{read.SOPInstanceUID}.dcm")
        assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID
