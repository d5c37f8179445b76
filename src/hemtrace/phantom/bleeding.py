"""The bleeds of a patient: draws lesions and fits each to the volume it is to have."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hemtrace.phantom.atlas import Vector
from hemtrace.phantom.head import Head, push_brain
from hemtrace.phantom.lesions import (
    LARGEST_ML,
    Blob,
    Clot,
    Collection,
    Filling,
    Lesion,
    Sheet,
    Site,
    draw_mean_hu,
    draw_volume_ml,
    push_aside,
)

# Gives the points of a box of the head that lie inside the skull, and what is there.
Visit = Callable[[Head, Vector], Site]

_SAH_SEEDS = (
    (0, 4, -16),  # suprasellar cistern
    (40, 6, -6),  # Sylvian fissure
    (44, -18, 8),  # its end
    (0, 30, 0),  # front of the interhemispheric fissure
    (0, -38, 2),  # quadrigeminal cistern
    (0, -16, -34),  # prepontine cistern
)

# The table's means are of marked voxels, which blood shares with brain or CSF: undiluted blood is
# denser by so much, most where it is thin.
_DILUTION_HU = {
    "epidural": 2.0,
    "intraparenchymal": 5.0,
    "intraventricular": 7.0,
    "subarachnoid": 11.0,
    "subdural": 6.0,
}


def draw_bleeds(
    subtypes: tuple[str, ...], head: Head, factor: float, visit: Visit, rng: np.random.Generator
) -> tuple[Head, list[Lesion]]:
    """Draw the lesions of a patient, of volumes `factor` times the table's.

    What pushes the brain comes before what lies in its spaces.
    """
    lesions: list[Lesion] = []
    for subtype in ("epidural", "subdural", "intraparenchymal", "intraventricular", "subarachnoid"):
        if subtype not in subtypes:
            continue
        for number in range(_draw_count(subtype, rng)):
            volume = draw_volume_ml(subtype, rng)
            # The lesion a patient is scanned for can be seen; what comes with it may be small.
            floor = 0.3 if number == 0 else 0.03
            volume = min(max(volume * factor, floor), LARGEST_ML)
            lesion = _DRAW[subtype](subtype, head, volume, lesions, visit, rng)
            if isinstance(lesion, Blob | Collection):
                head = push_brain(head, push_aside(head, lesion))
            lesions.append(lesion)
    return head, lesions


def _draw_count(subtype: str, rng: np.random.Generator) -> int:
    chances = {
        "epidural": (1.0,),
        "subdural": (0.6, 0.3, 0.1),
        "intraparenchymal": (0.6, 0.25, 0.15),
        "intraventricular": (0.5, 0.3, 0.2),
        "subarachnoid": (0.0, 0.15, 0.25, 0.2, 0.2, 0.1, 0.1),
    }[subtype]
    return int(rng.choice(len(chances), p=chances)) + 1


def _draw_clot(subtype: str, rng: np.random.Generator, level_mm: float | None = None) -> Clot:
    fluid = level_mm is not None and rng.random() < 0.2
    return Clot(
        mean_hu=draw_mean_hu(subtype, rng) + _DILUTION_HU[subtype],
        spread_hu=float(rng.uniform(1, 5)),
        pockets_hu=float(rng.uniform(5, 25)) if rng.random() < 0.3 else 0.0,
        level_mm=level_mm if fluid else None,
        level_hu=float(rng.uniform(4, 12)),
    )


def _box(center: np.ndarray, half_mm: np.ndarray | float, step_mm: float) -> Vector:
    half = np.broadcast_to(np.asarray(half_mm, float), 3)
    axes = [
        np.arange(c - h, c + h + step_mm, step_mm, dtype=np.float32)
        for c, h in zip(center, half, strict=True)
    ]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x, y, z


def _volume_ml(share: np.ndarray, step_mm: float) -> float:
    return float(share.sum(dtype=np.float64)) * step_mm**3 / 1000


def _solve(low: float, high: float, target: float, value: Callable[[float], float]) -> float:
    """Find where a rising function meets a target, by halving."""
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) < target else (low, middle)
    return (low + high) / 2


def _surface_point(head: Head, direction: np.ndarray) -> np.ndarray:
    """Find where a ray from the middle of the head meets the skull's inner wall."""
    start = np.array((0.0, -16.0, 12.0))
    along = np.linspace(20, 110, 181)
    points = start[:, None] + direction[:, None] / np.linalg.norm(direction) * along
    x, y, z = points.astype(np.float32)
    depth = head.control.sample((x, y, z))[6]
    meet: np.ndarray = points[:, int(np.argmax(depth < 0))]
    return meet


