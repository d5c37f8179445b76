"""One small set of synthetic studies, made once, that all tests read through the real readers."""

from pathlib import Path

import numpy as np
import polars as pl
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.ingest.catalog import build_catalog
from hemtrace.ingest.labels_csv import read_labels
from hemtrace.ingest.listing import list_files
from hemtrace.labels import LABELS
from hemtrace.params import SplitParams, View
from hemtrace.shards import make_pictures, write_shard
from hemtrace.split import split_patients

GE_HEAD = Path(__file__).parents[2] / "shared/data/ge-head-ct"


@pytest.fixture(scope="session")
def ge_head() -> Path:
    """A real head CT of 28 slices, where the checkout has one beside it."""
    if not GE_HEAD.is_dir():
        pytest.skip("the real head CT (../shared/data/ge-head-ct) is not beside this checkout")
    return GE_HEAD


def make_dataset(pixels: np.ndarray, **header: object) -> Dataset:
    """A CT slice after the RSNA set's headers; `header` overrides any element."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "ID_000000001"
    dataset.Modality = "CT"
    dataset.PatientID = "ID_0000000a"
    dataset.StudyInstanceUID = "ID_000000000a"
    dataset.SeriesInstanceUID = "ID_000000000b"
    dataset.ImagePositionPatient = [-125.0, -125.0, 30.0]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    # A field of 250 mm, whatever the number of pixels: `small_head` is of a head's size.
    dataset.PixelSpacing = [round(250 / max(pixels.shape), 4)] * 2
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleSlope = 1
    dataset.RescaleIntercept = -1024
    for name, value in header.items():
        setattr(dataset, name, value)
    dtype = np.int16 if dataset.PixelRepresentation else np.uint16
    dataset.PixelData = pixels.astype(dtype).tobytes()
    return dataset


def write_slice(path: Path, pixels: np.ndarray, **header: object) -> Path:
    """Write `make_dataset` as a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_dataset(pixels, **header).save_as(path, enforce_file_format=True)
    return path


def write_labels(path: Path, labels: dict[str, list[int]]) -> Path:
    """Write a label CSV of the RSNA layout from image name -> six labels."""
    rows = [
        f"{image}_{label},{value}"
        for image, values in labels.items()
        for label, value in zip(LABELS, values, strict=True)
    ]
    path.write_text("ID,Label\n" + "\n".join(rows) + "\n")
    return path


def small_head(seed: int, side: int = 64) -> np.ndarray:
    """Stored values (intercept -1024) of a disk of brain in a ring of bone, with noise."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    radius = np.hypot(x, y)
    hu = np.where(radius < 0.35, 35.0, np.where(radius < 0.4, 1200.0, -1000.0))
    noise = np.random.default_rng(seed).normal(0, 4, hu.shape)
    return np.rint(hu + noise + 1024).astype(np.int32)


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An RSNA-like folder: 12 patients of 3 slices, every third patient with a subdural bleed."""
    root = tmp_path_factory.mktemp("raw")
    labels = {}
    for patient in range(12):
        for z in range(3):
            number = patient * 3 + z
            name = f"ID_{number:09x}"
            write_slice(
                root / "stage_2_train" / f"{name}.dcm",
                small_head(number),
                PatientID=f"ID_{patient:08x}",
                StudyInstanceUID=f"ID_{patient:010x}",
                SeriesInstanceUID=f"ID_{patient + 99:010x}",
                SOPInstanceUID=name,
                ImagePositionPatient=[-125.0, -125.0, 5.0 * z],
            )
            bleed = int(patient % 3 == 0 and z > 0)
            labels[name] = [0, 0, 0, 0, bleed, bleed]
    write_labels(root / "stage_2_train.csv", labels)
    return root


def make_products(raw: Path, folder: Path, suffix: str, view: View) -> Path:
    """Shards (`suffix` names their format), catalog and splits of the small raw folder."""
    images = raw / "stage_2_train"
    files = list_files(images, 2)
    tables = []
    with GuardedReader(images, PUBLIC_SALT) as reader:
        for shard in range(2):
            names = files.filter(pl.col("shard") == shard)["file"].to_list()
            pictures = make_pictures(reader.read, names, view, PUBLIC_SALT, shard)
            paths = folder / f"{shard:04d}.{suffix}", folder / f"{shard:04d}.parquet"
            tables.append(write_shard(pictures, view, *paths))
    catalog = build_catalog(files, pl.concat(tables), read_labels(raw / "stage_2_train.csv"))
    catalog.write_parquet(folder / "catalog.parquet")
    params = SplitParams(val_share=0.25, test_share=0.25)
    split_patients(catalog, params, 1).write_parquet(folder / "splits.parquet")
    return folder


def read_hu(path: Path) -> np.ndarray:
    """HU by pydicom's own modality LUT: the independent judge."""
    dataset = pydicom.dcmread(path)
    return np.asarray(pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset))


def catalog_rows(**columns: list[object]) -> pl.DataFrame:
    """A catalog with just the columns that split and the readers use."""
    count = len(columns["patient"])
    table = {
        "slice": [f"s{i}" for i in range(count)],
        "status": ["used"] * count,
        "pixel_blake3": [f"h{i}" for i in range(count)],
        "image_blake3": [f"i{i}" for i in range(count)],
    }
    table |= {label: [0] * count for label in LABELS}
    return pl.DataFrame(table | columns)
