"""Whether what a GPU computes is right; run by `gpu.py`.

Each check takes the folder of the studies that `make_studies` made and a device, and yields figures
and sentences as it finds them, so that one that is stopped has told what it had.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
from common import Figure
from gpu_common import (
    KILLS,
    UNCHANGED,
    Found,
    hold_slices,
    make_job,
    new_spec,
    same_tensors,
    train,
    wake,
)

from hemtrace.errors import HemtraceError
from hemtrace.inference import predict_probabilities
from hemtrace.model import Ensemble, Net, create_net, load_model
from hemtrace.model.heads import fit_forest
from hemtrace.params import DEFAULT_WINDOWS, TrainParams
from hemtrace.predict import predict_folder
from hemtrace.shards import TrainSlices, ValSlices, open_partition
from hemtrace.train.augment import Augment, Chance
from hemtrace.train.job import TrainJob, run_training
from hemtrace.train.loader import Loader
from hemtrace.train.loop import fit


def precision(products: Path, device: str) -> Found:
    """Each precision against float32 on the CPU, without augmentation: draws differ by device."""
    augment = Augment(TrainParams(), DEFAULT_WINDOWS)
    images = torch.arange(256, dtype=torch.uint8, device=device).repeat(8, 3, 256, 1)
    chance = torch.Generator(device)

    def change() -> torch.Tensor:
        return augment(images, Chance(chance.manual_seed(1), 8, 0, 8))

    exact = change()
    with torch.autocast(device, torch.bfloat16):
        same = torch.equal(change(), exact)
    yield Figure("mixed precision leaves augmentation alone", float(same), "", at_least=1)
    # Without cuDNN's search for the fastest kernel, which takes longer than these trainings.
    more = {"epochs": 4, "deterministic": True} | UNCHANGED
    judge = train(products, "judge", "cpu", precision="fp32", **more)
    yield Figure("CPU fp32: AUC of any", judge["val_auc_any"][-1], "")
    for kind in ("bf16", "fp16", "fp32") if device == "cuda" else ("fp32", "bf16"):
        own = train(products, kind, device, precision=kind, **more)
        apart = np.abs(own["train_loss"].to_numpy() - judge["train_loss"].to_numpy())
        yield Figure(f"{kind}: first epoch's loss apart from the CPU's", float(apart[0]), "")
        yield Figure(f"{kind}: last epoch's loss apart from the CPU's", float(apart[-1]), "")
        yield Figure(f"{kind}: AUC of any", own["val_auc_any"][-1], "")


def determinism(products: Path, device: str) -> Found:
    """The same training twice, with `deterministic` and without."""
    dropped = {"dropout": 0.2, "drop_path": 0.2, "ema": 0.9}
    for wanted in (True, False):
        title = f"deterministic: {str(wanted).lower()}"
        jobs = [
            make_job(products, f"same{wanted}{k}", device, deterministic=wanted, **dropped)
            for k in range(2)
        ]
        for job in jobs:
            run_training(job)
        same = float(same_tensors(*jobs))
        yield Figure(f"{title}: same weights twice", same, "", at_least=1 if wanted else None)
        torch.use_deterministic_algorithms(False)


def processes(products: Path, device: str) -> Found:
    """`processes: 0` on one GPU is one process."""
    jobs = [
        make_job(products, f"count{count}", device, processes=count, deterministic=True, epochs=2)
        for count in (0, 1)
    ]
    for job in jobs:
        run_training(job)
    yield Figure("processes: 0 as processes: 1", float(same_tensors(*jobs)), "", at_least=1)


def kill_bf16(products: Path, device: str) -> Found:
    """A training with bfloat16, killed again and again."""
    yield from _kill(products, device, "bf16" if device == "cuda" else "fp32")


def kill_fp16(products: Path, device: str) -> Found:
    """One with float16, whose scaler goes on too."""
    if device == "cuda":
        yield from _kill(products, device, "fp16")


def _kill(products: Path, device: str, kind: str) -> Found:
    """A training killed after checkpoints, and gone on with, against an undisturbed one."""
    more = {"deterministic": True, "ema": 0.9, "dropout": 0.2, "checkpoint_minutes": 0.005}
    whole = make_job(products, f"whole_{kind}", device, precision=kind, epochs=4, **more)
    killed = make_job(products, f"killed_{kind}", device, precision=kind, epochs=4, **more)
    undisturbed = _start(whole)
    chance, kills, status = random.Random(1), 0, -9
    while status:
        before = _age(killed.checkpoint)
        process = _start(killed)
        while kills < KILLS and process.poll() is None:
            if _age(killed.checkpoint) != before:
                time.sleep(chance.random() * 3)
                process.kill()
                kills += 1
                break
            time.sleep(0.002)
        status = process.wait()
        if status not in (0, -9):
            raise SystemExit("the training that was killed failed")
    if undisturbed.wait():
        raise SystemExit("the undisturbed training failed")
    yield Figure(f"{kind}: kills by SIGKILL", kills, "")
    same = float(same_tensors(whole, killed))
    yield Figure(f"{kind}: same weights after them", same, "", at_least=1)


def _start(job: TrainJob) -> subprocess.Popen:
    path = job.checkpoint.parent.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(job.model_dump_json())
    command = [sys.executable, "-m", "hemtrace.train", str(path)]
    return subprocess.Popen(command, stdout=sys.stderr, env=dict(os.environ, OMP_NUM_THREADS="2"))


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def loader(products: Path, device: str) -> Found:
    """Batches that are copied while the GPU works arrive whole."""
    chance = np.random.default_rng(0)
    side = 380 if device == "cuda" else 64
    images = chance.integers(0, 256, (256, 3, side, side), np.uint8)
    slices = hold_slices(TrainSlices, images, np.zeros((256, 6), np.uint8))
    batches = [chance.integers(0, 256, 64) for _ in range(24)]
    read = Loader(slices, 4, torch.device(device)).read(iter(batches))
    work = torch.rand(2048, 2048, device=device)
    sums = []
    for given, _ in read:
        for _ in range(20 if device == "cuda" else 0):
            work = (work @ work).clamp(0, 1)
        sums.append(given.sum((1, 2, 3), dtype=torch.int64))
    same = all(
        np.array_equal(one.cpu().numpy(), images[batch].sum((1, 2, 3), np.int64))
        for one, batch in zip(sums, batches, strict=True)
    )
    yield Figure("pinned batches arrive whole", float(same), "", at_least=1)


def memory(products: Path, device: str) -> Found:
    """A step that does not fit on the card; then one in the parts that its sentence names."""
    if device == "cpu":
        return
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(6e9 / total)
    params = TrainParams(
        architecture="tf_efficientnet_b4", weights="scratch", batch_size=64, epochs=1
    )
    images = np.random.default_rng(0).integers(0, 256, (128, 3, 380, 380), np.uint8)
    labels = np.zeros((128, 6), np.uint8)
    labels[::2, 4:] = 1
    slices = (
        hold_slices(TrainSlices, images, labels),
        hold_slices(ValSlices, images[:4], labels[:4]),
    )
    spec = new_spec("tf_efficientnet_b4", 380)
    try:
        fit(spec, params, *slices, 1, create_net(spec))
        sentence = ""
    except HemtraceError as error:
        sentence = str(error)
    found = sentence.split("train.accumulate: ")[-1].split(" ")[0]
    fits = False
    if found.isdigit():
        parts = params.model_copy(update={"accumulate": int(found)})
        fits = bool(fit(spec, parts, *slices, 1, create_net(spec)).history)
    yield Figure("out of memory ends in a sentence", float(bool(sentence)), "", at_least=1)
    yield Figure("what it advises fits", float(fits), "", at_least=1)
    yield f"Out of memory, of 6 GB: {sentence!r}"


def heads(products: Path, device: str) -> Found:
    """Networks of every kind of input and head: the CPU's probabilities and the GPU's."""
    kinds = {
        "one": {},
        "neighbours": {"context": "neighbours"},
        "both": {"context": "both", "input_size": 64},
        "windows": {"branches": "windows"},
        "halves": {"branches": "halves"},
    }
    chance, worst = np.random.default_rng(0), {}
    for name, options in kinds.items():
        spec = new_spec("test_efficientnet", 96, **options)
        net = wake(create_net(spec), spec, device)
        images = chance.integers(0, 256, (32, spec.channels, 96, 96), np.uint8)
        worst[name] = _apart(net, images, device)
    spec = new_spec("test_efficientnet", 96)
    net = wake(create_net(spec), spec, device)
    images = chance.integers(0, 256, (64, 3, 96, 96), np.uint8)
    with torch.inference_mode():
        features = net.cpu().pooled(torch.from_numpy(images)).numpy()
    net.head = fit_forest(features, chance.integers(0, 2, (64, 6)), 1)
    worst["forest"] = _apart(net, images, device)
    other = wake(
        create_net(new_spec("test_efficientnet", 96)), new_spec("test_efficientnet", 96), device
    )
    other.shift = (0.1, 0.2, 0.3, 0.4, 0.5, -1.0)
    worst["ensemble"] = _apart(Ensemble([net, other]), images, device)
    for name, apart in worst.items():
        yield Figure(f"{name}: probabilities apart, CPU and GPU", apart, "", at_most=1e-4)


def predict(products: Path, device: str) -> Found:
    """A trained model: partitions, DICOM files and the engine, on the CPU and on the GPU."""
    from hemtrace.engine.by_torch import TorchEngine
    from hemtrace.engine.maps import GradientMaps
    from hemtrace.evaluate.predictions import predict_partitions
    from hemtrace.provenance import file_digest

    job = make_job(products, "predict", device)
    run_training(job)
    net, spec = load_model(job.model)
    catalog, splits = pl.read_parquet(job.catalog), pl.read_parquet(job.splits)
    table = predict_partitions(net, spec, catalog, splits, products)
    slices = open_partition(ValSlices, catalog, splits, products)
    own = predict_probabilities(net, slices, device=torch.device(device))
    judge = predict_probabilities(net, slices, device=torch.device("cpu"))
    stored = table.filter(pl.col("partition") == "val").select("^p_.*$").to_numpy()
    for name, apart in (("predict", own - judge), ("evaluate", stored - judge)):
        worst = float(np.abs(apart).max())
        yield Figure(f"{name}: probabilities apart, CPU and GPU", worst, "", at_most=1e-5)
    pictures = slices.read(np.arange(len(slices)))
    with torch.inference_mode():
        logits = net.to(device)(torch.from_numpy(pictures).to(device)).double()
    apart = float(np.abs(logits.sigmoid().cpu().numpy() - judge).max())
    yield Figure("the network with TF32: probabilities apart", apart, "")
    files, _ = predict_folder(products.parent / "raw/stage_2_train", job.model)
    yield Figure("slices predicted from DICOM files", files["any"].count(), "")
    engine = TorchEngine(job.model, spec, file_digest(job.model), net.cpu(), None, 3)
    apart = float(np.abs(engine.run(pictures).probabilities - judge).max())
    yield Figure("engine by torch: probabilities apart", apart, "")
    maps = GradientMaps(job.model, spec, file_digest(job.model), 3).make(pictures, range(6))
    apart = float(np.abs(engine.heat(pictures, range(6)) - maps).max() / np.abs(maps).max())
    yield Figure("engine by torch: heat maps apart", apart, "")
    yield f"The engine says it runs on: {engine.runtime}."


def compiled(products: Path, device: str) -> Found:
    """`torch.compile` learns as the network itself does, and its model is the same kind."""
    more = {"precision": "fp32", "epochs": 3, "deterministic": True} | UNCHANGED
    plain = train(products, "plain", device, **more)
    own = train(products, "compiled", device, compile=True, **more)
    yield Figure("compiled: first epoch", own["seconds"][0], "s")
    for name in ("train_loss", "val_loss"):
        apart = np.abs(own[name].to_numpy() - plain[name].to_numpy())
        yield Figure(f"compiled or not: first {name} apart", float(apart[0]), "", at_most=0.01)
        yield Figure(f"compiled or not: last {name} apart", float(apart[-1]), "")
    load_model(products.parent / "compiled/run/model.safetensors")


def _apart(net: Net | Ensemble, images: np.ndarray, device: str) -> float:
    ones, twos = (
        predict_probabilities(net, list(images), device=torch.device(where), quiet=True)
        for where in ("cpu", device)
    )
    return float(np.abs(ones - twos).max())