def _draw_collection(
    subtype: str,
    head: Head,
    volume_ml: float,
    others: list[Lesion],
    visit: Visit,
    rng: np.random.Generator,
) -> Lesion:
    if subtype == "subdural" and rng.random() < (0.5 if others else 0.2) and volume_ml < 12:
        return _draw_sheet(subtype, head, volume_ml, others, visit, rng)
    side = float(rng.choice((-1, 1)))
    lens = subtype == "epidural"
    # Epidurals favour the temple, subdurals the convexity.
    forward = rng.normal(0.25 if lens else 0.05, 0.6)
    upward = rng.normal(-0.1 if lens else 0.35, 0.3)
    center = _surface_point(head, np.array((side, forward, upward)))
    thickness = (4.6 if lens else 2.2) * volume_ml**0.33 * rng.uniform(0.8, 1.2)
    draft = Collection(
        subtype=subtype,
        clot=_draw_clot(subtype, rng, float(center[1] + rng.normal(0, 10))),
        center=center,
        thickness_mm=float(max(thickness, 1.8)),
        reach_mm=1.0,
        flat=float(rng.uniform(0.6, 1.0)),
        power=float(rng.uniform(1.9, 2.4)) if lens else float(rng.uniform(3, 6)),
    )
    limit = 50.0 if lens else 88.0
    step = 2.5
    site = visit(head, _box(center, min(limit, 12 + 30 * volume_ml**0.33), step))

    def volume(reach: float, thicker: float = 1.0) -> float:
        trial = replace(draft, reach_mm=reach, thickness_mm=draft.thickness_mm * thicker)
        return _volume_ml(trial.cover(site), step)

    reach = _solve(4, limit, volume_ml, volume)
    thicker = 1.0
    if reach > limit - 1:
        thicker = _solve(1, 4, volume_ml, lambda factor: volume(limit, factor))
    return replace(draft, reach_mm=reach, thickness_mm=draft.thickness_mm * thicker)


def _draw_sheet(
    subtype: str,
    head: Head,
    volume_ml: float,
    others: list[Lesion],
    visit: Visit,
    rng: np.random.Generator,
) -> Lesion:
    side = float(rng.choice((-1, 1)))
    if rng.random() < 0.6:
        dura, center = "falx", np.array((side, rng.uniform(-75, 45), 0.0))
        center[2] = 55 - abs(center[1] + 10) * 0.5 + rng.normal(0, 5)
    else:
        dura, center = "tentorium", np.array((side * 24, rng.uniform(-75, -45), -12.0))
    draft = Sheet(
        subtype=subtype,
        clot=_draw_clot(subtype, rng),
        dura=dura,
        center=center,
        thickness_mm=float(np.clip(2.2 * volume_ml**0.3 * rng.uniform(0.8, 1.2), 1.8, 6)),
        reach_mm=1.0,
    )
    step = 2.5
    site = visit(head, _box(np.array((0.0, -15.0, 10.0)), np.array((48, 92, 68)), step))

    def volume(reach: float) -> float:
        return _volume_ml(replace(draft, reach_mm=reach).cover(site), step)

    return replace(draft, reach_mm=_solve(4, 80, volume_ml, volume))


