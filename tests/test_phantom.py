"""The phantom: the same bytes for the same seed, the RSNA layout, and bleeds where they belong."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pydicom
import pytest
from scipy import ndimage

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.params import PhantomParams
from hemtrace.phantom import bleeding, generate
from hemtrace.phantom.atlas import Block
from hemtrace.phantom.bleeding import draw_bleeds
from hemtrace.phantom.head import make_head
from hemtrace.phantom.lesions import MEAN_HU, VOLUMES_ML, Site, draw_mean_hu, draw_volume_ml
from hemtrace.phantom.plan import FAULTS, plan_patients
from hemtrace.phantom.render import Renderer
from hemtrace.phantom.scanner import label_slices
from hemtrace.phantom.traits import draw_traits

SEED = 5
# Bleeds of natural size: the mass effect of larger ones closes the CSF spaces measured here.
FAULTY = PhantomParams(
    patients=6,
    min_slices=5,
    max_slices=6,
    positive_share=0.85,
    fault_share=0.45,
    lesion_volume_factor=1,
)
SOUND = FAULTY.model_copy(update={"fault_share": 0.0})
SMALL = PhantomParams(patients=3, min_slices=4, max_slices=4, positive_share=0.5)
STEP_MM = 2.5

pytestmark = pytest.mark.filterwarnings("ignore:.*Invalid value for VR UI.*:UserWarning")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("faulty")
    generate(out, FAULTY, SEED)
    return out


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound")
    generate(out, SOUND, SEED, workers=2)
    return out


def truth(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "phantom.parquet")


def read(out: Path, name: str) -> pydicom.Dataset:
    return pydicom.dcmread(out / "stage_2_train" / f"{name}.dcm")


def read_hu(out: Path, name: str) -> np.ndarray:
    dataset = read(out, name)
    return dataset.pixel_array.astype(np.int32) + int(dataset.RescaleIntercept)


def decode_mask(png: bytes) -> np.ndarray:
    mask = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    return mask


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three patients where an earlier call has left a file."""
    out = tmp_path_factory.mktemp("small")
    (out / "stage_2_train").mkdir()
    (out / "stage_2_train" / "ID_000000000.dcm").write_bytes(b"old")
    generate(out, SMALL, SEED + 1)
    return out


def test_same_seed_same_bytes_with_any_number_of_workers(small: Path, tmp_path: Path) -> None:
    generate(tmp_path, SMALL, SEED + 1, workers=2)
    files = sorted(path.relative_to(small) for path in small.rglob("*.*"))
    assert len(files) == 3 * 4 + 2
    for path in files:
        assert (small / path).read_bytes() == (tmp_path / path).read_bytes()


def test_faults_leave_the_other_files_as_they_are(faulty: Path, sound: Path) -> None:
    right = dict(truth(sound).select("slice", "sha256").iter_rows())
    kept = truth(faulty).filter(pl.col("fault").is_null())
    assert all(right[name] == digest for name, digest in kept.select("slice", "sha256").iter_rows())


def test_other_seed_other_patients(small: Path, sound: Path) -> None:
    assert not set(truth(small)["patient"]) & set(truth(sound)["patient"])


def test_second_call_leaves_nothing_of_the_first(small: Path) -> None:
    names = {path.name for path in small.iterdir()}
    assert names == {"stage_2_train", "stage_2_train.csv", "phantom.parquet"}
    files = {path.stem for path in (small / "stage_2_train").iterdir()}
    assert files == set(truth(small)["slice"])


def test_folder_that_is_a_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("")
    with pytest.raises(HemtraceError, match="cannot be written"):
        generate(tmp_path / "raw", SOUND, SEED)


def test_every_file_has_its_digest_in_the_truth_table(faulty: Path) -> None:
    rows = truth(faulty)
    files = sorted((faulty / "stage_2_train").iterdir())
    assert [path.stem for path in files] == sorted(rows["slice"])
    digests = dict(zip(rows["slice"], rows["sha256"], strict=True))
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digests[path.stem]


