"""The studies, trainings and networks that the checks of `gpu.py` share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
from common import Figure

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import make_products, small_head, write_labels, write_slice
from safetensors.torch import load_file

from hemtrace.model import ModelSpec, Net
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams, TrainParams, View
from hemtrace.train.job import TrainJob, run_training

Found = Iterator[Figure | str]

SIDE, PATIENTS, SLICES = 96, 24, 12
VIEW = View(windows=DEFAULT_WINDOWS, size=SIDE, crop="none", pixel_mm=1.0)
SMALL = {
    "architecture": "tf_efficientnet_b0",
    "weights": "scratch",
    "epochs": 6,
    "batch_size": 16,
    "learning_rate": 3e-3,
}
KILLS = 3
REHEARSED = {"architecture": "test_efficientnet"}
UNCHANGED = {
    "flip_horizontal": 0, "rotate_degrees": 0, "scale": 0, "shift": 0, "intensity": 0,
    "shift_hu": 0, "noise_hu": 0, "kernel": 0,
}  # fmt: skip


def make_studies(folder: Path) -> Path:
    """Heads of which every third has a bright bleed; raw files in `raw`, products beside it."""
    labels = {}
    y, x = np.mgrid[:64, :64] / 64 - 0.5
    for patient in range(PATIENTS):
        for z in range(SLICES):
            number = patient * SLICES + z
            name, head = f"ID_{number:09x}", small_head(number)
            bleed = int(patient % 3 == 0 and z > 3)
            if bleed:
                head[np.hypot(x - 0.1, y + 0.01 * (z - 8)) < 0.12] += 35
            write_slice(
                folder / "raw/stage_2_train" / f"{name}.dcm",
                head,
                PatientID=f"ID_{patient:08x}",
                StudyInstanceUID=f"ID_{patient:010x}",
                SeriesInstanceUID=f"ID_{patient + 999:010x}",
                SOPInstanceUID=name,
                ImagePositionPatient=[-125.0, -125.0, 5.0 * z],
            )
            labels[name] = [0, 0, 0, 0, bleed, bleed]
    write_labels(folder / "raw/stage_2_train.csv", labels)
    (folder / "products").mkdir()
    return make_products(folder / "raw", folder / "products", "npy", VIEW)


def make_job(products: Path, name: str, device: str, **more: object) -> TrainJob:
    """Make a training of the studies; its products go beside theirs."""
    out = products.parent / name
    # Without a GPU the lines are gone through, and no more.
    small = SMALL if torch.cuda.is_available() else SMALL | REHEARSED
    return TrainJob(
        catalog=products / "catalog.parquet",
        splits=products / "splits.parquet",
        shards=products,
        seed=3,
        train=TrainParams(**(small | {"device": device} | more)),
        view=VIEW,
        synthetic=True,
        model=out / "run/model.safetensors",
        other=out / "run/other.safetensors",
        history=out / "run/history.parquet",
        checkpoint=out / "checkpoints/run.pt",
        record=False,
    )


def train(products: Path, name: str, device: str, **more: object) -> pl.DataFrame:
    """Train in this process: its history."""
    job = make_job(products, name, device, **more)
    run_training(job)
    return pl.read_parquet(job.history)


def same_tensors(one: TrainJob, two: TrainJob) -> bool:
    """Whether two trainings ended in the same weights to the last bit, in both of their models."""
    return all(
        first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
        for first, second in (
            (load_file(one.model), load_file(two.model)),
            (load_file(one.other), load_file(two.other)),
        )
    )


def new_spec(architecture: str, side: int, **network: object) -> ModelSpec:
    return ModelSpec(
        network=NetworkParams(architecture=architecture, **network),
        weights="",
        windows=DEFAULT_WINDOWS,
        size=side,
        synthetic=True,
        seed=1,
        train={},
        git_commit="",
        data_digest="",
    )


def hold_slices(kind: type, images: np.ndarray, labels: np.ndarray):
    names = [str(k) for k in range(len(images))]
    places = np.zeros((len(images), 3), int)
    return kind(names, np.array(names), labels, places, lambda indices: images[indices])


def wake(net: Net, spec: ModelSpec, device: str, pictures: np.ndarray | None = None) -> Net:
    """Give batch norms statistics, and the classifier weights that tell slices apart.

    The statistics must be those of the pictures that are asked about: with those of noise a B4 of
    random weights answered discs with maps up to 750,000, and 1e-7 more at its input moved them by
    half of that.
    """
    images = torch.randint(0, 256, (16, spec.channels, spec.size, spec.size), dtype=torch.uint8)
    if pictures is not None:
        images = torch.from_numpy(pictures)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all that it sees
    net.to(device).train()
    with torch.no_grad():
        for _ in range(5):
            net(images.to(device))
        net.eval()
        spread = net.pooled(images.to(device)).std() * net.classifier.in_features**0.5
        torch.nn.init.normal_(net.classifier.weight, std=2 / float(spread))
    return net
