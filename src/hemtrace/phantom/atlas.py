"""The average brain that every phantom head is a deformation of, and random fields beside it.

Atlas coordinates are MNI152's: millimetres, x to the right, y to the front, z up, the origin at
the anterior commissure. See build_atlas.py for the maps and ATLAS_LICENSE for their source.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from hemtrace.phantom.build_atlas import BRAIN_BOX, BRAIN_VOXEL, HEAD_BOX, HEAD_VOXEL

Vector = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Block:
    """Values on a regular grid of points in space.

    `values` is float32 [x, y, z, channels], `origin_mm` the first point, `step_mm` the distance
    of points. Beyond its end a block repeats itself if it is `periodic`, else its border lasts.
    """

    values: np.ndarray
    origin_mm: tuple[float, float, float]
    step_mm: float
    periodic: bool = False

    def sample(self, points: Vector) -> np.ndarray:
        """Interpolate linearly at points in mm: float32 [channels, *shape of a coordinate]."""
        x, y, z = (coordinate.ravel() for coordinate in points)
        result = np.empty((self.values.shape[3], len(x)), np.float32)
        # Pieces that stay in the processor's cache take less than half the time.
        for start in range(0, len(x), 8192):
            piece = slice(start, start + 8192)
            result[:, piece] = self._interpolate((x[piece], y[piece], z[piece])).T
        return result.reshape(-1, *points[0].shape)

    @cached_property
    def _pairs(self) -> np.ndarray:
        """Every point's channels and those of the point above, so that one look-up gets both."""
        return np.concatenate([self.values, np.roll(self.values, -1, axis=2)], axis=3)

    def _interpolate(self, points: Vector) -> np.ndarray:
        shape = self.values.shape
        lows, highs, shares = [], [], []
        for coordinate, origin, size in zip(points, self.origin_mm, shape, strict=False):
            place = (coordinate - np.float32(origin)) * np.float32(1 / self.step_mm)
            if self.periodic:
                # Floats wrap several times faster than integers; rounding may give `size` itself.
                place -= size * np.floor(place * np.float32(1 / size))
                low = np.minimum(np.floor(place), size - 1)
            else:
                place = np.clip(place, 0, np.float32(size - 1.001))
                low = np.floor(place)
            shares.append(place - low)
            index = low.astype(np.intp)
            lows.append(index)
            highs.append(np.where(index == size - 1, 0, index + 1))
        (i0, j0, k0), (i1, j1, _), (u, v, w) = lows, highs, shares
        i0, i1 = i0 * (shape[1] * shape[2]), i1 * (shape[1] * shape[2])
        j0, j1 = j0 * shape[2], j1 * shape[2]
        flat = self._pairs.reshape(-1, 2 * shape[3])
        total = np.zeros((len(u), 2 * shape[3]), np.float32)
        for i, share_i in ((i0, 1 - u), (i1, u)):
            for j, share_j in ((j0, 1 - v), (j1, v)):
                corner = flat.take(i + j + k0, axis=0)
                corner *= (share_i * share_j)[:, None]
                total += corner
        below, above = total[:, : shape[3]], total[:, shape[3] :]
        return np.asarray(below + w[:, None] * (above - below))


@lru_cache(maxsize=1)
def load_brain() -> Block:
    """Load csf and wm (shares of 0 to 1) and ventricle (signed distance in mm, positive inside)."""
    with np.load(Path(__file__).with_name("atlas.npz")) as maps:
        channels = (maps["csf"] / 255, maps["wm"] / 255, maps["ventricle"] / 4)
    origin = (float(BRAIN_BOX[0][0]), float(BRAIN_BOX[1][0]), float(BRAIN_BOX[2][0]))
    return Block(np.stack(channels, axis=-1).astype(np.float32), origin, BRAIN_VOXEL)


@lru_cache(maxsize=1)
def load_skull() -> Block:
    """Load cavity and hull: signed distances in mm to the skull's inner wall and outer shape."""
    with np.load(Path(__file__).with_name("atlas.npz")) as maps:
        channels = (maps["cavity"] / 10, maps["hull"] / 10)
    origin = (float(HEAD_BOX[0][0]), float(HEAD_BOX[1][0]), float(HEAD_BOX[2][0]))
    return Block(np.stack(channels, axis=-1).astype(np.float32), origin, HEAD_VOXEL)


def make_texture(rng: np.random.Generator, channels: int, step_mm: float, blur: float) -> Block:
    """Draw periodic noise of mean 0 and SD 1, smooth over `blur` steps of the grid."""
    noise = rng.standard_normal((48, 48, 48, channels), dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (blur, blur, blur, 0), mode="wrap")
    noise /= noise.std(axis=(0, 1, 2))
    return Block(noise, (0.0, 0.0, 0.0), step_mm, periodic=True)
