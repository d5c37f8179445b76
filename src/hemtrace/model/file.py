"""The one file that holds a model: safetensors, with its spec in the header."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hemtrace.errors import HemtraceError
from hemtrace.model.ensemble import Ensemble
from hemtrace.model.header import METADATA_KEY, load_spec
from hemtrace.model.heads import Forest
from hemtrace.model.net import Net, create_net
from hemtrace.model.spec import ModelSpec
from hemtrace.writing import write_whole


def save_model(path: Path, net: Net | Ensemble, spec: ModelSpec) -> None:
    """Write weights and spec as one safetensors file, which appears only when complete.

    Raises
    ------
    HemtraceError
        If the disk is full.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        save_file(tensors, part, metadata={METADATA_KEY: spec.model_dump_json()})


def load_model(path: Path) -> tuple[Net | Ensemble, ModelSpec]:
    """Read a model that `save_model` wrote, ready to predict.

    Raises
    ------
    HemtraceError
        If the file is missing, is no model of hemtrace, or holds other tensors than its spec says.
    """
    spec = load_spec(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise HemtraceError(f"{path} is damaged or no safetensors file: {error}.") from None
    members = [create_net(spec) for _ in range(spec.members)]
    net = members[0] if spec.members == 1 else Ensemble(members)
    try:
        if spec.network.classifier == "forest":
            for number, member in enumerate(members):
                place = "head." if spec.members == 1 else f"members.{number}.head."
                member.head = _make_forest(tensors, place)
        net.load_state_dict(tensors)
    except (RuntimeError, KeyError) as error:
        raise HemtraceError(
            f"{path} does not hold the tensors of the network that it describes; it was written by "
            f"another version of hemtrace or of timm, or changed: {str(error).splitlines()[-1]}."
        ) from None
    return net.eval(), spec


def _make_forest(tensors: dict[str, Tensor], place: str) -> Forest:
    """Make a forest of the stored size; its tensors are those of the file."""
    return Forest(*(tensors[place + name] for name in ("feature", "threshold", "share")))
