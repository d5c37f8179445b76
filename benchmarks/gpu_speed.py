"""How fast a GPU trains and maps; run by `gpu.py`.

The loop with all that belongs to it against a bare step: forward, backward and update on one
normalised batch that lies on the card, in the same process and precision.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from common import Figure
from gpu_common import UNCHANGED, Found, hold_slices, new_spec, wake

from hemtrace.inference import exact_convolutions
from hemtrace.labels import LABELS
from hemtrace.model import create_net
from hemtrace.params import TrainParams
from hemtrace.shards import TrainSlices, ValSlices
from hemtrace.train.loop import fit
from hemtrace.train.loss import weighted_log_loss
from hemtrace.train.optim import create_optimizer

B4 = "tf_efficientnet_b4"
# architecture, side, slices a step, steps an epoch, precision
SETTINGS = (
    (B4, 380, 32, 64, "bf16"),
    (B4, 224, 32, 64, "bf16"),
    (B4, 224, 128, 24, "bf16"),
    (B4, 380, 32, 16, "fp32"),
    (B4, 380, 32, 16, "fp16"),
)
SMALL = (("test_efficientnet", 96, 8, 4, "fp32"),)
DISTINCT = 512  # pictures; more of them would only fill memory


def speed(_: Path, device: str) -> Found:
    """The loop and the bare step for each setting; what `deterministic` costs with the first."""
    for number, (architecture, side, batch, steps, kind) in enumerate(
        SETTINGS if device == "cuda" else SMALL
    ):
        title = f"{architecture}, {side} px, {batch} a step, {kind}: "
        bare, waiting, held = time_bare(architecture, side, batch, steps, kind, device)
        yield Figure(f"{title}bare step", bare, "slices/s")
        yield Figure(f"{title}bare step, its loss read at once", waiting, "slices/s")
        yield Figure(f"{title}bare step, memory", held, "GB")
        loop, first, peak = time_loop(architecture, side, batch, steps, device, precision=kind)
        yield Figure(f"{title}loop", loop, "slices/s")
        yield Figure(f"{title}loop, memory", peak, "GB")
        yield Figure(f"{title}loop, first epoch longer by", first, "s")
        yield Figure(f"{title}loop against the bare step", loop / bare, "x")
        if number == 0:
            more = {"precision": kind, "deterministic": True}
            own, first, _ = time_loop(architecture, side, batch, steps, device, **more)
            yield Figure(f"{title}deterministic loop", own, "slices/s")
            yield Figure(f"{title}deterministic loop, first epoch longer by", first, "s")
            more = {"precision": kind, **UNCHANGED}
            plain, _, _ = time_loop(architecture, side, batch, steps, device, **more)
            yield Figure(f"{title}loop without augmentation", plain, "slices/s")


def speed_predict(_: Path, device: str) -> Found:
    """Prediction with convolutions in float32, and in TF32."""
    architecture, side, batch, _, _ = (SETTINGS if device == "cuda" else SMALL)[0]
    net = create_net(new_spec(architecture, side)).to(device).eval()
    given = torch.from_numpy(_pictures(side)[:batch]).to(device)

    def predict() -> None:
        with torch.inference_mode():
            for _ in range(10):
                net(given)

    title = f"{architecture}, {side} px, {batch} at once: prediction "
    for name, way in (("with TF32", nullcontext), ("as it is", exact_convolutions)):
        with way():
            predict()
            seconds = min(_seconds_of(predict, device) for _ in range(3))
        yield Figure(title + name, 10 * batch / seconds, "slices/s")


def speed_compiled(_: Path, device: str) -> Found:
    """The loop with `torch.compile`."""
    architecture, side, batch, steps, kind = (SETTINGS if device == "cuda" else SMALL)[0]
    more = {"precision": kind, "compile": True}
    own, first, peak = time_loop(architecture, side, batch, steps, device, **more)
    title = f"{architecture}, {side} px, {batch} a step, {kind}, compiled: "
    yield Figure(f"{title}loop", own, "slices/s")
    yield Figure(f"{title}loop, memory", peak, "GB")
    yield Figure(f"{title}loop, first epoch longer by", first, "s")


def time_loop(
    architecture: str, side: int, batch: int, steps: int, device: str, **more: object
) -> tuple[float, float, float]:
    """Slices a second of the second epoch of `fit`, seconds more of the first, memory in GB."""
    spec = new_spec(architecture, side)
    images = _pictures(side)
    labels = np.zeros((batch * steps, 6), np.uint8)
    labels[::2, 4:] = 1
    train = hold_slices(TrainSlices, labels, labels)
    train = TrainSlices(
        train.slices, train.patients, labels, train.squares, lambda at: images[at % DISTINCT]
    )
    val = hold_slices(ValSlices, images[:4], labels[:4])
    params = TrainParams(
        architecture=architecture, weights="scratch", epochs=2, batch_size=batch, device=device,
        loader_threads=4, **more,
    )  # fmt: skip
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    history = fit(spec, params, train, val, 1, create_net(spec)).history
    torch.use_deterministic_algorithms(False)
    first, second = (row["seconds"] for row in history)
    return batch * steps / second, first - second, _peak(device)


def time_bare(
    architecture: str, side: int, batch: int, steps: int, kind: str, device: str
) -> tuple[float, float, float]:
    """Slices a second of bare steps, not waiting for each and waiting; their memory in GB."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.backends.cudnn.benchmark = True
    net = create_net(new_spec(architecture, side)).to(device).train()
    optimizer = create_optimizer(net, TrainParams(learning_rate=1e-6))
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}[kind]
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    images = torch.rand(batch, 3, side, side, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = (torch.rand(batch, 6, device=device) < 0.5).float()

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            logits = net.backbone(images)
        loss = weighted_log_loss(logits, labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    for _ in range(5):
        step()
    free, waiting = (
        _seconds_of(way, device)
        for way in (
            lambda: [step() for _ in range(steps)],
            lambda: [step().item() for _ in range(steps)],
        )
    )
    return batch * steps / free, batch * steps / waiting, _peak(device)


def heat(_: Path, device: str) -> Found:
    """Six heat maps of each slice: all by one forward pass, and by pytorch-grad-cam."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from hemtrace.engine.graph import trace_outputs
    from hemtrace.engine.sample import make_sample
    from hemtrace.explain.heat import find_target_layer

    architecture, side, count, rounds = (
        (B4, 224, 32, 10) if device == "cuda" else ("test_efficientnet", 96, 4, 2)
    )
    spec = new_spec(architecture, side)
    pictures = make_sample(spec, count)
    net = wake(create_net(spec), spec, device, pictures).cpu()
    graph, names = trace_outputs(net, pictures[:2], 3)
    layer, _ = find_target_layer(net, torch.from_numpy(pictures[:1]), 3)
    assert "cells" in names, "the network's head has no closed form"
    with torch.inference_mode():
        judge = graph(torch.from_numpy(pictures))[names.index("cells")].numpy()
    graph.to(device)
    given = torch.from_numpy(pictures).to(device)

    class Recorder(GradCAM):
        raw: np.ndarray

        def get_cam_image(self, *more: object) -> np.ndarray:
            self.raw = super().get_cam_image(*more)
            return self.raw

    def by_library() -> np.ndarray:
        found = []
        with Recorder(model=net, target_layers=[layer]) as cam:
            for label in range(len(LABELS)):
                cam(given, [ClassifierOutputTarget(label)] * count)
                found.append(cam.raw)
        return np.stack(found, axis=1)

    def by_graph() -> np.ndarray:
        with torch.inference_mode():
            return graph(given)[names.index("cells")].cpu().numpy()

    def forward() -> np.ndarray:
        with torch.inference_mode():
            return net(given).cpu().numpy()

    ways: dict[str, Callable] = {"forward": forward, "closed": by_graph, "library": by_library}
    maps = {name: way() for name, way in ways.items()}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            spent[name].append(_seconds_of(way, device))
    median = {name: statistics.median(times) for name, times in spent.items()}
    title = f"6 maps each of {count} slices, {architecture} at {side} px: "
    yield Figure(f"{title}plain forward pass", 1000 * median["forward"], "ms")
    yield Figure(f"{title}closed form", 1000 * median["closed"], "ms")
    yield Figure(f"{title}pytorch-grad-cam", 1000 * median["library"], "ms")
    yield Figure(f"{title}closed form against it", median["library"] / median["closed"], "x")
    scale = np.abs(judge).max()
    with exact_convolutions():
        exact = by_graph()
    for name, one, other, most in (
        ("closed form and pytorch-grad-cam, GPU", maps["closed"], maps["library"], 0.01),
        ("closed form on GPU and CPU, float32", exact, judge, 0.01),
        ("closed form on GPU and CPU, TF32", maps["closed"], judge, None),
    ):
        apart = float(np.abs(one - other).max() / scale)
        yield Figure(f"{name}: cells apart", apart, "", at_most=most)


def _pictures(side: int) -> np.ndarray:
    chance = np.random.default_rng(0)
    coarse = chance.integers(0, 256, (DISTINCT, 3, side // 4 + 1, side // 4 + 1), np.uint8)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, :side, :side].copy()


def _seconds_of(call: Callable[[], object], device: str) -> float:
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
