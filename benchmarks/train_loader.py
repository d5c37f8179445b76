"""The loader alone at 380 px, one thread, random order, page cache; the memory of shuffling."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import Figure, report, time_rounds
from read_back import make_head

from hemtrace.shards import TrainSlices, open_images
from hemtrace.shards.context import read_context
from hemtrace.shards.images import SUFFIXES, create_images
from hemtrace.train.loader import Loader

SIDE, COPIES, BATCH = 380, 60, 32
ROWS = 752_803
SHUFFLE = f"""
import re
from pathlib import Path
import numpy as np
from hemtrace.params import SamplingParams
from hemtrace.train.sampler import draw_epoch, slice_chances
labels = np.zeros(({ROWS}, 6), np.uint8)
labels[:107_933, 5] = 1
# ru_maxrss would be that of the process that started this one.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
draw_epoch(slice_chances(labels, SamplingParams(sampling="positives")), {ROWS}, 1, 1)
print((peak() - before) * 1024 / 1e6)
"""


def open_train(folder: Path, kind: str, head: np.ndarray) -> TrainSlices:
    """Write a shard of copies of the head, and open it as training does."""
    path = folder / f"0000{SUFFIXES[kind]}"
    with create_images(path, kind, head.shape[1:]) as out:
        for _ in range(COPIES):
            for picture in head:
                out.write(picture)
    reader = open_images(path)
    count = reader.shape[0]
    places = np.zeros((count, 1, 5), int)
    places[:, 0, 1] = np.arange(count)
    places[:, 0, 4] = SIDE
    names = [str(k) for k in range(count)]
    return TrainSlices(
        slices=names,
        patients=np.array(names),
        labels=np.zeros((count, 6), np.uint8),
        squares=np.zeros((count, 3), int),
        read_places=lambda i: read_context(
            lambda _, row: reader.read(row), places[i], head.shape[1:]
        ),
    )


def read_all(slices: TrainSlices) -> int:
    """An epoch of batches."""
    order = np.random.default_rng(0).permutation(len(slices))
    batches = np.array_split(order, len(slices) // BATCH)
    return sum(len(images) for images, _ in Loader(slices, 1, torch.device("cpu")).read(batches))


def main() -> None:
    """Measure, and report."""
    done = subprocess.run(
        [sys.executable, "-c", SHUFFLE], capture_output=True, text=True, check=True
    )
    with tempfile.TemporaryDirectory() as name:
        head = make_head(SIDE)
        opened = {kind: open_train(Path(name), kind, head) for kind in SUFFIXES}
        speed = time_rounds({k: lambda s=s: read_all(s) for k, s in opened.items()}, rounds=4)
    report(
        "train_loader",
        [
            Figure("npy, one thread", speed["npy"], "slices/s", at_least=5000),
            Figure("parquet, one thread", speed["parquet"], "slices/s"),
            Figure(f"shuffling {ROWS:,} rows", float(done.stdout), "MB", at_most=100),
        ],
    )


if __name__ == "__main__":
    main()
