import gzip
import hashlib
import io
import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from conftest import make_dataset, read_hu, small_head
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless
from transcode import deflate_bomb, make_seeds, to_bytes, without_preamble

from hemtrace.dicom import QuarantineError, read_bytes, read_plain, read_salt, slice_key
from hemtrace.dicom.hu import judge
from hemtrace.dicom.kind import OTHER_PARTS
from hemtrace.dicom.reasons import REASONS, STEPS
from hemtrace.errors import HemtraceError

SALT = b"a salt of sixteen"


def read_one(content):
    return read_plain(content, SALT) or next(iter(read_bytes(content, SALT)))


def read_made(pixels, **header):
    return read_one(to_bytes(make_dataset(pixels, **header)))


def reason_of(content):
    """The reason by which both doors refuse a file; the plain one may leave it to the other."""
    reasons = set()
    for read in (lambda: read_plain(content, SALT), lambda: list(read_bytes(content, SALT))):
        try:
            assert read() is None, "it was read"
        except QuarantineError as error:
            reasons.add(error.reason)
    assert len(reasons) == 1, reasons
    return reasons.pop()


def reason_of_made(pixels=None, **header):
    return reason_of(to_bytes(make_dataset(small_head(6) if pixels is None else pixels, **header)))


# The plain walk and pydicom


def facts_of(found):
    facts = {name: getattr(found, name) for name in found.__slots__ if name != "hu"}
    return facts | {"hu": hashlib.sha256(found.hu.tobytes()).hexdigest(), "dtype": found.hu.dtype}


def assert_both_doors_agree(content):
    plain, slow = read_plain(content, SALT), next(iter(read_bytes(content, SALT)))
    assert plain is not None
    assert facts_of(plain) == facts_of(slow)


def test_plain_walk_and_pydicom_agree_on_a_real_head(ge_head):
    for path in sorted(ge_head.glob("*.dcm")):
        assert_both_doors_agree(path.read_bytes())
        np.testing.assert_array_equal(read_one(path.read_bytes()).hu, read_hu(path))


@pytest.mark.parametrize(
    "header",
    [
        {"PixelRepresentation": 0, "RescaleIntercept": -1024},
        {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "RescaleIntercept": -1024},
        {"RescaleSlope": 0.5, "RescaleIntercept": -1000.5},
        {"PixelPaddingValue": 0, "Manufacturer": "SIEMENS", "ConvolutionKernel": ["H31s", "3"]},
        {"SliceThickness": "5.0", "BodyPartExamined": "HEAD", "ImageType": ["ORIGINAL", "AXIAL"]},
        {"ReferencedStudySequence": pydicom.Sequence([pydicom.Dataset()])},
        {"PatientID": "", "StudyInstanceUID": "", "PixelSpacing": None},
    ],
)
def test_plain_walk_and_pydicom_agree_whatever_the_header(header):
    pixels = small_head(1) * (2 if header.get("RescaleSlope") else 1)
    dataset = make_dataset(pixels, **header)
    assert_both_doors_agree(to_bytes(dataset))
    assert_both_doors_agree(without_preamble(make_dataset(pixels, **header)))


def test_sequences_of_undefined_length_are_stepped_over(tmp_path):
    inner = pydicom.Dataset()
    inner.PatientID = "of another"
    nested = pydicom.Dataset()
    nested.ReferencedStudySequence = pydicom.Sequence([inner, inner])
    nested["ReferencedStudySequence"].is_undefined_length = True
    nested.is_undefined_length_sequence_item = True
    dataset = make_dataset(small_head(1), ReferencedSeriesSequence=pydicom.Sequence([nested]))
    dataset["ReferencedSeriesSequence"].is_undefined_length = True
    assert_both_doors_agree(to_bytes(dataset))


def test_phantom_slices_give_the_same_by_both_doors(raw):
    for path in sorted(raw.glob("stage_2_train/*.dcm")):
        assert_both_doors_agree(path.read_bytes())


# HU


