"""Where a training stands: written so that a kill at any moment leaves one that is whole."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hemtrace.errors import HemtraceError
from hemtrace.model import ModelSpec
from hemtrace.params import RunParams

Row = dict[str, float | None]
State = dict[str, Any]

# May differ between a training and what goes on with it: they do not decide the weights.
_FREE = {"git_commit", "weights"}
_FREE_TRAIN = set(RunParams.model_fields) - {"select", "patience", "precision", "compile"}


@dataclass
class Progress:
    """How far a training is.

    Attributes
    ----------
    step
        Steps done.
    sums
        Of this epoch so far: loss, right answers, slices.
    seconds
        Of this epoch so far.
    history
        A row an epoch.
    best_loss, best_epoch, best
        The least validation loss, its epoch (from 1), and the network's state then.
    run_id
        Of the record that goes on.
    """

    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    history: list[Row] = field(default_factory=list)
    best_loss: float = float("inf")
    best_epoch: int = 0
    best: State | None = None
    run_id: str | None = None


def save_checkpoint(path: Path, spec: ModelSpec, progress: Progress, states: State) -> None:
    """Write a checkpoint in the place of the last one.

    All chance is drawn from seed and step (`step.seed_step`), so that there is no random state to
    keep.

    Parameters
    ----------
    path
        The one file of this training.
    spec
        Of the network that is trained.
    progress, states
        What `load_checkpoint` gives back; states of network, optimizer, average and scaler.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        torch.save(
            {"spec": spec.model_dump_json(), "progress": vars(progress), "states": states}, stream
        )
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def load_checkpoint(path: Path, spec: ModelSpec) -> tuple[Progress, State] | None:
    """Read the checkpoint of a training, without running code from it; None where there is none.

    Raises
    ------
    HemtraceError
        If the file is damaged, or of another training: naming what differs.
    """
    if not path.is_file():
        return None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        found = ModelSpec.model_validate_json(stored["spec"])
        progress, states = Progress(**stored["progress"]), stored["states"]
    except Exception as error:  # torch and pickle raise many things for a damaged file
        raise HemtraceError(
            f"The checkpoint {path} cannot be read ({type(error).__name__}); delete it to train "
            "from the beginning."
        ) from None
    if differing := _compare(found, spec):
        raise HemtraceError(
            f"The checkpoint {path} is of another training: {'; '.join(differing)}. Put that back "
            "to go on with it, or delete the file to train from the beginning."
        )
    return progress, states


def _compare(found: ModelSpec, wanted: ModelSpec) -> list[str]:
    """Name what differs of two trainings: what the checkpoint has, and what is asked for."""
    first, second = (spec.model_dump(mode="json", exclude=_FREE) for spec in (found, wanted))
    for spec in (first, second):
        train = spec.pop("train")
        spec |= {f"train.{key}": value for key, value in train.items() if key not in _FREE_TRAIN}
        spec["slices and labels"] = spec.pop("data_digest")[:12]
        # The network's parameters stand among those of the section too.
        if train:
            spec.pop("network")
    return [
        f"{name} is {first.get(name)!r} in it and {second.get(name)!r} here"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]
