"""Head and bleeds -> density and share of blood at the points of a slice."""

import cv2
import numpy as np

from hemtrace.phantom.atlas import Vector
from hemtrace.phantom.brain import OldLesion, compose_brain
from hemtrace.phantom.head import Head
from hemtrace.phantom.lesions import Blob, Lesion, Site, subtype_bit
from hemtrace.phantom.skull import AIR, compose_shell, skin_depth

# The smooth fields are sampled at every so many points and enlarged.
_COARSE = 4


class Renderer:
    """Computes a patient's tissue wherever the scanner looks."""

    def __init__(self, scars: list[OldLesion]) -> None:
        self.scars = scars

    def visit(self, head: Head, points: Vector) -> Site:
        """Give the points of a box that lie inside the skull, flattened, and the brain there."""
        fields = head.control.sample(points)
        inside = np.nonzero(fields[6] > -1)
        place = (points[0][inside], points[1][inside], points[2][inside])
        return self._describe(
            head, place, fields[:, inside[0], inside[1], inside[2]], *_sample_noise(head, place)
        )

    def render(
        self, head: Head, lesions: list[Lesion], points: Vector
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give the HU and the blood at the points of a slice's planes.

        Parameters
        ----------
        points
            Head coordinates, float32 [planes, rows, columns].

        Returns
        -------
        tuple
            float32 [planes, rows, columns] HU, and float32 [lesions, rows, columns] the share of
            blood of each lesion, the mean over the planes.
        """
        planes, rows, columns = points[0].shape
        hu = np.full(points[0].shape, AIR, np.float32)
        blood = np.zeros((len(lesions), rows, columns), np.float32)
        x, y, z = points
        coarse = head.control.sample((_shrink(x), _shrink(y), _shrink(z)))
        skin = skin_depth(head.traits, (coarse[0], coarse[1], coarse[2]), coarse[7], coarse[8])
        near = np.stack([_enlarge(plane, (rows, columns)) for plane in skin]) > -2
        where = np.nonzero(near)
        if len(where[0]) == 0:
            return hu, blood
        fields = np.stack(
            [
                np.stack([_enlarge(plane, (rows, columns)) for plane in channel])[near]
                for channel in coarse
            ]
        )
        place = (points[0][near], points[1][near], points[2][near])
        texture, grain = _sample_noise(head, place)
        shell, inside = compose_shell(
            head.traits,
            (fields[0], fields[1], fields[2]),
            fields[6],
            fields[7],
            fields[8],
            texture,
            grain,
        )
        held = np.nonzero(inside > 0)[0]
        if len(held):
            site = self._describe(
                head,
                (place[0][held], place[1][held], place[2][held]),
                fields[:, held],
                texture[:, held],
                grain[:, held],
            )
            content = site.tissue.hu
            for number, lesion in enumerate(lesions):
                share = lesion.cover(site).astype(np.float32)
                if not share.any():
                    continue
                if isinstance(lesion, Blob):
                    content = content - 12 * lesion.edema(site) * (1 - share)
                content = content + share * (lesion.clot.density(site) - content)
                plane_sum = np.zeros((rows, columns), np.float32)
                for plane in range(planes):
                    on = where[0][held] == plane
                    rows_on, columns_on = where[1][held][on], where[2][held][on]
                    plane_sum[rows_on, columns_on] += share[on] * inside[held][on]
                blood[number] = plane_sum / planes
            shell[held] += inside[held] * (content - shell[held])
        hu[near] = shell
        return hu, blood

    def _describe(
        self, head: Head, place: Vector, fields: np.ndarray, texture: np.ndarray, grain: np.ndarray
    ) -> Site:
        atlas = (fields[0] + fields[3], fields[1] + fields[4], fields[2] + fields[5])
        tissue = compose_brain(head.traits, self.scars, atlas, fields[6], texture, grain)
        return Site(place, atlas, fields[6], fields[8], texture, grain, tissue)


def mark_blood(blood: np.ndarray, lesions: list[Lesion], share: float) -> np.ndarray:
    """Mark the pixels where a lesion's share of the slice thickness is large enough.

    Parameters
    ----------
    blood
        float32 [lesions, rows, columns].

    Returns
    -------
    numpy.ndarray
        uint8 [rows, columns], bit k for `labels.SUBTYPES[k]`.
    """
    mask = np.zeros(blood.shape[1:], np.uint8)
    for lesion, layer in zip(lesions, blood, strict=True):
        mask[layer >= share] |= subtype_bit(lesion.subtype)
    return mask


def _sample_noise(head: Head, place: Vector) -> tuple[np.ndarray, np.ndarray]:
    return head.texture.sample(place), head.grain.sample(place)


def _shrink(axis: np.ndarray) -> np.ndarray:
    planes, rows, columns = axis.shape
    blocks = axis.reshape(planes, rows // _COARSE, _COARSE, columns // _COARSE, _COARSE)
    # Coordinates are linear in the pixel, so a block's mean is its centre's coordinate.
    return blocks.mean(axis=(2, 4))


def _enlarge(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.asarray(cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_LINEAR))
