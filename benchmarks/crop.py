"""What a crop to the head does to small bleeds, without any training: `crop.py`.

On phantom patients with bleeds of natural volume, and on the real head. What a bleed adds to a
picture is the picture less that of the same slice from which the bleed's contrast was taken away:
skull beside it, and noise, are in both. It counts as visible by Rose's criterion: what it adds,
root of the sum of squares, is 5 times the noise around it (Rose, J Opt Soc Am 38, 1948).
"""

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pydicom
from common import HEAD_CT, Figure, report
from pydicom.pixels import apply_modality_lut
from scipy import ndimage

from hemtrace.head import find_head
from hemtrace.params import DEFAULT_WINDOWS, PhantomParams, View
from hemtrace.phantom import generate
from hemtrace.window import Square, choose_square, cut_square, preprocess

PATIENTS = 60
SMALL_ML = 0.5
ROSE = 5.0
SUBDURAL = DEFAULT_WINDOWS[1:2]
GREY_A_HU = 255 / SUBDURAL[0].width_hu
# Of these many mm both views hold a head: the default, and the size of the speed benchmark.
FIELD_MM = 224
SIZES = (112, 256)
# Brain around a bleed, and its HU.
RING_MM, RING_HU = (1.0, 5.0), (5, 60)


@dataclass(frozen=True)
class Seen:
    """A bleed on one slice of one view: pixels it covers, share of contrast left, noise ratio."""

    native_px: int
    kept_px: int
    area_px: float
    contrast_left: float
    ratio: float


def read_slice(path: Path) -> tuple[np.ndarray, float]:
    """Read HU by pydicom, with the side of a pixel."""
    dataset = pydicom.dcmread(path)
    hu = apply_modality_lut(dataset.pixel_array, dataset).astype(np.int16)
    return hu, float(dataset.PixelSpacing[0])


def views(size: int) -> dict[str, View]:
    """Give the two views of a size."""
    base = View(windows=SUBDURAL, size=size, crop="none", pixel_mm=FIELD_MM / size)
    return {crop: base.model_copy(update={"crop": crop}) for crop in ("none", "head")}


def look(hu: np.ndarray, spacing: float, bleed: np.ndarray, view: View, square: Square) -> Seen:
    """Measure what is left of a bleed (bool, shape of `hu`) in a picture."""
    away = ndimage.distance_transform_edt(~bleed) * spacing
    ring = (away > RING_MM[0]) & (away < RING_MM[1]) & (hu > RING_HU[0]) & (hu < RING_HU[1])
    around = np.median(hu[ring]) if ring.any() else 32.0
    contrast = float(hu[bleed].mean() - around)
    healed = hu - np.rint(contrast * bleed).astype(np.int16)
    picture, without = (
        preprocess(image, square, view.windows, view.size)[0].astype(float)
        for image in (hu, healed)
    )
    added = picture - without
    covered, ring_px = (
        cv2.resize(
            cut_square(part.astype(np.float32), square, 0.0),
            (view.size, view.size),
            interpolation=cv2.INTER_AREA,
        )
        for part in (bleed, ring)
    )
    held = covered >= min(0.5, covered.max())
    brain = picture[ring_px >= min(0.5, ring_px.max())]
    noise = 1.4826 * float(np.median(np.abs(brain - np.median(brain)))) if brain.size else 0.0
    inside = cut_square(bleed.astype(np.uint8), square, 0)
    return Seen(
        native_px=int(bleed.sum()),
        kept_px=int(inside.sum()),
        area_px=float(covered.sum()),
        contrast_left=float(added[held].mean()) / (contrast * GREY_A_HU) if covered.any() else 0.0,
        ratio=float(np.sqrt((added**2).sum())) / max(noise, 1.0),  # a grey level is the least
    )


def head_of(hu: np.ndarray) -> np.ndarray:
    """Mark the head by another rule than `find_head`: the largest patch of tissue, holes filled."""
    patches, count = ndimage.label(ndimage.binary_opening(hu > -300, iterations=2))
    if not count:
        return np.zeros(hu.shape, dtype=bool)
    largest = 1 + int(np.argmax(np.bincount(patches.ravel())[1:]))
    return ndimage.binary_fill_holes(patches == largest)


def cut_off(part: np.ndarray, square: Square) -> int:
    """Count the pixels of a part of a slice that a square leaves out."""
    return int(part.sum()) - int(cut_square(part.astype(np.uint8), square, 0).sum())


