"""Sanity checks of heat maps on test slices: random networks, planted lesions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from hemtrace.explain import plant, randomise
from hemtrace.explain.cases import Cases
from hemtrace.explain.choose import choose_by_lot
from hemtrace.explain.maps import Mapper
from hemtrace.explain.masks import head_area
from hemtrace.labels import ANY
from hemtrace.params import Window

# Slices of the randomisation check that are drawn.
_EXAMPLES = 3


@dataclass(frozen=True)
class Randomisation:
    """What the check with random networks found.

    Attributes
    ----------
    summary
        Plain JSON values.
    images
        uint8 (K, H, W), example slices.
    maps
        float32 (steps, K, H, W), their maps, of the first draw.
    """

    summary: dict[str, Any]
    images: np.ndarray
    maps: np.ndarray


def check_randomisation(
    mapper: Mapper,
    cases: Cases,
    lesions: dict[str, np.ndarray],
    count: int,
    brain: int,
    replicates: int,
    seed: int,
) -> Randomisation:
    """Compare maps of flagged slices with those of networks that forget what they learned.

    Parameters
    ----------
    mapper, cases
        The trained networks, and test slices.
    lesions
        Masks by key; where there are any, slices are drawn from those that have one.
    count
        At most so many slices, by lot.
    brain
        Channel that is shown.
    replicates, seed
        Of the patient bootstrap; the seed fixes lot and weights too.
    """
    names = cases.slices.slices
    places = np.flatnonzero(cases.flagged[:, ANY]).tolist()
    if lesions:
        places = [p for p in places if names[p] in lesions and lesions[names[p]][ANY].any()]
    rng = np.random.default_rng([seed, 1])
    places = choose_by_lot(places, cases.slices.patients, count, rng)
    rule = "flagged test slices with a lesion mask" if lesions else "flagged test slices"
    summary: dict[str, Any] = {
        "rule": randomise.RULE,
        "slices": len(places),
        "patients": len(set(cases.slices.patients[places])),
        "drawn_from": f"{rule}, sampled at random, a patient again only when no other is left",
        "draws": randomise.DRAWS,
        "steps": None,
        "other_patients": None,
        "pointing_chance": None,
        "why": None if places else f"there are no {rule}",
    }
    if not places:
        return Randomisation(summary, np.empty((0, 1, 1), np.uint8), np.empty((0, 0, 1, 1)))
    images = cases.slices.read(places)
    heads = np.stack([head_area(image[brain]) for image in images])
    near = None
    if lesions:
        cell_px = min(images.shape[-1] / cells for cells in mapper.cells)
        masks = [lesions[names[place]][ANY] for place in places]
        near = np.stack([ndimage.distance_transform_edt(~mask) <= cell_px for mask in masks])
        summary["pointing_chance"] = float(
            np.mean([area[head].mean() for area, head in zip(near, heads, strict=True)])
        )
    draws = randomise.cascade_maps(mapper, images, seed)
    patients = cases.slices.patients[places]
    summary |= randomise.compare_maps(draws, heads, near, patients, replicates, seed)
    return Randomisation(summary, images[:_EXAMPLES, brain], draws[0, :, :_EXAMPLES])


def check_planted(
    mapper: Mapper,
    cases: Cases,
    windows: Sequence[Window],
    count: int,
    brain: int,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Plant lesions in slices that are rightly clear, and see where the maps point.

    Parameters
    ----------
    mapper, cases, brain
        As for `check_randomisation`.
    windows
        One a channel of the slices.
    count
        At most so many slices, by lot.
    replicates, seed
        Of the patient bootstrap; the seed fixes the lots too.

    Returns
    -------
    Plain JSON values.
    """
    clear = ~cases.flagged[:, ANY] & ~cases.slices.labels[:, ANY].astype(bool)
    rng = np.random.default_rng([seed, 2])
    places = np.flatnonzero(clear).tolist()
    order = choose_by_lot(places, cases.slices.patients, 8 * count, rng)
    plantings: list[plant.Planting] = []
    radii: list[float] = []
    for place in order:
        if len(plantings) == count:
            break
        image = cases.slices.read([place])[0]
        size = image.shape[-1]
        pixel_mm = float(np.sqrt(cases.picture_pixel_mm2(place, size)))
        if np.isnan(pixel_mm):
            continue
        radius = plant.RADIUS_MM / pixel_mm
        brain_area = plant.find_brain(image[brain], windows[brain])
        cell_px = min(size / cells for cells in mapper.cells)
        spots = plant.choose_places(brain_area, radius, cell_px, rng)
        if spots is not None:
            head = head_area(image[brain])
            patient = str(cases.slices.patients[place])
            plantings.append(plant.Planting(patient, image, spots, head))
            radii.append(radius)
    greys = np.array([plant.grey_of_hu(plant.LESION_HU, window) for window in windows])
    found = plant.score_plantings(mapper, plantings, radii, greys, replicates, seed)
    why = None if plantings else "no rightly clear slice has room for a lesion in every quadrant"
    return {"rule": plant.RULE, "why": why, **found}
