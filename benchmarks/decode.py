"""Uncompressed DICOM -> three windows at 256 px: hemtrace against pydicom + numpy and MONAI.

All do the same job from the page cache, on one core: the whole slice, made smaller by the mean over
the area. hemtrace's figure holds all that ingest does besides: hashes, HU gate, head, facts.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from common import HEAD_CT, Figure, report, time_rounds

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.params import DEFAULT_WINDOWS, View
from hemtrace.shards import make_pictures

SIZE = 256
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
    """What most published code does: pydicom, float32, a loop over the windows, cv2.resize."""
    import cv2

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


def serve_worker(folder: Path, rounds: int) -> None:
    """Say when ready, wait for the word, do the rounds."""
    names = sorted(path.name for path in folder.iterdir())
    hemtrace_pictures(folder, names[:5], WHOLE)
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(rounds):
        hemtrace_pictures(folder, names, WHOLE)


def time_workers(folder: Path, count: int, rounds: int = 6) -> float:
    """Pictures a second of so many shard processes side by side, each with all slices."""
    command = [sys.executable, __file__, "worker", str(folder), str(rounds)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for worker in workers:
        worker.stdout.readline()
    started = time.perf_counter()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.wait()
    return count * rounds * len(list(folder.iterdir())) / (time.perf_counter() - started)


def main() -> None:
    """Measure, and report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = copy_slices(folder)
        few = names[:28]
        monai = monai_chain()
        calls = {
            "hemtrace": lambda: len(hemtrace_pictures(folder, names, WHOLE)),
            "head": lambda: len(hemtrace_pictures(folder, names, HEAD)),
            "numpy": lambda: len([numpy_picture(folder / one) for one in few]),
            "monai": lambda: len([monai(folder / one) for one in few]),
        }
        speed = time_rounds(calls)
        one = max(time_workers(folder, 1) for _ in range(3))
        two = max(time_workers(folder, 2) for _ in range(3))
        worst = worst_difference(folder, few)
    report(
        "decode",
        [
            Figure("hemtrace, one core", speed["hemtrace"], "slices/s", at_least=1000),
            Figure("hemtrace, cropped to the head", speed["head"], "slices/s"),
            Figure("pydicom + numpy", speed["numpy"], "slices/s"),
            Figure("MONAI 1.6.1", speed["monai"], "slices/s"),
            Figure("against pydicom + numpy", speed["hemtrace"] / speed["numpy"], "x", at_least=5),
            Figure("against MONAI", speed["hemtrace"] / speed["monai"], "x", at_least=10),
            Figure("two processes against one", two / one, "x", at_least=1.8),
            Figure("farthest from float64", worst, "grey levels", at_most=1),
        ],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        serve_worker(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
