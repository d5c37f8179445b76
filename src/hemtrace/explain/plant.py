"""Does the heat map point where a lesion is planted? Guards against flips and shifts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from hemtrace.explain.heat import scale_up
from hemtrace.explain.maps import Mapper
from hemtrace.explain.masks import head_area
from hemtrace.labels import ANY
from hemtrace.metrics import Estimate, estimate_share, resample_patients
from hemtrace.params import Window

LESION_HU = 70.0
RADIUS_MM = 12.0
# Brain tissue and fluid, without fat, blood and bone.
_BRAIN_HU = (5.0, 60.0)
QUADRANTS = ("upper left", "upper right", "lower left", "lower right")
# Where a map would point that is flipped or turned: it must do so less often.
MIRRORS = ("mirrored", "upside down", "turned by 180 degrees")
RULE = (
    f"A bright disc of {LESION_HU:g} HU and {RADIUS_MM:g} mm radius with a soft edge is laid over "
    "the brain of slices without a bleed that are rightly not flagged, in every window and, with "
    "slice context, in the neighbours too, in each of four quadrants in turn; where in a quadrant, "
    "and which slices, is sampled at random. Counted is how often the hottest point of the "
    "difference of the maps of any bleed, with and without the disc, lies within one cell of its "
    "centre; and the same for the map with the disc alone."
)


@dataclass(frozen=True)
class Planting:
    """A slice, and a place in each quadrant.

    Attributes
    ----------
    patient
        Whose slice it is.
    image
        uint8 (channels, H, W).
    places
        int (4, 2): row and column of the centre in each of `QUADRANTS`.
    head
        bool (H, W).
    """

    patient: str
    image: np.ndarray
    places: np.ndarray
    head: np.ndarray


def grey_of_hu(hu: float, window: Window) -> float:
    """Tell the grey level, 0 to 255, that a window shows for HU."""
    black = window.center_hu - window.width_hu / 2
    return float(np.clip((hu - black) / window.width_hu * 255, 0, 255))


def find_brain(brain_window: np.ndarray, window: Window) -> np.ndarray:
    """Find the brain: what is of its HU within the head, the largest part, holes filled: bool."""
    low, high = (grey_of_hu(hu, window) for hu in _BRAIN_HU)
    tissue = (brain_window >= low) & (brain_window <= high) & head_area(brain_window)
    numbers, count = ndimage.label(ndimage.binary_opening(tissue, iterations=1))
    if not count:
        return np.zeros(brain_window.shape, dtype=bool)
    largest = np.argmax(np.bincount(numbers.ravel())[1:]) + 1
    filled: np.ndarray = ndimage.binary_fill_holes(numbers == largest)
    return filled


def choose_places(
    brain: np.ndarray, radius_px: float, cell_px: float, rng: np.random.Generator
) -> np.ndarray | None:
    """Draw a place in each quadrant of the brain, by lot.

    The disc lies within the brain, and so far from both axes of the picture that its mirror images
    are another place: more than one and a half cells away.

    Parameters
    ----------
    brain
        bool (H, W).
    radius_px, cell_px
        Of the disc, and the side of a map's cell, in pixels.
    rng
        Draws.

    Returns
    -------
    int (4, 2), rows and columns in the order of `QUADRANTS`; None where a quadrant has no room.
    """
    if not brain.any():
        return None
    height, width = brain.shape
    rows, columns = np.indices(brain.shape)
    down, across = rows - (height - 1) / 2, columns - (width - 1) / 2
    apart = 0.75 * cell_px
    # Padded, so that the picture's edge counts as the brain's.
    depth = ndimage.distance_transform_edt(np.pad(brain, 1))[1:-1, 1:-1]
    room = (depth >= radius_px) & (np.abs(down) > apart) & (np.abs(across) > apart)
    places = []
    for upper in (True, False):
        for left in (True, False):
            here = np.argwhere(room & ((down < 0) == upper) & ((across < 0) == left))
            if not len(here):
                return None
            places.append(here[rng.integers(len(here))])
    return np.array(places)


def plant_lesion(
    image: np.ndarray, place: Sequence[int] | np.ndarray, radius_px: float, greys: np.ndarray
) -> np.ndarray:
    """Lay a bright disc with a soft edge over a slice.

    Parameters
    ----------
    image
        uint8 (channels, H, W).
    place
        Row and column of the centre.
    radius_px
        Where the disc is half as strong.
    greys
        float (channels,), the disc's grey level in each.

    Returns
    -------
    uint8 (channels, H, W), a copy.
    """
    rows, columns = np.indices(image.shape[1:])
    distance = np.hypot(rows - place[0], columns - place[1])
    strength = np.clip((radius_px - distance) / max(1.0, radius_px / 2) + 0.5, 0, 1)
    planted = image + strength * (greys[:, None, None] - image)
    return np.rint(planted).astype(np.uint8)


def score_plantings(
    mapper: Mapper,
    plantings: Sequence[Planting],
    radius_px: Sequence[float],
    greys: np.ndarray,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Plant lesions, and see where the maps of `any` point.

    Parameters
    ----------
    mapper
        Makes the maps.
    plantings
        The slices and places.
    radius_px
        Of the disc on each slice.
    greys
        float (channels,), grey level of the disc.
    replicates, seed
        Of the patient bootstrap.

    Returns
    -------
    slices, patients, trials, and estimates: `difference` and `map`, each with `hits` in all,
    `quadrants`, and `flipped`: hits of the same peaks at the mirror images of the places; chance,
    that of a point dropped at random on the head.
    """
    hits: dict[str, list[np.ndarray]] = {"difference": [], "map": []}
    chances = []
    for planting, radius in zip(plantings, radius_px, strict=True):
        image = planting.image
        shape = image.shape[1:]
        cell = min(shape[0] / mapper.cells[0], shape[1] / mapper.cells[1])
        planted = [plant_lesion(image, place, radius, greys) for place in planting.places]
        raw = mapper.raw(np.stack([image, *planted]), [ANY])
        for kind, peaks in (
            ("difference", [_peak_of_difference(raw, 1 + k, shape) for k in range(4)]),
            ("map", [_peak_of_map(raw, 1 + k, shape) for k in range(4)]),
        ):
            hits[kind].append(
                np.array(
                    [
                        [is_near(peak, spot, cell) for spot in mirror_images(place, shape)]
                        for peak, place in zip(peaks, planting.places, strict=True)
                    ]
                )
            )
        head = np.argwhere(planting.head)
        chances += [
            float((np.hypot(*(head - place).T) <= cell).mean()) for place in planting.places
        ]
    patients = np.array([planting.patient for planting in plantings], dtype=str)
    summary: dict[str, Any] = {
        "slices": len(plantings),
        "patients": len(set(patients)),
        "trials": len(plantings) * len(QUADRANTS),
        "chance": float(np.mean(chances)) if chances else None,
    }
    resamples = resample_patients(patients, replicates, seed)

    def share(values: np.ndarray) -> dict[str, Any]:
        found: Estimate = estimate_share(
            values, np.ones(len(values)), resamples, "no slice in which to plant"
        )
        return found.as_dict()

    for kind, per_slice in hits.items():
        # (slices, quadrants, the place and its mirror images)
        found = np.array(per_slice, dtype=float).reshape(len(plantings), 4, 1 + len(MIRRORS))
        summary[kind] = {
            "hits": share(found[..., 0].mean(axis=1)),
            "quadrants": {name: share(found[:, k, 0]) for k, name in enumerate(QUADRANTS)},
            "flipped": {
                name: share(found[..., 1 + k].mean(axis=1)) for k, name in enumerate(MIRRORS)
            },
        }
    return summary


