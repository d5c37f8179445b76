import contextlib

import numpy as np
import pydicom
import pytest
from conftest import make_dataset, read_hu, small_head, write_slice
from pydicom.data import get_testdata_file
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from hemtrace.dicom import QuarantineError, pseudonym, read_slice, slice_key


def test_hu_equal_pydicom_on_a_real_head(ge_head):
    for path in sorted(ge_head.glob("*.dcm")):
        np.testing.assert_array_equal(read_slice(path).hu, read_hu(path))


def test_hu_equal_pydicom_on_its_own_ct_files():
    for name in ("CT_small.dcm", "J2K_pixelrep_mismatch.dcm"):
        path = get_testdata_file(name)
        np.testing.assert_array_equal(read_slice(path).hu, read_hu(path))


@pytest.mark.parametrize(
    "header",
    [
        {"PixelRepresentation": 0, "RescaleIntercept": -1024},
        {"PixelRepresentation": 1, "RescaleIntercept": 0},
        {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "RescaleIntercept": -1024},
        {"RescaleSlope": 2.5, "RescaleIntercept": -1000.5},
    ],
)
def test_hu_equal_pydicom_whatever_the_storage(tmp_path, header):
    path = write_slice(tmp_path / "a.dcm", small_head(1), **header)
    found = read_slice(path)
    np.testing.assert_allclose(found.hu, read_hu(path), atol=1e-3)
    assert not found.repaired


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels_are_those_of_the_original(tmp_path, syntax):
    plain = write_slice(tmp_path / "plain.dcm", small_head(2))
    dataset = pydicom.dcmread(plain)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(tmp_path / "compressed.dcm")
    compressed = read_slice(tmp_path / "compressed.dcm")
    np.testing.assert_array_equal(compressed.hu, read_slice(plain).hu)
    assert compressed.pixel_sha256 == read_slice(plain).pixel_sha256


def test_12_bit_fault_is_undone(tmp_path):
    hu = np.clip(small_head(3) - 1024, -1000, 3000)
    # The fault: stored = HU, wrapped into 12 bits, with an intercept of 0 (FACTS: + 1000, % 4096).
    path = write_slice(
        tmp_path / "a.dcm",
        hu % 4096,
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=0,
        RescaleIntercept=0,
    )
    found = read_slice(path)
    assert found.repaired
    np.testing.assert_array_equal(found.hu, hu)


def quarantine_reason(path):
    with pytest.raises(QuarantineError) as caught:
        read_slice(path)
    return caught.value.reason


def test_truncated_file_is_named_so(tmp_path):
    path = write_slice(tmp_path / "a.dcm", small_head(4))
    path.write_bytes(path.read_bytes()[:-2000])
    assert quarantine_reason(path) == "truncated"


def test_truncated_header_is_quarantined(tmp_path):
    path = write_slice(tmp_path / "a.dcm", small_head(4))
    path.write_bytes(path.read_bytes()[:400])
    assert quarantine_reason(path) in {"truncated", "not-dicom", "not-ct"}


@pytest.mark.parametrize("content", [b"", b"some text\n", b"\x00" * 500, bytes(range(256)) * 20])
def test_a_file_that_is_no_dicom_is_named_so(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    assert quarantine_reason(path) == "not-dicom"


def test_no_ct_is_named_so(tmp_path):
    path = write_slice(tmp_path / "a.dcm", small_head(5), Modality="MR")
    assert quarantine_reason(path) == "not-ct"


def test_damaged_compressed_pixels_are_named_so(tmp_path):
    dataset = make_dataset(small_head(6))
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.PixelData = dataset.PixelData[:60] + b"\x00" * 200
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert quarantine_reason(tmp_path / "a.dcm") == "undecodable"


@pytest.mark.parametrize("name", ["Rows", "Columns", "PhotometricInterpretation"])
def test_a_header_that_lacks_what_is_needed_is_quarantined(tmp_path, name):
    dataset = make_dataset(small_head(6))
    delattr(dataset, name)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert quarantine_reason(tmp_path / "a.dcm") in {"damaged-header", "undecodable"}


def test_a_header_without_sense_is_quarantined(tmp_path):
    path = write_slice(tmp_path / "a.dcm", small_head(6), RescaleSlope=[1, 2])
    assert quarantine_reason(path) == "damaged-header"


def test_any_damaged_byte_of_a_header_ends_in_a_slice_or_a_reason(tmp_path):
    sound = write_slice(tmp_path / "a.dcm", small_head(6)).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(sound)
        for place in rng.integers(0, 900, 4):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "b.dcm").write_bytes(damaged)
        with contextlib.suppress(QuarantineError):  # anything else fails the test
            read_slice(tmp_path / "b.dcm")


def test_a_file_that_cannot_be_opened_is_named_so(tmp_path):
    assert quarantine_reason(tmp_path / "gone.dcm") == "unreadable"


def test_file_without_preamble_is_read(tmp_path):
    path = tmp_path / "a.dcm"
    dataset = make_dataset(small_head(7))
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    bare = tmp_path / "bare.dcm"
    body = path.read_bytes()
    start = body.find(b"\x08\x00\x16\x00")  # SOPClassUID, the first element of the data set
    bare.write_bytes(body[start:])
    np.testing.assert_array_equal(read_slice(bare).hu, small_head(7) - 1024)


def test_position_is_measured_along_the_tilted_normal(tmp_path):
    tilt = np.radians(20)
    path = write_slice(
        tmp_path / "a.dcm",
        small_head(8),
        ImagePositionPatient=[0.0, 0.0, 10.0],
        ImageOrientationPatient=[1, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))],
    )
    assert read_slice(path).z_mm == pytest.approx(10 * np.cos(tilt), abs=1e-3)


def test_rsna_pseudonyms_stay_and_names_do_not(tmp_path):
    assert slice_key(tmp_path / "ID_0123abcde.dcm") == "ID_0123abcde"
    key = slice_key(tmp_path / "DOE_JOHN.dcm")
    assert "DOE" not in key
    assert key != slice_key(tmp_path / "ROE_JANE.dcm")
    assert pseudonym("ID_0123abcd") == "ID_0123abcd"
    assert "4711" not in str(pseudonym("4711"))
    assert pseudonym("") is None


def test_a_blank_slice_has_no_pixel_digest(tmp_path):
    path = write_slice(tmp_path / "a.dcm", np.zeros((64, 64)))
    assert read_slice(path).pixel_sha256 is None
