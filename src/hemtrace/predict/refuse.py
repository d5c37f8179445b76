"""When not to answer: rules on a study, each with a sentence for the person who reads it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hemtrace.dicom import REASONS
from hemtrace.predict.study import (
    Identity,
    Reason,
    RejectedFile,
    SeriesPrediction,
    SlicePrediction,
)
from hemtrace.sides import USUAL_SIDES


@dataclass(frozen=True)
class Limits:
    """What a scan must be like to be judged.

    What a model was trained on is not carried with it; these are the limits of head CT as the RSNA
    set holds it: axial slices of 512 x 512 pixels in fields of 200 to 300 mm, of 5 mm and nearby,
    20 to 60 a scan.

    Attributes
    ----------
    fewest_slices, shortest_mm
        A brain measures about 140 mm from the skull base to the vertex: a scan of less than 80 mm
        leaves out a third or more, and in slices of 10 mm has eight of them.
    spacing_mm
        Of pixels: 0.39 to 0.59 in those fields, and room on both sides.
    thickness_mm
        Beyond these no answer.
    apart
        Slices that lie further apart than so many times their thickness leave tissue out, as a
        series does of which every other slice was lost.
    most_noise_hu
        From pixel to pixel, the median over the slices. Head CT of a soft kernel has 2 to 5 HU in
        slices of 5 mm, three times that in slices of 0.6 mm; more than 20 hides a fresh bleed,
        which is 30 HU brighter than brain.
    usual_thickness_mm
        Beyond these a warning: noise and partial volume are unlike those of 5 mm.
    uncertain_odds
        A score whose odds are within this factor of the threshold's is too close to be called.
    """

    fewest_slices: int = 8
    shortest_mm: float = 80.0
    spacing_mm: tuple[float, float] = (0.25, 1.0)
    thickness_mm: tuple[float, float] = (0.4, 10.0)
    apart: float = 1.5
    most_noise_hu: float = 20.0
    usual_thickness_mm: tuple[float, float] = (2.0, 7.5)
    uncertain_odds: float = 1.25


LIMITS = Limits()
# How series with contrast are called: CT angiography and venography, perfusion, English, German
# and French words, "C+". `without contrast` and its like are taken out before.
_AGENT = r"([CK]ONTRAST\w*|KM|INJECT\w*|PRODUIT DE CONTRASTE)"
_CONTRAST = re.compile(
    rf"\b(CTA|CTV|CTP|ANGIO\w*|VENOGRA\w*|PERFUSION|{_AGENT}|POST[ -]?C(ON)?|(CON)?ENHANCED"
    r"|(ARTERIAL|VENOUS|DELAYED) PHASE|W/?WO|W (AND )?WO|W[ &/]+W/?O)\b"
    r"|\b[CI] ?\+|\+ ?C\b"
)
_WITHOUT = re.compile(
    rf"\b(WITHOUT|W/?O|NON?|NO|OHNE|SANS|UN)[ -]*(IV |I\.V\. )?{_AGENT}"
    r"|\b[CK]ONTRAST\w*[ :=]+(NONE|NO|KEINE?S?|AUCUN|0)\b"
    r"|\b(NATIV\w*|UNENHANCED|NONCON\w*|NON-?CON\w*|NECT|NCCT|PLAIN)\b"
)
_WITH_AND_WITHOUT = re.compile(r"\b(WITH|W)[ /]*(AND|&|/|U\.?|UND|ET)[ /]*(WITHOUT|W/?O)\b")
_NO_AGENT = frozenset(("", "NONE", "NO", "N", "0", "UNKNOWN"))


def find_reasons(
    series: Sequence[SeriesPrediction],
    rejected: Sequence[RejectedFile],
    identity: Identity | None = None,
    strays: int = 0,
    limits: Limits = LIMITS,
) -> tuple[Reason, ...]:
    """Apply every rule that does not depend on the operating point.

    Parameters
    ----------
    series
        Of the study.
    rejected
        Files that name the study and have no prediction.
    identity
        What the header of the chosen series says; None: contrast is not looked for.
    strays
        Damaged files that name no study.
    limits
        What a scan must be like.

    Returns
    -------
    Stops first.
    """
    chosen = next((one for one in series if one.chosen), None)
    if chosen is None:
        return (say_nothing_left(rejected),)
    found = [
        *_check_whole(chosen, limits),
        *_check_kernel(chosen),
        *_check_noise(chosen, limits),
        *_check_sides(chosen),
        *_check_geometry(chosen, limits),
        *(_check_contrast(identity) if identity is not None else ()),
        *_check_strays(strays),
    ]
    return sort_reasons(found)


def sort_reasons(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Put those that stop first; the order is kept otherwise."""
    return tuple(sorted(reasons, key=lambda reason: not reason.stops))


