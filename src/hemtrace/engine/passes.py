"""Many slices through a model, a batch after the other."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from hemtrace.engine.contract import Answers, Engine

if TYPE_CHECKING:
    from hemtrace.inference import Slices

_BATCH = 64


def run_slices(
    engine: Engine, slices: "Slices", label: str, places: np.ndarray | None = None
) -> Iterator[Answers]:
    """Predict slices that are read as they are needed.

    Parameters
    ----------
    engine
        The model.
    slices
        One or more, such as a partition.
    label
        Shown by the progress bar.
    places
        int (N,): which of them; None: all.

    Yields
    ------
    Answers on some slices in a row. Features of all would take 7 KB a slice: what is made of them
    is kept in their place.
    """
    if places is None:
        places = np.arange(len(slices))
    with tqdm(total=len(places), desc=label, unit="slice", mininterval=2, leave=False) as progress:
        for start in range(0, len(places), _BATCH):
            told = engine.run(slices.read(places[start : start + _BATCH]))
            progress.update(len(told))
            yield told
