"""A head in space: where each point of it lies in the atlas, and how deep in the skull.

Head coordinates are millimetres with the atlas's axes and origin; the patient's size, asymmetry
and whatever pushes the brain aside lie between the two.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from hemtrace.phantom.atlas import Block, Vector, load_skull, make_texture
from hemtrace.phantom.traits import Traits

# The grid on which everything smooth about a head is kept.
CONTROL_MM = 4.0
_LOW = (-105.0, -135.0, -100.0)
_SHAPE = (54, 62, 54)


@dataclass(frozen=True)
class Head:
    """A head's smooth fields, and its noises.

    `control` has nine channels: atlas coordinates for bone and skin (3), the further displacement
    of brain (3), the depth below the skull's inner wall and below the hull that the outer table
    follows, in mm (2), and an unevenness of SD 1 for thicknesses (1). `texture` is noise of about
    5 mm, `grain` of about 2 mm, three channels each.
    """

    traits: Traits
    control: Block
    texture: Block
    grain: Block


def make_head(traits: Traits, rng: np.random.Generator) -> Head:
    """Draw the shape of a head that nothing pushes yet."""
    points = control_points()
    warp = traits.warp_mm * (_draw_smooth(rng, 60.0) + 0.2 * _draw_smooth(rng, 25.0))
    atlas = [
        axis / scale + shift for axis, scale, shift in zip(points, traits.scale, warp, strict=True)
    ]
    # A head lies a little askew, more so the higher or further back: plagiocephaly, petalia.
    lean = rng.normal(0, 0.025, 3)
    x, y, z = atlas
    atlas[0] = x + lean[0] * y + lean[1] * z
    atlas[1] = y + lean[2] * x
    gap = 0.2 + 0.8 * traits.gap_mm + float(rng.uniform(0, 0.5))
    depth, hull = load_skull().sample((atlas[0], atlas[1], atlas[2])) * np.mean(traits.scale) + gap
    depth = depth - _inner_ridges(atlas[0], atlas[1], atlas[2])
    brain_warp = _draw_smooth(rng, 22.0) * rng.uniform(1.2, 2.2)
    unevenness = _draw_smooth(rng, 24.0)[:1]
    fields = np.concatenate([np.stack(atlas), brain_warp, depth[None], hull[None], unevenness])
    control = Block(np.ascontiguousarray(np.moveaxis(fields, 0, -1), np.float32), _LOW, CONTROL_MM)
    return Head(traits, control, make_texture(rng, 3, 1.6, 1.5), make_texture(rng, 3, 0.9, 1.0))


def push_brain(head: Head, displacement: Vector) -> Head:
    """Displace the brain, leaving bone and skin where they are.

    Parameters
    ----------
    displacement
        float32 on the control grid, mm: the tissue that is at point p came from p + displacement.
    """
    points = control_points()
    moved = [point + shift for point, shift in zip(points, displacement, strict=True)]
    there = head.control.sample((moved[0], moved[1], moved[2]))
    values = head.control.values.copy()
    for axis in range(3):
        values[..., 3 + axis] = there[axis] + there[3 + axis] - values[..., axis]
    return replace(head, control=replace(head.control, values=values))


def control_points() -> Vector:
    axes = [
        low + CONTROL_MM * np.arange(size, dtype=np.float32)
        for low, size in zip(_LOW, _SHAPE, strict=True)
    ]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x, y, z


def _draw_smooth(rng: np.random.Generator, wave_mm: float) -> np.ndarray:
    """Draw three smooth fields of SD 1 on the control grid, structure about `wave_mm` long."""
    step = max(1, int(wave_mm / 2.5 / CONTROL_MM))
    coarse = [size // step + 4 for size in _SHAPE]
    noise = rng.standard_normal((3, *coarse), dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0, 1, 1, 1), mode="nearest")
    noise /= noise.std()
    points = np.meshgrid(*[np.arange(s, dtype=np.float32) / step for s in _SHAPE], indexing="ij")
    block = Block(np.ascontiguousarray(np.moveaxis(noise, 0, -1)), (0, 0, 0), 1.0)
    field = block.sample((points[0], points[1], points[2]))
    return ndimage.gaussian_filter(field, (0, step / 2, step / 2, step / 2), mode="nearest")


def _inner_ridges(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Bone that juts in: occipital protuberance and crest, frontal crest. mm."""
    occipital = np.exp(-((x / 5) ** 2) - ((z + 22) / 22) ** 2) * (y < -70) * 5
    frontal = np.exp(-((x / 3.5) ** 2) - ((z - 2) / 18) ** 2) * (y > 50) * 3.5
    ridges: np.ndarray = occipital + frontal
    return ridges
