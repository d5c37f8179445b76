"""A state dict into a network: tensors by name, by order, or by timm's own converter."""

import logging
from collections.abc import Sequence

import timm
from torch import Tensor, nn

from hemtrace.errors import HemtraceError
from hemtrace.weights.download import convert_weights
from hemtrace.weights.inflate import widen_input
from hemtrace.weights.read import State

log = logging.getLogger(__name__)

# Counters of batch norms, which older files lack and no prediction uses.
_COUNTER = "num_batches_tracked"


def load_state(backbone: nn.Module, state: State, source: str) -> None:
    """Put a state dict into a network, in place.

    The classifier is taken over only where it has the same shape; a first convolution of another
    number of channels is brought to the network's.

    Parameters
    ----------
    backbone
        A timm network, or two under one head.
    state
        Tensors in the network's names.
    source
        Where they come from, for messages.

    Raises
    ------
    HemtraceError
        If a tensor is missing, or has another shape.
    """
    own = backbone.state_dict()
    state = _fit_stem(backbone, state, own, source)
    classifier = _classifier_name(backbone)
    for name in [name for name in state if name.startswith(classifier)]:
        if name not in own or own[name].shape != state[name].shape:
            log.info("%s: the classifier's %s has another shape and is left out.", source, name)
            del state[name]
    unfit = [name for name in own if name in state and own[name].shape != state[name].shape]
    missing = _missing(own, state, classifier)
    if unfit or missing:
        raise HemtraceError(
            f"{source}: the weights are of another network: {len(missing)} tensors are missing "
            f"({_some(missing)}), {len(unfit)} have another shape ({_some(unfit)})."
        )
    unexpected = [name for name in state if name not in own]
    if unexpected:
        log.warning("%s: %d tensors are not used: %s.", source, len(unexpected), _some(unexpected))
    backbone.load_state_dict(state, strict=False)


def name_as_timm(state: State, architecture: str, backbone: nn.Module) -> State:
    """Give the tensors of another code of the same network timm's names, where they lack them.

    Codes that list their layers in the same order differ in names alone; for others timm brings
    converters. What neither fits is given back as it is.

    Parameters
    ----------
    state
        Tensors by name.
    architecture, backbone
        timm's name of the network, and the network that is to be filled.
    """
    if not _missing(backbone.state_dict(), state, _classifier_name(backbone)):
        return state
    reference = timm.create_model(architecture).state_dict()
    renamed = rename_by_order(state, reference)
    if renamed is not None:
        return renamed
    stem = next((t for t in state.values() if t.ndim == 4), None)
    try:
        return convert_weights(
            architecture, 3 if stem is None else stem.shape[1], {"state_dict": dict(state)}
        )
    except HemtraceError:
        return state


def rename_by_order(state: State, target: State) -> State | None:
    """Give tensors the names of another code of the same network, whose order is the same.

    Returns
    -------
    None if kinds and shapes do not follow each other as in `target`.
    """
    ours = {name: tensor for name, tensor in state.items() if not name.endswith(_COUNTER)}
    theirs = {name: tensor for name, tensor in target.items() if not name.endswith(_COUNTER)}
    same = len(ours) == len(theirs) and all(
        mine.shape == wanted.shape and name.split(".")[-1] == place.split(".")[-1]
        for (name, mine), (place, wanted) in zip(ours.items(), theirs.items(), strict=True)
    )
    return dict(zip(theirs, ours.values(), strict=True)) if same else None


def _fit_stem(backbone: nn.Module, state: State, own: State, source: str) -> State:
    state = dict(state)
    for layer in _first_layers(backbone):
        name = layer + ".weight"
        given, wanted = state.get(name), own.get(name)
        if given is None or wanted is None or not _differs_in_channels(given, wanted):
            continue
        log.info(
            "%s: %s is brought from %d channels to %d.",
            source,
            name,
            given.shape[1],
            wanted.shape[1],
        )
        state[name] = widen_input(given, wanted.shape[1])
    return state


def _first_layers(backbone: nn.Module) -> Sequence[str]:
    first = backbone.pretrained_cfg.get("first_conv") or ()  # type: ignore[operator, union-attr]
    return (first,) if isinstance(first, str) else first


def _differs_in_channels(given: Tensor, wanted: Tensor) -> bool:
    return (
        given.ndim == wanted.ndim == 4
        and given.shape[0] == wanted.shape[0]
        and given.shape[2:] == wanted.shape[2:]
        and given.shape[1] != wanted.shape[1]
    )


def _missing(own: State, state: State, classifier: str) -> list[str]:
    return [
        name
        for name in own
        if name not in state and not name.startswith(classifier) and not name.endswith(_COUNTER)
    ]


def _classifier_name(backbone: nn.Module) -> str:
    return str(backbone.pretrained_cfg["classifier"]) + "."  # type: ignore[index]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"
