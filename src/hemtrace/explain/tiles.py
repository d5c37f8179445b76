"""From places of slices to the tiles of a gallery."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hemtrace.explain.cases import Cases
from hemtrace.explain.localise import heat_region
from hemtrace.explain.maps import Mapper, batches
from hemtrace.explain.masks import head_area
from hemtrace.figures.gallery import Tile
from hemtrace.labels import ANY, LABELS, SUBTYPES


def make_tiles(
    places: Sequence[int],
    cases: Cases,
    lesions: Mapping[str, np.ndarray],
    brain: int,
    window: str,
    label: int = ANY,
) -> list[Tile]:
    """Make tiles without heat maps.

    Parameters
    ----------
    places
        Of the slices, in the order in which they are shown.
    cases
        Test slices.
    lesions
        Masks by key, from `masks.read_masks`; none for real data.
    brain, window
        Channel that is shown, and the name of its window.
    label
        Whose prediction the tile shows, and whose lesions are outlined.
    """
    tiles = []
    for place in places:
        name = cases.slices.slices[place]
        truth = cases.slices.labels[place].astype(bool)
        depth = cases.table["depth"][place]
        tiles.append(
            Tile(
                name=name,
                title=_title(cases, place, label),
                verdict=_verdict(truth, bool(cases.flagged[place, label]), label),
                right=bool(truth[label]) == bool(cases.flagged[place, label]),
                image=cases.slices.read([place])[0, brain],
                mask=lesions[name][label] if name in lesions else None,
                note=f"{window}, depth {'unknown' if depth is None else format(depth, '.2f')}",
                orientation=cases.table["orientation"][place],
            )
        )
    return tiles


def add_heat(
    tiles: Sequence[Tile],
    places: Sequence[int],
    mapper: Mapper,
    cases: Cases,
    threshold: float,
    label: int = ANY,
) -> list[Tile]:
    """Lay the heat maps of a label over tiles, and the regions where they reach the threshold."""
    warm = []
    for batch in batches(len(tiles), "galleries"):
        heat = mapper.maps(cases.slices.read([places[k] for k in batch]), [label])[:, 0]
        for k, one in zip(batch, heat, strict=True):
            region = heat_region(one, head_area(tiles[k].image), threshold)
            warm.append(replace(tiles[k], heat=one, region=region))
    return warm


def _title(cases: Cases, place: int, label: int) -> str:
    probability = cases.probability[place]
    # Spaces at which no line breaks: a name and its figure stay together.
    any_text = f"any\N{NO-BREAK SPACE}{probability[ANY]:.2f}"
    if label != ANY:
        return f"{LABELS[label]}\N{NO-BREAK SPACE}{probability[label]:.2f}, {any_text}"
    if not cases.flagged[place, ANY]:
        return f"not flagged, {any_text}"
    top = int(np.argmax(probability[:ANY]))
    return f"{SUBTYPES[top]}\N{NO-BREAK SPACE}{probability[top]:.2f}, {any_text}"


def _verdict(truth: np.ndarray, flagged: bool, label: int) -> str:
    present = [name for name, here in zip(SUBTYPES, truth[:ANY], strict=True) if here]
    names = ", ".join(present) or ("any" if truth[ANY] else "no bleed")
    if truth[label]:
        return f"{'true' if flagged else 'missed'}: {names}"
    if not flagged:
        return "rightly clear" if label == ANY else f"rightly not: {names}"
    return "false alarm" if label == ANY else f"false alarm, true: {names}"