def _draw_blob(
    subtype: str,
    head: Head,
    volume_ml: float,
    others: list[Lesion],
    visit: Visit,
    rng: np.random.Generator,
) -> Lesion:
    side = float(rng.choice((-1, 1)))
    place = rng.random()
    if place < 0.35:  # basal ganglia
        center = np.array((side * rng.normal(26, 3), rng.normal(0, 8), rng.normal(4, 6)))
    elif place < 0.5:  # thalamus
        center = np.array((side * rng.normal(13, 2), rng.normal(-18, 4), rng.normal(8, 4)))
    elif place < 0.6:  # cerebellum
        center = np.array((side * rng.uniform(4, 32), rng.normal(-64, 7), rng.normal(-38, 6)))
    elif place < 0.64:  # pons
        center = np.array((side * rng.uniform(0, 5), rng.normal(-26, 3), rng.normal(-32, 4)))
    elif place < 0.8:  # contusion: frontal base or temporal pole
        center = np.array((side * rng.uniform(10, 26), rng.normal(48, 6), rng.normal(-12, 6)))
        if rng.random() < 0.5:
            center = np.array((side * rng.uniform(40, 50), rng.normal(2, 8), rng.normal(-26, 5)))
    else:  # lobar
        turn = rng.uniform(0, 2 * np.pi)
        center = np.array((side * (14 + 26 * abs(np.sin(turn))), -16 + 52 * np.cos(turn), 0.0))
        center[2] = rng.uniform(0, 48)
    center = center * np.array(head.traits.scale)
    axes = np.exp(rng.normal(0, 0.25, 3))
    axes /= np.cbrt(axes.prod())
    turned = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    draft = Blob(
        subtype=subtype,
        clot=_draw_clot(subtype, rng, float(center[1])),
        center=center,
        frame=turned / axes[:, None],
        waves=np.column_stack([rng.normal(0, 2.6, (6, 3)), rng.uniform(0, 2 * np.pi, 6)]),
        roughness=float(rng.uniform(0.04, 0.22)),
        rim=float(rng.uniform(0.2, 0.7)),
    )
    mean_mm = float(np.cbrt(volume_ml * 1000 * 0.75 / np.pi))
    step = max(mean_mm / 9, 0.6)
    site = visit(head, _box(center, 2.1 * mean_mm, step))

    def volume(size: float) -> float:
        return _volume_ml(replace(draft, frame=draft.frame / size).cover(site), step)

    return replace(draft, frame=draft.frame / _solve(0.5 * mean_mm, 2 * mean_mm, volume_ml, volume))


def _draw_filling(
    subtype: str,
    head: Head,
    volume_ml: float,
    others: list[Lesion],
    visit: Visit,
    rng: np.random.Generator,
) -> Lesion:
    side = float(rng.choice((-1, 1)))
    settled = False
    if subtype == "intraventricular":
        settled = bool(rng.random() < 0.55)
        places = (
            (8, 12, 14),
            (16, -30, 18),
            (24, -42, 6),
            (0, -8, -2),
            (0, -45, -34),
            (28, -58, 2),
        )
        choice = places[rng.integers(len(places))]
        seeds = np.array([(side * choice[0], choice[1], choice[2])], float)
        if settled:
            # How much higher the blood stands on one side than on the other, mm.
            seeds = np.array([(side, rng.choice((0.0, 4.0, 30.0)), 0.0)])
        half, middle = np.array((46, 82, 52)), np.array((0.0, -18.0, -4.0))
    elif rng.random() < 0.4:
        choice = _SAH_SEEDS[rng.integers(len(_SAH_SEEDS))]
        seeds = np.array([(side * choice[0], choice[1], choice[2])], float)
        half, middle = np.array((68, 86, 80)), np.array((0.0, -16.0, 0.0))
    else:
        direction = np.array((side, rng.normal(0, 0.8), rng.normal(0.4, 0.5)))
        point = _surface_point(head, direction).astype(np.float32)
        fields = head.control.sample((point[:1], point[1:2], point[2:]))[:, 0]
        seeds = (fields[:3] + fields[3:6]).reshape(1, 3).astype(float)
        half, middle = np.array(30.0 + 22 * volume_ml**0.33), point.astype(float)
    draft = Filling(subtype, _draw_clot(subtype, rng), seeds, settled, 0.0)
    step = 2.5
    site = visit(head, _box(middle, half, step))
    space, order = draft.space(site), draft.order(site)
    first = np.argsort(order)
    filled = np.cumsum(space[first], dtype=np.float64) * step**3 / 1000
    enough = min(int(np.searchsorted(filled, min(volume_ml, 0.85 * filled[-1]))), len(first) - 1)
    return replace(draft, limit=float(order[first[enough]]))


_DRAW = {
    "epidural": _draw_collection,
    "subdural": _draw_collection,
    "intraparenchymal": _draw_blob,
    "intraventricular": _draw_filling,
    "subarachnoid": _draw_filling,
}
