"""Where a network's weights start: nowhere, at timm, in a file, or in a smaller network."""

from pathlib import Path

import numpy as np
import timm
from torch import nn

from hemtrace.errors import HemtraceError
from hemtrace.model import Branches, Net, is_model, load_spec
from hemtrace.params import TrainParams
from hemtrace.weights.download import fetch_weights, find_pretrained, read_weights
from hemtrace.weights.fit import load_state, name_as_timm, rename_by_order
from hemtrace.weights.inflate import inflate
from hemtrace.weights.read import (
    State,
    check_digest,
    digest_file,
    find_weights,
    name_package,
    read_state,
)

__all__ = [
    "describe_weights",
    "fill_weights",
    "inflate",
    "input_statistics",
    "read_state",
]


def describe_weights(params: TrainParams) -> str:
    """Say in a sentence where the weights start, for the report and the model card.

    Raises
    ------
    HemtraceError
        If the file is missing, or timm does not have the weights that the architecture names.
    """
    if params.weights == "scratch":
        return "random weights"
    if params.weights == "timm":
        known = find_pretrained(params.architecture)
        tag = f" ({known.tag})" if known is not None and known.tag else ""
        pinned = f" (sha256 {params.weights_sha256})" if params.weights_sha256 else ""
        return f"timm's pretrained weights of {params.architecture}{tag}{pinned}"
    if params.weights == "file":
        path = find_weights(params.weights_file or "")
        return f"the file {path.name} (sha256 {digest_file(path)})"
    source = params.inflate_from
    sentence = f"ImageNet weights of {source} (package {name_package(source)}, Apache-2.0)"
    if source != params.architecture:
        sentence += f", widened and deepened to {params.architecture} after Net2Net"
    return sentence


def input_statistics(params: TrainParams) -> tuple[float, float]:
    """Find the mean and deviation of the grey levels that the starting weights were trained with.

    timm gives them for each colour. Windows are no colours, and which of them stands where a
    colour stood is chance, so one mean and one deviation, the average over the colours, serves all.

    Returns
    -------
    Grey levels from 0 to 1, for `ModelSpec.mean` and `ModelSpec.std`.

    Raises
    ------
    HemtraceError
        If the file is missing, or a model of another version of hemtrace, or timm does not have
        the weights that the architecture names.
    """
    if params.weights == "scratch":
        return 0.5, 0.5
    architecture = params.inflate_from if params.weights == "inflate" else params.architecture
    if params.weights == "file":
        path = find_weights(params.weights_file or "")
        if is_model(path):
            spec = load_spec(path)
            return spec.mean, spec.std
    known = find_pretrained(architecture)
    if known is None:  # `create_net` refuses an architecture that timm does not know
        return 0.5, 0.5
    return float(np.mean(known.mean)), float(np.mean(known.std))


def fill_weights(net: Net, params: TrainParams) -> None:
    """Give a new network the weights that the parameters name, in place.

    Each of two branches is filled alike. The classifier stays as it is, but for a file that has
    one of the same shape.

    Raises
    ------
    HemtraceError
        If the weights cannot be had, are not those of `weights_sha256`, cannot be read, or do not
        fit the network.
    """
    if params.weights == "scratch":
        return
    if params.weights == "inflate" and "efficientnet" not in params.architecture:
        raise HemtraceError(
            f"train.weights: inflate widens an EfficientNet, and {params.architecture} is none; "
            "choose timm, file or scratch."
        )
    path = _find_start(params)
    check_digest(path, params.weights_sha256)
    if params.weights == "inflate":
        state = _read_packaged(path, params.inflate_from)
        for backbone in _single_networks(net):
            inflate(state, backbone)
        return
    source = f"train.weights: {params.weights}"
    if params.weights == "timm":
        state = read_weights(params.architecture, path, net.input_channels)
        for backbone in _single_networks(net):
            load_state(backbone, state, source)
        return
    source = f"train.weights_file: {path}"
    state = read_state(path)
    _refuse_ensemble(path, state)
    if isinstance(net.backbone, Branches) and any(name.startswith("branches.") for name in state):
        load_state(net.backbone, state, source)
        return
    for backbone in _single_networks(net):
        load_state(backbone, name_as_timm(state, params.architecture, backbone), source)


def _find_start(params: TrainParams) -> Path:
    if params.weights == "timm":
        return fetch_weights(params.architecture)
    if params.weights == "inflate":
        return find_weights(f"package:{params.inflate_from}")
    return find_weights(params.weights_file or "")


def _single_networks(net: Net) -> list[nn.Module]:
    return list(net.backbone.branches) if isinstance(net.backbone, Branches) else [net.backbone]


def _read_packaged(path: Path, network: str) -> State:
    state = rename_by_order(read_state(path), timm.create_model(network).state_dict())
    if state is None:
        raise HemtraceError(
            f"The packaged ImageNet weights {path} do not fit timm's {network}; install the "
            "versions of timm and of the package that requirements.lock names."
        )
    return state


def _refuse_ensemble(path: Path, state: State) -> None:
    if any(name.startswith("members.") for name in state):
        raise HemtraceError(
            f"train.weights_file: {path} holds an ensemble of networks; name the model.safetensors "
            "of one of its runs (models/runs/)."
        )