def say_nothing_left(rejected: Sequence[RejectedFile]) -> Reason:
    """Tell why nothing of a study, or of an upload, could be predicted: by the most common cause.

    `not-head` and `not-ct` where files ended for these, `nothing-readable` otherwise.
    """
    causes = Counter(REASONS[one.reason][0] for one in rejected)
    files = _count(len(rejected), "file")
    most = "; ".join(
        f"{count:,} x {REASONS[reason][1]}"
        for reason, count in Counter(one.reason for one in rejected).most_common(3)
    )
    told = f" ({most})" if most else ""
    if causes["head"] and causes["head"] >= causes["ct"]:
        return Reason("not-head", f"No head CT was found in {files}{told}.", stops=True)
    if causes["ct"]:
        return Reason("not-ct", f"No CT slices were found in {files}{told}.", stops=True)
    return Reason("nothing-readable", f"Nothing could be read in {files}{told}.", stops=True)


def _check_whole(series: SeriesPrediction, limits: Limits) -> list[Reason]:
    found, count = [], len(series.slices)
    if series.gaps:
        places = _count(series.gaps, "place")
        found.append(Reason("slices-missing", f"Slices are missing at {places} of the scan.", True))
    if series.unreadable:
        slices = _count(series.unreadable, "slice")
        text = f"The pixels of {slices} of the scan could not be read."
        found.append(Reason("slices-unreadable", text, True))
    if count < limits.fewest_slices:
        text = (
            f"The scan has {_count(count, 'slice')}; a head CT has {limits.fewest_slices} or more."
        )
        found.append(Reason("too-few-slices", text, True))
    thickness = _middle(one.thickness_mm for one in series.slices)
    extent = series.extent_mm
    ratio = _middle(_steps_by_thickness(series.slices))
    if ratio is not None and ratio > limits.apart:
        text = (
            f"Slices lie {ratio:.1f} times their thickness apart: what is between them was not "
            "scanned, or not sent."
        )
        found.append(Reason("slices-apart", text, True))
    if extent is None:
        text = "The header does not tell where all slices lie; missing ones would not be noticed."
        found.append(Reason("place-unknown", text, False))
        extent = None if thickness is None else thickness * count
    if extent is not None and extent < limits.shortest_mm:
        text = (
            f"The scan covers {extent:.0f} mm, which is less than a brain "
            f"({limits.shortest_mm:.0f} mm are asked for)."
        )
        found.append(Reason("scan-too-short", text, True))
    return found


def _steps_by_thickness(slices: Sequence[SlicePrediction]) -> list[float]:
    """Divide the step to the next slice by the thickness of the thicker of the two."""
    found = []
    for one, other in pairwise(slices):
        if None in (one.z_mm, other.z_mm, one.thickness_mm, other.thickness_mm):
            continue
        step = other.z_mm - one.z_mm  # type: ignore[operator]
        thickness = max(one.thickness_mm, other.thickness_mm)  # type: ignore[type-var]
        if step > 0 and thickness:
            found.append(step / thickness)
    return found


def _check_kernel(series: SeriesPrediction) -> list[Reason]:
    kernels = Counter(one.facts.get("kernel") for one in series.slices)
    if 2 * kernels["sharp"] <= len(series.slices):
        return []
    text = (
        "The series was reconstructed with a bone or other sharp kernel, whose noise hides and "
        "imitates blood; the study has no series with a soft one."
    )
    return [Reason("sharp-kernel", text, True)]


