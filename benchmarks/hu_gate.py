"""The HU gate on sound slices and on slices with known faults: false alarms and finds.

Sound: a phantom without faults, and the real head. Each fault is one that archives are known to
hold, put into the HU of every sound slice.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from common import HEAD_CT, Figure, report
from pydicom.pixels import apply_modality_lut

from hemtrace.dicom.hu import judge
from hemtrace.head import find_head
from hemtrace.params import PhantomParams
from hemtrace.phantom import generate

PATIENTS = 40
FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "intercept -1024 added twice": lambda hu: hu - 1024,
    "intercept -1000 added twice": lambda hu: hu - 1000,
    "intercept -1024 forgotten": lambda hu: hu + 1024,
    "bytes swapped": lambda hu: (hu + 1024).astype(np.int16).byteswap().astype(np.int32) - 1024,
    "wrapped at 12 bits": lambda hu: np.where(hu < 0, hu + 4096, hu),
    "slope 2 for 1": lambda hu: 2 * (hu + 1024) - 1024,
    "grey values negated": lambda hu: -hu,
}


def read_sound(folder: Path) -> list[tuple[np.ndarray, float]]:
    """Read HU by pydicom, with the side of a pixel."""
    slices = []
    for path in sorted(folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        hu = apply_modality_lut(dataset.pixel_array, dataset).astype(np.int32)
        slices.append((hu, float(dataset.PixelSpacing[0])))
    return slices


def main() -> None:
    """Measure, and report."""
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name), PhantomParams(patients=PATIENTS, fault_share=0), seed=11, workers=2)
        phantom = read_sound(Path(name) / "stage_2_train")
    real = read_sound(HEAD_CT)
    figures = []
    for group, sound in (("phantom", phantom), ("real head", real)):
        alarms = sum(not judge(hu).plausible for hu, _ in sound)
        headless = sum(find_head(hu, side) is None for hu, side in sound)
        figures += [
            Figure(f"{group}: sound slices", len(sound), ""),
            Figure(f"{group}: refused by the gate", alarms, "slices", at_most=0),
            Figure(f"{group}: no head found", headless / len(sound), "share"),
        ]
    sound = phantom + real
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
