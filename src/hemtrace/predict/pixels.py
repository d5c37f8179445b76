"""Read the pixels of chosen slices again, so that not those of a whole archive must be kept."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from hemtrace.dicom import Rejected, Slice
from hemtrace.predict.ahead import whole_hu
from hemtrace.predict.study import SlicePrediction, StudyPrediction


def add_hu(
    study: StudyPrediction,
    places: Sequence[int],
    read: Callable[[str], Iterable[Slice | Rejected]],
) -> StudyPrediction:
    """Give slices of the chosen series their Hounsfield units; each file is read once.

    A slice that cannot be read any more stays without.

    Parameters
    ----------
    study
        With a chosen series.
    places
        Of the slices in it.
    read
        Gives the slices of a file.
    """
    chosen = study.chosen
    if chosen is None or not places:
        return study
    wanted = {(chosen.slices[place].file, chosen.slices[place].frame) for place in places}
    found: dict[tuple[str, int | None], np.ndarray] = {}
    for file in dict.fromkeys(chosen.slices[place].file for place in places):
        for one in read(file):
            if isinstance(one, Slice) and (file, one.frame) in wanted:
                found[file, one.frame] = whole_hu(one.hu)

    def fill(one: SlicePrediction) -> SlicePrediction:
        hu = found.get((one.file, one.frame))
        return one if hu is None else replace(one, hu=hu)

    filled = replace(chosen, slices=tuple(fill(one) for one in chosen.slices))
    series = tuple(filled if one is chosen else one for one in study.series)
    return replace(study, series=series)
