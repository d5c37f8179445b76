"""What a header says of the patient, and its copy without pixels."""

import io

import pydicom
import pytest
from conftest import make_dataset, small_head
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from transcode import make_seeds, to_bytes

from hemtrace.dicom.reasons import QuarantineError
from hemtrace.dicom.whose import IDENTITY, copy_header, identify


def encode(**header):
    return to_bytes(make_dataset(small_head(1), **header))


def test_identity_is_what_pydicom_reads():
    known = {
        "PatientName": "Doe^Jane",
        "PatientID": "4711",
        "StudyDate": "20200101",
        "StudyDescription": "CT HEAD",
        "SeriesDescription": "5 mm",
        "AccessionNumber": "A1",
        "FrameOfReferenceUID": "1.2.3",
        "ContrastBolusAgent": "none",
        "SeriesNumber": "3",
    }
    content = encode(**known)
    told = identify(content)
    dataset = pydicom.dcmread(io.BytesIO(content))
    assert told.pop("series_number") == 3
    assert told == {name: str(dataset[keyword].value) for keyword, name in IDENTITY.items()}


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jürgen"), ("ISO_IR 192", "山田^太郎"), ("ISO_IR 126", "Διονυσιος")],
)
def test_names_are_decoded_by_the_files_character_set(charset, name):
    told = identify(encode(SpecificCharacterSet=charset, PatientName=name))
    assert told["patient_name"] == name


def test_long_and_unprintable_text_is_cut():
    told = identify(encode(StudyDescription="a\x1b[31m\x07b" + "c" * 1000))
    assert told["study_description"].startswith("a[31mb")
    assert len(told["study_description"]) <= 256


def test_html_stays_the_text_that_it_is():
    name = "<script>alert(1)</script>"
    assert identify(encode(PatientName=name))["patient_name"] == name


def test_a_value_without_sense_is_left_out():
    content = encode(SeriesNumber="12").replace(b"12", b"xx")
    told = identify(content)
    assert "series_number" not in told
    assert told["patient_id"] == "ID_0000000a"


@pytest.mark.parametrize("name", sorted(make_seeds()))
def test_every_encoding_has_an_identity_and_a_header(name):
    content = make_seeds()[name]
    assert identify(content)["patient_id"] == "ID_0000000a"
    copied = pydicom.dcmread(io.BytesIO(copy_header(content)))
    assert copied.PatientID == "ID_0000000a"
    assert copied.Rows > 0
    assert "PixelData" not in copied


def test_a_copied_header_has_no_pixels_private_elements_overlays_or_icons():
    dataset = make_dataset(small_head(1), PatientName="Doe^Jane")
    dataset.add_new(0x00091001, "LO", "private")
    dataset.add_new(0x00090010, "LO", "VENDOR")
    dataset.add_new(0x60003000, "OW", bytes(512))
    icon = Dataset()
    icon.Rows = 8
    dataset.IconImageSequence = [icon]
    inner = Dataset()
    inner.add_new(0x00090010, "LO", "VENDOR")
    inner.add_new(0x00091001, "LO", "private")
    inner.CodeValue = "kept"
    dataset.AnatomicRegionSequence = [inner]
    content = copy_header(to_bytes(dataset))
    copied = pydicom.dcmread(io.BytesIO(content))
    assert copied.PatientName == "Doe^Jane"
    assert copied.AnatomicRegionSequence[0].CodeValue == "kept"
    assert not [one for one in copied if one.tag.is_private or one.tag.group >= 0x6000]
    assert "IconImageSequence" not in copied
    assert b"private" not in content


def test_a_copied_header_says_what_the_original_says():
    dataset = make_dataset(small_head(1), PatientName="Doe^Jane", StudyDate="20200101")
    copied = pydicom.dcmread(io.BytesIO(copy_header(to_bytes(dataset))))
    del dataset.PixelData
    assert {one.tag: one.value for one in copied} == {one.tag: one.value for one in dataset}


@pytest.mark.parametrize("content", [b"", b"no dicom" * 50, bytes(400)])
def test_what_is_no_dicom_tells_nothing(content):
    try:
        assert identify(content) == {}
    except QuarantineError as error:
        assert error.reason == "damaged-header"  # noqa: PT017 - either is right


def test_a_deflated_bomb_is_refused(monkeypatch):
    monkeypatch.setattr("hemtrace.dicom.read._MOST_INFLATED", 1000)
    content = make_seeds()["deflated"]
    assert DeflatedExplicitVRLittleEndian.encode() in content
    with pytest.raises(QuarantineError, match="too-large"):
        identify(content)


def test_a_header_of_many_megabytes_is_no_header(monkeypatch):
    monkeypatch.setattr("hemtrace.dicom.whose._LARGEST_HEADER", 200)
    with pytest.raises(QuarantineError, match="too-large"):
        copy_header(encode())
