"""The scan of a patient: slices of HU with their masks and labels."""

from dataclasses import dataclass

import cv2
import numpy as np

from hemtrace.labels import SUBTYPES
from hemtrace.phantom.bleeding import draw_bleeds
from hemtrace.phantom.brain import draw_old_lesions
from hemtrace.phantom.dicomfile import ENCODING_SHARES, ENCODINGS
from hemtrace.phantom.geometry import SIDE, Geometry, draw_geometry
from hemtrace.phantom.head import make_head
from hemtrace.phantom.image import Detector, add_furniture, draw_detector, form_image
from hemtrace.phantom.lesions import subtype_bit
from hemtrace.phantom.plan import PatientPlan
from hemtrace.phantom.render import Renderer, mark_blood
from hemtrace.phantom.traits import draw_traits

# A pixel is marked where blood takes this share of the slice thickness: with less, what is left
# of its contrast of some 15 HU is no more than the noise ...
MARKED_SHARE = 0.5
# ... and a slice is called positive where so much is marked: less, no reader would call.
VISIBLE_MM2 = 20.0


@dataclass(frozen=True)
class Scan:
    """hu: float32 [slices, 512, 512]; masks: uint8 of the same shape; labels: uint8 [slices, 6].

    `outside` marks the pixels beyond the scan's circular field, None where it has none.
    """

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
    traits = draw_traits(rng)
    head = make_head(traits, rng)
    geometry = draw_geometry(plan.slices, traits.scale, rng)
    detector = draw_detector(rng)
    renderer = Renderer(draw_old_lesions(traits, rng))
    encoding = ENCODINGS[rng.choice(len(ENCODINGS), p=ENCODING_SHARES)]
    window = ((40, 80), (35, 100), (36, 80), (50, 100), (30, 80))[rng.integers(5)]
    noise = np.random.default_rng(rng.integers(2**63))
    head, lesions = draw_bleeds(plan.subtypes, head, volume_factor, renderer.visit, rng)
    images, masks = [], []
    for number in range(plan.slices):
        planes, blood = renderer.render(head, lesions, geometry.slice_points(number))
        add_furniture(planes, geometry, detector, number)
        images.append(form_image(planes, geometry, detector, noise))
        full = [cv2.resize(layer, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for layer in blood]
        layers = np.stack(full) if full else np.zeros((0, SIDE, SIDE), np.float32)
        masks.append(mark_blood(layers, lesions, MARKED_SHARE))
    labels, mask = label_slices(np.stack(masks), geometry.spacing_mm)
    return Scan(
        hu=np.stack(images),
        masks=mask,
        labels=labels,
        outside=_outside(geometry, detector),
        spacing_mm=geometry.spacing_mm,
        orientation=geometry.orientation,
        positions=tuple(geometry.position(number) for number in range(plan.slices)),
        encoding=encoding,
        window=window,
    )


def label_slices(masks: np.ndarray, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Label the slices of a scan by what can be seen on them.

    A slice has a subtype where at least `VISIBLE_MM2` of it are marked, that is, hold blood in
    `MARKED_SHARE` or more of the slice thickness; `any` is the OR of the five.

    Parameters
    ----------
    masks
        uint8 [slices, rows, columns], bit k for `labels.SUBTYPES[k]`.
    spacing_mm
        Side of a pixel.

    Returns
    -------
    tuple
        uint8 [slices, 6] labels, and the masks without what is too small to count, so that a
        label is 1 exactly where its bit is set somewhere.
    """
    needed = VISIBLE_MM2 / spacing_mm**2
    labels = np.zeros((len(masks), len(SUBTYPES) + 1), np.uint8)
    kept = np.zeros_like(masks)
    for k, subtype in enumerate(SUBTYPES):
        bit = subtype_bit(subtype)
        found = ((masks & bit) > 0).sum(axis=(1, 2)) >= needed
        labels[:, k] = found
        kept[found] |= masks[found] & bit
    labels[:, -1] = labels[:, :-1].any(axis=1)
    return labels, kept


def _outside(geometry: Geometry, detector: Detector) -> np.ndarray | None:
    if not detector.circular_field:
        return None
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    field: np.ndarray = np.hypot(axis[None, :], axis[:, None]) > SIDE / 2
    return field
