"""What a model that is ready to predict answers, whatever runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.model.spec import ModelSpec

# Slices that go through the network at once. More of them gain nothing: on two cores ONNX Runtime
# and OpenVINO were as fast with 8 as with 32, and take less memory.
CHUNK = 8


@dataclass(frozen=True)
class Answers:
    """What a model says of N slices.

    Attributes
    ----------
    probabilities
        float64 (N, 6), not calibrated, in the order of `labels.LABELS`.
    cells
        float32 (N, 6, rows, columns): the raw heat map of each label, where it comes out of the
        forward pass. Of an ensemble the mean of its networks' maps, each cut off below 0 and scaled
        to 0..1 before. None where it takes gradients; ask `Engine.heat` for those slices that are
        shown.
    features
        float32 (N, F): what the classifier takes, of an ensemble that of its first network. None
        where the network pools its map in another way.
    """

    probabilities: np.ndarray
    cells: np.ndarray | None
    features: np.ndarray | None

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.probabilities)

    def part(self, start: int, stop: int) -> "Answers":
        """Cut out the answers on some slices in a row."""
        return Answers(
            self.probabilities[start:stop],
            None if self.cells is None else self.cells[start:stop],
            None if self.features is None else self.features[start:stop],
        )


class Engine(Protocol):
    """A model that is ready to predict.

    Attributes
    ----------
    spec
        What the model is.
    runtime
        What runs it, with its version.
    model_sha256
        Digest of the model file.
    fallback
        Why torch runs it where something faster was wanted, a sentence; None otherwise.
    """

    spec: ModelSpec
    runtime: str
    model_sha256: str
    fallback: str | None

    @property
    def has_cells(self) -> bool:
        """Whether `run` gives heat maps at the price of the forward pass."""
        ...

    def run(self, pictures: np.ndarray) -> Answers:
        """Predict slices; safe from several threads at once.

        Parameters
        ----------
        pictures
            uint8 (N, spec.channels, spec.size, spec.size).

        Raises
        ------
        HemtraceError
            If the pictures have another shape or type.
        """
        ...

    def heat(self, pictures: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Map the evidence for some labels: those of the report, whatever they cost.

        Parameters
        ----------
        pictures
            As in `run`.
        labels
            L places of labels among `labels.LABELS`.

        Returns
        -------
        float32 (N, L, rows, columns) as `Answers.cells`.
        """
        ...


def check_pictures(spec: ModelSpec, pictures: np.ndarray) -> None:
    """Refuse what is no stack of the model's pictures.

    Raises
    ------
    HemtraceError
        If shape or type are others.
    """
    wanted = (spec.channels, spec.size, spec.size)
    if pictures.dtype != np.uint8 or pictures.shape[1:] != wanted:
        raise HemtraceError(
            f"The model takes uint8 pictures (N, {', '.join(map(str, wanted))}), but was given "
            f"{pictures.dtype} {pictures.shape}; make them with `shards.make_pictures` and the "
            "model's own view."
        )


def join_answers(parts: Sequence[Answers]) -> Answers:
    """Put answers on slices of one engine behind each other."""
    cells = [part.cells for part in parts if part.cells is not None]
    features = [part.features for part in parts if part.features is not None]
    return Answers(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate(cells) if cells else None,
        np.concatenate(features) if features else None,
    )


def answer(logits: np.ndarray, cells: np.ndarray | None, features: np.ndarray | None) -> Answers:
    """Make answers of what a network gave: logits float32 (N, 6), the rest as in `Answers`."""
    if logits.shape[1] != len(LABELS):
        raise ValueError(f"{logits.shape} are no logits of {len(LABELS)} labels.")
    # tanh cannot overflow, as exp can.
    probabilities = 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))
    return Answers(probabilities, cells, features)