@pytest.mark.parametrize("bits", range(12, 17))
@pytest.mark.parametrize("is_signed", [0, 1])
def test_every_number_of_stored_bits_is_read_over_its_whole_range(bits, is_signed):
    offset = 0 if is_signed else 1024
    stored = small_head(1) - 1024 + offset
    lowest = -(1 << (bits - 1)) if is_signed else 0
    stored[0] = np.linspace(lowest, lowest + (1 << bits) - 1, 64).astype(int)
    content = to_bytes(
        make_dataset(
            stored,
            BitsStored=bits,
            HighBit=bits - 1,
            PixelRepresentation=is_signed,
            RescaleIntercept=-offset,
        )
    )
    assert_both_doors_agree(content)
    np.testing.assert_array_equal(read_one(content).hu, np.clip(stored - offset, None, 32767))


def test_eight_bit_pixels_are_read():
    stored = np.clip(small_head(1) // 10, 0, 255).astype(np.uint8)
    dataset = make_dataset(stored, RescaleSlope=10, RescaleIntercept=-1024)
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = stored.tobytes()
    found = read_one(to_bytes(dataset))
    np.testing.assert_array_equal(found.hu, stored.astype(float) * 10 - 1024)


def test_fractions_of_hu_stay():
    found = read_made(small_head(1) * 2, RescaleSlope=0.5, RescaleIntercept=-1024.5)
    np.testing.assert_allclose(found.hu, small_head(1) - 1024.5)
    assert found.hu.dtype == np.float32


@pytest.mark.parametrize(
    ("factor", "slope", "offset"), [(2, 1, 0), (1, 2, 0), (4, 0.5, 0), (2, 1, 40_000)]
)
def test_the_same_hu_have_the_same_digest_however_they_are_stored(factor, slope, offset):
    header = {"PixelRepresentation": 0, "RescaleSlope": slope, "RescaleIntercept": -1024 - offset}
    found = read_made((small_head(1) // 2) * factor + offset, **header)
    assert found.hu.dtype == np.int16
    assert found.pixel_blake3 == read_made(small_head(1) // 2 * 2).pixel_blake3


def test_whole_hu_beyond_int16_stop_at_its_end():
    pixels = small_head(1).copy() // 2
    pixels[30, 30] = 20_000
    assert read_made(pixels, RescaleSlope=2).hu[30, 30] == 32_767


def test_unsigned_values_beyond_int16_are_no_negative_hu():
    pixels = small_head(1).copy()
    pixels[30, 30] = 65_000
    assert read_made(pixels, PixelRepresentation=0).hu[30, 30] == 32_767


def test_monochrome1_turns_the_display_and_not_the_hu():
    found = read_made(small_head(1), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(found.hu, small_head(1) - 1024)


def padded(value):
    """A head in a round field, its corners filled with `value`, which the skull holds as well."""
    y, x = np.mgrid[:64, :64] - 31.5
    pixels = small_head(1).copy()
    outside = np.hypot(x, y) > 32
    pixels[outside] = value
    pixels[32, 30:34] = value
    return pixels, outside


@pytest.mark.parametrize(
    ("value", "header"),
    [(-2000, -2000), (-2000, 63536)],  # CQ500 writes the second for the first
)
def test_padding_below_air_stays_black_whatever_the_sign_in_the_header(value, header):
    pixels, outside = padded(value)
    dataset = make_dataset(pixels)
    dataset.add_new(0x00280120, "US" if header > 0 else "SS", header)
    found = read_one(to_bytes(dataset))
    assert (found.hu[outside] < -1000).all()
    assert not found.padded


def test_padding_that_would_show_as_tissue_becomes_air_outside_the_head_only():
    pixels, outside = padded(1024)  # HU 0: black in no window, and what CSF has
    dataset = make_dataset(pixels)
    dataset.add_new(0x00280120, "SS", 1024)
    assert_both_doors_agree(to_bytes(dataset))
    found = read_one(to_bytes(dataset))
    assert found.padded
    assert (found.hu[outside] == -1000).all()
    assert (found.hu[32, 30:34] == 0).all()


def test_a_range_of_padding_is_padding():
    pixels, outside = padded(1024)
    pixels[0, 0] = 1030
    dataset = make_dataset(pixels)
    dataset.add_new(0x00280120, "SS", 1024)
    dataset.add_new(0x00280121, "SS", 1034)
    assert (read_one(to_bytes(dataset)).hu[outside] == -1000).all()


def test_hu_below_minus_1024_stay_as_they_are():
    pixels = small_head(1).copy()
    pixels[0, :5] = -500
    assert (read_made(pixels).hu[0, :5] == -1524).all()


# The 12-bit fault and the gate

FAULT = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "RescaleIntercept": 0}


def test_12_bit_fault_is_undone():
    hu = np.clip(small_head(3) - 1024, -1000, 3000)
    # The fault: stored = HU, wrapped into 12 bits, with an intercept of 0 (FACTS: + 1000, % 4096).
    found = read_made(hu % 4096, **FAULT)
    assert found.repaired
    np.testing.assert_array_equal(found.hu, hu)


def test_sound_values_under_a_suspicious_header_are_not_repaired():
    """Slope and intercept of 0 with air at 0 would be repaired by the header's rule alone."""
    stored = np.clip(small_head(3) - 1024, -1000, 3000)
    found = read_made(stored, BitsStored=12, HighBit=11, PixelRepresentation=1, RescaleIntercept=0)
    assert not found.repaired
    np.testing.assert_array_equal(found.hu, stored)


@pytest.mark.parametrize("shift", [1024, 1000, -1024, 3000])
def test_hu_that_are_off_by_an_intercept_are_refused(shift):
    assert reason_of_made(RescaleIntercept=-1024 + shift) == "implausible-hu"


def test_swapped_bytes_are_refused():
    swapped = small_head(1).astype(np.int16).byteswap()
    assert reason_of_made(swapped) == "implausible-hu"


def test_the_gate_lets_a_real_head_pass(ge_head):
    gates = [judge(read_hu(path)) for path in sorted(ge_head.glob("*.dcm"))]
    assert all(gate.plausible for gate in gates)


def blurred_head():
    """HU of a head whose edges pass through all values, as a scanner's do."""
    hu = cv2.GaussianBlur((small_head(1, 256) - 1024).astype(np.float32), (0, 0), 5)
    return hu + np.random.default_rng(2).normal(0, 10, hu.shape)


ROUND = np.hypot(*(np.mgrid[:256, :256] - 127.5)) < 128


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda hu: hu, None),
        (lambda hu: np.where(ROUND, hu, -2000), None),
        (lambda hu: np.where(ROUND, np.maximum(hu, -1000), -1000), None),
        (lambda hu: 2 * (hu + 1024) - 1024, "hardly any soft tissue"),
        (lambda hu: 1.5 * (hu + 1024) - 1024, "bone as uniform as brain"),
        (lambda hu: np.where(ROUND, hu + 1024, -2000), "padding and no air"),
        (lambda hu: np.where(ROUND, hu + 1024, -976), "padding and no air"),
        (lambda hu: hu + 1024, "no air"),
        (lambda hu: np.where(ROUND, hu - 1024, -2000), "noise far below air"),
    ],
)
def test_air_soft_tissue_and_bone_must_stand_where_they_belong(harm, fault):
    assert judge(harm(blurred_head()).astype(np.int16)).fault == fault


def test_bone_that_was_cut_off_at_one_value_is_not_taken_for_brain():
    skull = blurred_head()
    skull[60:150, 60:200] = 1300
    noise = np.random.default_rng(3).normal(0, 20, skull.shape)
    assert judge(skull + noise).fault == "bone as uniform as brain"
    assert judge(np.minimum(skull + noise, 1200)).fault is None


def test_metal_and_teeth_beside_soft_tissue_are_sound_and_a_skull_of_metal_is_not():
    y, x = np.mgrid[:256, :256] - 127.5
    teeth = np.where((np.hypot(x, y) < 60) & (x % 8 < 4), 3071, blurred_head())
    assert judge(teeth).fault is None
    noise = np.random.default_rng(3).normal(0, 10, x.shape)
    ring = noise + np.where(
        (np.hypot(x, y) < 100) & (np.hypot(x, y) > 25), 1100 + 15 * np.hypot(x, y), -990
    )
    ring[np.hypot(x, y) < 20] = 40
    assert judge(ring).fault == "hardly any soft tissue"


def test_the_gate_leaves_blank_pictures_to_others():
    assert judge(np.full((64, 64), -1024, np.int16)).plausible
    assert judge(np.full((64, 64), -2000, np.int16)).plausible


# What a file is

TINY = "1e-300"
ABSURD = ["1e39", "-1e39", "1e400", "1e6", TINY, "nan", "inf", "-inf"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"Modality": "MR"}, "not-ct"),
        ({"Modality": "SR"}, "dose-report"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67", "Modality": "SR"}, "dose-report"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary-capture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "not-greyscale"),
        ({"RescaleType": "Z_EFF"}, "not-hu"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "not-axial"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "not-axial"),
        ({"Rows": 5000}, "too-large"),
        ({"Rows": 0}, "damaged-header"),
        ({"BitsStored": 20}, "damaged-header"),
        ({"BitsAllocated": 32}, "damaged-header"),
        ({"RescaleSlope": 0}, "damaged-header"),
        ({"RescaleSlope": [1, 2]}, "damaged-header"),
        *(({"RescaleSlope": absurd}, "damaged-header") for absurd in ABSURD),
        *(({"RescaleIntercept": absurd}, "damaged-header") for absurd in ABSURD if absurd != TINY),
        ({"Modality": None}, "damaged-header"),
        ({"NumberOfFrames": 1_000_000}, "too-large"),
    ],
)
def test_each_kind_of_file_has_its_reason(header, reason):
    assert reason_of_made(**header) == reason


