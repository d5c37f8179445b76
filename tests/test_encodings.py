"""HU must not depend on how a file is encoded; the original and pydicom are the judges."""

import copy

import numpy as np
import pydicom
import pytest
from conftest import make_dataset, read_hu, small_head
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from transcode import LOSSLESS, htj2k, jpeg2000_lossy, multi_frame, to_bytes

from hemtrace.dicom import QuarantineError, read_bytes, read_plain

SALT = b"a salt of sixteen"
PHANTOM_STORAGE = [
    {"PixelRepresentation": 1, "RescaleIntercept": -1024},
    {"PixelRepresentation": 0, "RescaleIntercept": -1024},
    {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "RescaleIntercept": -1024},
]


def read_one(content):
    """A file by the door that ingest uses: the plain walk where it can, else pydicom."""
    found = read_plain(content, SALT)
    return found or next(iter(read_bytes(content, SALT)))


def name_of(encoding):
    return encoding.split(" ")[0]


@pytest.mark.parametrize("encoding", LOSSLESS)
@pytest.mark.parametrize("storage", PHANTOM_STORAGE, ids=["signed", "unsigned", "12 bits"])
def test_hu_of_every_lossless_encoding_equal_the_original(encoding, storage):
    dataset = make_dataset(small_head(1), **storage)
    original = read_one(to_bytes(copy.deepcopy(dataset)))
    found = read_one(LOSSLESS[encoding](dataset))
    np.testing.assert_array_equal(found.hu, small_head(1) - 1024)
    assert found.encoding == name_of(encoding)
    assert not found.lossy
    assert found.pixel_blake3 == original.pixel_blake3
    assert (found.patient, found.study, found.z_mm) == (
        original.patient,
        original.study,
        original.z_mm,
    )


@pytest.mark.parametrize("encoding", LOSSLESS)
def test_hu_of_a_real_head_survive_every_lossless_encoding(ge_head, encoding):
    for path in sorted(ge_head.glob("*.dcm"))[::9]:
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = pydicom.uid.generate_uid()
        found = read_one(LOSSLESS[encoding](dataset))
        np.testing.assert_array_equal(found.hu, read_hu(path))
        assert found.encoding == name_of(encoding)


def test_htj2k_is_read_and_named():
    found = read_one(htj2k())
    np.testing.assert_array_equal(found.hu, small_head(9) - 1024)
    assert (found.encoding, found.lossy) == ("htj2k", False)


def test_lossy_pixels_are_flagged():
    found = read_one(jpeg2000_lossy(make_dataset(small_head(2))))
    assert found.lossy
    assert found.encoding == "jpeg2000-lossy"
    assert np.abs(found.hu - (small_head(2) - 1024.0)).mean() < 10


def test_pixels_that_were_lossy_once_stay_flagged():
    dataset = make_dataset(small_head(2), LossyImageCompression="01")
    assert read_one(to_bytes(dataset)).lossy


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless],
)
def test_each_frame_of_an_enhanced_ct_has_its_own_rescale_and_position(syntax):
    datasets = [
        make_dataset(
            small_head(i) + 100 * i,
            RescaleIntercept=-1024 - 100 * i,
            ImagePositionPatient=[0, 0, 5.0 * i],
        )
        for i in range(4)
    ]
    found = list(read_bytes(to_bytes(multi_frame(datasets, syntax)), SALT))
    assert [one.frame for one in found] == [1, 2, 3, 4]
    assert [one.z_mm for one in found] == [0, 5, 10, 15]
    assert {one.thickness_mm for one in found} == {5}
    for i, one in enumerate(found):
        np.testing.assert_array_equal(one.hu, small_head(i) - 1024)


def test_the_real_head_as_one_multi_frame_file(ge_head):
    paths = sorted(ge_head.glob("*.dcm"))[:6]
    datasets = [pydicom.dcmread(path) for path in paths]
    found = list(read_bytes(to_bytes(multi_frame(datasets)), SALT))
    for path, one in zip(paths, found, strict=True):
        np.testing.assert_array_equal(one.hu, read_hu(path))
        assert one.z_mm == read_one(path.read_bytes()).z_mm


def test_a_frame_that_cannot_be_used_does_not_take_the_others_with_it():
    datasets = [make_dataset(small_head(i)) for i in range(3)]
    whole = multi_frame(datasets)
    values = whole.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence[0]
    values.RescaleType = "Z_EFF"
    found = list(read_bytes(to_bytes(whole), SALT))
    assert found[1].reason == "not-hu"
    assert found[1].frame == 2
    np.testing.assert_array_equal(found[2].hu, small_head(2) - 1024)


@pytest.mark.parametrize("name", ["CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm"])
def test_hu_equal_pydicom_on_its_own_ct_files(name):
    path = get_testdata_file(name)
    with open(path, "rb") as stream:  # noqa: PTH123 - pydicom gives text
        found = read_one(stream.read())
    np.testing.assert_array_equal(found.hu, read_hu(path))
    assert found.lossy == (name == "693_J2KI.dcm")


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_codestream_of_another_size_than_the_header_is_not_decoded(syntax):
    dataset = make_dataset(small_head(3))
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.Rows = 4000
    with pytest.raises(QuarantineError, match="undecodable"):
        read_one(to_bytes(dataset))
