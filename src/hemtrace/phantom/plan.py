"""Who has what: slices, bleeds and file faults of every patient, settled before any work."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hemtrace.params import PhantomParams

Fault = Literal[
    "truncated", "twelve_bit", "duplicated_rows", "multi_window", "rle", "jpeg2000", "odd_size"
]
FAULTS: tuple[Fault, ...] = (
    "truncated",
    "twelve_bit",
    "duplicated_rows",
    "multi_window",
    "rle",
    "jpeg2000",
    "odd_size",
)

# What bleeds together, after the mechanisms that cause it: trauma, hypertension, aneurysm. The
# first ones cover all five subtypes, so that a handful of patients does too; over all ten every
# subtype comes at least twice, epidural least often. Subarachnoid blood comes in three of ten
# only, since it runs over many slices: by slices it stays near the share of the real set.
COMBINATIONS: tuple[tuple[str, ...], ...] = (
    ("epidural", "subarachnoid"),
    ("intraparenchymal", "intraventricular"),
    ("subdural",),
    ("intraparenchymal",),
    ("epidural",),
    ("subdural", "subarachnoid"),
    ("intraventricular",),
    ("intraparenchymal", "subdural"),
    ("subarachnoid",),
    ("intraparenchymal", "intraventricular"),
)

# Streams of random numbers beside those of the patients, which are numbered from 0.
_PLAN_STREAM = 2**32 - 1


@dataclass(frozen=True)
class PatientPlan:
    """One patient's share of the plan.

    `subtypes` is empty without a bleed; `faults` maps a slice's number to its fault.
    """

    index: int
    slices: int
    subtypes: tuple[str, ...]
    faults: dict[int, Fault]


def plan_patients(params: PhantomParams, seed: int) -> list[PatientPlan]:
    """Settle slices, bleeds and faults, so that shares come out as exactly as rounding allows."""
    rng = np.random.default_rng([seed, _PLAN_STREAM])
    slices = rng.integers(params.min_slices, params.max_slices, params.patients, endpoint=True)
    positives = round(params.positive_share * params.patients)
    subtypes: list[tuple[str, ...]] = [()] * params.patients
    for turn, index in enumerate(rng.permutation(params.patients)[:positives]):
        subtypes[index] = COMBINATIONS[turn % len(COMBINATIONS)]
    faults = _plan_faults(params.fault_share, slices, rng)
    return [
        PatientPlan(index, int(slices[index]), subtypes[index], faults[index])
        for index in range(params.patients)
    ]


def _plan_faults(
    share: float, slices: np.ndarray, rng: np.random.Generator
) -> list[dict[int, Fault]]:
    total = int(slices.sum())
    owner = np.repeat(np.arange(len(slices)), slices)
    number = np.arange(total) - np.repeat(np.cumsum(slices) - slices, slices)
    faults: list[dict[int, Fault]] = [{} for _ in slices]
    for turn, file in enumerate(rng.permutation(total)[: round(share * total)]):
        faults[owner[file]][int(number[file])] = FAULTS[turn % len(FAULTS)]
    return faults


def make_identifier(digits: int, thing: str | int, *, seed: int, index: int) -> str:
    """Name a patient's thing as the RSNA set does: `ID_` and so many hex digits."""
    digest = hashlib.sha256(f"{seed}/{index}/{thing}".encode()).hexdigest()
    return f"ID_{digest[:digits]}"
