"""Uncompressed DICOM -> three windows at 256 px: hemtrace against pydicom + numpy and MONAI.

All do the same job from the page cache, on one core: the whole slice, made smaller by the mean over
the area. hemtrace's figure holds all that ingest does besides: hashes, HU gate, head, facts.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pydicom
from common import HEAD_CT, Figure, report, time_rounds
from pydicom.pixels import apply_modality_lut

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.params import DEFAULT_WINDOWS, View
from hemtrace.shards import make_pictures

SIZE = 256
CONTENDERS = ("hemtrace", "head", "numpy", "opencv", "monai")
COPIES = 8  # of 28 slices of a real head
WHOLE = View(windows=DEFAULT_WINDOWS, size=SIZE, crop="none", pixel_mm=1.0)
HEAD = View(windows=DEFAULT_WINDOWS, size=SIZE, crop="head", pixel_mm=0.9)


def copy_slices(folder: Path) -> list[str]:
    """Copy the real head several times."""
    names = []
    for copy in range(COPIES):
        for path in sorted(HEAD_CT.glob("*.dcm")):
            names.append(f"{copy}-{path.name}")
            shutil.copy(path, folder / names[-1])
    return names


def hemtrace_pictures(folder: Path, names: list[str], view: View) -> list[np.ndarray]:
    """The path of a shard job."""
    with GuardedReader(folder, PUBLIC_SALT) as reader:
        made = make_pictures(reader.read, names, view, PUBLIC_SALT, quiet=True)
        return [picture for _, picture in made if picture is not None]


def area_matrix(side: int, size: int) -> np.ndarray:
    """Weights (size, side) of the exact mean over the area of each output pixel."""
    edges = np.arange(size + 1) * side / size
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.clip(overlap, 0, None) * size / side


def reference(path: Path) -> np.ndarray:
    """The judge: pydicom, float64, exact weights, no rounding."""
    dataset = pydicom.dcmread(path)
    hu = dataset.pixel_array.astype(np.float64) * dataset.RescaleSlope + dataset.RescaleIntercept
    down, across = (area_matrix(side, SIZE) for side in hu.shape)
    channels = []
    for window in DEFAULT_WINDOWS:
        grey = np.clip((hu - window.center_hu) / window.width_hu + 0.5, 0, 1) * 255
        channels.append(down @ grey @ across.T)
    return np.stack(channels)


def numpy_picture(path: Path) -> np.ndarray:
    """The plain way: pydicom's own rescaling, then numpy, a loop over the windows."""
    dataset = pydicom.dcmread(path)
    hu = apply_modality_lut(dataset.pixel_array, dataset)
    step = len(hu) // SIZE
    channels = []
    for window in DEFAULT_WINDOWS:
        low = window.center_hu - window.width_hu / 2
        grey = (np.clip(hu, low, low + window.width_hu) - low) / window.width_hu * 255
        channels.append(grey.reshape(SIZE, step, SIZE, step).mean(axis=(1, 3)))
    return np.stack(channels).astype(np.uint8)


def opencv_picture(path: Path) -> np.ndarray:
    """The same by one who knows: float32, and OpenCV's resize."""
    dataset = pydicom.dcmread(path)
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    hu = dataset.pixel_array.astype(np.float32) * slope + intercept
    channels = []
    for window in DEFAULT_WINDOWS:
        low = window.center_hu - window.width_hu / 2
        grey = (np.clip(hu, low, low + window.width_hu) - low) / window.width_hu * 255
        channels.append(cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_AREA))
    return np.stack(channels).astype(np.uint8)


