"""Scans in memory or on disk, and an engine whose answers can be worked out by hand."""

import atexit
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from conftest import make_dataset
from held import SPEC
from transcode import to_bytes

from hemtrace.dicom import PUBLIC_SALT, Rejected, Slice
from hemtrace.dicom.guard import GuardedReader
from hemtrace.engine.contract import Answers, check_pictures
from hemtrace.evaluate.calibrate import Calibration, LabelCalibration
from hemtrace.evaluate.operating import Operating, Point
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, create_net, save_model
from hemtrace.window import Square, preprocess

SIDE = 128
SHA = "ab" * 32
CLOT_HU = 75


class BrightEngine:
    """Says how bright the brightest pixel in the middle of the brain is: 0.1 of brain, 0.9 of clot.

    Parameters
    ----------
    spec
        With slice context it looks at the neighbours alone: a slice is as bright as these.
    has_cells
        Whether `run` gives maps; otherwise `heat` does.
    """

    runtime = "bright 1"
    model_sha256 = SHA
    fallback = None

    def __init__(self, spec: ModelSpec = SPEC, has_cells: bool = True) -> None:
        self.spec, self.has_cells = spec, has_cells
        self.chunks: list[int] = []
        self.heated = 0

    def run(self, pictures: np.ndarray) -> Answers:
        check_pictures(self.spec, pictures)
        self.chunks.append(len(pictures))
        channels = [0, 6] if self.spec.has_context else [0]
        middle = pictures[:, channels, 12:20, 12:20].astype(np.float64)
        score = np.clip((middle.max(axis=(1, 2, 3)) - 100) / 160, 0.01, 0.99)
        # subdural, as any; all other kinds far below.
        kinds = np.array([0.1, 0.1, 0.1, 0.1, 1, 1])
        cells = self.cells(pictures) if self.has_cells else None
        return Answers(score[:, None] * kinds, cells, middle.mean(axis=(2, 3)).astype(np.float32))

    def cells(self, pictures: np.ndarray) -> np.ndarray:
        grid = pictures[:, 0].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
        return np.repeat(grid[:, None] / 255, 6, axis=1).astype(np.float32)

    def heat(self, pictures: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        self.heated += len(pictures)
        return self.cells(pictures)[:, list(labels)]


def make_operating(
    threshold: float | None = 0.5, sha256: str = SHA, rule: str = "highest", **changes: object
) -> Operating:
    """Operating points at one threshold; of `rule-out` half, of `rule-in` the way to 1."""
    label = LabelCalibration(positives=10, negatives=20)
    levels = {
        level: {
            name: {
                label: Point(
                    threshold=None if threshold is None else share(threshold),
                    positives=10,
                    negatives=20,
                    sensitivity=0.9,
                    specificity=0.8,
                    why="too few" if threshold is None else None,
                )
                for label in (LABELS if level == "slices" else ("any",))
            }
            for name, share in {
                "rule-out": lambda t: t / 2,
                "balanced": lambda t: t,
                "rule-in": lambda t: (1 + t) / 2,
            }.items()
        }
        for level in ("slices", "studies", "patients")
    }
    known = {
        "model_sha256": sha256,
        "synthetic": True,
        "calibration": Calibration(
            method="none", level="slices", labels=dict.fromkeys(LABELS, label), fitted_on=()
        ),
        "score_rule": rule,
        "aims": {"sensitivity": 0.95, "specificity": 0.95},
        "default_point": "balanced",
        "points": levels,
        "validation_slices": 100,
        "validation_patients": 10,
    }
    return Operating.model_validate(known | changes)


def head(seed: int, clot: bool = False, side: int = SIDE) -> np.ndarray:
    """Stored values (intercept -1024) of a round head, with a clot in its middle if wanted."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    radius = np.hypot(x, y)
    hu = np.where(radius < 0.34, 30.0, np.where(radius < 0.38, 1200.0, -1000.0))
    if clot:
        hu = np.where(radius < 0.06, CLOT_HU, hu)
    noise = np.random.default_rng(seed).normal(0, 1, hu.shape)
    return np.rint(hu + noise + 1024).astype(np.int32)


def make_scan(
    count: int = 20,
    clots: Sequence[int] = (),
    name: str = "scan",
    uid: str = "1.2.3",
    seed: int = 0,
    step_mm: float = 5.0,
    **header: object,
) -> dict[str, bytes]:
    """A head CT of slices 5 mm apart, by file name."""
    known: dict[str, object] = {
        "PatientID": f"patient {uid}",
        "StudyInstanceUID": uid,
        "SeriesInstanceUID": f"{uid}.1",
        "SliceThickness": step_mm,
        "PixelSpacing": [0.9, 0.9],
    }
    scan = {}
    for number in range(count):
        position = [-57.0, -57.0, step_mm * number]
        own = {"SOPInstanceUID": f"{uid}.1.{number}", "ImagePositionPatient": position}
        dataset = make_dataset(head(seed + number, number in clots), **(known | own | header))
        scan[f"{name}/{number:03d}.dcm"] = to_bytes(dataset)
    return scan


# One for all tests, which read one after the other: starting its process takes longer than a test.
_READER = GuardedReader(Path(), PUBLIC_SALT)
atexit.register(_READER.__exit__, None, None, None)


def reader_of(files: dict[str, bytes]) -> Callable[[str], Iterator[Slice | Rejected]]:
    """Give what `predict_studies` wants for reading files that are in memory."""
    return lambda name: _READER.read_content(files[name])


def write_scan(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def save_lively_model(path: Path, spec: ModelSpec = SPEC) -> Path:
    """Save an untrained network whose answers differ from slice to slice.

    Its batch norms have seen heads, without which all answers of an untrained network are one half;
    its logits have a mean of 0 and a deviation of 1 over these.
    """
    torch.manual_seed(1)
    net = create_net(spec)
    square = Square(0, 0, SIDE)
    shown = [
        preprocess(head(n, n % 2 == 0) - 1024, square, spec.windows, spec.size) for n in range(16)
    ]
    pictures = np.stack(shown)
    if spec.has_context:
        pictures = np.concatenate([pictures, np.roll(pictures, 1, 0), np.roll(pictures, 3, 0)], 1)
    seen = torch.from_numpy(pictures)
    with torch.no_grad():
        net.train()
        for _ in range(40):
            net(seen)
        net.eval()
        net.classifier.weight.normal_(0, 1)
        logits = net(seen)
        deviation, mean = logits.std(0), logits.mean(0)
        net.classifier.weight /= deviation[:, None]
        net.classifier.bias.copy_((net.classifier.bias - mean) / deviation)
    save_model(path, net, spec)
    return path
