"""Two processes with gloo against one: the loss curve, and how the speed scales.

What the curves are measured by is one process with another number of threads: it adds the same
numbers in another order, and no more.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from common import Figure, report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import make_products, small_head, write_labels, write_slice

from hemtrace.params import DEFAULT_WINDOWS, TrainParams, View
from hemtrace.train.job import TrainJob, run_training

SIDE, PATIENTS, SLICES = 96, 24, 12
VIEW = View(windows=DEFAULT_WINDOWS, size=SIDE, crop="none", pixel_mm=1.0)


def make_raw(folder: Path) -> Path:
    """Heads of a ring and noise, a third of them with a bleed."""
    labels = {}
    for patient in range(PATIENTS):
        for z in range(SLICES):
            number = patient * SLICES + z
            name = f"ID_{number:09x}"
            write_slice(
                folder / "stage_2_train" / f"{name}.dcm",
                small_head(number),
                PatientID=f"ID_{patient:08x}",
                SOPInstanceUID=name,
                StudyInstanceUID=f"ID_{patient:010x}",
                SeriesInstanceUID=f"ID_{patient + 999:010x}",
                ImagePositionPatient=[-125.0, -125.0, 5.0 * z],
            )
            bleed = int(patient % 3 == 0 and z > 3)
            labels[name] = [0, 0, 0, 0, bleed, bleed]
    write_labels(folder / "stage_2_train.csv", labels)
    return folder


def train(
    products: Path, out: Path, processes: int, threads: int, rate: float, optimizer: str
) -> pl.DataFrame:
    """Train Lite0 from its ImageNet weights for three epochs; its history."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    chosen = {"architecture": "tf_efficientnet_lite0", "weights": "inflate", "epochs": 3}
    more = {
        "batch_size": 32,
        "learning_rate": rate,
        "optimizer": optimizer,
        "processes": processes,
    }
    if processes == 1:  # a process of its own, with its own number of threads
        more["launcher"] = sys.executable
    job = TrainJob(
        catalog=products / "catalog.parquet",
        splits=products / "splits.parquet",
        shards=products,
        seed=3,
        train=TrainParams(**chosen, **more),
        view=VIEW,
        synthetic=True,
        model=out / "run/model.safetensors",
        other=out / "run/other.safetensors",
        history=out / "run/history.parquet",
        checkpoint=out / "checkpoints/run.pt",
        record=False,
    )
    run_training(job)
    return pl.read_parquet(job.history)


def main() -> None:
    """Measure, and report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "products").mkdir()
        raw = make_raw(folder / "raw")
        products = make_products(raw, folder / "products", "npy", VIEW)
        figures = []
        for optimizer, rate in (("sgd", 1e-2), ("adamw", 1.25e-4)):
            curves = [
                train(
                    products, folder / f"{optimizer}{count}{cores}", count, cores, rate, optimizer
                )
                for count, cores in ((1, 1), (2, 1), (1, 2))
            ]
            one, two, threads = (history["train_loss"].to_numpy() for history in curves)
            processes_apart, threads_apart = (float(np.abs(x - one).max()) for x in (two, threads))
            figures += [
                Figure(f"loss curves apart, {optimizer}", processes_apart, "", at_most=1e-4),
                Figure(f"one process of two threads apart, {optimizer}", threads_apart, ""),
            ]
    one, two, threads = (history["seconds"].min() for history in curves)
    report(
        "train_processes",
        [
            *figures,
            Figure("an epoch: one process, 1 thread", one, "s"),
            Figure("an epoch: two processes, 1 thread each", two, "s"),
            Figure("an epoch: one process, 2 threads", threads, "s"),
            Figure("two processes against one of one thread", one / two, "x"),
            Figure("two processes against one of two threads", threads / two, "x"),
        ],
    )


if __name__ == "__main__":
    main()
