"""Haemorrhages: where they lie, how large and how dense they are, and what they push aside."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage

from hemtrace.labels import SUBTYPES
from hemtrace.phantom.atlas import Vector
from hemtrace.phantom.brain import Tissue, falx_distance, tentorium_distance
from hemtrace.phantom.head import CONTROL_MM, Head, control_points
from hemtrace.phantom.shapes import smooth_step

# Volumes in mL at 25/50/75/95 % and mean HU at 5/50/95 % of the lesions of the BHSD table
# (FACTS section 4: 1,873 lesions), and the standard normal deviates of those shares.
VOLUMES_ML = {
    "epidural": (0.42, 3.04, 10.8, 34.6),
    "intraparenchymal": (0.22, 1.23, 7.43, 55.6),
    "intraventricular": (0.16, 0.54, 1.96, 12.5),
    "subarachnoid": (0.08, 0.18, 0.47, 2.59),
    "subdural": (0.16, 0.54, 2.47, 42.2),
}
MEAN_HU = {
    "epidural": (38, 56, 67),
    "intraparenchymal": (34, 48, 60),
    "intraventricular": (26, 40, 54),
    "subarachnoid": (32, 43, 57),
    "subdural": (29, 51, 68),
}
_VOLUME_DEVIATES = (-2.0, -0.674, 0.0, 0.674, 1.645, 2.0)
_HU_DEVIATES = (-1.645, 0.0, 1.645)
# No lesion fills more of a skull than this.
LARGEST_ML = 85.0


@dataclass(frozen=True)
class Site:
    """Points inside the skull, and what is there: the brain as `brain.compose_brain` gives it."""

    head: Vector
    atlas: Vector
    depth_mm: np.ndarray
    unevenness: np.ndarray
    texture: np.ndarray
    grain: np.ndarray
    tissue: Tissue


class Lesion(Protocol):
    """A bleed."""

    @property
    def subtype(self) -> str:
        """One of `labels.SUBTYPES`."""
        ...

    @property
    def clot(self) -> "Clot":
        """Its density."""
        ...

    def cover(self, site: Site) -> np.ndarray:
        """Give the share of blood at points, 0 to 1."""
        ...


@dataclass(frozen=True)
class Clot:
    """Density of blood: mean, unevenness, liquid pockets, and a level where it has settled."""

    mean_hu: float
    spread_hu: float
    pockets_hu: float
    level_mm: float | None
    level_hu: float

    def density(self, site: Site) -> np.ndarray:
        """Give the HU of blood at points."""
        hu = self.mean_hu + self.spread_hu * (0.8 * site.texture[2] + 0.5 * site.grain[2])
        hu -= self.pockets_hu * smooth_step(site.texture[0] - 0.4 * site.texture[2], 0.5, 1.4)
        if self.level_mm is not None:
            hu += self.level_hu * np.tanh((self.level_mm - site.head[1]) / np.float32(2))
        return np.asarray(hu, np.float32)


@dataclass(frozen=True)
class Blob:
    """Intraparenchymal: an uneven ellipsoid with a pale rim.

    `frame` turns head coordinates around `center` into units of the clot's semi-axes; in these,
    `waves` (rows of a wave vector and a phase) make lobes, `roughness` says how deep.
    """

    subtype: str
    clot: Clot
    center: np.ndarray
    frame: np.ndarray
    waves: np.ndarray
    roughness: float
    rim: float

    def radius(self, points: Vector, texture: np.ndarray, grain: np.ndarray) -> np.ndarray:
        """Distance from the centre; the clot ends at 1."""
        place = [p - np.float32(c) for p, c in zip(points, self.center, strict=True)]
        x, y, z = (
            row[0] * place[0] + row[1] * place[1] + row[2] * place[2]
            for row in self.frame.astype(np.float32)
        )
        lobes = np.zeros_like(x)
        for wave in self.waves.astype(np.float32):
            lobes += np.cos(wave[0] * x + wave[1] * y + wave[2] * z + wave[3])
        fringe = 0.35 * texture[1] + 0.2 * grain[1]
        uneven = self.roughness * (lobes * np.sqrt(2 / len(self.waves)) + fringe)
        return np.asarray(np.sqrt(x**2 + y**2 + z**2) + uneven, np.float32)

    def cover(self, site: Site) -> np.ndarray:
        """Give the share of blood at points, 0 to 1."""
        soft = 0.6 * float(np.cbrt(abs(np.linalg.det(self.frame))))
        radius = self.radius(site.head, site.texture, site.grain)
        in_brain = smooth_step(site.depth_mm, 0, 1.5) * (1 - site.tissue.ventricle)
        return smooth_step(1 - radius, -soft, soft) * in_brain

    def edema(self, site: Site) -> np.ndarray:
        """Give how much water the rim has drawn, 0 to 1, most in white matter."""
        radius = self.radius(site.head, site.texture, site.grain)
        rim = smooth_step(1 + self.rim - radius, 0, self.rim) * (1 - site.tissue.ventricle)
        return rim * (0.35 + 0.65 * site.tissue.white)


@dataclass(frozen=True)
class Collection:
    """Epidural or subdural: blood between skull and brain.

    Thickest (`thickness_mm`) at `center`, it thins out to nothing at `reach_mm` along and, `flat`
    times that, across the head's height; a small `power` makes a lens, a large one a crescent.
    """

    subtype: str
    clot: Clot
    center: np.ndarray
    thickness_mm: float
    reach_mm: float
    flat: float
    power: float

    def profile(self, points: Vector, unevenness: np.ndarray) -> np.ndarray:
        """Give the thickness at points, mm."""
        x, y, z = (p - np.float32(c) for p, c in zip(points, self.center, strict=True))
        span = np.sqrt(x**2 + y**2 + (z / self.flat) ** 2) / np.float32(self.reach_mm)
        thickness = self.thickness_mm * (1 - np.minimum(span, 1) ** self.power)
        if self.subtype == "subdural":
            thickness = thickness * np.clip(1 + 0.2 * unevenness, 0.3, 2)
        side = np.sign(self.center[0])
        return np.asarray(thickness * smooth_step(points[0] * side, 0.5, 5), np.float32)

    def cover(self, site: Site) -> np.ndarray:
        """Give the share of blood at points, 0 to 1."""
        thickness = self.profile(site.head, site.unevenness)
        edge = 0.35 * site.texture[0] * (self.subtype == "subdural")
        return smooth_step(thickness + edge - site.depth_mm, -0.6, 0.6) * (thickness > 0.4)


@dataclass(frozen=True)
class Sheet:
    """Subdural along falx or tentorium, on one side of it, around `center` (atlas mm)."""

    subtype: str
    clot: Clot
    dura: str
    center: np.ndarray
    thickness_mm: float
    reach_mm: float

    def cover(self, site: Site) -> np.ndarray:
        """Give the share of blood at points, 0 to 1."""
        x, y, z = site.atlas
        near = np.hypot(y - np.float32(self.center[1]), z - np.float32(self.center[2]))
        if self.dura == "falx":
            distance = falx_distance(site.atlas)
            side = x * np.sign(self.center[0]) > -1
        else:
            distance = tentorium_distance(site.atlas)
            side = x * np.sign(self.center[0]) > 2
            near = np.hypot(near, (x - self.center[0]) * 0.7)
        taper = 1 - np.minimum(near / self.reach_mm, 1) ** 3
        thickness = self.thickness_mm * taper * np.clip(1 + 0.25 * site.unevenness, 0.4, 2)
        blood = smooth_step(thickness - distance, -0.6, 0.6) * side * (thickness > 0.4)
        return np.asarray(blood, np.float32)


@dataclass(frozen=True)
class Filling:
    """Intraventricular or subarachnoid: blood that takes the place of CSF.

    It fills the CSF nearest to any of `seeds` (atlas mm), or, with `settled`, the ventricles'
    lowest part in a supine head, up to `limit`.
    """

    subtype: str
    clot: Clot
    seeds: np.ndarray
    settled: bool
    limit: float

    def order(self, site: Site) -> np.ndarray:
        """Give the order in which places fill, mm."""
        if self.settled:
            side = np.where(site.atlas[0] * self.seeds[0, 0] > 0, 0.0, abs(self.seeds[0, 1]))
            return np.asarray(site.head[1] + side + 0.3 * site.grain[0], np.float32)
        away = np.full_like(site.atlas[0], 1e3)
        for seed in self.seeds.astype(np.float32):
            x, y, z = (p - s for p, s in zip(site.atlas, seed, strict=True))
            away = np.minimum(away, np.sqrt(x**2 + y**2 + z**2))
        return np.asarray(away + 3.5 * site.texture[0], np.float32)

    def space(self, site: Site) -> np.ndarray:
        """Give the share of the space it may fill: blood widens the sulci a little."""
        if self.subtype == "intraventricular":
            return site.tissue.ventricle
        tight = smooth_step(site.tissue.sulcus, 0.22, 0.6)
        wide = np.maximum(np.clip(1.5 * site.tissue.csf, 0, 1), 0.9 * tight)
        return np.asarray(wide * smooth_step(site.depth_mm, 0.3, 3.0), np.float32)

    def cover(self, site: Site) -> np.ndarray:
        """Give the share of blood at points, 0 to 1."""
        return self.space(site) * smooth_step(self.limit - self.order(site), -1.2, 1.2)


def draw_volume_ml(subtype: str, rng: np.random.Generator) -> float:
    """Draw a lesion's volume: log-normal pieces through the table's quantiles."""
    q25, q50, q75, q95 = np.log(VOLUMES_ML[subtype])
    low, high = q25 - 1.326 * (q50 - q25) / 0.674, q95 + 0.355 * (q95 - q75) / 0.971
    logs = (low, q25, q50, q75, q95, high)
    return float(np.exp(np.interp(rng.standard_normal(), _VOLUME_DEVIATES, logs)))


def draw_mean_hu(subtype: str, rng: np.random.Generator) -> float:
    """Draw a lesion's mean HU from the table's quantiles."""
    return float(np.interp(rng.standard_normal(), _HU_DEVIATES, MEAN_HU[subtype]))


def subtype_bit(subtype: str) -> int:
    """Give the bit that marks a subtype in a mask."""
    return 1 << SUBTYPES.index(subtype)


def push_aside(head: Head, lesion: Blob | Collection) -> Vector:
    """How a lesion displaces the brain, on the head's control grid, mm (see `head.push_brain`)."""
    points = control_points()
    if isinstance(lesion, Collection):
        depth = head.control.values[..., 6]
        normal = np.gradient(ndimage.gaussian_filter(depth, 2.0), CONTROL_MM)
        thickness = ndimage.gaussian_filter(
            lesion.profile(points, head.control.values[..., 8]), 1.5
        )
        beyond = np.maximum(depth - thickness, 0)
        shift = -thickness * np.exp(-beyond / np.float32(38)) * (depth > -6)
        return normal[0] * shift, normal[1] * shift, normal[2] * shift
    place = np.stack([p - np.float32(c) for p, c in zip(points, lesion.center, strict=True)])
    radius = np.linalg.norm(np.tensordot(lesion.frame, place, axes=1), axis=0)
    # A clot tears tissue and pushes it: part of its volume is made room for, and what was on a
    # shell around it lay further in by as much; skull and distance stop the push.
    inner = np.cbrt(np.maximum(radius**3 - 0.55, 0.02 * radius**3))
    fade = np.exp(-np.maximum(radius - 1, 0) / 2.5)
    fade *= smooth_step(head.control.values[..., 6], 0, 14)
    pull = ((inner / np.maximum(radius, 0.05) - 1) * fade).astype(np.float32)
    return place[0] * pull, place[1] * pull, place[2] * pull