@pytest.mark.parametrize(
    "header",
    [
        {"RescaleType": "US"},
        {"ImageOrientationPatient": [1, 0, 0, 0, 0.87, -0.49]},  # a gantry tilted by 29 degrees
        {"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]},  # feet first
    ],
)
def test_what_a_head_ct_may_say_is_not_refused(header):
    assert read_made(small_head(1), **header).hu.shape == (64, 64)


@pytest.mark.parametrize(
    "part",
    [
        *OTHER_PARTS,
        "Chest",
        "C-SPINE",
        "L_SPINE",
        "LEGS",
        "UPPER ARM",
        "CHEST/ABD",
        "NECK2",
        "TSPINE ",
    ],
)
def test_a_header_that_names_another_part_is_refused(part):
    assert reason_of_made(BodyPartExamined=part) == "not-head"


@pytest.mark.parametrize(
    "part",
    ["HEAD", "Head", "BRAIN", "SKULL", "HEADNECK", "HEAD & NECK", "HEAD_NECK", "NEURO", "CRANIUM",
     "C-SPINE+HEAD", "HEAD/CSPINE", "BRAIN AND CHEST", "EAR", "EARS, NECK", "EAR/ARM", "ORBITS",
     "SINUSES", "FACIAL BONES", "CEREBRUM", "HIPPOCAMPUS", "WHOLEBODY", "UNKNOWN", "", None],
)  # fmt: skip
def test_a_header_that_names_the_head_or_nothing_known_is_not_refused(part):
    assert read_made(small_head(1), BodyPartExamined=part).hu.shape == (64, 64)


def test_what_no_check_foresees_is_a_reason_by_both_doors(monkeypatch):
    def stumble(*_):
        raise OverflowError

    monkeypatch.setattr("hemtrace.dicom.read.to_hu", stumble)
    content = to_bytes(make_dataset(small_head(1)))
    assert reason_of(content) == "damaged-header"
    with pytest.raises(QuarantineError, match="OverflowError"):
        read_plain(content, SALT)


def test_every_reason_stands_at_a_step():
    assert {step for step, _ in REASONS.values()} == set(STEPS)


@pytest.mark.parametrize("content", [b"", b"some text\n", b"\x00" * 500, bytes(range(256)) * 20])
def test_a_file_that_is_no_dicom_is_named_so(content):
    assert reason_of(content) == "not-dicom"


def test_a_file_that_ends_within_its_header_is_truncated():
    content = to_bytes(make_dataset(small_head(6)))
    for keyword in ("SOPInstanceUID", "Modality", "PatientID", "SamplesPerPixel", "Columns"):
        tag = pydicom.datadict.tag_for_keyword(keyword)
        place = content.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 132)
        assert reason_of(content[:place]) == "truncated", keyword


