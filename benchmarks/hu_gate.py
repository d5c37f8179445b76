"""The HU gate on sound slices and on slices with known faults: false alarms and finds.

Sound: phantoms without faults, the real head, pydicom's own CT files, and the first two with the
noise of a thin slice in a sharp kernel. Each fault is one that archives are known to hold, put into
the HU of every sound slice.
"""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pydicom
from common import HEAD_CT, Figure, report
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut

from hemtrace.dicom.hu import judge
from hemtrace.head import find_head
from hemtrace.params import PhantomParams
from hemtrace.phantom import generate

PATIENTS = 14
SEEDS = (11, 5, 23)
NOISE_HU = 60
PYDICOM_CT = ("CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm")
FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "intercept -1024 added twice": lambda hu: hu - 1024,
    "intercept -1000 added twice": lambda hu: hu - 1000,
    "intercept -1024 forgotten": lambda hu: hu + 1024,
    "bytes swapped": lambda hu: (hu + 1024).astype(np.int16).byteswap().astype(np.int32) - 1024,
    "wrapped at 12 bits": lambda hu: np.where(hu < 0, hu + 4096, hu),
    "intercept -1000 forgotten": lambda hu: hu + 1000,
    "intercept 300 too high": lambda hu: hu + 300,
    "slope 2 for 1": lambda hu: 2 * (hu + 1024) - 1024,
    "slope 1.5 for 1": lambda hu: 1.5 * (hu + 1024) - 1024,
    "slope 1 for 2": lambda hu: (hu + 1024) / 2 - 1024,
    "grey values negated": lambda hu: -hu,
}


def read_sound(paths: Iterable[Path]) -> list[tuple[np.ndarray, float]]:
    """Read HU by pydicom, with the side of a pixel."""
    slices = []
    for path in paths:
        dataset = pydicom.dcmread(path)
        hu = apply_modality_lut(dataset.pixel_array, dataset).astype(np.int32)
        slices.append((hu, float(dataset.PixelSpacing[0])))
    return slices


def main() -> None:
    """Measure, and report."""
    phantom = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as name:
            made = PhantomParams(patients=PATIENTS, fault_share=0)
            generate(Path(name), made, seed=seed, workers=2)
            phantom += read_sound(sorted(Path(name).glob("stage_2_train/*.dcm")))
    real = read_sound(sorted(HEAD_CT.glob("*.dcm")))
    others = read_sound(Path(get_testdata_file(name)) for name in PYDICOM_CT)
    rng = np.random.default_rng(0)
    noisy = [
        (np.where(hu > -1100, hu + rng.normal(0, NOISE_HU, hu.shape), hu), side)
        for hu, side in phantom[::3] + real
    ]
    figures = []
    groups = {
        "phantom": phantom,
        "real head": real,
        "pydicom's CT": others,
        f"noise of {NOISE_HU} HU added": noisy,
    }
    for group, sound in groups.items():
        alarms = sum(not judge(hu).plausible for hu, _ in sound)
        headless = sum(find_head(hu, side) is None for hu, side in sound)
        figures += [
            Figure(f"{group}: sound slices", len(sound), ""),
            Figure(f"{group}: refused by the gate", alarms, "slices", at_most=0),
            Figure(f"{group}: no head found", headless / len(sound), "share"),
        ]
    # Gate and head look at these pixels of 512 x 512 alone.
    sound = [(hu[::4, ::4], 4 * side) for hu, side in phantom + real]
    for fault, strike in FAULTS.items():
        struck = [(strike(hu), side) for hu, side in sound]
        by_gate = [not judge(hu).plausible for hu, _ in struck]
        by_either = [
            found or find_head(hu, side) is None
            for found, (hu, side) in zip(by_gate, struck, strict=True)
        ]
        figures += [
            Figure(f"{fault}: found by the gate", np.mean(by_gate), "share"),
            Figure(f"{fault}: by gate or head", np.mean(by_either), "share"),
        ]
    report("hu_gate", figures)


if __name__ == "__main__":
    main()
