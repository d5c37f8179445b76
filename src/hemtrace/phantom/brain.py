"""What the skull holds: the HU of brain, CSF, vessels and dura at points of the atlas."""

from dataclasses import dataclass

import numpy as np

from hemtrace.phantom.atlas import Vector, load_brain
from hemtrace.phantom.shapes import blend, ellipsoid_radius, line_distance, smooth_step
from hemtrace.phantom.traits import Traits


@dataclass(frozen=True)
class Tissue:
    """Brain at some points, all float32 of one shape.

    `hu` is the density without a bleed; `csf` the share of CSF outside the ventricles and
    `ventricle` that inside; `sulcus` how much a point lies in a sulcus, however tight;
    `margin_mm` the signed distance to the ventricles' wall, positive inside; `white` the share
    of white matter of what is not CSF.
    """

    hu: np.ndarray
    csf: np.ndarray
    ventricle: np.ndarray
    sulcus: np.ndarray
    margin_mm: np.ndarray
    white: np.ndarray


@dataclass(frozen=True)
class OldLesion:
    """A scar of low density: where in the atlas, how large (semi-axes, mm), how far gone."""

    center: tuple[float, float, float]
    axes_mm: tuple[float, float, float]
    loss: float


def draw_old_lesions(traits: Traits, rng: np.random.Generator) -> list[OldLesion]:
    """Draw old infarcts: lacunes in the basal ganglia, wedges of a branch's territory."""
    lesions = []
    for _ in range(traits.infarcts):
        side = rng.choice((-1, 1))
        if rng.random() < 0.5:
            center = (side * rng.uniform(10, 28), rng.uniform(-20, 18), rng.uniform(-4, 24))
            axes = rng.uniform(2.5, 6, 3)
        else:
            center = (side * rng.uniform(32, 58), rng.uniform(-70, 40), rng.uniform(-30, 55))
            axes = rng.uniform(9, 26, 3)
        lesions.append(OldLesion(center, (*axes,), float(rng.uniform(0.3, 1))))
    return lesions


def compose_brain(
    traits: Traits,
    scars: list[OldLesion],
    atlas: Vector,
    depth_mm: np.ndarray,
    texture: np.ndarray,
    grain: np.ndarray,
) -> Tissue:
    """Give the tissue at points inside the skull.

    Parameters
    ----------
    atlas
        Atlas coordinates of the brain at the points, mm.
    depth_mm
        Depth below the skull's inner wall.
    texture, grain
        float32 [3, ...]: coarse and fine noise of SD 1 at the points.
    """
    x, y, z = atlas
    jitter = np.float32(0.8)
    csf, white, margin = load_brain().sample(
        (x + jitter * texture[0], y + jitter * texture[1], z + jitter * texture[2])
    )
    margin = margin + np.float32(traits.ventricle_mm) + np.float32(0.25) * texture[0]
    margin = margin + np.sign(x) * np.float32(traits.ventricle_asymmetry_mm)
    ventricle = smooth_step(margin, -0.6, 0.6)
    level = traits.csf_level + 0.05 * texture[1]
    outer = smooth_step(csf - level, -0.22, 0.22) * (1 - ventricle)
    # Where tissue shrank, the space below the skull widens, most at the front and the top.
    wide = traits.gap_mm * (0.45 + 0.35 * smooth_step(y, 0, 60) + 0.1 * texture[2])
    outer = np.maximum(outer, smooth_step(wide - depth_mm, -0.5, 0.5) * (1 - ventricle))
    for scar in scars:
        inside = ellipsoid_radius(atlas, scar.center, scar.axes_mm) + 0.22 * texture[2]
        outer = np.maximum(outer, scar.loss * smooth_step(-inside, -1.1, -0.8) * (1 - ventricle))
    nerve = white * (traits.white_hu - traits.grey_hu) + np.float32(traits.grey_hu)
    nerve += 0.9 * texture[1] + 0.7 * grain[0]
    if traits.vessel_disease > 0:
        pale = np.exp(np.minimum(margin, 0) / np.float32(5 + 5 * traits.vessel_disease))
        pale *= np.clip(0.7 + 0.6 * texture[0], 0, 1.6) * (z > -15)
        nerve -= np.float32(11 * traits.vessel_disease) * pale * white
    hu = nerve + (outer + ventricle) * (np.float32(traits.csf_hu) - nerve)
    hu = _add_dura_and_vessels(hu, traits, atlas, depth_mm, texture)
    hu = _add_calcium(hu, traits, atlas, margin, texture, grain)
    return Tissue(hu, outer, ventricle, csf * (1 - ventricle), margin, white)


