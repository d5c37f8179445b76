"""timm's pretrained weights: downloaded once, and checked."""

import logging
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch.hub import HASH_REGEX, download_url_to_file, get_dir

from hemtrace.errors import HemtraceError
from hemtrace.weights.read import State, digest_file

log = logging.getLogger(__name__)

_DIGEST_LENGTH = 64
_PICKLED = "pytorch_model.bin"
_SAFE = "model.safetensors"


def find_pretrained(architecture: str) -> PretrainedCfg | None:
    """Find what timm knows of the weights of an architecture; None if there are none.

    Raises
    ------
    HemtraceError
        If the architecture names weights (after a dot) that timm does not have.
    """
    try:
        return get_pretrained_cfg(architecture)
    except RuntimeError as error:
        name = architecture.partition(".")[0]
        known = ", ".join(timm.list_pretrained(f"{name}.*"))
        raise HemtraceError(f"train.architecture: {error} timm has {known}.") from None


def fetch_weights(architecture: str) -> Path:
    """Download timm's weights of an architecture into its cache, unless they lie there.

    A file of the Hugging Face hub lies in the cache under the digest that the hub told; one from
    an address carries the first digits of its digest in its name. Both are compared at every call.

    Raises
    ------
    HemtraceError
        If there are none, they cannot be had, or are not what their digest says.
    """
    known = find_pretrained(architecture)
    if known is None or not known.has_weights:
        raise HemtraceError(
            f"train.weights: timm has no pretrained weights of {architecture}. Choose another "
            "architecture, e.g. tf_efficientnet_b4, or train.weights: scratch."
        )
    try:
        path = _fetch_from_hub(known) if known.hf_hub_id else _fetch_from_address(known.url)
    except Exception as error:
        # The hub's client raises errors of several libraries, by its version and by what fails.
        raise HemtraceError(
            f"timm's pretrained weights of {architecture} cannot be had "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason'})"
            f". Without a network set weights: {offline_weights(architecture)}, or download them "
            "elsewhere and name the file in weights_file with weights: file, both in the section "
            "train or, for systems that are compared, in compare.train (`hemtrace use "
            "systems-offline` has a choice)."
        ) from None
    _check_download(path, known.hf_hub_id is not None)
    return path


def offline_weights(architecture: str) -> str:
    """Say what `train.weights` can be where there is no network and no file."""
    return "inflate" if "efficientnet" in architecture else "scratch"


def read_weights(architecture: str, path: Path, channels: int) -> State:
    """Read what `fetch_weights` downloaded, brought to timm's names and to `channels` by timm.

    Raises
    ------
    HemtraceError
        If timm cannot read or adapt it.
    """
    return convert_weights(architecture, channels, {"file": str(path)})


def convert_weights(architecture: str, channels: int, source: dict[str, Any]) -> State:
    """Let timm bring weights to its names for an architecture, and to a number of channels.

    Parameters
    ----------
    architecture
        timm's name.
    channels
        Of the input.
    source
        `file` or `state_dict`, as in timm's pretrained configurations.

    Raises
    ------
    HemtraceError
        If they are of another network.
    """
    try:
        # To read weights before the network of that architecture is made costs a second at most.
        net = timm.create_model(
            architecture, pretrained=True, in_chans=channels, pretrained_cfg_overlay=source
        )
    except Exception as error:
        # By what does not fit, timm's converters raise errors of all kinds.
        raise HemtraceError(
            f"timm cannot bring the weights to {architecture} with {channels} channels "
            f"({type(error).__name__}: {error})."
        ) from None
    state: State = net.state_dict()
    return state


def _fetch_from_hub(known: PretrainedCfg) -> Path:
    repository, _, revision = known.hf_hub_id.partition("@")
    pickled = known.hf_hub_filename or _PICKLED
    try:
        path = hf_hub_download(
            repository, pickled.replace(_PICKLED, _SAFE), revision=revision or None
        )
    except LocalEntryNotFoundError:  # the hub was not reached, and the cache has no file
        raise
    except EntryNotFoundError:
        path = hf_hub_download(repository, pickled, revision=revision or None)
    return Path(path)


def _fetch_from_address(url: str) -> Path:
    path = Path(get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(path), _digest_in_name(path), progress=False)
    return path


def _digest_in_name(path: Path) -> str:
    found = HASH_REGEX.search(path.name)
    return found.group(1) if found else ""


def _check_download(path: Path, is_from_hub: bool) -> None:
    file = path.resolve()
    digest = digest_file(file)
    if is_from_hub:
        told = file.name if len(file.name) == _DIGEST_LENGTH else ""
    else:
        told = _digest_in_name(path)
    if not told:
        log.warning("%s: its source told no sha256 to compare with; it has %s.", path, digest)
    elif not digest.startswith(told):
        raise HemtraceError(
            f"What timm downloaded to {file} has the sha256 {digest}, but its source told {told}: "
            "it is damaged. Delete the file and run again."
        )
    else:
        log.info("timm's weights %s have the sha256 %s, as their source told.", path, digest)
