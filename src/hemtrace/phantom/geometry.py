"""Where a scanner looks: poses of head and gantry, and the points of a slice in the head."""

from dataclasses import dataclass

import numpy as np

from hemtrace.phantom.atlas import Vector

SIDE = 512
# The head is computed at every second pixel, on so many planes within the slice thickness.
STRIDE = 2
PLANES = 3


@dataclass(frozen=True)
class Geometry:
    """Lengths in mm, angles in radians.

    `to_head` turns the scanner's axes (x to the patient's left, y to the back, z up) into the
    head's; `center` is the point of the head at the gantry's isocentre.
    """

    spacing_mm: float
    thickness_mm: float
    heights_mm: np.ndarray
    tilt: float
    to_head: np.ndarray
    center: np.ndarray
    offset: tuple[float, float]

    @property
    def orientation(self) -> tuple[float, ...]:
        """ImageOrientationPatient: rows run to the left, columns to the back and down."""
        return (1.0, 0.0, 0.0, 0.0, float(np.cos(self.tilt)), float(-np.sin(self.tilt)))

    def position(self, number: int) -> tuple[float, float, float]:
        """ImagePositionPatient: the centre of a slice's first pixel."""
        x, y, z = self._patient(*self._corner(), self.heights_mm[number])
        return float(x), float(y), float(z)

    def slice_points(self, number: int) -> Vector:
        """Head coordinates of a slice's points: float32 [planes, rows, columns] an axis."""
        left, top = self._corner()
        # Midway between the pixels that the point stands for, as cv2.resize has it.
        axis = (np.arange(SIDE // STRIDE) * STRIDE + (STRIDE - 1) / 2) * self.spacing_mm
        within = (np.arange(PLANES) + 0.5) / PLANES - 0.5
        height = self.heights_mm[number] + within * self.thickness_mm
        u, v, s = np.meshgrid(left + axis, top + axis, height, indexing="xy")
        patient = np.stack([np.moveaxis(np.asarray(c), -1, 0) for c in self._patient(u, v, s)])
        head = np.tensordot(self.to_head, patient, axes=1).astype(np.float32)
        x, y, z = head + self.center.reshape(3, 1, 1, 1).astype(np.float32)
        return x, y, z

    def _corner(self) -> tuple[float, float]:
        half = (SIDE - 1) / 2 * self.spacing_mm
        return self.offset[0] - half, self.offset[1] - half

    def _patient(
        self, u: np.ndarray | float, v: np.ndarray | float, s: np.ndarray | float
    ) -> tuple[np.ndarray | float, np.ndarray | float, np.ndarray | float]:
        return u, v * np.cos(self.tilt), s - v * np.sin(self.tilt)


def draw_geometry(
    slices: int, scale: tuple[float, float, float], rng: np.random.Generator
) -> Geometry:
    """Draw a scan that reaches from the skull base, or a little below, to the vertex."""
    tilt = float(np.deg2rad(rng.uniform(4, 22))) if rng.random() < 0.4 else 0.0
    # Slices run about along the line from the eye's corner to the ear, give or take.
    nod = np.deg2rad(rng.normal(8, 5)) - tilt
    turn, roll = np.deg2rad(rng.normal(0, 6)), np.deg2rad(rng.normal(0, 3.5))
    flip = np.diag([-1.0, -1.0, 1.0])
    to_head = _turn(1, roll) @ _turn(0, nod) @ _turn(2, turn) @ flip
    bottom, top = rng.uniform(-72, -48) * scale[2], rng.uniform(80, 94) * scale[2]
    gap, middle = (top - bottom) / (slices - 1), (top + bottom) / 2
    return Geometry(
        spacing_mm=float(rng.uniform(0.43, 0.51) if rng.random() < 0.8 else rng.uniform(0.5, 0.56)),
        thickness_mm=float(gap * rng.uniform(0.75, 1.05)),
        heights_mm=np.linspace(bottom - middle, top - middle, slices),
        tilt=tilt,
        to_head=to_head,
        center=np.array([0.0, -13.0 * scale[1], middle]),
        offset=(float(rng.normal(0, 5)), float(rng.normal(3, 5))),
    )


def _turn(axis: int, angle: float) -> np.ndarray:
    i, j = (k for k in range(3) if k != axis)
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix
