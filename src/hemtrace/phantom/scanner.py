"""The scan of a patient: slices of HU with their masks and labels."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hemtrace.labels import SUBTYPES
from hemtrace.phantom.dicomfile import ENCODING_SHARES, ENCODINGS
from hemtrace.phantom.plan import PatientPlan

SIDE = 512
# Below this area a reader would not call a bleed on a slice.
VISIBLE_MM2 = 8.0


@dataclass(frozen=True)
class Scan:
    """hu: float32 [slices, 512, 512]; masks: uint8 of the same shape; labels: uint8 [slices, 6]."""

    hu: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    outside: np.ndarray | None
    spacing_mm: float
    orientation: tuple[float, ...]
    positions: tuple[tuple[float, float, float], ...]
    encoding: tuple[int, int, int]
    window: tuple[int, int]


def scan_patient(plan: PatientPlan, volume_factor: float, rng: np.random.Generator) -> Scan:
    """Draw a head, its bleeds and a scanner, and scan it from the skull base to the vertex."""
    spacing = float(rng.uniform(0.42, 0.52))
    step = 140 / plan.slices
    z = (np.arange(plan.slices) * step - 60)[:, None, None]
    axis = (np.arange(SIDE) - SIDE / 2) * spacing
    x, y = axis[None, None, :], axis[None, :, None]
    radius = np.sqrt((x / 68) ** 2 + (y / 84) ** 2 + (z / 82) ** 2)
    hu = np.full(radius.shape, -1000, np.float32)
    hu[radius < 1.12] = 40
    hu[radius < 1.08] = 1200
    hu[radius < 1.0] = 10
    hu[radius < 0.98] = 33
    hu[(abs(x) < 12) & (abs(x) > 3) & (abs(y) < 30) & (abs(z) < 16)] = 8
    masks = np.zeros(hu.shape, np.uint8)
    for subtype in plan.subtypes:
        blob = _crude_lesion(subtype, x, y, z, radius, volume_factor, rng)
        hu[blob] = rng.uniform(50, 70)
        masks[blob] |= 1 << SUBTYPES.index(subtype)
    hu = ndimage.gaussian_filter(hu, (0, 1.2, 1.2))
    hu += ndimage.gaussian_filter(
        rng.standard_normal(hu.shape, dtype=np.float32), (0, 0.7, 0.7)
    ) * rng.uniform(6, 12)
    return Scan(
        hu=hu,
        masks=masks,
        labels=label_slices(masks, spacing),
        outside=None,
        spacing_mm=spacing,
        orientation=(1, 0, 0, 0, 1, 0),
        positions=tuple((axis[0], axis[0], float(value)) for value in z.ravel()),
        encoding=ENCODINGS[rng.choice(len(ENCODINGS), p=ENCODING_SHARES)],
        window=(40, 80),
    )


def label_slices(masks: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Label a slice with a subtype where its mask covers `VISIBLE_MM2`; `any` is the OR."""
    needed = VISIBLE_MM2 / spacing_mm**2
    found = [((masks >> k) & 1).sum(axis=(1, 2)) >= needed for k in range(len(SUBTYPES))]
    return np.stack([*found, np.any(found, axis=0)], axis=1).astype(np.uint8)


def _crude_lesion(
    subtype: str,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    radius: np.ndarray,
    volume_factor: float,
    rng: np.random.Generator,
) -> np.ndarray:
    side = rng.choice((-1, 1))
    if subtype == "intraventricular":
        return (abs(x * side - 8) < 5) & (y > 10) & (y < 30) & (abs(z) < 16)
    angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(0, 40)
    share = {"intraparenchymal": 0.5, "subarachnoid": 0.9}.get(subtype, 1.0)
    cx, cy = 68 * share * 0.9 * np.cos(angle), 84 * share * 0.9 * np.sin(angle)
    r = 9 * volume_factor ** (1 / 3)
    stretch = (1.0, 1.0, 1.0)
    if subtype != "intraparenchymal":
        stretch = {"subarachnoid": (2.0, 0.4, 0.5)}.get(subtype, (1.6, 1.6, 1.6))
    near = ((x - cx) / stretch[0]) ** 2 + ((y - cy) / stretch[1]) ** 2
    return (near + ((z - height) / stretch[2]) ** 2 < r**2) & (radius < 1)
