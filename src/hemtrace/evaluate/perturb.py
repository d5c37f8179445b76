"""Slices changed as scanners and patients change them: noise, offset, shift, rotation, blur.

The changes are made to the uint8 pictures that the network sees, not to the raw slices. What a
window shows black or white stays so under a change of HU: how far beyond its ends the pixel lies is
not known any more. So bone and air never change, and a change of HU towards the middle of a window
brings nothing back from beyond its ends.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hemtrace.errors import HemtraceError
from hemtrace.params import Window

# kind -> title, unit of the strength, strengths of the default run.
PERTURBATIONS: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "noise": ("noise", "HU, standard deviation", (2, 5, 10, 20)),
    "offset": ("offset of HU", "HU", (-10, -5, 5, 10)),
    "shift": ("shift", "share of the side", (0.04, 0.08)),
    "rotation": ("rotation", "degrees", (5, 10, 15, 30)),
    "blur": ("blur", "pixels, standard deviation", (0.5, 1, 2)),
}
# Right, down, left, up: columns and rows.
_DIRECTIONS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])


def perturb(
    images: np.ndarray,
    windows: Sequence[Window],
    kind: str,
    strength: float,
    seed: int,
    places: np.ndarray | None = None,
) -> np.ndarray:
    """Change slices as scanners and patients do; labels stay true.

    Parameters
    ----------
    images
        uint8 (N, channels, H, W); with slice context the windows stand three times.
    windows
        Of the channels.
    kind
        One of `PERTURBATIONS`. `noise` is white on the pixels of the picture, the same field seen
        through every window at its own contrast; each slice of a context has its own. `offset`
        adds HU. `shift` moves by whole pixels to the right, down, left and up by turns, `rotation`
        turns about the middle, counter-clockwise and clockwise by turns, both with air where
        nothing was. `blur` is Gaussian.
    strength
        In the unit of `PERTURBATIONS`; 0 changes nothing.
    seed
        Of the noise.
    places
        int (N,): the number of each slice among all, which fixes its noise and its turn; None: 0
        to N - 1. So a slice is changed in the same way in any batch.

    Returns
    -------
    uint8, shape of `images`.

    Raises
    ------
    HemtraceError
        If there is no such kind.
    """
    if kind not in PERTURBATIONS:
        known = ", ".join(PERTURBATIONS)
        raise HemtraceError(f"There is no perturbation {kind!r}; choose one of {known}.")
    if strength == 0:
        return images.copy()
    places = np.arange(len(images)) if places is None else np.asarray(places)
    changed = np.empty_like(images)
    for image, place, out in zip(images, places.tolist(), changed, strict=True):
        if kind in ("noise", "offset"):
            out[...] = _change_hu(image, windows, kind, strength, [seed, place])
        elif kind == "shift":
            right, down = _DIRECTIONS[place % 4] * round(strength * image.shape[-1])
            matrix = np.array([[1, 0, right], [0, 1, down]], np.float64)
            _move(image, out, matrix, cv2.INTER_NEAREST)
        elif kind == "rotation":
            height, width = image.shape[1:]
            middle = ((width - 1) / 2, (height - 1) / 2)
            angle = strength if place % 2 == 0 else -strength
            _move(image, out, cv2.getRotationMatrix2D(middle, angle, 1), cv2.INTER_LINEAR)
        else:
            _blur(image, out, strength)
    return changed


def _change_hu(
    image: np.ndarray, windows: Sequence[Window], kind: str, strength: float, seed: list[int]
) -> np.ndarray:
    """Add the same HU to a pixel in all windows, but for those that are black or white."""
    slices = len(image) // len(windows)
    levels_per_hu = np.tile([255 / window.width_hu for window in windows], slices)
    hu = np.full((len(image), 1, 1), strength)
    if kind == "noise":
        field = np.random.default_rng(seed).standard_normal((slices, *image.shape[1:]))
        hu = strength * np.repeat(field, len(windows), axis=0)
    changed = np.rint(image + hu * levels_per_hu[:, None, None]).clip(0, 255)
    return np.where((image > 0) & (image < 255), changed, image)


def _move(image: np.ndarray, out: np.ndarray, matrix: np.ndarray, how: int) -> None:
    size = (image.shape[2], image.shape[1])
    for channel, moved in zip(image, out, strict=True):
        moved[...] = cv2.warpAffine(
            channel, matrix, size, flags=how, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )


def _blur(image: np.ndarray, out: np.ndarray, sigma_px: float) -> None:
    side = 2 * int(np.ceil(4 * sigma_px)) + 1
    for channel, blurred in zip(image, out, strict=True):
        grey = cv2.GaussianBlur(
            channel.astype(np.float32), (side, side), sigma_px, borderType=cv2.BORDER_CONSTANT
        )
        blurred[...] = np.rint(grey).clip(0, 255)
