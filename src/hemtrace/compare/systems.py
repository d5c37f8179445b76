"""The `train` sections of the systems that are compared."""

from pathlib import Path
from typing import Any

from hemtrace.errors import HemtraceError
from hemtrace.params import Params, TrainParams, parse_params
from hemtrace.presets import read_preset


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