def read_bleeds(folder: Path) -> dict[str, list[tuple[int, float, np.ndarray]]]:
    """Number the bleeds of the phantom: by slice the number, millilitres and pixels of each."""
    truth = pl.read_parquet(folder / "phantom.parquet").sort("patient", "z_index")
    bleeds = defaultdict(list)
    number = 0
    for _, patient in truth.group_by("patient", maintain_order=True):
        gap_mm = float(patient["z_mm"].diff().abs().median())
        shape = None
        masks = []
        for png in patient["mask"]:
            bits = None if png is None else cv2.imdecode(np.frombuffer(png, np.uint8), -1)
            shape = shape if bits is None else bits.shape
            masks.append(bits)
        if shape is None:
            continue
        stack = np.stack([np.zeros(shape, np.uint8) if bits is None else bits for bits in masks])
        _, spacing = read_slice(folder / "stage_2_train" / f"{patient['slice'][0]}.dcm")
        for bit in range(5):
            parts, count = ndimage.label((stack >> bit) & 1, np.ones((3, 3, 3)))
            for part in range(1, count + 1):
                millilitres = float((parts == part).sum()) * spacing**2 * gap_mm / 1000
                for name, plane in zip(patient["slice"], parts == part, strict=True):
                    if plane.any():
                        bleeds[name].append((number, millilitres, plane))
                number += 1
    return bleeds


def measure_phantom(folder: Path) -> list[Figure]:
    """Look at every bleed on every slice, in both views and sizes."""
    bleeds = read_bleeds(folder)
    found: dict[tuple[int, str], dict[int, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    volumes: dict[int, float] = {}
    unread, head_cut, heads = 0, 0, 0
    for path in sorted((folder / "stage_2_train").glob("*.dcm")):
        hu, spacing = read_slice(path)
        head = find_head(hu, spacing)
        if head is None:
            unread += path.stem in bleeds
            continue
        square = choose_square(hu.shape, spacing, head, views(SIZES[0])["head"])
        heads += 1
        head_cut += cut_off(head_of(hu), square) > 0
        for number, millilitres, plane in bleeds.get(path.stem, []):
            volumes[number] = millilitres
            for size in SIZES:
                for crop, view in views(size).items():
                    square = choose_square(hu.shape, spacing, head, view)
                    found[size, crop][number].append(look(hu, spacing, plane, view, square))
    small = [number for number, millilitres in volumes.items() if millilitres < SMALL_ML]
    figures = [
        Figure("phantom: bleeds", len(volumes), ""),
        Figure("phantom: bleeds below 0.5 mL", len(small), ""),
        Figure("phantom: slices with a bleed where no head is found", unread, "slices", at_most=0),
        Figure("phantom: heads that the crop cuts", head_cut / heads, "share"),
    ]
    for (size, crop), seen in sorted(found.items()):
        everything = [one for slices in seen.values() for one in slices]
        cut = sum(one.native_px - one.kept_px for one in everything)
        # Each small bleed on the slice that shows most of it.
        best = [max(seen[number], key=lambda one: one.ratio) for number in small]
        name = f"{size} px, crop {crop}"
        figures += [
            Figure(f"{name}: bleeding pixels cut off", cut, "px", at_most=0),
            Figure(f"{name}: pixels of a small bleed", np.median([b.area_px for b in best]), "px"),
            Figure(
                f"{name}: contrast left of a small bleed",
                np.median([b.contrast_left for b in best]),
                "share",
            ),
            Figure(f"{name}: small bleed against noise", np.median([b.ratio for b in best]), "x"),
            Figure(
                f"{name}: small bleeds visible", np.mean([b.ratio >= ROSE for b in best]), "share"
            ),
        ]
    return figures


def measure_real() -> list[Figure]:
    """Count the head's pixels that the crop cuts off the real head."""
    cut, total = 0, 0
    for path in sorted(HEAD_CT.glob("*.dcm")):
        hu, spacing = read_slice(path)
        head = find_head(hu, spacing)
        if head is None:
            raise SystemExit(f"no head in {path.name}")
        square = choose_square(hu.shape, spacing, head, views(SIZES[0])["head"])
        part = head_of(hu)
        cut, total = cut + cut_off(part, square), total + int(part.sum())
    return [
        Figure("real head: pixels of it", total, "px"),
        Figure("real head: pixels of it cut off", cut, "px", at_most=0),
    ]


def main() -> None:
    """Measure, and report."""
    params = PhantomParams(
        patients=PATIENTS, positive_share=0.9, lesion_volume_factor=1, fault_share=0
    )
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name), params, seed=23, workers=2)
        figures = measure_phantom(Path(name))
    note = "Bleeds of natural volume; the subdural window; a small bleed has less than 0.5 mL."
    report("crop", [*figures, *measure_real()], note)


if __name__ == "__main__":
    main()
