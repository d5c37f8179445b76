"""From tissue to picture: couch, slice thickness, blur, beam hardening, noise and artefacts."""

from dataclasses import dataclass

import cv2
import numpy as np

from hemtrace.phantom.geometry import SIDE, STRIDE, Geometry


@dataclass(frozen=True)
class Detector:
    """A scanner's manner. Noise in HU, lengths in pixels of the full matrix unless named mm.

    `noise_blur` and `noise_drift` bound the band of the noise: the ramp filter leaves little at
    long wavelengths, the kernel little at short ones. `halo_hu` and `cupping_hu` are what bone
    adds to the tissue within about 3 mm and 15 mm of it.
    """

    noise_hu: float
    noise_blur: float
    noise_drift: float
    sharpening: float
    blur: float
    halo_hu: float
    cupping_hu: float
    streak_hu: float
    motion: float
    motion_pixels: tuple[float, float]
    circular_field: bool
    rest_mm: tuple[float, float, float] | None
    rest_hu: float
    hollow_rest: bool
    tube_mm: tuple[float, float, float] | None


def draw_detector(rng: np.random.Generator) -> Detector:
    """Draw a scanner, its kernel and dose, and what lies beside the head."""
    sharp = rng.random()
    rest = (float(rng.uniform(92, 122)), float(rng.uniform(96, 118)), float(rng.uniform(1.2, 2.6)))
    tube = (float(rng.uniform(-70, 70)), float(rng.uniform(-130, -95)), float(rng.uniform(2.5, 6)))
    return Detector(
        noise_hu=float(np.exp(rng.normal(np.log(2.7), 0.3)) * (0.75 + 0.7 * sharp)),
        noise_blur=float(1.25 - 0.65 * sharp),
        noise_drift=float(rng.uniform(2.0, 4.0)),
        sharpening=float(0.5 * sharp - 0.1),
        blur=float(rng.uniform(0.3, 0.7)),
        halo_hu=float(rng.uniform(8, 46)),
        cupping_hu=float(rng.uniform(1, 19)),
        streak_hu=float(rng.uniform(0.8, 7)),
        motion=float(rng.uniform(0.2, 0.5)) if rng.random() < 0.08 else 0.0,
        motion_pixels=(float(rng.normal(0, 4)), float(rng.normal(0, 4))),
        circular_field=bool(rng.random() < 0.4),
        rest_mm=rest if rng.random() < 0.85 else None,
        rest_hu=float(rng.uniform(-150, 250)),
        hollow_rest=bool(rng.random() < 0.4),
        tube_mm=tube if rng.random() < 0.2 else None,
    )


def add_furniture(planes: np.ndarray, geometry: Geometry, detector: Detector, number: int) -> None:
    """Put the head rest, and in some a tube, into the air around the head, in place."""
    size = planes.shape[-1]
    axis = (np.arange(size) - (size - 1) / 2) * geometry.spacing_mm * STRIDE
    u = axis[None, :].astype(np.float32)
    v = axis[:, None].astype(np.float32)
    air = planes < -500
    height = float(geometry.heights_mm[number] - geometry.heights_mm.mean())
    if detector.rest_mm is not None:
        wide, deep, wall = detector.rest_mm
        # The cradle is a bowl that opens towards the feet.
        shrink = 1 - 0.0012 * max(height, 0)
        ring = np.hypot(u / (wide * shrink), (v + 8) / (deep * shrink))
        distance = np.abs(ring - 1) * min(wide, deep)
        inner = wall if detector.hollow_rest else 0.0
        cradle = np.clip(1.3 - np.abs(distance - inner) / (0.35 * wall + 0.5), 0, 1) * (v > -10)
        foam = (ring < 1) & (v > 25)
        plastic = np.where(cradle > 0, -1000 + cradle * (detector.rest_hu + 1000), -1000)
        plastic = np.where(foam & (cradle <= 0), -985, plastic).astype(np.float32)
        planes[air] = np.maximum(planes, plastic[None])[air]
    if detector.tube_mm is not None:
        x, y, radius = detector.tube_mm
        around = np.abs(np.hypot(u - x - 0.2 * height, v - y) - radius)
        tube = (np.clip(1.4 - around, 0, 1) * 1100 - 1000).astype(np.float32)
        planes[air] = np.maximum(planes, tube[None])[air]


