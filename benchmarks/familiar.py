"""Does the model know what is unlike its training data? False alarms and misses of familiar.npz.

Of the finished default run, which must be there. False alarms: phantom test studies that the score
refuses. Misses: foreign ones that it does not: phantom test studies that were changed until they
are no head CT any more; a real head CT (the model learned from phantoms alone); the single slices
of CT that come with pydicom; and noise. Only the score is asked: what has no head, or too few
slices, is refused by other rules already.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pydicom
from common import HEAD_CT, Figure, report
from pydicom.data import get_testdata_file

from hemtrace.engine import Engine, open_engine
from hemtrace.familiar import find_familiar
from hemtrace.head import Box, find_head
from hemtrace.model import ModelSpec
from hemtrace.shards import TestSlices, open_partition
from hemtrace.split import partition_of_fold
from hemtrace.window import Square, choose_square, preprocess

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models/model.safetensors"
# Patients whose studies are changed, in each of the ways.
CHANGED = 5
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "front and back swapped": lambda x: x[:, :, ::-1],
    "on its side": lambda x: np.rot90(x, 1, (2, 3)),
    "inverted": lambda x: 255 - x,
    "enlarged twice": lambda x: enlarge(x),
}
# The CTs that come with pydicom, single slices. Two are of heads; looked at by eye.
SAMPLES = {
    "a spine (CT_small)": "CT_small.dcm",
    "a head ruined by lossy compression (693_J2KI)": "693_J2KI.dcm",
    "a real head slice (J2K_pixelrep_mismatch)": "J2K_pixelrep_mismatch.dcm",
}


def enlarge(pictures: np.ndarray) -> np.ndarray:
    """Show the middle half of pictures as large as the whole."""
    side = pictures.shape[-1]
    middle = pictures[:, :, side // 4 : side // 4 + side // 2, side // 4 : side // 4 + side // 2]
    return middle.repeat(2, axis=2).repeat(2, axis=3)


def show(path: str | Path, spec: ModelSpec) -> np.ndarray:
    """Make the picture of a CT file, by pydicom's own HU; without a head of the whole slice."""
    dataset = pydicom.dcmread(path)
    hu = pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset).astype(np.int16)
    down, across = map(float, dataset.PixelSpacing)
    head = find_head(hu, down, across) or Box(0, 0, *hu.shape)
    square = choose_square(hu.shape, down, head, spec.view)
    return preprocess(hu, square, spec.windows, spec.size)


def make_foreign(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Make the foreign studies: uint8 (N, channels, size, size) each."""
    chance = np.random.default_rng(1)
    noise = chance.integers(0, 256, (20, spec.channels, spec.size, spec.size), dtype=np.uint8)
    speckle = chance.normal(40, 40, (20, 256, 256)).astype(np.int16)
    whole = Square(0, 0, 256)
    found = {
        "noise of all grey values": noise,
        "noise of brain's HU": np.stack(
            [preprocess(one, whole, spec.windows, spec.size) for one in speckle]
        ),
        "blank": np.zeros((20, spec.channels, spec.size, spec.size), np.uint8),
    }
    for name, file in SAMPLES.items():
        found[name] = show(get_testdata_file(file), spec)[None]
    if HEAD_CT.is_dir():
        files = sorted(HEAD_CT.glob("*.dcm"))
        found["a real head CT"] = np.stack([show(file, spec) for file in files])
    return found


def measure(engine: Engine) -> tuple[list[Figure], str]:
    """Judge all studies; the figures, and a note."""
    familiar = find_familiar(MODEL, engine.model_sha256)
    if familiar is None:
        raise SystemExit("familiar.npz measures nothing for this model; there is nothing to judge.")
    limit = familiar.threshold

    def median(pictures: np.ndarray) -> float:
        features = engine.run(np.ascontiguousarray(pictures)).features
        return float(np.median(familiar.distance(features)))

    splits = partition_of_fold(pl.read_parquet(ROOT / "data/splits.parquet"), 0)
    catalog = pl.read_parquet(ROOT / "data/catalog.parquet")
    test = open_partition(TestSlices, catalog, splits, ROOT / "data/shards")
    patients = np.unique(test.patients)
    places = [np.flatnonzero(test.patients == one) for one in patients]
    distances = np.array([median(test.read(place)) for place in places])
    figures = [
        Figure("limit", limit, "distance"),
        Figure("phantom test patients", len(patients), "patients"),
        Figure("false alarms", int((distances > limit).sum()), "patients"),
        Figure("their median", float(np.median(distances)), "distance"),
        Figure("their largest", float(distances.max()), "distance"),
    ]
    for name, change in CHANGES.items():
        changed = np.array([median(change(test.read(place))) for place in places[:CHANGED]])
        figures += [
            Figure(f"missed, {name}", int((changed <= limit).sum()), f"of {len(changed)}"),
            Figure(f"median, {name}", float(np.median(changed)), "distance"),
        ]
    missed = []
    for name, pictures in make_foreign(engine.spec).items():
        distance = median(pictures)
        figures.append(Figure(f"distance, {name}", distance, "distance"))
        if distance <= limit:
            missed.append(name)
    told = ", ".join(missed) if missed else "none"
    return figures, f"{engine.runtime}. Foreign studies that were not refused: {told}."


if __name__ == "__main__":
    report("familiar", *measure(open_engine(MODEL)))
