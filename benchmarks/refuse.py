"""When prediction gives no answer, on scans that deserve one and on such that do not.

Uses the finished default run in this folder (`data/`, `models/`), the real head CT where it lies
beside the checkout, and pydicom's own samples. A false alarm is a sound head CT without an answer;
a miss is an answer on anything else. Writes `results/refuse.json`, and each case with its reasons
to `results/refuse_cases.json`.

    python benchmarks/refuse.py [--studies 24] [--model models/model.safetensors]
"""

import argparse
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pydicom
from common import HEAD_CT, RESULTS, Figure, report
from pydicom.data import get_testdata_file
from pydicom.data.data_manager import DATA_ROOT
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.engine import Engine, open_engine
from hemtrace.evaluate.operating import Operating
from hemtrace.familiar import Familiar, find_familiar
from hemtrace.predict.run import predict_studies
from hemtrace.predict.study import StudyPrediction
from hemtrace.predict.verdict import find_operating

Files = dict[str, bytes]
RAW = Path("data/raw/stage_2_train")
SLICES = 30


@dataclass(frozen=True)
class Case:
    """Some scans, and whether they deserve an answer."""

    name: str
    deserves: bool
    scans: Callable[[], Iterable[Files]]


def main() -> None:
    """Predict every case, and tell how often there is no answer, and why."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=24, help="test studies of the phantom")
    parser.add_argument("--model", type=Path, default=Path("models/model.safetensors"))
    given = parser.parse_args()
    engine = open_engine(given.model)
    operating = find_operating(given.model, engine.model_sha256)
    familiar = find_familiar(given.model, engine.model_sha256)
    told = []
    for case in list_cases(given.studies):
        found = [predict(files, engine, operating, familiar) for files in case.scans()]
        told.append(tell(case, found))
        print(json.dumps(told[-1]))
    (RESULTS / "refuse_cases.json").write_text(json.dumps(told, indent=1) + "\n")
    print_table(told)
    figures = []
    for deserves, name in ((True, "false alarms"), (False, "misses")):
        of_kind = [one for one in told if one["deserves"] is deserves]
        wrong, scans = sum(one["wrong"] for one in of_kind), sum(one["scans"] for one in of_kind)
        figures.append(Figure(name, wrong, f"of {scans} scans"))
    measured = "with" if familiar else "WITHOUT (no familiar.npz)"
    report("refuse", figures, f"Point balanced; {measured} the measured distance.")


def predict(
    files: Files, engine: Engine, operating: Operating | None, familiar: Familiar | None
) -> tuple[StudyPrediction, ...]:
    """Predict the studies of some files; none where no header names one."""
    with GuardedReader(Path(), PUBLIC_SALT) as reader:
        return predict_studies(
            lambda name: reader.read_content(files[name]),
            list(files),
            engine,
            operating,
            keep_maps=False,
            identify=lambda name: reader.identify(files[name]),
            point="balanced",
            familiar=familiar,
        ).studies


def tell(case: Case, found: list[tuple[StudyPrediction, ...]]) -> dict[str, Any]:
    """Count the answers of a case; a scan of which nothing is a study has none."""
    answered = sum(any(one.verdict.answer != "no-answer" for one in scan) for scan in found)
    reasons = Counter(
        reason.code
        for scan in found
        for one in scan
        for reason in one.verdict.reasons
        if reason.stops
    )
    reasons["nothing-predicted"] = sum(not scan for scan in found)
    return {
        "case": case.name,
        "deserves": case.deserves,
        "scans": len(found),
        "no_answer": len(found) - answered,
        "wrong": len(found) - answered if case.deserves else answered,
        "reasons": dict((+reasons).most_common()),
    }


def print_table(told: list[dict[str, Any]]) -> None:
    """Print the table of docs/prediction.md."""
    print("\n| scans | n | answered | no answer | |\n|---|---|---|---|---|")
    for one in told:
        name = "false alarms" if one["deserves"] else "misses"
        reasons = ", ".join(f"{code} {count}" for code, count in one["reasons"].items())
        answered = one["scans"] - one["no_answer"]
        shown = f"{one['wrong']} {name}"
        print(f"| {one['case']} | {one['scans']} | {answered} | {reasons or '-'} | {shown} |")


def list_cases(studies: int) -> Iterator[Case]:
    """Name what is tried, as far as it is there."""
    if RAW.is_dir():
        sound, damaged = phantom_studies(studies)
        changes: dict[str, Callable[[Files], Files]] = {
            "one inner slice removed": lambda files: without(files, [len(files) // 2]),
            "three inner slices removed": lambda files: without(
                files, [len(files) // 2 + k for k in (-1, 0, 1)]
            ),
            "cut to the lower half": lambda files: without(
                files, range(len(files) // 2, len(files))
            ),
            "header names a bone kernel": lambda files: with_header(
                files, ConvolutionKernel="BONE"
            ),
            "description speaks of contrast": lambda files: with_header(
                files, SeriesDescription="CT HEAD WITH CONTRAST"
            ),
            "header names a contrast agent": lambda files: with_header(
                files, ContrastBolusAgent="Iohexol"
            ),
            "sharpened, header silent": lambda files: with_pixels(files, sharpen),
            "noise of 60 HU added, header silent": lambda files: with_pixels(files, add_noise),
            "upside down, header silent": lambda files: with_pixels(files, np.flipud),
        }
        yield Case("phantom, sound test studies", True, lambda: sound)
        yield Case("phantom, studies with a damaged file", False, lambda: damaged)
        for name, change in changes.items():
            yield Case(
                f"phantom, {name}", False, lambda change=change: (change(one) for one in sound)
            )
    if HEAD_CT.is_dir():
        head = {path.name: path.read_bytes() for path in sorted(HEAD_CT.glob("*.dcm"))}
        yield Case("real head CT (GE, 28 slices)", True, lambda: [head])
        yield Case("real head CT, every second slice removed", False, lambda: [every_second(head)])
    yield Case("pydicom's samples, one by one", False, pydicom_samples)
    body = Path(str(get_testdata_file("CT_small.dcm")))
    yield Case("body CT of pydicom, as 30 slices", False, lambda: [repeat(body)])
    for name, draw in NOISES.items():
        yield Case(f"noise, {name}", False, lambda draw=draw: [draw_scan(draw)])


def phantom_studies(count: int) -> tuple[list[Files], list[Files]]:
    """Read test studies of the default run: sound ones, and those with files that are damaged.

    Files in a study are in the order of the scan. All partitions are looked through for damage.
    """
    patients = pl.read_parquet("data/splits.parquet").select("patient", "partition")
    catalog = pl.read_parquet("data/catalog.parquet").join(patients, on="patient", how="left")
    sound, damaged = [], []
    for _, study in catalog.group_by("study", maintain_order=True):
        ordered = study.sort("z_mm", nulls_last=True)
        is_whole = ordered["reason"].is_in(["truncated", "undecodable", "implausible-hu"]).any()
        test = (ordered["partition"] == "test").any()
        if (is_whole and len(damaged) < count) or (test and not is_whole and len(sound) < count):
            files = {name: (RAW / name).read_bytes() for name in ordered["file"]}
            (damaged if is_whole else sound).append(files)
    return sound, damaged


def without(files: Files, places: Iterable[int]) -> Files:
    """Leave out files by their places."""
    gone = set(places)
    return {name: one for place, (name, one) in enumerate(files.items()) if place not in gone}


def every_second(files: Files) -> Files:
    """Keep every second slice along the scan: steps stay even, and are twice the thickness."""
    order = sorted(files, key=lambda name: pydicom.dcmread(io.BytesIO(files[name])).SliceLocation)
    return {name: files[name] for name in order[::2]}


def with_header(files: Files, **values: str) -> Files:
    """Change headers."""
    changed = {}
    for name, content in files.items():
        dataset = pydicom.dcmread(io.BytesIO(content))
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        changed[name] = encode(dataset)
    return changed


def with_pixels(files: Files, change: Callable[[np.ndarray], np.ndarray]) -> Files:
    """Change pixels; a slice that pydicom cannot decode stays."""
    changed = {}
    for name, content in files.items():
        dataset = pydicom.dcmread(io.BytesIO(content))
        dataset.decompress() if dataset.file_meta.TransferSyntaxUID.is_compressed else None
        stored = change(dataset.pixel_array.astype(np.float64))
        held = np.iinfo(dataset.pixel_array.dtype)
        kept = np.rint(stored).clip(max(held.min, -(2**15)), held.max)
        dataset.PixelData = kept.astype(dataset.pixel_array.dtype).tobytes()
        changed[name] = encode(dataset)
    return changed


def sharpen(stored: np.ndarray) -> np.ndarray:
    """Do what a bone kernel does: raise edges and noise."""
    from scipy import ndimage

    return stored + 2.5 * (stored - ndimage.gaussian_filter(stored, 1.0))


def add_noise(stored: np.ndarray) -> np.ndarray:
    """Add white noise."""
    return stored + np.random.default_rng(0).normal(0, 60, stored.shape)


def encode(dataset: Dataset) -> bytes:
    """Write a data set to bytes."""
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def pydicom_samples() -> Iterator[Files]:
    """Give each file that the wheel carries as a scan of its own."""
    for path in sorted(Path(DATA_ROOT, "test_files").rglob("*.dcm")):
        yield {path.name: path.read_bytes()}


def repeat(path: Path) -> Files:
    """Make a scan of one picture."""
    dataset = pydicom.dcmread(path)
    files = {}
    for place in range(SLICES):
        dataset.ImagePositionPatient = [-125, -125, 5.0 * place]
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(place)])
        dataset.SliceThickness = 5
        noise = np.random.default_rng(place).integers(0, 3, dataset.pixel_array.shape)
        changed = dataset.pixel_array + noise.astype(dataset.pixel_array.dtype)
        copied = pydicom.dcmread(path)
        copied.update(dataset)
        copied.PixelData = changed.tobytes()
        files[f"{place:02d}.dcm"] = encode(copied)
    return files


def _disk(radius: float) -> np.ndarray:
    y, x = np.mgrid[:512, :512] / 512 - 0.5
    return np.hypot(x, y) < radius


def _head(brain: Callable[[np.random.Generator], np.ndarray]) -> Callable[..., np.ndarray]:
    def draw(chance: np.random.Generator) -> np.ndarray:
        hu = np.where(_disk(0.36), 1200.0, -1000.0)
        return np.where(_disk(0.33), brain(chance), hu)

    return draw


NOISES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "white, 40 +- 20 HU everywhere": lambda chance: chance.normal(40, 20, (512, 512)),
    "uniform, -1000 to 1000 HU": lambda chance: chance.uniform(-1000, 1000, (512, 512)),
    "a ring of bone around 35 +- 5 HU": _head(lambda chance: chance.normal(35, 5, (512, 512))),
    "a ring of bone around 35 +- 40 HU": _head(lambda chance: chance.normal(35, 40, (512, 512))),
    "a ring of bone around water": _head(lambda chance: chance.normal(0, 5, (512, 512))),
}


def draw_scan(draw: Callable[[np.random.Generator], np.ndarray]) -> Files:
    """Make a CT scan of drawn slices, 5 mm apart."""
    files = {}
    for place in range(SLICES):
        hu = draw(np.random.default_rng(place))
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.preamble = bytes(128)
        dataset.SOPClassUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.2", "CT"
        dataset.SOPInstanceUID = f"1.2.3.{place}"
        dataset.PatientID, dataset.StudyInstanceUID = "noise", "1.2.3"
        dataset.SeriesInstanceUID = "1.2.3.0"
        dataset.ImagePositionPatient = [-125, -125, 5.0 * place]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.49, 0.49], 5
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows = dataset.Columns = 512
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.PixelData = np.rint(hu + 1024).astype(np.int16).tobytes()
        files[f"{place:02d}.dcm"] = encode(dataset)
    return files


if __name__ == "__main__":
    main()
