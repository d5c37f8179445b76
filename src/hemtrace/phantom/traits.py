"""What is drawn once a patient: the head's measures, its age and what age did to it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Traits:
    """One head. Lengths in mm, densities in HU, shares of 0 to 1.

    `burr_hole` is the side (-1 or 1), height (y, z in the atlas) and radius of a hole in the skull.
    """

    scale: tuple[float, float, float]
    warp_mm: float
    atrophy: float
    vessel_disease: float
    csf_level: float
    ventricle_mm: float
    ventricle_asymmetry_mm: float
    gap_mm: float
    grey_hu: float
    white_hu: float
    csf_hu: float
    blood_hu: float
    skull_mm: float
    bone_hu: float
    scalp_mm: float
    fat_share: float
    sinus_air: float
    mastoid_air: float
    pineal: float
    plexus: float
    falx_calcium: float
    ganglia_calcium: float
    vessel_calcium: float
    infarcts: int
    burr_hole: tuple[float, float, float, float] | None


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw a head; whatever age changes follows a drawn age of 18 to 95 years."""
    age = 18 + 77 * rng.beta(2.0, 1.3)
    decay = np.clip((age - 35) / 60, 0, 1)
    atrophy = float(np.clip(decay + rng.normal(0, 0.18), 0, 1))
    size = rng.normal(0.925, 0.025)
    scale = size * rng.normal(1, 0.025, 3)
    white = rng.normal(27, 1.3)

    def calcified(young: float, old: float) -> float:
        """Draw nothing, or how much."""
        present = rng.random() < young + (old - young) * decay
        return float(rng.uniform(0.3, 1)) if present else 0.0

    return Traits(
        scale=(float(scale[0]), float(scale[1]), float(scale[2])),
        warp_mm=float(rng.uniform(2, 4.5)),
        atrophy=atrophy,
        vessel_disease=float(np.clip(rng.normal(decay * 0.8 - 0.15, 0.3), 0, 1)),
        csf_level=float(0.56 - 0.4 * atrophy + rng.normal(0, 0.05)),
        ventricle_mm=float(-0.9 + 4.2 * atrophy**1.6 + rng.normal(0, 0.5)),
        ventricle_asymmetry_mm=float(rng.normal(0, 0.5)),
        gap_mm=float(0.3 + 2.4 * atrophy**1.5 * rng.uniform(0.5, 1.3)),
        grey_hu=float(white + rng.normal(10.0, 1.3)),
        white_hu=float(white),
        csf_hu=float(rng.normal(7, 2)),
        blood_hu=float(rng.normal(52, 6)),
        skull_mm=float(rng.uniform(3.0, 6.6)),
        bone_hu=float(rng.normal(1, 0.12)),
        scalp_mm=float(rng.uniform(3.5, 8)),
        fat_share=float(rng.uniform(0.25, 0.75)),
        sinus_air=float(rng.uniform(0.3, 1.2)),
        mastoid_air=float(rng.uniform(-0.4, 0.9)),
        pineal=calcified(0.3, 0.75),
        plexus=calcified(0.15, 0.7),
        falx_calcium=calcified(0.03, 0.2),
        ganglia_calcium=calcified(0.02, 0.18),
        vessel_calcium=calcified(0.02, 0.6),
        infarcts=int(rng.poisson(0.05 + 0.5 * decay)),
        burr_hole=_draw_burr_hole(rng),
    )


def _draw_burr_hole(rng: np.random.Generator) -> tuple[float, float, float, float] | None:
    place = rng.uniform((-30, 20), (45, 60))
    radius = rng.uniform(4, 8) if rng.random() < 0.7 else rng.uniform(15, 28)
    hole = (float(rng.choice((-1, 1))), float(place[0]), float(place[1]), float(radius))
    return hole if rng.random() < 0.05 else None
