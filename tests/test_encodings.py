"""HU must not depend on how a file is encoded; the original and pydicom are the judges."""

import copy
import time

import numpy as np
import pydicom
import pytest
from conftest import make_dataset, read_hu, small_head
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import JPEG2000Lossless, RLELossless
from transcode import (
    LOSSLESS,
    WHOLE_WORDS,
    htj2k,
    jpeg2000_lossy,
    multi_frame,
    pack_frames,
    to_bytes,
)

from hemtrace.dicom import QuarantineError, Slice, read_bytes, read_plain

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


HEAD = small_head(1) - 1024
OUTSIDE = np.hypot(*(np.mgrid[:64, :64] - 31.5)) > 32  # of a round field
SIGNED_12 = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1, "RescaleIntercept": 0}
UNSIGNED_12 = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}


def of_words(words, **header):
    """A data set that holds these 16-bit words, whatever the header says of them."""
    dataset = make_dataset(np.zeros(words.shape), **header)
    dataset.PixelData = (words & 0xFFFF).astype("<u2").tobytes()
    return dataset


def signed():
    return of_words(HEAD, **SIGNED_12), HEAD


def signed_without_the_sign_in_the_unused_bits():
    return of_words(HEAD & 0xFFF, **SIGNED_12), HEAD


def unsigned_with_junk_in_the_unused_bits():
    junk = np.random.default_rng(0).integers(0, 16, HEAD.shape) << 12
    return of_words((HEAD + 1024) | junk, **UNSIGNED_12), HEAD


def an_overlay_in_the_unused_bits():
    words = HEAD + 1024
    words[20:40, 20:40] |= 0x1000
    dataset = of_words(words, **UNSIGNED_12)
    dataset.add_new(0x60000100, "US", 16)
    dataset.add_new(0x60000102, "US", 12)
    return dataset, HEAD


def padding_beyond_the_bits(header, word, vr, limit=None):
    """Padding outside a round field; of it a pixel in the skull, where it cannot be told."""
    words = HEAD - header.get("RescaleIntercept", -1024)
    words[OUTSIDE] = word
    words[32, 8] = word
    dataset = of_words(words, **header)
    dataset.add_new(0x00280120, vr, word)
    if limit is not None:
        dataset.add_new(0x00280121, vr, limit)
    hu = np.where(OUTSIDE, -1000, HEAD)
    hu[32, 8] = 1072  # 63536 and -3024 both end in 2096, which is that HU here as there
    return dataset, hu


def unsigned_padding_63536():
    return padding_beyond_the_bits(UNSIGNED_12, 63536, "US")


def signed_padding_3024():
    return padding_beyond_the_bits(SIGNED_12, -3024, "SS")


def signed_padding_from_3024_to_2000():
    return padding_beyond_the_bits(SIGNED_12, -3024, "SS", -2000)


def half_steps():
    return of_words(2 * (HEAD + 1024), RescaleSlope="0.5", RescaleIntercept="-1024.5"), HEAD - 0.5


def monochrome1():
    return of_words(HEAD + 1024, PhotometricInterpretation="MONOCHROME1"), HEAD