def test_header_is_that_of_the_rsna_set(sound: Path) -> None:
    rows = truth(sound)
    for name, patient, z_mm in rows.select("slice", "patient", "z_mm").iter_rows():
        dataset = read(sound, name)
        assert (dataset.Rows, dataset.Columns, dataset.RescaleSlope) == (512, 512, 1)
        assert dataset.SOPInstanceUID == name
        assert len(name) == 12
        assert dataset.PatientID == patient
        assert len(patient) == 11
        assert len(dataset.StudyInstanceUID) == len(dataset.SeriesInstanceUID) == 13
        assert "PatientAge" not in dataset
        assert "PatientSex" not in dataset
        assert "Manufacturer" not in dataset
        assert float(dataset.ImagePositionPatient[2]) == pytest.approx(z_mm, abs=1e-3)
        across, down = np.reshape(np.asarray(dataset.ImageOrientationPatient, float), (2, 3))
        assert across @ down == pytest.approx(0, abs=1e-6)
        assert np.linalg.norm(down) == pytest.approx(1, abs=1e-5)


def test_slices_of_a_patient_rise_evenly(sound: Path) -> None:
    for _, rows in truth(sound).group_by("patient"):
        heights = rows.sort("z_index")["z_mm"].to_numpy()
        assert np.allclose(np.diff(heights), heights[1] - heights[0], atol=1e-3)
        assert heights[1] > heights[0]


def test_csv_has_six_rows_a_slice_in_label_order(sound: Path) -> None:
    with (sound / "stage_2_train.csv").open() as file:
        header, *lines = csv.reader(file)
    assert header == ["ID", "Label"]
    expected = [
        [f"{row['slice']}_{label}", str(row[label])]
        for row in truth(sound).iter_rows(named=True)
        for label in LABELS
    ]
    assert lines == expected


def test_labels_and_masks_agree(sound: Path) -> None:
    for row in truth(sound).iter_rows(named=True):
        assert row["any"] == max(row[subtype] for subtype in SUBTYPES)
        assert (row["mask"] is not None) == bool(row["any"])
        if row["mask"]:
            mask = decode_mask(row["mask"])
            assert mask.shape == (512, 512)
            for k, subtype in enumerate(SUBTYPES):
                assert bool((mask >> k & 1).any()) == bool(row[subtype])


def test_share_of_patients_with_a_bleed_is_exact(sound: Path) -> None:
    plans = plan_patients(PhantomParams(patients=96, positive_share=0.42), SEED)
    assert sum(bool(plan.subtypes) for plan in plans) == 40
    counts = Counter(subtype for plan in plans for subtype in plan.subtypes)
    assert min(counts, key=lambda name: counts[name]) == "epidural"
    assert all(counts[subtype] >= 8 for subtype in SUBTYPES)


def test_small_marks_are_no_label() -> None:
    masks = np.zeros((3, 64, 64), np.uint8)
    masks[1, :4, :5] = 1 << 2  # 20 mm2 at 1 mm
    masks[2, 0, :3] = 1 << 2  # 3 mm2
    labels, kept = label_slices(masks, spacing_mm=1.0)
    assert labels[:, SUBTYPES.index("intraventricular")].tolist() == [0, 1, 0]
    assert labels[:, -1].tolist() == [0, 1, 0]
    assert kept[1].any()
    assert not kept[2].any()


def test_no_faults_unless_asked_for(sound: Path) -> None:
    rows = truth(sound)
    assert rows["fault"].null_count() == len(rows)
    for name in rows["slice"]:
        dataset = read(sound, name)
        assert dataset.pixel_array.shape == (512, 512)
        assert not dataset.file_meta.TransferSyntaxUID.is_compressed
        assert dataset.BitsStored == 16 or dataset.RescaleIntercept == -1024
        assert not isinstance(dataset.WindowCenter, pydicom.multival.MultiValue)


def test_every_kind_of_fault_occurs(faulty: Path) -> None:
    assert set(truth(faulty)["fault"].drop_nulls()) == set(FAULTS)


def faulty_slices(faulty: Path, fault: str) -> list[str]:
    return truth(faulty).filter(pl.col("fault") == fault)["slice"].to_list()


def test_truncated_file_has_no_readable_pixels(faulty: Path) -> None:
    for name in faulty_slices(faulty, "truncated"):
        with pytest.raises((ValueError, AttributeError)):
            _ = read(faulty, name).pixel_array