def falx_distance(atlas: Vector) -> np.ndarray:
    """Distance in mm from the falx's sheet; large where there is none."""
    x, y, z = atlas
    # The free edge sinks towards the back, where the falx meets the tentorium.
    edge = ((y + 18) / 66) ** 2 + ((z - 4) / 46) ** 2
    there = (edge > 1) & (z > -18 + 0.25 * np.maximum(-y, 0)) | (y < -60) & (z > 0)
    there &= (z > 0) | (y > 30)
    return np.where(there, np.abs(x), 99)


def tentorium_distance(atlas: Vector) -> np.ndarray:
    """Distance in mm from the tentorium's sheet; large where there is none."""
    x, y, z = atlas
    side = np.abs(x)
    sheet = 1 - 0.52 * side + 0.16 * np.minimum(y + 45, 0)
    notch = (side / 17) ** 2 + ((y + 28) / 24) ** 2 > 1
    there = notch & (y < -22 - 0.1 * side) & (side < 62)
    return np.where(there, np.abs(z - sheet) * 0.85, 99)


def _add_dura_and_vessels(
    hu: np.ndarray, traits: Traits, atlas: Vector, depth_mm: np.ndarray, texture: np.ndarray
) -> np.ndarray:
    x, y, z = atlas
    blood = traits.blood_hu
    hu = blend(hu, smooth_step(-falx_distance(atlas), -1.1, -0.5) * 0.85, 48.0)
    hu = blend(hu, smooth_step(-tentorium_distance(atlas), -1.3, -0.6) * 0.7, 46.0)
    # Superior sagittal and transverse sinus, the right one mostly larger; straight sinus.
    wall = depth_mm - traits.gap_mm * 0.3
    sagittal = (np.abs(x) + 0.75 * np.maximum(wall, 0) < 4.6) & ((z > -8) | (y > 60)) & (z > -25)
    sagittal &= (y < 20) | (z > 35)
    run = np.abs(z + 17 - 0.1 * (y + 80)) / np.where(x > 0, 4.6, 3.6)
    transverse = (np.hypot(run, wall / 5) < 1) & (y < -45) & (np.abs(x) > 3)
    straight = np.hypot(x / 2.2, (z - 1 - 0.16 * (y + 45)) / 2.6) < 1
    straight &= (y < -42) & (y > -88)
    sinus = (sagittal | transverse | straight).astype(np.float32)
    hu = blend(hu, sinus * 0.9, blood)
    if float(z.min()) > 6:
        return hu
    side = np.abs(x)
    calcium = 140 * traits.vessel_calcium * smooth_step(texture[2], 0.6, 1.6)
    for start, end, radius in (
        ((0, -16, -50), (0, -12, -16), 1.8),
        ((11, 4, -34), (8, 5, -17), 2.2),
        ((8, 5, -17), (34, 3, -17), 1.4),
        ((34, 3, -17), (43, -10, 2), 1.2),
        ((3, 6, -15), (2, 28, -10), 1.1),
        ((4, -14, -15), (24, -28, -10), 1.1),
    ):
        near = line_distance((side, y, z), start, end)
        tube = smooth_step(-near, -radius - 0.5, -radius + 0.5)
        hu = blend(hu, tube * 0.9, blood - 4 + (calcium if radius > 1.7 else 0))
    return hu


def _add_calcium(
    hu: np.ndarray,
    traits: Traits,
    atlas: Vector,
    margin_mm: np.ndarray,
    texture: np.ndarray,
    grain: np.ndarray,
) -> np.ndarray:
    """Add what looks like a small bleed and is none."""
    x, y, z = atlas
    side = np.abs(x)
    if traits.pineal:
        spot = ellipsoid_radius((side, y, z), (0, -29, 2), (3.0, 4.0, 3.0)) + 0.25 * grain[1]
        hu = blend(hu, smooth_step(-spot, -1.1, -0.8), 55 + 150 * traits.pineal)
    # Choroid plexus in the atrium: soft in everybody, calcified in many.
    spot = ellipsoid_radius((side, y, z), (24, -42, 8), (3.5, 6.0, 5.0)) + 0.3 * grain[1]
    share = smooth_step(-spot, -1.15, -0.75) * (margin_mm > -1)
    hu = blend(hu, share, 36 + 190 * traits.plexus * smooth_step(grain[2], -0.8, 1.2))
    if traits.falx_calcium:
        plaque = (falx_distance(atlas) < 1.6) & (texture[2] > 2.1 - 0.7 * traits.falx_calcium)
        hu = blend(hu, plaque.astype(np.float32), 60 + 300 * traits.falx_calcium)
    if traits.ganglia_calcium:
        spot = ellipsoid_radius((side, y, z), (18, -3, 0), (4.5, 8.0, 5.0)) + 0.35 * grain[0]
        hu = blend(hu, smooth_step(-spot, -1.1, -0.5) * 0.8, 45 + 60 * traits.ganglia_calcium)
    return hu
