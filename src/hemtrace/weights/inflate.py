"""A wide and deep EfficientNet from a small one's weights."""

import torch
from torch import Tensor, nn

from hemtrace.errors import HemtraceError
from hemtrace.weights.read import State

_OPEN_GATE = 3.0  # sigmoid(3) = 0.95


def inflate(narrow: State, wide: nn.Module) -> None:
    """Start a wide and deep EfficientNet from a small one's weights, in place.

    Channel j of a wider layer copies channel j mod n of the narrow one, and input weights are
    divided by the number of copies of their channel, so that a layer gives the copies of what
    the narrow one gave. Blocks that the narrow network lacks keep their random start with the
    weight of the last batch norm at zero: they begin as identity. Squeeze-excite gates, which the
    Lite networks lack, begin open. The classifier stays as it is. A network of the very shape of
    the narrow one becomes its copy.

    After Chen, Goodfellow and Shlens 2016, Net2Net (arXiv 1511.05641).

    Parameters
    ----------
    narrow
        State dict in timm's names.
    wide
        A timm EfficientNet.

    Raises
    ------
    HemtraceError
        If the two networks are not of one family, or the second is the smaller.
    """
    state = wide.state_dict()
    classifier = str(wide.pretrained_cfg["classifier"]) + "."  # type: ignore[index]
    leftover = {name for name in narrow if not name.startswith(classifier)} - state.keys()
    if leftover:
        raise HemtraceError(
            "train.weights: inflate needs an EfficientNet at least as deep as its source; "
            f"{len(leftover)} tensors of the source have no place, {min(leftover)} for one."
        )
    stem = next(iter(state))
    for name, target in state.items():
        if name.startswith(classifier):
            continue
        if name in narrow:
            source = narrow[name]
            if name == stem:
                source = widen_input(source, target.shape[1])
            target.copy_(_widen(source, target.shape, name))
        elif name.endswith("se.conv_expand.weight"):
            target.zero_()
        elif name.endswith("se.conv_expand.bias"):
            target.fill_(_OPEN_GATE)
    _silence_new_blocks(wide, narrow)


def widen_input(stem: Tensor, channels: int) -> Tensor:
    """Bring a first convolution from colours to windows: the sum over the input keeps its size.

    Parameters
    ----------
    stem
        Weights (outputs, colours, h, w).
    channels
        Of the input to come; channel j takes the weights of colour j mod colours.
    """
    colours = stem.shape[1]
    return stem[:, torch.arange(channels) % colours] / (channels / colours)


def _widen(source: Tensor, shape: torch.Size, name: str) -> Tensor:
    if source.ndim != len(shape) or source.shape[2:] != shape[2:]:
        raise HemtraceError(
            f"train.weights: inflate cannot fit {name}: {tuple(source.shape)} to {tuple(shape)}."
        )
    if source.ndim == 0:  # num_batches_tracked
        return source
    if any(wide < n for wide, n in zip(shape[:2], source.shape[:2], strict=True)):
        raise HemtraceError(
            f"train.weights: inflate widens, but {name} has {tuple(source.shape[:2])} channels in "
            f"the source and only {tuple(shape[:2])} here; choose a smaller train.inflate_from."
        )
    widened = source[torch.arange(shape[0]) % source.shape[0]]
    if source.ndim < 2 or source.shape[1] == shape[1]:
        return widened
    copied_from = torch.arange(shape[1]) % source.shape[1]
    copies = torch.bincount(copied_from)[copied_from][:, None, None]
    return widened[:, copied_from] / copies


def _silence_new_blocks(wide: nn.Module, narrow: State) -> None:
    for stage, blocks in enumerate(wide.blocks):  # type: ignore[arg-type]
        for number, block in enumerate(blocks):
            if any(name.startswith(f"blocks.{stage}.{number}.") for name in narrow):
                continue
            norms = [part for part in block.modules() if isinstance(part, nn.BatchNorm2d)]
            nn.init.zeros_(norms[-1].weight)
