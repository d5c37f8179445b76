"""Heat maps that take gradients, by torch, made only when one is asked for."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hemtrace.engine.contract import check_pictures
from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.model.spec import ModelSpec
from hemtrace.provenance import file_digest

if TYPE_CHECKING:
    from hemtrace.explain.maps import Mapper

# Slices at once. With B4 at 112 px on two cores a slice takes 0.14 s of 4 at once, 0.10 s of 8,
# 0.08 s of 16 and of 32.
AT_ONCE = 16


class GradientMaps:
    """The general way to `Engine.heat`: loads a network of its own at the first call.

    Its own, because mapping takes off the head, and hooks into layers that another thread may be
    running.

    Parameters
    ----------
    model, spec, sha256
        The file, what it is, and its digest when the engine was opened.
    fewest_cells
        As in `params.ExplainParams`.
    """

    def __init__(self, model: Path, spec: ModelSpec, sha256: str, fewest_cells: int) -> None:
        self._model, self._spec, self._sha256 = model, spec, sha256
        self._fewest_cells = fewest_cells
        self._mapper: Mapper | None = None
        self._lock = threading.Lock()

    def make(self, pictures: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Make the maps of `Engine.heat`.

        Raises
        ------
        HemtraceError
            If the pictures are no such, or the model file is another one by now.
        """
        check_pictures(self._spec, pictures)
        with self._lock:
            mapper = self._mapper = self._mapper or self._load()
            parts = [
                _mean(mapper.raw(pictures[start : start + AT_ONCE], labels))
                for start in range(0, len(pictures), AT_ONCE)
            ]
        if not parts:
            return np.empty((0, len(labels), *mapper.cells), np.float32)
        return np.concatenate(parts)

    def _load(self) -> "Mapper":
        # Imported where they are used: a start without them takes seconds less.
        from hemtrace.explain.maps import create_mapper
        from hemtrace.model import list_members, load_model

        if file_digest(self._model) != self._sha256:
            raise HemtraceError(
                f"The model {self._model} was replaced since it was opened; start hemtrace again."
            )
        sample = np.zeros((1, self._spec.channels, self._spec.size, self._spec.size), np.uint8)
        nets = list_members(load_model(self._model)[0])
        return create_mapper(nets, sample, self._fewest_cells, "grad-cam")


def check_labels(labels: Sequence[int]) -> list[int]:
    """Give places of labels as a list.

    Raises
    ------
    ValueError
        If one is no place among `labels.LABELS`.
    """
    places = [int(label) for label in labels]
    if any(not 0 <= place < len(LABELS) for place in places):
        raise ValueError(f"{places} are not all places of {len(LABELS)} labels.")
    return places


def _mean(raw: Sequence[np.ndarray]) -> np.ndarray:
    """Average the networks' maps as `contract.Answers.cells` has it."""
    if len(raw) == 1:
        return raw[0]
    from hemtrace.engine.graph import scale_cells

    return np.stack([scale_cells(one) for one in raw]).mean(axis=0)
