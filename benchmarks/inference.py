"""Prediction on a CPU, tf_efficientnet_b4: the exported engine against torch eager, channels last.

At the size of the default run, 112 px, and at the paper's, 380 px. Both run the same graph with
everything that prediction asks of it, on the same pictures in batches of 8, with 2 threads, turn by
turn: logits and features, and the heat maps of all six labels where they come by the forward pass
(at 380 px, where the last map is fine enough; the ratio is with maps on both sides). The answers
are compared too. What the first start (export) and later ones take is told beside it.

    python benchmarks/inference.py            # about four minutes
    python benchmarks/inference.py 112        # one size
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import Figure, report, time_rounds

from hemtrace.engine import CHUNK, open_engine
from hemtrace.model import ModelSpec, create_net, save_model
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams

THREADS, ROUNDS = 2, 7
SIZES = (112, 380)


def save_new(folder: Path, size: int) -> Path:
    """Save a network with random weights, whose pictures have `size` pixels."""
    spec = ModelSpec(
        network=NetworkParams(architecture="tf_efficientnet_b4"),
        weights="",
        windows=DEFAULT_WINDOWS,
        size=size,
        synthetic=True,
        seed=1,
        train={},
        git_commit="",
        data_digest="",
    )
    net = create_net(spec).eval()
    torch.nn.init.normal_(net.classifier.weight)
    save_model(folder / "model.safetensors", net, spec)
    return folder / "model.safetensors"


def measure(size: int) -> list[Figure]:
    """Time both runtimes at one size, and compare what they say."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        model = save_new(Path(folder), size)
        started = time.perf_counter()
        engine = open_engine(model, "openvino", THREADS)
        first = time.perf_counter() - started
        started = time.perf_counter()
        engine = open_engine(model, "openvino", THREADS)
        later = time.perf_counter() - started
        eager = open_engine(model, "torch", THREADS)
    shape = (CHUNK, engine.spec.channels, size, size)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    ours, judge = engine.run(pictures), eager.run(pictures)
    rates = time_rounds(
        {
            "engine": lambda: len(engine.run(pictures)),
            "eager": lambda: len(eager.run(pictures)),
        },
        ROUNDS,
    )
    maps = "with heat maps" if engine.has_cells else "maps take gradients"
    figures = [
        Figure(f"{size} px: torch eager, {maps}", rates["eager"], "slices/s"),
        Figure(f"{size} px: OpenVINO, {maps}", rates["engine"], "slices/s"),
        Figure(f"{size} px: ratio", rates["engine"] / rates["eager"], "x", at_least=1.5),
        Figure(f"{size} px: first start, with export", first, "s"),
        Figure(f"{size} px: later starts", later, "s"),
        Figure(
            f"{size} px: probabilities' largest difference",
            float(np.abs(ours.probabilities - judge.probabilities).max()),
            "",
            at_most=1e-4,
        ),
    ]
    if ours.cells is not None and judge.cells is not None:
        off = np.abs(ours.cells - judge.cells).max() / np.abs(judge.cells).max()
        figures.append(Figure(f"{size} px: maps' largest difference", float(off), "", at_most=1e-4))
    return figures


if __name__ == "__main__":
    asked = [int(size) for size in sys.argv[1:]] or SIZES
    report("inference", [figure for size in asked for figure in measure(size)])
