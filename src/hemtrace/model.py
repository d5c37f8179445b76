"""The network, what belongs to it to be used, and the one file that holds both."""

import difflib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.params import View, Window

METADATA_KEY = "hemtrace"


class ModelSpec(BaseModel):
    """All that is needed to use a model's weights, and where they come from.

    Attributes
    ----------
    architecture
        A timm model by name.
    weights
        A plain sentence on where the weights started, for the report and the model card.
    windows
        One input channel each, in order.
    size
        Side of the square slices, pixels.
    crop, pixel_mm
        Which square of a slice is shown, as in `params.View`.
    labels
        One output each, in order.
    output_stride
        Input pixels to a cell of the last feature map.
    synthetic
        Whether it was trained on the phantom.
    seed, train
        The seed and the `train` section of the parameters.
    git_commit, data_digest
        Of the code and of the catalog that it was trained on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    weights: str
    windows: tuple[Window, ...]
    size: int
    crop: Literal["none", "head"] = "none"
    pixel_mm: float = 2.0
    labels: tuple[str, ...] = LABELS
    output_stride: int = 32
    synthetic: bool
    seed: int
    train: dict[str, Any]
    git_commit: str
    data_digest: str

    @property
    def view(self) -> View:
        """How a slice becomes what the network takes."""
        return View(windows=self.windows, size=self.size, crop=self.crop, pixel_mm=self.pixel_mm)


class Net(nn.Module):
    """A timm network with its normalisation inside: grey levels in, logits out."""

    def __init__(self, backbone: nn.Module, channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Parameters
        ----------
        images
            uint8 (N, windows, H, W), or float on the same scale of 0 to 255.

        Returns
        -------
        float32 (N, 6), in the order of `labels.LABELS`.

        Raises
        ------
        HemtraceError
            If the images have another number of windows than the network.
        """
        logits: Tensor = self.backbone(self.normalise(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Compute the last feature map: float32 (N, features, h, w) of the images of `forward`."""
        maps: Tensor = self.backbone.forward_features(self.normalise(images))  # type: ignore[operator]
        return maps

    def normalise(self, images: Tensor) -> Tensor:
        """Bring grey levels 0..255 to -1..1, channels last in memory."""
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise HemtraceError(
                f"The network takes slices of {self.channels} windows, (N, {self.channels}, H, W), "
                f"but was given {tuple(images.shape)}."
            )
        # Without channels_last a CPU takes 1.3 to 1.7 times as long.
        floats = images.to(torch.float32, memory_format=torch.channels_last)
        return floats / 127.5 - 1


def create_net(
    spec: ModelSpec,
    prevalence: np.ndarray | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> Net:
    """Make the network that a spec describes, with random weights drawn from its seed.

    Parameters
    ----------
    spec
        Architecture, windows, labels, output stride and seed are used.
    prevalence
        float (6,), share of slices with each label: the classifier starts with small weights and
        a bias at its log-odds, so that training starts at the entropy of the labels. timm's own
        start has logits of +-7 and a loss of 4.
    dropout, drop_path
        Before the classifier; stochastic depth.

    Raises
    ------
    HemtraceError
        If timm does not know the architecture, or cannot build it so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        backbone = _create_backbone(spec, dropout, drop_path)
        classifier = backbone.get_classifier()  # type: ignore[operator]
        if not isinstance(classifier, nn.Linear):
            raise HemtraceError(
                f"train.architecture: {spec.architecture} does not end in a linear classifier, "
                "which hemtrace needs; choose another, e.g. tf_efficientnet_b4."
            )
        nn.init.normal_(classifier.weight, std=0.01)
        nn.init.zeros_(classifier.bias)
    if prevalence is not None:
        share = torch.as_tensor(prevalence, dtype=torch.float32).clamp(1e-4, 1 - 1e-4)
        classifier.bias.data.copy_(torch.logit(share))
    net = Net(backbone, len(spec.windows))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _create_backbone(spec: ModelSpec, dropout: float, drop_path: float) -> nn.Module:
    options: dict[str, Any] = {
        "num_classes": len(spec.labels),
        "in_chans": len(spec.windows),
        "drop_rate": dropout,
    }
    # Not every architecture takes these two, so they are passed only where they say something.
    if drop_path:
        options["drop_path_rate"] = drop_path
    if spec.output_stride != 32:
        options["output_stride"] = spec.output_stride
    if not timm.is_model(spec.architecture):
        near = difflib.get_close_matches(spec.architecture, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}" if near else ""
        raise HemtraceError(
            f"train.architecture: timm has no model {spec.architecture!r}{hint}. "
            "`timm.list_models()` names all."
        )
    try:
        backbone: nn.Module = timm.create_model(spec.architecture, **options)
    except (TypeError, NotImplementedError, AssertionError) as error:
        raise HemtraceError(
            f"train.architecture: {spec.architecture} cannot be built with {options}: {error}"
        ) from None
    return backbone


def save_model(path: Path, net: Net, spec: ModelSpec) -> None:
    """Write weights and spec as one safetensors file, which appears only when complete."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata={METADATA_KEY: spec.model_dump_json()})
    part.replace(path)


def load_model(path: Path) -> tuple[Net, ModelSpec]:
    """Read a model that `save_model` wrote, ready to predict.

    Parameters
    ----------
    path
        The safetensors file.

    Raises
    ------
    HemtraceError
        If the file is missing, or is no model of hemtrace.
    """
    if not path.is_file():
        raise HemtraceError(f"The model {path} was not found; train one first.")
    try:
        with safe_open(path, framework="pt") as stored:
            text = (stored.metadata() or {}).get(METADATA_KEY)
            if text is None:
                raise HemtraceError(
                    f"{path} holds weights, but is no model of hemtrace: it says nothing of "
                    "windows, size and labels. Start a training from it with train.weights: file."
                )
            spec = ModelSpec.model_validate_json(text)
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise HemtraceError(f"{path} is damaged or no safetensors file: {error}.") from None
    except ValidationError as error:
        raise HemtraceError(
            f"{path} was written by another version of hemtrace: {error.error_count()} fields of "
            f"its description do not fit, {error.errors()[0]['loc']} for one."
        ) from None
    net = create_net(spec)
    net.load_state_dict(tensors)
    return net.eval(), spec