def test_an_object_without_pixels_is_not_truncated():
    dataset = make_dataset(small_head(6))
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66"  # raw data
    del dataset.PixelData, dataset.Rows
    assert reason_of(to_bytes(dataset)) == "no-pixels"


def gzipped():
    return gzip.compress(to_bytes(make_dataset(small_head(6))))


def zipped(members=1):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(members):
            archive.writestr(f"{number}.dcm", b"x" * 500)
    return packed.getvalue()


def dicomdir():
    return Path(get_testdata_file("DICOMDIR")).read_bytes()


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "an empty file"),
        (gzipped(), "packed by gzip; unpack it"),
        (zipped()[:-30], "a zip that is damaged"),
        (zipped(), "or lies in another one; unpack it"),
        (zipped(0), "an empty zip"),
        (dicomdir(), "a DICOMDIR"),
    ],
)
def test_what_is_no_picture_says_what_it_is(content, detail):
    with pytest.raises(QuarantineError, match=detail) as caught:
        list(read_bytes(content, SALT))
    assert caught.value.reason == "not-dicom"


def test_a_truncated_file_is_named_so():
    content = to_bytes(make_dataset(small_head(4)))
    assert reason_of(content[:-2000]) == "truncated"


def test_a_file_cut_in_its_header_is_refused():
    content = to_bytes(make_dataset(small_head(4)))
    for length in range(140, len(content) - 8192, 17):
        with pytest.raises(QuarantineError):
            read_one(content[:length])