def test_repair_of_the_12_bit_fault_restores_hu(faulty: Path, sound: Path) -> None:
    for name in faulty_slices(faulty, "twelve_bit"):
        dataset = read(faulty, name)
        assert (dataset.BitsStored, dataset.PixelRepresentation) == (12, 0)
        assert dataset.RescaleIntercept > -100
        pixels = dataset.pixel_array.astype(np.int32) + 1000
        pixels[pixels >= 4096] -= 4096
        right = read_hu(sound, name)
        inside = right > -1500
        both = [np.clip(hu[inside], -1000, 3071) for hu in (pixels - 1000, right)]
        assert np.array_equal(*both)
        assert not np.array_equal(read_hu(faulty, name), right)


@pytest.mark.parametrize("fault", ["rle", "jpeg2000"])
def test_compressed_files_hold_the_same_pixels(fault: str, faulty: Path, sound: Path) -> None:
    for name in faulty_slices(faulty, fault):
        assert read(faulty, name).file_meta.TransferSyntaxUID.is_compressed
        assert np.array_equal(read_hu(faulty, name), read_hu(sound, name))


def test_odd_sized_slice_shows_the_same_head_with_its_mask(faulty: Path, sound: Path) -> None:
    for name in faulty_slices(faulty, "odd_size"):
        odd, right = read(faulty, name), read(sound, name)
        assert odd.pixel_array.shape != (512, 512)
        shift = np.subtract(
            np.asarray(right.ImagePositionPatient, float),
            np.asarray(odd.ImagePositionPatient, float),
        )
        axes = np.reshape(np.asarray(right.ImageOrientationPatient, float), (2, 3))
        left, top = np.rint(axes @ shift / float(right.PixelSpacing[0])).astype(int)
        part = odd.pixel_array[top : top + 512, left : left + 512]
        assert np.array_equal(part, right.pixel_array)
        row = truth(faulty).row(by_predicate=pl.col("slice") == name, named=True)
        if row["mask"]:
            assert decode_mask(row["mask"]).shape == odd.pixel_array.shape


def test_multi_valued_windows(faulty: Path) -> None:
    for name in faulty_slices(faulty, "multi_window"):
        dataset = read(faulty, name)
        assert len(dataset.WindowCenter) == len(dataset.WindowWidth) == 2


def test_duplicated_slices_stand_twice_in_the_csv_and_agree(faulty: Path) -> None:
    with (faulty / "stage_2_train.csv").open() as file:
        lines = list(csv.DictReader(file))
    times = Counter(line["ID"].rsplit("_", 1)[0] for line in lines)
    twice = {name for name, count in times.items() if count == 12}
    assert twice == set(faulty_slices(faulty, "duplicated_rows"))
    assert set(times.values()) == {6, 12}
    assert len({(line["ID"], line["Label"]) for line in lines}) == 6 * len(truth(faulty))


