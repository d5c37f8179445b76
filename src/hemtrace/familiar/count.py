"""How many scored studies are so unlike the training data that prediction would not answer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hemtrace.familiar.score import Familiar, score_units

_KEYS = (
    "why",
    "studies",
    "unlike",
    "bleeding",
    "unlike_bleeding",
    "threshold",
    "farthest",
    "drawn",
)
NOT_MEASURED = (
    "the model has no familiar.npz beside it, or its features cannot be compared with those of "
    "the training slices"
)
# The rules of `predict.refuse` read whole studies and headers; scoring knows labelled slices.
_NOT_COUNTED = (
    "Studies that its rules on header and geometry would refuse (too few slices, contrast, sharp "
    "kernel, ...) are not counted."
)


def count_unlike(familiar: Familiar | None, slices: pl.DataFrame) -> dict[str, Any]:
    """Count the studies that lie beyond the limit, by the median of their slices.

    Prediction judges one series of a study, and all of its slices; scored are labelled slices, and
    with `ingest.series: all` several series. A study of several counts by the farthest.

    Parameters
    ----------
    familiar
        None: nothing was measured.
    slices
        One or more rows: study, series, distance, any (0, 1, or null where nobody knows).

    Returns
    -------
    why (a clause where nothing was measured), studies, unlike, and of these with a bleed bleeding
    and unlike_bleeding (None where nobody knows), threshold, the distance of the farthest study
    (None where it is no number), and `drawn`, None: all were looked at.
    """
    empty = dict.fromkeys(_KEYS)
    if familiar is None:
        return empty | {"why": NOT_MEASURED}
    bleeds = slices.group_by("study").agg(pl.max("any"))
    studies = score_units(slices, "study").join(bleeds, on="study")
    distances = studies["distance"].to_numpy()
    unlike = ~(distances <= familiar.threshold)  # a NaN is unlike
    farthest = float(distances.max())
    found = {
        "studies": studies.height,
        "unlike": int(unlike.sum()),
        "threshold": familiar.threshold,
        "farthest": farthest if np.isfinite(farthest) else None,
    }
    if not studies["any"].has_nulls():
        bleeding = studies["any"].to_numpy() == 1
        found["bleeding"] = int(bleeding.sum())
        found["unlike_bleeding"] = int((bleeding & unlike).sum())
    return empty | found


def tell_unlike(found: Mapping[str, Any]) -> str:
    """Say how many scored studies prediction would not answer, for pages and terminal."""
    if found["why"] is not None:
        return (
            "Every labelled study that can be read is scored, also such as hemtrace predict "
            f"would give no answer; how many these are was not measured: {found['why']}."
        )
    bleeding = ""
    if found["unlike"] and found["unlike_bleeding"] is not None:
        bleeding = f" ({found['unlike_bleeding']:,} of the {found['bleeding']:,} with a bleed)"
    lie = "lies" if found["unlike"] <= 1 else "lie"
    farthest = "" if found["farthest"] is None else f"; the farthest study: {found['farthest']:.2f}"
    unlike = f"{found['unlike']:,}" if found["unlike"] else "none"
    whose = f"{found['studies']:,} scored studies"
    if found["drawn"] is not None:
        drawn = found["drawn"]
        whose += f" of {drawn['patients']:,} patients, drawn by lot from {drawn['of']:,},"
    return (
        f"Every labelled study that can be read is scored. Of {whose} {unlike}"
        f"{bleeding} {lie} farther from the training slices than the limit of familiar.npz "
        f"({found['threshold']:.2f}{farthest}): at such a distance hemtrace predict gives no "
        f"answer. {_NOT_COUNTED}"
    )