def test_damaged_compressed_pixels_are_named_so():
    dataset = make_dataset(small_head(6))
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.PixelData = dataset.PixelData[:100] + b"\x00" * 200
    assert reason_of(to_bytes(dataset)) == "undecodable"


@pytest.mark.parametrize("name", ["Rows", "Columns", "PhotometricInterpretation"])
def test_a_header_that_lacks_what_is_needed_is_refused(name):
    dataset = make_dataset(small_head(6))
    delattr(dataset, name)
    assert reason_of(to_bytes(dataset)) == "damaged-header"


def test_a_deflate_bomb_is_not_unpacked_to_its_end():
    with pytest.raises(QuarantineError, match="too-large"):
        list(read_bytes(deflate_bomb(2**29 + 2**21), SALT))


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_end_in_slices_or_a_reason(seed):
    rng = np.random.default_rng(seed)
    for sound in make_seeds().values():
        for _ in range(10):
            damaged = bytearray(sound)
            for place in rng.integers(0, min(len(damaged), 1500), 4):
                damaged[place] = rng.integers(0, 256)
            try:
                found = read_plain(bytes(damaged), SALT) or list(read_bytes(bytes(damaged), SALT))
            except QuarantineError as error:
                assert error.reason in REASONS  # noqa: PT017
            else:
                assert found


# Geometry, makers, identity


@pytest.mark.parametrize(
    ("header", "spacing"),
    [
        ([0.05, 0.05], 0.05),
        ([5, 5], 5),
        ([0.049, 0.049], None),
        ([5.1, 5.1], None),
        ([0.002, 4.5], None),
        ([-0.5, 0.5], None),
        (["1e-300", "1e300"], None),
        ([0.5], None),
        (None, None),
    ],
)
def test_a_spacing_that_no_scanner_has_is_unknown(header, spacing):
    found = read_made(small_head(1), PixelSpacing=header)
    assert (found.spacing_mm, found.spacing_across_mm) == (spacing, spacing)


def test_pixels_that_are_no_squares_are_refused():
    assert read_made(small_head(1), PixelSpacing=[0.488, 0.49]).spacing_across_mm == 0.49
    for spacing in ([0.5, 0.6], [0.6, 0.5]):
        assert reason_of_made(PixelSpacing=spacing) == "damaged-header"