def mirror_images(place: np.ndarray, shape: tuple[int, ...]) -> list[tuple[float, float]]:
    """Give a place and where it would lie in pictures flipped as `MIRRORS` says."""
    row, column = float(place[0]), float(place[1])
    below, right = shape[0] - 1 - row, shape[1] - 1 - column
    return [(row, column), (row, right), (below, column), (below, right)]


def is_near(peak: tuple[float, float] | None, place: tuple[float, float], cell_px: float) -> bool:
    """Whether a peak lies within one cell of a place; an empty map has none."""
    return peak is not None and np.hypot(peak[0] - place[0], peak[1] - place[1]) <= cell_px


def find_peak(heat: np.ndarray) -> tuple[float, float] | None:
    """Find the hottest point of a map (H, W); None where it is empty.

    Enlarging cells repeats the outermost beyond its centre: the middle of points that are equally
    hot and touch is taken.
    """
    top = heat.max()
    if not top > 0:
        return None
    numbers, _ = ndimage.label(heat >= top * (1 - 1e-6))
    first = numbers.flat[np.argmax(numbers > 0)]
    row, column = np.argwhere(numbers == first).mean(axis=0)
    return float(row), float(column)


def _peak_of_map(
    raw: Sequence[np.ndarray], place: int, shape: tuple[int, ...]
) -> tuple[float, float] | None:
    return find_peak(np.mean([scale_up(maps[place, 0], *shape) for maps in raw], axis=0))


def _peak_of_difference(
    raw: Sequence[np.ndarray], place: int, shape: tuple[int, ...]
) -> tuple[float, float] | None:
    more = [scale_up(maps[place, 0] - maps[0, 0], shape[0], shape[1]) for maps in raw]
    return find_peak(np.mean(more, axis=0))
