"""The `train` sections of the systems that are compared."""

from pathlib import Path
from typing import Any

from hemtrace.errors import HemtraceError
from hemtrace.params import Params, TrainParams, parse_params
from hemtrace.presets import read_preset


def all_trainings(params: Params, root: Path = Path()) -> dict[str, TrainParams]:
    """Name every training that a run may start, and how it is trained."""
    shuffled = shuffled_params(params)
    return {
        "train": params.train,
        **({"evaluate.shuffled": shuffled} if shuffled else {}),
        **{f"compare.systems, {k}": v for k, v in system_params(params, root).items()},
    }


def shuffled_params(params: Params) -> TrainParams | None:
    """Work out how the label-shuffled network is trained; None: it is not.

    Raises
    ------
    HemtraceError
        If a parameter of `evaluate.shuffled` is wrong.
    """
    if params.evaluate.shuffled is None:
        return None
    tree = {
        "ingest": params.ingest.model_dump(),
        "train": params.train.model_dump() | params.evaluate.shuffled,
    }
    return parse_params(tree, "evaluate.shuffled").train


def system_params(params: Params, root: Path = Path()) -> dict[str, TrainParams]:
    """Work out how each system is trained.

    Schema defaults, then its preset's section `train`, then its own `train`, then that of
    `compare`. What a preset says of other sections does not count: all systems see the same
    slices.

    Parameters
    ----------
    params
        Of the project.
    root
        Whose `presets` are read.

    Returns
    -------
    The section by the system's name.

    Raises
    ------
    HemtraceError
        If a preset is unknown, two systems have one name, or a parameter is wrong.
    """
    found: dict[str, TrainParams] = {}
    for system in params.compare.systems:
        if system.name in found:
            raise HemtraceError(
                f"compare.systems: two are named {system.name!r}; give each a name of its own."
            )
        tree: dict[str, Any] = {}
        if system.preset is not None:
            tree |= read_preset(system.preset, root).get("train") or {}
        tree |= system.train | params.compare.train
        ingest = params.ingest.model_dump()
        checked = parse_params({"ingest": ingest, "train": tree}, f"compare.systems, {system.name}")
        found[system.name] = checked.train
    return found