def form_image(
    planes: np.ndarray, geometry: Geometry, detector: Detector, rng: np.random.Generator
) -> np.ndarray:
    """Make a slice of what lies within its thickness.

    Parameters
    ----------
    planes
        float32 [planes, rows, columns], HU at every `STRIDE`-th pixel.

    Returns
    -------
    numpy.ndarray
        float32 [512, 512], HU.
    """
    coarse = planes.mean(axis=0)
    bone = np.clip(coarse - 300, 0, 1500)
    head = (coarse > -300).astype(np.float32)
    coarse = coarse + _hardening(bone, head, detector, rng)
    # Cubic where it helps; beside bone it would undershoot.
    tissue = np.clip(coarse, -120, 120)
    image = cv2.resize(tissue, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    image += cv2.resize(coarse - tissue, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    image = cv2.GaussianBlur(image, (0, 0), detector.blur)
    if detector.motion and rng.random() < 0.5:
        image = _move(image, detector, rng)
    if detector.sharpening > 0:
        # Head kernels are made not to undershoot beside bone.
        tissue = np.clip(image, -60, 110)
        image = image + detector.sharpening * (tissue - cv2.GaussianBlur(tissue, (0, 0), 1.4))
    return np.asarray(image + _draw_noise(coarse, head, bone, detector, rng), np.float32)


def _hardening(
    bone: np.ndarray, head: np.ndarray, detector: Detector, rng: np.random.Generator
) -> np.ndarray:
    """Beam hardening: brightness just inside the skull, streaks between dense bones. HU."""
    small = cv2.resize(bone, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    wide = cv2.resize(cv2.GaussianBlur(small, (0, 0), 3.5), bone.shape[::-1])
    halo = np.clip(cv2.GaussianBlur(bone, (0, 0), 1.9) / 420, 0, 1)
    cupping = detector.halo_hu * halo + detector.cupping_hu * np.clip(wide / 220, 0, 1)
    cupping *= (bone <= 0) * head
    # Rows that cross much bone are starved of photons; the vault's two walls are the usual.
    crossing = np.clip(bone.sum(axis=1, keepdims=True) / 1000 - 22, 0, 60) / 30
    waves = rng.standard_normal((bone.shape[0], 8), dtype=np.float32)
    waves = cv2.GaussianBlur(waves, (0, 0), sigmaX=0.8, sigmaY=1.1) * 2.5
    waves = cv2.resize(waves, bone.shape[::-1], interpolation=cv2.INTER_CUBIC)
    dark = -0.8 * crossing
    streaks = detector.streak_hu * crossing * (waves + dark) * head
    return np.asarray(cupping + streaks, np.float32)


def _move(image: np.ndarray, detector: Detector, rng: np.random.Generator) -> np.ndarray:
    """Blend in the head where it was a moment later."""
    dx, dy = (amount * rng.normal(1, 0.4) for amount in detector.motion_pixels)
    shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    moved = cv2.warpAffine(image, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(image + detector.motion * (moved - image))


def _draw_noise(
    coarse: np.ndarray,
    head: np.ndarray,
    bone: np.ndarray,
    detector: Detector,
    rng: np.random.Generator,
) -> np.ndarray:
    white = rng.standard_normal((SIDE, SIDE), dtype=np.float32)
    band = cv2.GaussianBlur(white, (0, 0), detector.noise_blur)
    band -= 0.75 * cv2.GaussianBlur(white, (0, 0), detector.noise_blur + detector.noise_drift)
    band /= band.std()
    # More tissue to cross, more noise: most in the middle and where there is bone around.
    dose = cv2.resize(head + 1.2 * (bone > 0), (64, 64), interpolation=cv2.INTER_AREA)
    dose = cv2.GaussianBlur(dose.astype(np.float32), (0, 0), 5.5)
    dose = cv2.resize(dose, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(detector.noise_hu * (0.45 + 0.6 * dose) * band)
