"""Which side of the patient an image's edges are of."""

from hemtrace.predict.study import SeriesPrediction
from hemtrace.sides import OPPOSITE_SIDE

_WORDS = {"L": "left", "R": "right", "A": "front", "P": "back", "H": "head", "F": "feet"}


def tell_orientation(series: SeriesPrediction) -> str | None:
    """Tell towards which sides of the patient columns and rows grow.

    Returns
    -------
    Two letters, such as `LP`; None where a header does not tell, or the slices differ.
    """
    found = {one.facts.get("orientation") for one in series.slices}
    told = found.pop() if len(found) == 1 else None
    return told if isinstance(told, str) and _is_plane(told) else None


def describe_sides(orientation: str | None) -> str:
    """Say in a sentence what lies on the left and at the top of the images of a series."""
    if orientation is None:
        return "Side unknown: the headers do not tell which side of the patient is on the left."
    left, top = (_WORDS[OPPOSITE_SIDE[letter]] for letter in orientation)
    return f"On the left of the images is the patient's {left}, at the top his {top}."


def _is_plane(letters: str) -> bool:
    """Say whether two letters are of two axes of the patient."""
    across, down = letters[:1], letters[1:]
    return (
        across in OPPOSITE_SIDE
        and down in OPPOSITE_SIDE
        and down not in (across, OPPOSITE_SIDE[across])
    )
