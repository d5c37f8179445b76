"""Near-duplicates across the split: pictures that are the same but for noise, encoding or a shift.

A picture is brought to its centre of brightness, made small, and stripped of what is coarse, so
that not two heads but two pictures of one slice look alike. What is left is projected on its main
components: that shortens every distance, so that no pair within the limit is lost, and the few
candidates that a k-d tree finds there are compared in full. Memory grows by 200 bytes a slice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from scipy.spatial import cKDTree

from hemtrace.shards.images import find_images, open_images

_SIDE = 32
_COARSE = 2.0
_COMPONENTS = 24
_SAMPLE = 4000
_CHUNK = 1024
# Candidates compared in full, the nearest first: two readings of a picture each.
_MOST_CANDIDATES = 20_000


@dataclass(frozen=True)
class NearRule:
    """What counts as a near-duplicate.

    Measured on 2,716 phantom slices of 112 pixels: slices of different patients reach a correlation
    of 0.965 at most; of copies moved by a pixel, with noise of 5 HU and as JPEG of quality 50, 99.9
    in 100 keep 0.98 or more.

    Attributes
    ----------
    correlation
        From which on two pictures are near-duplicates.
    grey_share
        Pictures with fewer pixels between black and white are not compared: slices at the vertex
        and of bone look alike in all patients.
    twins
        Most pairs of one slice with slices of another side that are looked for.
    listed
        Most pairs that are listed.
    """

    correlation: float = 0.98
    grey_share: float = 0.05
    twins: int = 8
    listed: int = 100

    @property
    def sentence(self) -> str:
        """The rule in words."""
        return (
            f"brain-window pictures, centred by brightness, {_SIDE} x {_SIDE} pixels, less "
            f"their Gaussian mean (sigma {_COARSE:g} pixels): correlation of "
            f"{self.correlation:g} or more; pictures with less than {self.grey_share:.0%} of "
            "their pixels between black and white are not compared; mirrored and turned copies "
            "are not looked for"
        )


def find_near_duplicates(
    used: pl.DataFrame, sides: list[str], shards: Path, window_place: int, rule: NearRule
) -> dict[str, Any]:
    """Find near-duplicates that stand on two sides of the split.

    Parameters
    ----------
    used
        Used slices with slice, patient, side, shard, row.
    sides
        Their names.
    shards
        Folder of the shards.
    window_place
        Channel of the brain window.
    rule
        What counts as one.

    Returns
    -------
    rule (in words), correlation, compared and too_plain (slices), pairs_found, slices and patients
    (that stand in a pair), unconfirmed (candidates that were too many to compare), and pairs: the
    closest, each with slices, sides and correlation.
    """
    table = used.sort("shard", "row", "slice")
    places = table.select("shard", "row").rows()
    points, is_compared = _project(places, shards, window_place, rule)
    side = table["side"].to_numpy()[is_compared]
    where = np.flatnonzero(is_compared)
    first, second, distance = _find_candidates(points, side, sides, rule)
    first, second = where[first], where[second]
    kept = np.lexsort((second, first, distance))[:_MOST_CANDIDATES]
    unconfirmed = len(first) - len(kept)
    first, second = first[kept], second[kept]
    likeness = _compare(places, shards, window_place, first, second)
    near = likeness >= rule.correlation
    first, second, likeness = first[near], second[near], likeness[near]
    order = np.lexsort((second, first, -likeness))[: rule.listed]
    both = table[np.unique(np.r_[first, second]).tolist()]
    names, named_sides = table["slice"], table["side"]
    pairs = zip(first[order].tolist(), second[order].tolist(), likeness[order], strict=True)
    return {
        "rule": rule.sentence,
        "correlation": rule.correlation,
        "compared": len(where),
        "too_plain": table.height - len(where),
        "pairs_found": len(first),
        "slices": both["slice"].n_unique(),
        "patients": both["patient"].n_unique(),
        "unconfirmed": unconfirmed,
        "pairs": [
            {
                "slices": [names[a], names[b]],
                "sides": [named_sides[a], named_sides[b]],
                "correlation": round(float(value), 4),
            }
            for a, b, value in pairs
        ],
    }


def describe_picture(picture: np.ndarray) -> np.ndarray:
    """Reduce a picture, uint8 (H, W), to what tells it from others: float32 (1024,) of length 1.

    The product of two is their correlation. A picture without detail gives zeros.
    """
    grey = picture.astype(np.float32)
    height, width = grey.shape
    total = grey.sum()
    if not total:
        return np.zeros(_SIDE**2, np.float32)
    down = grey.sum(axis=1) @ np.arange(height, dtype=np.float32) / total
    right = grey.sum(axis=0) @ np.arange(width, dtype=np.float32) / total
    move = np.array([[1, 0, (width - 1) / 2 - right], [0, 1, (height - 1) / 2 - down]])
    centred = cv2.warpAffine(grey, move, (width, height))
    small = cv2.resize(centred, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    detail = (small - cv2.GaussianBlur(small, (0, 0), _COARSE)).ravel()
    detail -= detail.mean()
    length = float(np.linalg.norm(detail))
    return detail / length if length > 1e-3 else np.zeros_like(detail)


def _grey_share(picture: np.ndarray) -> float:
    return float(((picture > 0) & (picture < 255)).mean())


def _read(places: list[tuple[int, int]], shards: Path, window: int) -> Iterator[np.ndarray]:
    for shard, row in places:
        yield open_images(find_images(shards, f"{shard:04d}")).read(row)[window]


def _describe(places: list[tuple[int, int]], shards: Path, window: int) -> np.ndarray:
    pictures = _read(places, shards, window)
    return np.array([describe_picture(picture) for picture in pictures]).reshape(-1, _SIDE**2)


def _project(
    places: list[tuple[int, int]], shards: Path, window: int, rule: NearRule
) -> tuple[np.ndarray, np.ndarray]:
    """Project the pictures that can be compared: float32 (n, components), and bool (N,), which."""
    sample = np.unique(np.linspace(0, len(places) - 1, min(_SAMPLE, len(places)), dtype=int))
    described = _describe([places[k] for k in sample], shards, window)
    # The directions of most variance, of vectors about zero as distances need no mean.
    _, basis = np.linalg.eigh(described.T @ described)
    basis = basis[:, -_COMPONENTS:]
    is_compared = np.zeros(len(places), dtype=bool)
    points = [np.empty((0, _COMPONENTS), np.float32)]
    for start in range(0, len(places), _CHUNK):
        chunk = []
        for k, picture in enumerate(_read(places[start : start + _CHUNK], shards, window), start):
            detail = describe_picture(picture) if _grey_share(picture) >= rule.grey_share else None
            if detail is not None and detail.any():
                is_compared[k] = True
                chunk.append(detail)
        if chunk:
            points.append(np.stack(chunk) @ basis)
    return np.concatenate(points), is_compared


def _find_candidates(
    points: np.ndarray, side: np.ndarray, sides: list[str], rule: NearRule
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find pairs of points on two sides that are near enough: their places and distance."""
    # Vectors of length 1 with this correlation lie so far apart; a rounding more loses none.
    radius = float(np.sqrt(2 * (1 - rule.correlation))) + 1e-4
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for number, name in enumerate(sides[:-1]):
        here = np.flatnonzero(side == name)
        there = np.flatnonzero(np.isin(side, sides[number + 1 :]))
        if not len(here) or not len(there):
            continue
        tree = cKDTree(points[here])
        twins = min(rule.twins, len(here))
        for start in range(0, len(there), _CHUNK):
            asked = there[start : start + _CHUNK]
            distance, place = tree.query(
                points[asked], k=[*range(1, twins + 1)], distance_upper_bound=radius
            )
            is_near = np.isfinite(distance)
            asked_again = np.broadcast_to(asked[:, None], distance.shape)[is_near]
            found.append((here[place[is_near]], asked_again, distance[is_near]))
    nothing = np.empty(0, np.intp)
    first = np.concatenate([nothing, *(pair[0] for pair in found)])
    second = np.concatenate([nothing, *(pair[1] for pair in found)])
    return first, second, np.concatenate([np.empty(0), *(pair[2] for pair in found)])


def _compare(
    places: list[tuple[int, int]],
    shards: Path,
    window: int,
    first: np.ndarray,
    second: np.ndarray,
) -> np.ndarray:
    """Correlate the pictures of each pair in full: float64 (pairs,)."""
    likeness = np.empty(len(first))
    for start in range(0, len(first), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        one = _describe([places[k] for k in first[chunk]], shards, window)
        other = _describe([places[k] for k in second[chunk]], shards, window)
        likeness[chunk] = np.einsum("nk,nk->n", one, other, dtype=np.float64)
    return likeness