def _check_noise(series: SeriesPrediction, limits: Limits) -> list[Reason]:
    noise = _middle(one.noise_hu for one in series.slices)
    if noise is None or noise <= limits.most_noise_hu:
        return []
    text = (
        f"The pictures are noisy: neighbouring pixels of brain differ by {noise:.0f} HU (up to "
        f"{limits.most_noise_hu:.0f} is judged). A bone kernel or too little dose is suspected."
    )
    return [Reason("noisy", text, True)]


def _check_sides(series: SeriesPrediction) -> list[Reason]:
    sides = Counter(one.facts.get("orientation") for one in series.slices)
    most, _ = sides.most_common(1)[0]
    if most == USUAL_SIDES:
        return []
    if most is None:
        text = "The header does not tell how the patient lay: left and right are not known."
        return [Reason("sides-unknown", text, False)]
    text = (
        "The pictures are turned or mirrored: they do not show the patient's right on their left "
        "and the front above, as those do that such models are trained on."
    )
    return [Reason("turned", text, True)]


def _check_geometry(series: SeriesPrediction, limits: Limits) -> list[Reason]:
    found = []
    sides = [side for one in series.slices if one.spacing_mm is not None for side in one.spacing_mm]
    low, high = limits.spacing_mm
    if not sides:
        text = "The header does not tell the size of a pixel; that of a usual head CT was assumed."
        found.append(Reason("spacing-unknown", text, False))
    elif min(sides) < low or max(sides) > high:
        outer = min(sides) if min(sides) < low else max(sides)
        text = f"Pixels of {outer:.2f} mm are out of the range of head CT ({low:g} to {high:g} mm)."
        found.append(Reason("spacing-out-of-range", text, True))
    thickness = _middle(one.thickness_mm for one in series.slices) or series.step_mm
    if thickness is None:
        return found
    low, high = limits.thickness_mm
    usual_low, usual_high = limits.usual_thickness_mm
    if not low <= thickness <= high:
        text = f"Slices of {thickness:g} mm are out of the range of {low:g} to {high:g} mm."
        found.append(Reason("thickness-out-of-range", text, True))
    elif not usual_low <= thickness <= usual_high:
        text = (
            f"Slices of {thickness:g} mm are unlike those of about 5 mm that such models are "
            "trained on; the score may be off."
        )
        found.append(Reason("thickness-unusual", text, False))
    return found


def _check_contrast(identity: Identity) -> list[Reason]:
    if identity.contrast_agent.strip().upper() not in _NO_AGENT:
        text = "The header names a contrast agent, and bright vessels look like blood."
        return [Reason("contrast", text, True)]
    for words in (identity.series_description, identity.study_description):
        said = _WITH_AND_WITHOUT.sub(" CONTRAST ", words.upper())
        without = _WITHOUT.search(said)
        if _CONTRAST.search(_WITHOUT.sub(" ", said)):
            text = (
                "The description of the scan speaks of contrast agent, and bright vessels look "
                "like blood."
            )
            return [Reason("contrast-suspected", text, True)]
        if without:
            break  # the series says so itself, whatever the study is called
    return []


def _check_strays(strays: int) -> list[Reason]:
    if not strays:
        return []
    files = _count(strays, "file")
    text = f"{files} could not be read and may belong to this study."
    return [Reason("strays", text[0].upper() + text[1:], False)]


def is_uncertain(score: float, threshold: float, limits: Limits = LIMITS) -> bool:
    """Say whether the odds of a score are within `uncertain_odds` of the threshold's."""
    tiny = 1e-12
    p, t = (min(max(value, tiny), 1 - tiny) for value in (score, threshold))
    ratio = (p / (1 - p)) / (t / (1 - t))
    return 1 / limits.uncertain_odds < ratio < limits.uncertain_odds


def has_number(slices: Sequence[SlicePrediction]) -> bool:
    """Say whether every slice has six numbers for probabilities."""
    return all(bool(np.isfinite(one.probabilities).all()) for one in slices)


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