def eight_bits_of_sixteen():
    words = np.clip((HEAD + 1024) // 10, 0, 255)
    header = {"BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "RescaleSlope": 10}
    return of_words(words, **header), 10 * words - 1024


def eight_bits():
    words = np.clip((HEAD + 1024) // 10, 0, 255).astype(np.uint8)
    dataset = make_dataset(words, RescaleSlope=10, PixelRepresentation=0)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = words.tobytes()
    return dataset, 10.0 * words - 1024


STORAGES = [
    signed,
    signed_without_the_sign_in_the_unused_bits,
    unsigned_with_junk_in_the_unused_bits,
    an_overlay_in_the_unused_bits,
    unsigned_padding_63536,
    signed_padding_3024,
    signed_padding_from_3024_to_2000,
    half_steps,
    monochrome1,
    eight_bits_of_sixteen,
    eight_bits,
]


@pytest.mark.parametrize("encoding", LOSSLESS)
@pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.__name__)
def test_hu_are_those_worked_out_by_hand_in_every_encoding(encoding, storage):
    if (encoding, storage) == ("rle", eight_bits_of_sixteen):
        pytest.skip("pydicom's encoder packs these into one byte a pixel and claims two")
    dataset, hu = storage()
    found = read_one(LOSSLESS[encoding](dataset))
    np.testing.assert_array_equal(found.hu, hu)
    assert found.padded == ("padding" in storage.__name__)


# Other encoders drop the high bits, and with them the values.
@pytest.mark.parametrize("encoding", WHOLE_WORDS)
@pytest.mark.parametrize("is_signed", [0, 1])
def test_values_that_begin_at_a_higher_bit_are_shifted_down_in_every_encoding(encoding, is_signed):
    header = {"BitsStored": 12, "HighBit": 15, "PixelRepresentation": is_signed}
    offset = 0 if is_signed else 1024
    dataset = of_words((HEAD + offset) << 4 | 5, **header, RescaleIntercept=-offset)
    np.testing.assert_array_equal(read_one(LOSSLESS[encoding](dataset)).hu, HEAD)


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


@pytest.mark.parametrize("encoding", LOSSLESS)
def test_each_frame_of_an_enhanced_ct_has_its_own_rescale_and_place(encoding):
    tilt = np.radians(20)
    datasets = [
        make_dataset(
            small_head(i) + 100 * i,
            RescaleIntercept=-1024 - 100 * i,
            ImagePositionPatient=[0, 0, 5.0 * i],
            ImageOrientationPatient=[1, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))],
        )
        for i in range(4)
    ]
    datasets[2].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    found = list(read_bytes(pack_frames(encoding, datasets), SALT))
    assert [one.frame for one in found] == [1, 2, 3, 4]
    assert found.pop(2).reason == "localizer"
    for i, one in zip((0, 1, 3), found, strict=True):
        np.testing.assert_array_equal(one.hu, small_head(i) - 1024)
        assert one.z_mm == pytest.approx(5 * i * np.cos(tilt), abs=1e-3)
        assert one.tilt_deg == pytest.approx(20, abs=1e-3)
        assert (one.thickness_mm, one.spacing_mm) == (5, datasets[i].PixelSpacing[0])
        assert one.encoding == name_of(encoding)


@pytest.mark.parametrize("table", ["none", "basic", "extended"])
def test_frames_are_found_by_any_table_of_offsets_or_none(table):
    whole = multi_frame([make_dataset(small_head(i)) for i in range(4)], RLELossless)
    streams = list(generate_frames(whole.PixelData, number_of_frames=4))
    if table == "extended":
        made = encapsulate_extended(streams)
        whole.PixelData, whole.ExtendedOffsetTable, whole.ExtendedOffsetTableLengths = made
    else:
        whole.PixelData = encapsulate(streams, has_bot=table == "basic")
    for i, one in enumerate(read_bytes(to_bytes(whole), SALT)):
        np.testing.assert_array_equal(one.hu, small_head(i) - 1024)
    assert i == 3


def test_frames_without_their_bytes_do_not_take_the_others_with_them():
    whole = multi_frame([make_dataset(small_head(i)) for i in range(4)], RLELossless)
    streams = list(generate_frames(whole.PixelData, number_of_frames=4))
    whole.PixelData = encapsulate(streams[:3])
    found = list(read_bytes(to_bytes(whole), SALT))
    assert [getattr(one, "reason", None) for one in found] == [None, None, None, "undecodable"]


def test_the_time_of_many_frames_without_a_table_of_offsets_grows_with_their_number():
    seconds = []
    for count in (200, 1600):
        dataset = make_dataset(small_head(1, 16))
        dataset.compress(RLELossless, generate_instance_uid=False)
        stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.NumberOfFrames = count
        dataset.PixelData = encapsulate([stream] * count, has_bot=False)
        started = time.process_time()
        assert sum(isinstance(one, Slice) for one in read_bytes(to_bytes(dataset), SALT)) == count
        seconds.append(time.process_time() - started)
    assert seconds[1] < 16 * seconds[0]


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
