"""Pictures by which two runtimes are compared."""

import numpy as np

from hemtrace.model.spec import ModelSpec


def make_sample(spec: ModelSpec, count: int = 3) -> np.ndarray:
    """Make pictures that are always the same: discs of several greys with blobs and noise.

    Returns
    -------
    uint8 (count, spec.channels, spec.size, spec.size).
    """
    chance = np.random.default_rng(2019)
    y, x = np.mgrid[: spec.size, : spec.size] / spec.size - 0.5
    pictures = np.empty((count, spec.channels, spec.size, spec.size))
    for picture in pictures:
        head = np.hypot(x, y * chance.uniform(0.8, 1.2)) < chance.uniform(0.3, 0.45)
        row, column = chance.uniform(-0.2, 0.2, 2)
        blob = np.hypot(x - column, y - row) < chance.uniform(0.03, 0.15)
        for channel in picture:
            channel[:] = 90 * head + chance.uniform(30, 120) * (blob & head)
    pictures += chance.normal(0, 12, pictures.shape)
    return pictures.clip(0, 255).astype(np.uint8)
