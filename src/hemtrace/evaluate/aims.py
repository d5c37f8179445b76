"""What each operating point was to reach, what it reached, and where the points change places."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

# The terms that the literature has for the points, from the most to the least sensitive.
TERMS: dict[str, str] = {
    "rule-out": "high-sensitivity",
    "balanced": "Youden",
    "rule-in": "high-specificity",
}
_AIMED_AT = {"rule-out": "sensitivity", "rule-in": "specificity"}


def add_aims(
    points: Mapping[str, dict[str, Any]] | None, aims: Mapping[str, float]
) -> dict[str, dict[str, Any]] | None:
    """Put beside the rates of each point what it was chosen for.

    Parameters
    ----------
    points
        Of one label and level, as `level.score_level` gives them; None: there are none.
    aims
        Wanted `sensitivity` of rule-out, wanted `specificity` of rule-in.

    Returns
    -------
    The points, each with `term`; `aim`, its `figure` and `at_least` (None of the balanced point,
    which has no share to reach); and `note`, sentences on an aim that these rows miss, and on a
    point that lies on the wrong side of another; None where there is nothing to say.
    """
    if points is None:
        return None
    told = {name: _miss_aim(name, own, aims) for name, own in points.items()}
    for first, second in combinations([name for name in TERMS if name in points], 2):
        turned = _turn_round(first, second, points)
        if turned:
            told[second].append(turned)
    return {
        name: own
        | {"term": TERMS[name], "aim": _find_aim(name, aims), "note": " ".join(told[name]) or None}
        for name, own in points.items()
    }


def _find_aim(name: str, aims: Mapping[str, float]) -> dict[str, Any]:
    figure = _AIMED_AT.get(name)
    if figure is None:
        return {"figure": "Youden's J", "at_least": None}
    return {"figure": figure, "at_least": aims[figure]}


def _miss_aim(name: str, own: Mapping[str, Any], aims: Mapping[str, float]) -> list[str]:
    figure = _AIMED_AT.get(name)
    if figure is None or own[figure]["value"] is None or own[figure]["value"] >= aims[figure]:
        return []
    return [
        f"{name} misses its aim here: a {figure} of {own[figure]['value']:.2f}, where validation "
        f"gave {own['validation'][figure]:.2f} and {aims[figure]:.2f} was wanted."
    ]


def _turn_round(first: str, second: str, points: Mapping[str, dict[str, Any]]) -> str | None:
    """Say that the point meant to be the stricter has the lower threshold."""
    lower, upper = points[first]["threshold"], points[second]["threshold"]
    if lower is None or upper is None or lower <= upper:
        return None
    figure = _AIMED_AT.get(second, "specificity")
    there, here = (points[name]["validation"][figure] for name in (first, second))
    reached = (
        ""
        if there is None or here is None
        else f": on validation {first} has a {figure} of {there:.2f}, {second} of {here:.2f}"
    )
    return (
        f"{second} has a lower threshold ({upper:.3f}) than {first} ({lower:.3f}), so that "
        f"it flags more, not less{reached}."
    )