def monai_chain():
    """MONAI's own transforms, its pydicom reader, no threads."""
    import torch
    from monai.transforms import Compose, LoadImage, Resize, ScaleIntensityRange

    torch.set_num_threads(1)
    load = LoadImage(reader="PydicomReader", image_only=True, ensure_channel_first=True)
    windows = [
        Compose(
            [
                ScaleIntensityRange(
                    window.center_hu - window.width_hu / 2,
                    window.center_hu + window.width_hu / 2,
                    0.0,
                    255.0,
                    clip=True,
                ),
                Resize((SIZE, SIZE), mode="area"),
            ]
        )
        for window in DEFAULT_WINDOWS
    ]

    def one(path: Path) -> np.ndarray:
        image = load(path)
        return torch.cat([window(image) for window in windows]).to(torch.uint8).numpy()

    return one


def worst_difference(folder: Path, names: list[str]) -> float:
    """Grey levels between hemtrace and the judge, on every pixel of every slice."""
    made = hemtrace_pictures(folder, names, WHOLE)
    judged = (reference(folder / name) for name in names)
    return max(float(np.abs(one - true).max()) for one, true in zip(made, judged, strict=True))


def choose(contender: str) -> Callable[[Path, list[str]], object]:
    """Give the function that makes the pictures of many files."""
    if contender in ("hemtrace", "head"):
        view = WHOLE if contender == "hemtrace" else HEAD
        return lambda folder, names: hemtrace_pictures(folder, names, view)
    one = {"numpy": numpy_picture, "opencv": opencv_picture, "monai": monai_chain}[contender]
    one = one() if contender == "monai" else one
    return lambda folder, names: [one(folder / name) for name in names]


def serve_worker(contender: str, folder: Path) -> None:
    """Say when ready, and do a round each time the word is given."""
    names = sorted(path.name for path in folder.iterdir())
    pictures = choose(contender)
    pictures(folder, names[:28])
    print("ready", flush=True)
    for _ in sys.stdin:
        pictures(folder, names)
        print("done", flush=True)


def time_contenders(folder: Path, rounds: int = 5) -> dict[str, float]:
    """Slices a second of each, in a process of its own, turn by turn; and of two processes."""
    workers = {name: start_worker(name, folder) for name in CONTENDERS}
    workers["second"] = start_worker("hemtrace", folder)
    teams = {name: [workers[name]] for name in CONTENDERS}
    teams["two"] = [workers["hemtrace"], workers["second"]]
    count = len(list(folder.iterdir()))
    calls = {name: partial(play_round, team, count) for name, team in teams.items()}
    speed = time_rounds(calls, rounds)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return speed


def start_worker(contender: str, folder: Path) -> subprocess.Popen:
    """Start a process, and wait until it is ready."""
    worker = subprocess.Popen(
        [sys.executable, __file__, contender, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    while worker.stdout.readline() != "ready\n":
        if worker.poll() is not None:
            raise SystemExit(f"{contender} did not start")
    return worker


def play_round(workers: list[subprocess.Popen], count: int) -> int:
    """Let each worker do all slices, side by side; how many that were."""
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.stdout.readline()
    return count * len(workers)


def main() -> None:
    """Measure, and report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = copy_slices(folder)
        speed = time_contenders(folder)
        worst = worst_difference(folder, names[:28])
    own = speed["hemtrace"]
    report(
        "decode",
        [
            Figure("hemtrace, one core", own, "slices/s", at_least=1000),
            Figure("hemtrace, cropped to the head", speed["head"], "slices/s"),
            Figure("pydicom + numpy", speed["numpy"], "slices/s"),
            Figure("pydicom + float32 + OpenCV", speed["opencv"], "slices/s"),
            Figure("MONAI 1.6.1", speed["monai"], "slices/s"),
            Figure("against pydicom + numpy", own / speed["numpy"], "x", at_least=5),
            Figure("against pydicom + float32 + OpenCV", own / speed["opencv"], "x"),
            Figure("against MONAI", own / speed["monai"], "x", at_least=10),
            Figure("two processes against one", speed["two"] / own, "x", at_least=1.8),
            Figure("farthest from float64", worst, "grey levels", at_most=1),
        ],
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        serve_worker(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