def test_tissues_have_their_hu(sound: Path) -> None:
    for _, rows in truth(sound).group_by("patient"):
        middle = rows.sort("z_index")["slice"][len(rows) // 2]
        hu = read_hu(sound, middle)
        skull = ndimage.binary_closing(hu > 300, iterations=4)
        cavity = ndimage.binary_fill_holes(skull) & ~ndimage.binary_dilation(skull, iterations=8)
        assert cavity.sum() > 15_000
        assert 24 < np.median(hu[cavity]) < 44
        smooth = cv2.GaussianBlur(hu.astype(np.float32), (0, 0), 2)
        assert np.percentile(smooth[cavity], 1) < 26  # CSF, or its partial volume
        assert 700 < np.percentile(hu[hu > 500], 90) < 2200
        assert np.median(hu[:20, 240:270]) < -900  # in front of the head, within the field


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_drawn_volumes_and_densities_follow_the_table(subtype: str) -> None:
    rng = np.random.default_rng(0)
    volumes = [draw_volume_ml(subtype, rng) for _ in range(4000)]
    assert np.percentile(volumes, (25, 50, 75)) == pytest.approx(VOLUMES_ML[subtype][:3], rel=0.15)
    assert np.percentile(volumes, 95) == pytest.approx(VOLUMES_ML[subtype][3], rel=0.3)
    densities = [draw_mean_hu(subtype, rng) for _ in range(4000)]
    assert np.percentile(densities, (5, 50, 95)) == pytest.approx(MEAN_HU[subtype], abs=1.5)


def bleed(subtype: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Site, np.ndarray]:
    """Give one lesion of 6 mL: the points inside a skull, and the share of blood there."""
    monkeypatch.setattr(bleeding, "draw_volume_ml", lambda *_: 6.0)
    monkeypatch.setattr(bleeding, "_draw_count", lambda *_: 1)
    rng = np.random.default_rng(seed)
    renderer = Renderer([])
    head = make_head(draw_traits(rng), rng)
    head, (lesion,) = draw_bleeds((subtype,), head, 1.0, renderer.visit, rng)
    axes = (np.arange(-80, 81, STEP_MM), np.arange(-110, 81, STEP_MM), np.arange(-75, 96, STEP_MM))
    x, y, z = np.meshgrid(*(axis.astype(np.float32) for axis in axes), indexing="ij")
    site = renderer.visit(head, (x, y, z))
    return site, lesion.cover(site)


@pytest.mark.parametrize("subtype", ["epidural", "intraparenchymal", "subarachnoid", "subdural"])
def test_lesion_has_the_volume_it_was_given(subtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, share = bleed(subtype, 3, monkeypatch)
    assert share.sum() * STEP_MM**3 / 1000 == pytest.approx(6.0, rel=0.25)


@pytest.mark.parametrize("seed", [1, 2])
def test_intraventricular_blood_lies_in_the_ventricles(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, share = bleed("intraventricular", seed, monkeypatch)
    assert (share * (site.tissue.margin_mm > -1)).sum() > 0.98 * share.sum() > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_epidural_blood_is_one_lens_on_the_inner_skull(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, share = bleed("epidural", seed, monkeypatch)
    blood = share > 0.5
    assert site.depth_mm[blood].min() < 2
    assert site.depth_mm[blood].max() < 25
    x = site.head[0][blood]
    assert (x > 0).all() or (x < 0).all()


def test_subarachnoid_blood_takes_the_place_of_csf(monkeypatch: pytest.MonkeyPatch) -> None:
    site, share = bleed("subarachnoid", 2, monkeypatch)
    assert (share * site.tissue.sulcus).sum() / share.sum() > 0.4
    assert (share * site.tissue.ventricle).sum() / share.sum() < 0.1


def test_epidural_blood_pushes_the_brain_and_not_the_skull(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bleeding, "draw_volume_ml", lambda *_: 40.0)
    rng = np.random.default_rng(4)
    before = make_head(draw_traits(rng), rng)
    after, _ = draw_bleeds(("epidural",), before, 1.0, Renderer([]).visit, rng)
    moved = after.control.values - before.control.values
    assert np.abs(moved[..., 3:6]).max() > 4
    assert not moved[..., [0, 1, 2, 6, 7, 8]].any()


def test_block_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 7, 8, 2), dtype=np.float32)
    points = tuple((rng.uniform(0, 4.9, 50) * 2 - 3).astype(np.float32) for _ in range(3))
    block = Block(values, (-3.0, -3.0, -3.0), 2.0)
    places = [(p + 3) / 2 for p in points]
    for channel in range(2):
        expected = ndimage.map_coordinates(values[..., channel], places, order=1)
        x, y, z = points
        assert np.allclose(block.sample((x, y, z))[channel], expected, atol=1e-4)


def test_periodic_block_repeats_itself() -> None:
    values = np.random.default_rng(0).standard_normal((6, 6, 6, 1), dtype=np.float32)
    block = Block(values, (0.0, 0.0, 0.0), 1.0, periodic=True)
    x, y, z = np.random.default_rng(1).uniform(-5, 11, (3, 60)).astype(np.float32)
    expected = ndimage.map_coordinates(values[..., 0], [x, y, z], order=1, mode="grid-wrap")
    assert np.allclose(block.sample((x, y, z))[0], expected, atol=1e-4)
