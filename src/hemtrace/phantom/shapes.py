"""The few shapes of which heads are made, as functions of points in mm."""

import numpy as np

from hemtrace.phantom.atlas import Vector


def smooth_step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Rise from 0 at `low` to 1 at `high` without a corner."""
    share = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return share * share * (3 - 2 * share)


def blend(hu: np.ndarray, share: np.ndarray, value: float | np.ndarray) -> np.ndarray:
    """Replace a share of a density by a value."""
    return hu + share * (value - hu)


def ellipsoid_radius(
    points: Vector, center: tuple[float, float, float], axes_mm: tuple[float, float, float]
) -> np.ndarray:
    """Distance from a centre in units of the semi-axes."""
    squares = [
        ((p - np.float32(c)) * np.float32(1 / a)) ** 2
        for p, c, a in zip(points, center, axes_mm, strict=True)
    ]
    return np.sqrt(squares[0] + squares[1] + squares[2])


def line_distance(points: Vector, start: tuple[float, ...], end: tuple[float, ...]) -> np.ndarray:
    """Distance in mm from a line between two points."""
    a, b = np.array(start, np.float32), np.array(end, np.float32)
    d = b - a
    length = float(d @ d)
    x, y, z = points
    along = ((x - a[0]) * d[0] + (y - a[1]) * d[1] + (z - a[2]) * d[2]) * np.float32(1 / length)
    along = np.clip(along, 0, 1)
    return np.sqrt(
        (x - a[0] - along * d[0]) ** 2
        + (y - a[1] - along * d[1]) ** 2
        + (z - a[2] - along * d[2]) ** 2
    )
