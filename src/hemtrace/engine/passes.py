"""Many slices through a model, a batch after the other."""

from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from hemtrace.engine.contract import Answers, Engine, join_answers

if TYPE_CHECKING:
    from hemtrace.inference import Slices

_BATCH = 64


def run_slices(
    engine: Engine, slices: "Slices", label: str, places: np.ndarray | None = None
) -> Answers:
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

    Returns
    -------
    Answers without heat map cells, which would be most of their memory.
    """
    if places is None:
        places = np.arange(len(slices))
    parts = []
    with tqdm(total=len(places), desc=label, unit="slice", mininterval=2, leave=False) as progress:
        for start in range(0, len(places), _BATCH):
            told = engine.run(slices.read(places[start : start + _BATCH]))
            parts.append(Answers(told.probabilities, None, told.features))
            progress.update(len(told))
    return join_answers(parts)
