"""Everything around the brain: bone, air cells, face, muscle, fat and skin, as HU."""

import numpy as np

from hemtrace.phantom.atlas import Vector
from hemtrace.phantom.shapes import blend, ellipsoid_radius, line_distance, smooth_step
from hemtrace.phantom.traits import Traits

AIR = -1000.0
# Above this height, in atlas mm, nothing but vault is met.
BASE_TOP = 2.0


def compose_shell(
    traits: Traits,
    atlas: Vector,
    depth_mm: np.ndarray,
    hull_mm: np.ndarray,
    unevenness: np.ndarray,
    texture: np.ndarray,
    grain: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the tissue outside the brain.

    Parameters
    ----------
    atlas
        Atlas coordinates of bone and skin at the points, mm.
    depth_mm
        Depth below the skull's inner wall, negative in bone and beyond.
    hull_mm
        Depth below the surface that the outer table follows.
    unevenness
        Smooth noise of SD 1 at the points, for thicknesses.
    texture, grain
        float32 [3, ...]: coarse and fine noise of SD 1.

    Returns
    -------
    tuple
        HU, and the share of a point that lies in the skull's cavity.
    """
    z = atlas[2]
    outward = -depth_mm
    bone_mm, temple = _bone_thickness(traits, atlas, unevenness)
    # How far below the outer table.
    table_mm = bone_mm + hull_mm
    skin = skin_depth(traits, atlas, hull_mm, unevenness)
    hu = _soft_tissue(traits, skin, -table_mm, temple, texture)
    low = float(z.min()) < BASE_TOP
    if low:
        hu = _add_face_bones(hu, atlas, texture, grain)
    share = np.clip(outward / np.maximum(outward + table_mm, 0.5), 0, 1)
    table = np.maximum(smooth_step(-share, -0.28, -0.12), smooth_step(share, 0.7, 0.88))
    marrow = 640 + 190 * texture[0] + 120 * grain[0]
    bone = blend(marrow, table, 1950.0 + 60 * texture[1]) * traits.bone_hu
    solid = smooth_step(table_mm, -0.5, 0.5)
    if traits.burr_hole is not None:
        side, hole_y, hole_z, radius = traits.burr_hole
        away = np.hypot(atlas[1] - hole_y, z - hole_z) + 99 * (atlas[0] * side < 15)
        solid = solid * smooth_step(away, radius - 0.6, radius + 0.6)
    hu = blend(hu, solid, bone)
    if low:
        hu = _add_base(hu, traits, atlas, outward, texture, grain)
        hu = _add_orbits(hu, atlas, outward, texture)
    hu = _add_sinuses(hu, traits, atlas, outward, table_mm, texture, grain)
    hu = blend(np.full_like(hu, AIR), smooth_step(skin, -0.5, 0.5), hu)
    return hu, smooth_step(depth_mm, -0.5, 0.5)


def skin_depth(
    traits: Traits, atlas: Vector, hull_mm: np.ndarray, unevenness: np.ndarray
) -> np.ndarray:
    """Give the depth below the skin, mm, negative in the air; arguments as `compose_shell`'s."""
    bone_mm, temple = _bone_thickness(traits, atlas, unevenness)
    scalp_mm = traits.scalp_mm * (1 + 0.15 * unevenness) + 6 * temple
    vault = hull_mm + bone_mm + scalp_mm
    if float(atlas[2].min()) > 12:
        return np.asarray(vault)
    return np.asarray(np.maximum(vault, _face_distance(atlas)))


def _bone_thickness(
    traits: Traits, atlas: Vector, unevenness: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Thickness of the skull in mm, and how much a point belongs to the temple (0 to 1)."""
    x, y, z = atlas
    side = np.abs(x)
    temple = np.exp(-(((y - 8) / 38) ** 2) - ((z + 12) / 24) ** 2) * smooth_step(side, 35, 58)
    bone_mm = traits.skull_mm * (1 + 0.12 * unevenness - 0.5 * temple)
    bone_mm += 2.5 * smooth_step(-y, 70, 95) * smooth_step(-z, -40, 20)
    if float(z.min()) < 30:
        sinus = np.exp(-((x / 22) ** 2) - ((z + 4) / 18) ** 2) * smooth_step(y, 58, 66)
        bone_mm += 6 * traits.sinus_air * sinus
        roof = smooth_step(-z, 10, 20) * smooth_step(y, 10, 24) * smooth_step(-y, -72, -60)
        bone_mm *= 1 - 0.45 * smooth_step(-z, 34, 52)
        bone_mm += (2.2 - bone_mm) * roof * smooth_step(side, 8, 14)
    return np.maximum(bone_mm, 1.6), temple


def _face_distance(atlas: Vector) -> np.ndarray:
    """Signed distance in mm to the surface of face and neck, roughly; positive inside."""
    x, y, z = atlas
    side = np.abs(x)
    low = smooth_step(-z, 12, 62)
    front = 1 - np.sqrt((x / 69) ** 2 + ((y - 12) / (66 + 14 * low)) ** 2)
    face = 60 * front - 75 * smooth_step(z, -40, 6)
    bridge = np.maximum(np.abs(y - 82) - 8 - 8 * low, 0)
    nose = 9 - np.hypot(x * 0.9, bridge) - 1.1 * np.maximum(z + 46, 0)
    neck = 55 * (1 - np.sqrt((x / 70) ** 2 + ((y + 42) / 60) ** 2)) - 75 * smooth_step(z, -55, 10)
    # The ear: a curved plate that stands off the head.
    rim = np.hypot((y + 30 - 0.3 * (side - 74)) / 15, (z + 36) / 27)
    leaf = np.abs(side - 69 - 13 * np.maximum(-(y + 18) / 26, 0) - 3 * rim**2)
    ear = np.minimum(2.2 - leaf, 12 * (1 - rim))
    face = np.maximum(face, ear)
    brow = np.where((y > 60) & (side < 45), 2.0, 0.0)
    result: np.ndarray = np.maximum(np.maximum(face + brow, nose), neck)
    return result


def _soft_tissue(
    traits: Traits,
    skin: np.ndarray,
    above_bone: np.ndarray,
    temple: np.ndarray,
    texture: np.ndarray,
) -> np.ndarray:
    """Skin, fat below it, muscle at the temples and below the skull."""
    fat = -95 + 6 * texture[0]
    # Fat septa and muscle bellies run in bands; deep tissue is mostly muscle.
    muscle = 58 + 5 * texture[1]
    plane = np.abs(texture[2] + 0.4 * texture[0])
    band = smooth_step(plane, 0.02, 0.1 + 0.2 * traits.fat_share)
    deep = smooth_step(skin, 5.5 + 3 * traits.fat_share, 9 + 5 * traits.fat_share)
    temporal = smooth_step(9.5 * temple - 1 - above_bone, -0.6, 0.6) * smooth_step(skin, 2.6, 3.6)
    belly = np.maximum(deep * band, temporal)
    # The galea is a thin dark-grey line close to the bone.
    galea = np.exp(-(((above_bone - 1.0) / 0.8) ** 2)) * (1 - traits.fat_share) * 0.8
    hu = blend(fat, np.clip(np.maximum(belly, galea), 0, 1), muscle)
    return blend(hu, smooth_step(-skin, -2.7, -1.7), 45.0)


def _add_orbits(
    hu: np.ndarray, atlas: Vector, outward: np.ndarray, texture: np.ndarray
) -> np.ndarray:
    x, y, z = atlas
    outside = smooth_step(outward, 1.2, 2.2)
    side = np.abs(x)
    mirrored = (side, y, z)
    # A cone of fat from the lids to the apex, with four muscles and the nerve.
    along = np.clip((y - 18) / 48, 0, 1)
    axis_x, axis_z = 14 + 18 * along, -30 - 6 * along
    radius = 3 + 15 * np.sqrt(along)
    off = np.hypot(side - axis_x, z - axis_z)
    cone = smooth_step(radius - off, -0.6, 0.6) * (y > 17) * smooth_step(-y, -74, -70) * outside
    hu = blend(hu, cone, -92 + 4 * texture[0])
    wall = np.exp(-(((off - radius - 0.9) / 0.9) ** 2)) * (y > 17) * (y < 64) * outside
    hu = blend(hu, wall, 520.0)
    nerve = smooth_step(-line_distance(mirrored, (14, 20, -30), (31, 54, -36)), -2.6, -1.6)
    hu = blend(hu, nerve * outside, 32.0)
    angle_x, angle_z = np.abs(side - axis_x), np.abs(z - axis_z)
    rim = np.exp(-(((off - 0.72 * radius) / 1.4) ** 2)) * (np.minimum(angle_x, angle_z) < 3.2)
    hu = blend(hu, rim * cone * (y < 58), 52.0)
    eye = ellipsoid_radius(mirrored, (32, 62, -36), (12.3, 12.3, 12.3))
    hu = blend(hu, smooth_step(-eye, -1.03, -0.98) * outside, 42.0)
    hu = blend(hu, smooth_step(-eye, -0.92, -0.87) * outside, 9.0)
    lens = ellipsoid_radius(mirrored, (32, 71, -36), (4.4, 2.3, 4.4))
    return blend(hu, smooth_step(-lens, -1.1, -0.9), 80.0)


def _add_face_bones(
    hu: np.ndarray, atlas: Vector, texture: np.ndarray, grain: np.ndarray
) -> np.ndarray:
    x, y, z = atlas
    side = np.abs(x)
    mirrored = (side, y, z)
    bone = 900 + 220 * texture[1]
    for start, end, radius in (
        ((45, 62, -44), (63, 40, -54), 4.2),  # zygoma
        ((63, 40, -54), (66, 2, -52), 2.4),  # its arch
        ((45, 62, -44), (47, 58, -20), 3.2),  # lateral orbital rim
        ((48, -6, -58), (46, 2, -90), 4.5),  # mandible: condyle and ramus
        ((16, 26, -58), (19, 22, -90), 2.2),  # pterygoid plates
        ((26, 72, -50), (8, 76, -44), 2.6),  # lower orbital rim, nasal bone
    ):
        near = line_distance(mirrored, start, end)
        shell = np.where(near < 0.5 * radius, 500.0, bone)
        hu = blend(hu, smooth_step(-near, -radius - 0.5, -radius + 0.5), shell)
    # First neck vertebra and the dens.
    ring = np.hypot(x / 1.25, y + 42)
    arch = smooth_step(-np.abs(ring - 20), -4.5, -3.2) * smooth_step(-np.abs(z + 90), -9, -7)
    dens = smooth_step(-np.hypot(x, y + 27), -5.5, -4.5) * smooth_step(-z, 74, 76)
    return blend(hu, np.maximum(arch, dens), 850 + 250 * grain[0])


def _add_base(
    hu: np.ndarray,
    traits: Traits,
    atlas: Vector,
    outward: np.ndarray,
    texture: np.ndarray,
    grain: np.ndarray,
) -> np.ndarray:
    """Petrous pyramids, sphenoid, clivus: bone where the cavity leaves room for it."""
    x, y, z = atlas
    side = np.abs(x)
    mirrored = (side, y, z)
    outside = smooth_step(outward, -0.5, 0.5)
    bone = np.clip(820 + 330 * texture[0] + 250 * grain[0], 150, 1900) * traits.bone_hu
    for start, end, radius in (
        ((14, -8, -40), (44, -26, -42), 9.0),  # petrous pyramid
        ((44, -26, -42), (58, -36, -46), 11.0),  # mastoid
        ((0, 6, -36), (0, -26, -66), 7.0),  # clivus
        ((0, 22, -34), (8, 4, -34), 12.0),  # sphenoid body
        ((12, 24, -24), (50, 30, -24), 4.5),  # lesser wing
        ((26, 22, -50), (58, 10, -48), 7.0),  # floor of the middle fossa
        ((18, -40, -62), (24, -22, -66), 6.0),  # occipital condyle
    ):
        near = line_distance(mirrored, start, end)
        hu = blend(hu, smooth_step(-near, -radius - 1, -radius + 1) * outside, bone)
    labyrinth = smooth_step(-ellipsoid_radius(mirrored, (33, -19, -41), (9, 7, 7)), -1.1, -0.8)
    hu = blend(hu, labyrinth * outside, 1750.0)
    canals = labyrinth * smooth_step(grain[1], 0.9, 1.3)
    hu = blend(hu, canals * outside, 120.0)
    meatus = line_distance(mirrored, (40, -22, -44), (78, -20, -46))
    return blend(hu, smooth_step(-meatus, -4.0, -3.0) * outside, AIR)


def _add_sinuses(
    hu: np.ndarray,
    traits: Traits,
    atlas: Vector,
    outward: np.ndarray,
    table_mm: np.ndarray,
    texture: np.ndarray,
    grain: np.ndarray,
) -> np.ndarray:
    """Air cells; some are filled with mucosa or fluid."""
    x, y, z = atlas
    if float(z.min()) > 26:
        return hu
    side = np.abs(x)
    mirrored = (side, y, z)
    air = traits.sinus_air
    outside = smooth_step(outward, 0.8, 1.8)
    filling = np.where(texture[1] > 1.2, 28.0, AIR)
    cells: list[tuple[np.ndarray, float]] = [
        (ellipsoid_radius(mirrored, (27, 54, -66), (13, 17, 18)), 0.06),  # maxillary
        (ellipsoid_radius((x - 3 * texture[2], y, z), (0, 16, -38), (13, 14, 10)), 0.1),  # sphenoid
    ]
    frontal = ellipsoid_radius(mirrored, (11, 76, -6), (9 * air + 3, 12, 11 * air + 4))
    share = smooth_step(-(frontal + 0.25 * texture[0]), -1.04, -0.9)
    hu = blend(hu, share * smooth_step(outward, 1.6, 2.6) * smooth_step(table_mm, 1.4, 2.4), AIR)
    for cell, rough in cells:
        share = smooth_step(-(cell + rough * texture[0]), -1.04, -0.96)
        hu = blend(hu, share * outside, filling)
    ethmoid = ellipsoid_radius((side * 1.0, y, z), (6, 50, -40), (10, 24, 15))
    nasal = (side < 15) & (y > 22) & (y < 82) & (z < -46)
    walls = smooth_step(np.abs(texture[0]), 0.22, 0.4)
    inside = np.maximum(smooth_step(-ethmoid, -1.05, -0.95), nasal.astype(np.float32))
    mucosa = np.where(np.abs(texture[0]) < 0.1, 330.0, 40.0)
    hu = blend(hu, inside * outside, blend(mucosa, walls, AIR))
    septum = smooth_step(-np.abs(x + texture[2]), -1.2, -0.7) * inside
    hu = blend(hu, septum, 260.0)
    mastoid = ellipsoid_radius(mirrored, (55, -36, -46), (10, 15, 19))
    honeycomb = smooth_step(grain[0] + 0.7 * texture[1] + traits.mastoid_air, 0.2, 0.7)
    share = smooth_step(-mastoid, -1.05, -0.85) * honeycomb
    return blend(hu, share * smooth_step(outward, 1.5, 2.5), AIR)
