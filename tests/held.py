"""Labelled slices in memory, in place of shards."""

import numpy as np
import torch

from hemtrace.model import ModelSpec, Net
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams, TrainParams
from hemtrace.shards.partition import P

TINY = "test_efficientnet"
SPEC = ModelSpec(
    network=NetworkParams(architecture=TINY),
    weights="",
    windows=DEFAULT_WINDOWS,
    size=32,
    synthetic=True,
    seed=0,
    train={},
    git_commit="",
    data_digest="",
)
PARAMS = TrainParams(
    architecture=TINY,
    weights="scratch",
    epochs=3,
    batch_size=16,
    learning_rate=1e-2,
    rotate_degrees=5,
    noise_hu=1,
)


def hold(kind: type[P], count: int, seed: int, seen: list[int] | None = None) -> P:
    """Make slices of which four in ten have a bright square, which is a subdural bleed.

    Parameters
    ----------
    kind
        Of partition.
    seen
        Gets the places that are read.
    """
    chance = np.random.default_rng(seed)
    labels = np.zeros((count, 6), dtype=np.uint8)
    labels[:, 4] = labels[:, 5] = chance.random(count) < 0.4
    images = chance.integers(0, 120, (count, 3, 32, 32), dtype=np.uint8)
    images[labels[:, 5] == 1, :, 10:20, 10:20] += 120

    def read(indices: np.ndarray) -> np.ndarray:
        if seen is not None:
            seen.extend(indices.tolist())
        return images[indices]

    return kind(
        slices=[f"s{k}" for k in range(count)],
        patients=np.array([f"p{k // 3}" for k in range(count)]),
        labels=labels,
        squares=np.tile([0, 0, 32], (count, 1)),
        read_places=read,
    )


def same_weights(first: Net, second: Net) -> bool:
    """Whether two networks are equal to the last bit."""
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())