def test_position_is_measured_along_the_tilted_normal():
    tilt = np.radians(20)
    found = read_made(
        small_head(8),
        ImagePositionPatient=[0.0, 0.0, 10.0],
        ImageOrientationPatient=[1, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))],
    )
    assert found.z_mm == pytest.approx(10 * np.cos(tilt), abs=1e-3)
    assert found.tilt_deg == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(
    ("axes", "letters"),
    [
        ([1, 0, 0, 0, 1, 0], "LP"),
        ([1, 0, 0, 0, 0.94, -0.34], "LP"),
        ([-1, 0, 0, 0, -1, 0], "RA"),
        ([-1, 0, 0, 0, 1, 0], "RP"),
        ([0, 1, 0, -1, 0, 0], "PR"),
        ([1, 0, 0, 1, 0, 0], None),
        (None, None),
    ],
)
def test_sides_are_named_by_the_axes_of_rows_and_columns(axes, letters):
    assert read_made(small_head(8), ImageOrientationPatient=axes).orientation == letters


@pytest.mark.parametrize("name", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_a_slice_without_geometry_is_read(name):
    assert read_made(small_head(8), **{name: None}).z_mm is None


@pytest.mark.parametrize(
    ("maker", "kernel", "named"),
    [
        ("GE MEDICAL SYSTEMS", "STANDARD", ("ge", "soft")),
        ("GE MEDICAL SYSTEMS", "BONEPLUS", ("ge", "sharp")),
        ("SIEMENS", ["H31s", "3"], ("siemens", "soft")),
        ("Siemens Healthineers", "Hr68h", ("siemens", "sharp")),
        ("SIEMENS", "H60s", ("siemens", "sharp")),
        ("TOSHIBA", "FC21", ("canon", "soft")),
        ("TOSHIBA", "FC81", ("canon", "sharp")),
        ("Dr Doe's own", "DOE", ("other", None)),
        ("", "", (None, None)),
    ],
)
def test_makers_and_kernels_come_from_fixed_lists(maker, kernel, named):
    found = read_made(small_head(8), Manufacturer=maker, ConvolutionKernel=kernel)
    assert (found.manufacturer, found.kernel) == named


def test_no_text_of_the_header_is_kept():
    names = {
        "PatientID": "DOE-4711",
        "PatientName": "DOE^JANE",
        "StudyInstanceUID": "1.2.4711",
        "SeriesInstanceUID": "1.3.4711",
        "Manufacturer": "DOE-4711",
        "ConvolutionKernel": "DOE-4711",
        "StudyDescription": "DOE-4711",
    }
    found = read_made(small_head(8), **names)
    for text in map(str, facts_of(found).values()):
        assert "DOE" not in text
        assert "4711" not in text


def test_identifiers_are_salted_hashes_without_exception():
    one, other = (read_plain(to_bytes(make_dataset(small_head(1))), salt) for salt in (SALT, b"2"))
    for name in ("patient", "study", "series", "instance"):
        assert getattr(one, name).startswith("P")
        assert getattr(one, name) != getattr(other, name)
    assert read_made(small_head(1), PatientID="").patient is None


def test_rsna_file_names_stay_and_others_do_not():
    assert slice_key("ID_0123abcde.dcm", None, SALT) == "ID_0123abcde"
    key = slice_key("DOE_JANE.dcm", None, SALT)
    assert "DOE" not in key
    assert key != slice_key("ROE_JOHN.dcm", None, SALT)
    assert key != slice_key("DOE_JANE.dcm", None, b"another")
    assert slice_key("DOE_JANE.dcm", 7, SALT) == key + "#7"


def test_a_salt_file_that_is_missing_or_short_is_told(tmp_path):
    with pytest.raises(HemtraceError, match=r"cannot be read .*ingest\.salt_file"):
        read_salt(str(tmp_path / "gone"))
    short = tmp_path / "short"
    short.write_bytes(b"short")
    with pytest.raises(HemtraceError, match="holds 5 bytes"):
        read_salt(str(short))


def test_a_blank_slice_has_no_pixel_digest():
    assert read_made(np.zeros((64, 64))).pixel_blake3 is None


def test_reading_is_the_same_from_a_real_file(ge_head):
    path = get_testdata_file("CT_small.dcm")
    with open(path, "rb") as stream:  # noqa: PTH123 - pydicom gives text
        assert_both_doors_agree(stream.read())
