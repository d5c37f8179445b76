"""How `atlas.npz` was made: `python -m hemtrace.phantom.build_atlas FOLDER`.

FOLDER holds the MNI152 average brain as the package nilearn ships it
(`mni_icbm152_{t1,gm,wm}_tal_nlin_sym_09a_converted.nii.gz`). The atlas is part of the package, so
nobody needs to run this to make a phantom. Licence and references: ATLAS_LICENSE beside this file.
"""

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

# World coordinates in mm of the first voxel of the template, whose voxels are 1 mm.
_ORIGIN = np.array((-98, -134, -72))
# World boxes of the two grids, mm, and their voxels.
BRAIN_BOX = ((-76, 76), (-112, 80), (-72, 86))
BRAIN_VOXEL = 1.25
HEAD_BOX = ((-100, 100), (-135, 105), (-80, 110))
HEAD_VOXEL = 2.5
# Voxels of air around the template, room for what grows.
_MARGIN = 60


def build_atlas(folder: Path) -> dict[str, np.ndarray]:
    """Make the atlas's maps from the template.

    Returns
    -------
    dict
        On the brain grid: `csf` and `wm`, uint8 probabilities of 0 to 255; `ventricle`, int8
        signed distance to the ventricles' wall in quarter millimetres, positive inside. On the
        head grid: `cavity` and `hull`, int16 signed distances to the skull's inner wall and to the
        smooth surface that its outer table follows, in tenths of a millimetre, positive inside.
    """
    t1, gm, wm = (_read_nifti(folder, name) for name in ("t1", "gm", "wm"))
    brain = t1 > 0
    csf = np.where(brain, np.clip(255 - gm - wm, 0, 255), 255)
    ventricle = _find_ventricles(csf, brain)
    # Sulci too tight to count as CSF in an average of 152 brains are still valleys darker than
    # grey matter, which has 165.
    grey = np.where(brain, np.minimum(t1, 165), 165)
    valley = ndimage.grey_closing(grey, size=(7, 7, 7)) - grey
    csf = np.maximum(csf, np.clip(valley * 4, 0, 200))
    cavity, hull = _find_skull(brain)
    maps = {
        "csf": _resample(ndimage.gaussian_filter(csf, 0.4), BRAIN_BOX, BRAIN_VOXEL, 0),
        "wm": _resample(wm, BRAIN_BOX, BRAIN_VOXEL, 0),
        "ventricle": _resample(_signed_distance(ventricle), BRAIN_BOX, BRAIN_VOXEL, 0),
        "cavity": _resample(cavity, HEAD_BOX, HEAD_VOXEL, _MARGIN),
        "hull": _resample(hull, HEAD_BOX, HEAD_VOXEL, _MARGIN),
    }
    # 32 levels are enough for a probability, and halve the file.
    for name in ("csf", "wm"):
        maps[name] = np.rint(np.rint(np.clip(maps[name], 0, 255) / 255 * 31) * 255 / 31)
        maps[name] = maps[name].astype(np.uint8)
    maps["ventricle"] = np.rint(np.clip(maps["ventricle"], -20, 20) * 4).astype(np.int8)
    for name in ("cavity", "hull"):
        maps[name] = np.rint(maps[name] * 10).astype(np.int16)
    return maps


def _read_nifti(folder: Path, name: str) -> np.ndarray:
    content = gzip.decompress(
        (folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz").read_bytes()
    )
    shape = np.frombuffer(content, "<i2", 3, offset=42)
    start = int(np.frombuffer(content, "<f4", 1, offset=108)[0])
    voxels = np.frombuffer(content, np.uint8, offset=start)
    return voxels.reshape(shape, order="F").astype(np.float32)


def _find_ventricles(csf: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Find the lateral, third and fourth ventricles among the CSF, by where they may lie."""
    i, j, k = np.ogrid[: csf.shape[0], : csf.shape[1], : csf.shape[2]]
    x, y, z = abs(i + _ORIGIN[0]), j + _ORIGIN[1], k + _ORIGIN[2]
    body = (x < 26) & (x > 1) & (y > -38) & (y < 36) & (z > -4) & (z < 30)
    occipital = (x > 14) & (x < 36) & (y > -72) & (y < -28) & (z > -12) & (z < 22)
    temporal = (x > 24) & (x < 40) & (y > -40) & (y < -8) & (z > -26) & (z < -6)
    third = (x < 5) & (y > -24) & (y < 8) & (z > -16) & (z < 8)
    fourth = (x < 14) & (y > -58) & (y < -36) & (z > -52) & (z < -20)
    allowed = (body | occipital | temporal | third | fourth) & brain & (csf > 100)
    parts, _ = ndimage.label(allowed)
    sizes = np.bincount(parts.ravel())
    keep = sizes >= 120
    keep[0] = False
    return keep[parts]


def _find_skull(brain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find how deep a point lies in the skull's cavity, and in the smooth hull around it, mm.

    The vault runs smoothly over gyri and fissures; the base follows the brain closely, and where
    it leaves notches there is bone: petrous pyramids, sphenoid wings.
    """
    padded = np.pad(brain, _MARGIN)
    i, j, k = np.ogrid[: padded.shape[0], : padded.shape[1], : padded.shape[2]]
    x, y, z = (index + start - _MARGIN for index, start in zip((i, j, k), _ORIGIN, strict=True))
    # The cisterns around pituitary stalk and pons, which the template's mask leaves out.
    padded |= (x / 13) ** 2 + ((y - 1) / 17) ** 2 + ((z + 17) / 11) ** 2 < 1
    padded |= (x / 10) ** 2 + ((y + 17) / 7) ** 2 + ((z + 40) / 22) ** 2 < 1
    close_fit = _signed_distance(_close(padded, 9))
    vault = ndimage.gaussian_filter(_signed_distance(_close(padded, 30)), 2.5)
    height = np.clip((z + 24) / 18, 0, 1)
    cavity = close_fit + height * (vault - close_fit)
    # The outer table ignores the notch at the temple; a ball this large needs coarse voxels.
    coarse = np.pad(padded[::3, ::3, ::3], 40)
    wide = _close(coarse, 110 / 3)
    offset = 40 + np.array(np.meshgrid(*map(np.arange, padded.shape), indexing="ij")) / 3
    hull = 3 * ndimage.map_coordinates(_signed_distance(wide), offset, order=1, mode="nearest")
    hull = ndimage.gaussian_filter(hull, 3)
    return cavity, np.maximum(cavity, hull - 1.2 * np.maximum(-22 - z, 0))


def _close(region: np.ndarray, radius: float) -> np.ndarray:
    grown = ndimage.distance_transform_edt(~region) <= radius
    return ndimage.distance_transform_edt(grown) > radius


def _signed_distance(region: np.ndarray) -> np.ndarray:
    inside = ndimage.distance_transform_edt(region)
    outside = ndimage.distance_transform_edt(~region)
    return ndimage.gaussian_filter(inside - outside, 0.7).astype(np.float32)


def _resample(
    voxels: np.ndarray, box: tuple[tuple[int, int], ...], step: float, pad: int
) -> np.ndarray:
    axes = [
        np.arange(low, high + step / 2, step) - start + pad
        for (low, high), start in zip(box, _ORIGIN, strict=True)
    ]
    grid = np.meshgrid(*axes, indexing="ij")
    return ndimage.map_coordinates(voxels, grid, order=1, mode="nearest", output=np.float32)


if __name__ == "__main__":
    maps: dict[str, Any] = build_atlas(Path(sys.argv[1]))
    np.savez_compressed(Path(__file__).with_name("atlas.npz"), **maps)
