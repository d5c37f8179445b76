"""Heat maps for six labels, tf_efficientnet_b4 at 224 px, batches of 8, all from one network.

The closed form against a plain forward pass, against pytorch-grad-cam run as its users run it, once
a label, and against its map and weights fed with gradients of one forward pass, as the project does
where the head allows no closed form. All on the same pictures and threads, turn by turn; of each
the median. The raw maps, before anything is cut off or scaled, are compared with the library's.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from common import Figure, report
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from hemtrace.explain.heat import closed_form_cams, find_target_layer, gradient_cams
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, Net, create_net
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams

SIDE, BATCH, CELLS = 224, 8, 7
# A forward pass is so much shorter that it and the closed form are timed more often.
ROUNDS, SHORT_ROUNDS = 5, 5
EVERY = list(range(len(LABELS)))


class Recorder(GradCAM):
    """The library's Grad-CAM, which keeps the map that it would go on to scale."""

    raw: np.ndarray

    def get_cam_image(self, *given: object) -> np.ndarray:
        """Keep what the library computes."""
        self.raw = super().get_cam_image(*given)
        return self.raw


def new_net() -> Net:
    """Make a network with a classifier that tells the labels apart."""
    spec = ModelSpec(
        network=NetworkParams(architecture="tf_efficientnet_b4"),
        weights="",
        windows=DEFAULT_WINDOWS,
        size=SIDE,
        synthetic=True,
        seed=1,
        train={},
        git_commit="",
        data_digest="",
    )
    return create_net(spec).eval()


def library_maps(net: Net, layer: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Run pytorch-grad-cam once a label: (N, 6, rows, columns), before scaling."""
    found = []
    with Recorder(model=net, target_layers=[layer]) as cam:
        for label in EVERY:
            cam(torch.from_numpy(images), [ClassifierOutputTarget(label)] * len(images))
            found.append(cam.raw)
    return np.stack(found, axis=1)


def forward(net: Net, images: np.ndarray) -> torch.Tensor:
    """Compute logits, as prediction does."""
    with torch.inference_mode():
        return net(torch.from_numpy(images))


def seconds_of(call: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure() -> list[Figure]:
    """Time all ways, and compare their maps."""
    net = new_net()
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 3, SIDE, SIDE)).astype(np.uint8)
    layer, cells = find_target_layer(net, torch.from_numpy(images[:1]), CELLS)
    closed = closed_form_cams(net, layer, images, EVERY)
    assert closed is not None, "the network's head has no closed form"
    judge = library_maps(net, layer, images)
    tail = gradient_cams(net, layer, images, EVERY)
    scale = np.abs(judge).max(axis=(2, 3), keepdims=True)
    ways: dict[str, Callable[[], object]] = {
        "forward": lambda: forward(net, images),
        "closed": lambda: closed_form_cams(net, layer, images, EVERY),
        "tail": lambda: gradient_cams(net, layer, images, EVERY),
        "library": lambda: library_maps(net, layer, images),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for _ in range(SHORT_ROUNDS):
            for name in ("forward", "closed"):
                spent[name].append(seconds_of(ways[name]))
        for name in ("tail", "library"):
            spent[name].append(seconds_of(ways[name]))
    median = {name: statistics.median(times) for name, times in spent.items()}
    # Of neighbours in time, so that both met the same machine.
    ratios = [one / two for one, two in zip(spent["closed"], spent["forward"], strict=True)]
    title = f"6 labels, {BATCH} slices"
    return [
        Figure("cells on a side", min(cells), "cells"),
        Figure("plain forward pass", 1000 * median["forward"], "ms"),
        Figure(f"{title}: closed form", 1000 * median["closed"], "ms"),
        Figure(
            f"{title}: one forward pass, gradients down to the map", 1000 * median["tail"], "ms"
        ),
        Figure(f"{title}: pytorch-grad-cam", 1000 * median["library"], "ms"),
        Figure("closed form against a forward pass", statistics.median(ratios), "x", at_most=1.15),
        Figure(
            "closed form against pytorch-grad-cam",
            median["library"] / median["closed"],
            "x",
            at_least=20,
        ),
        Figure("gradients down to the map against it", median["library"] / median["tail"], "x"),
        Figure(
            "raw maps' relative difference, closed form",
            float((np.abs(closed - judge) / scale).max()),
            "",
            at_most=1e-4,
        ),
        Figure(
            "raw maps' relative difference, gradients",
            float((np.abs(tail - judge) / scale).max()),
            "",
            at_most=1e-4,
        ),
    ]


if __name__ == "__main__":
    torch.set_num_threads(2)
    report("heat", measure(), f"pytorch-grad-cam runs the network forward and back {len(EVERY)} x.")
