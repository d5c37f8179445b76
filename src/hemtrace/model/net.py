"""The network: grey levels in, logits out."""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hemtrace.errors import HemtraceError
from hemtrace.model import alexnet  # noqa: F401 - makes it known to timm
from hemtrace.model.branches import Branches
from hemtrace.model.heads import start_bias
from hemtrace.model.spec import ModelSpec

_TINY = 1e-6


class Net(nn.Module):
    """A timm network with everything inside that stands between a picture and it.

    Parameters
    ----------
    backbone
        Ends in a linear classifier.
    channels
        Of the slices that are given; `used` are those that the backbone takes.
    mean, std
        Grey levels, 0 to 1, are brought to (x - mean) / std.
    input_size
        Side to which slices are scaled; None: as they come.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int,
        used: Sequence[int] | None = None,
        mean: float = 0.5,
        std: float = 0.5,
        input_size: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        # In place of the backbone's classifier, where it is no linear layer: features to logits.
        self.head: nn.Module | None = None
        self.channels = channels
        self.used = None if used is None or len(used) == channels else list(used)
        self.mean, self.std = mean, std
        self.input_size = input_size
        # Only ever applied in evaluation: training sees the prevalence of what it is shown.
        self.shift: tuple[float, ...] = ()

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Parameters
        ----------
        images
            uint8 (N, channels, H, W), or float on the same scale of 0 to 255. The channels are the
            windows; with slice context those of the previous, of this and of the next slice.

        Returns
        -------
        float32 (N, 6), in the order of `labels.LABELS`.

        Raises
        ------
        HemtraceError
            If the images have another number of channels than the network.
        """
        if self.head is not None:
            logits: Tensor = self.head(self.pooled(images))
        else:
            logits = self.backbone(self.normalise(images))
        if self.shift and not self.training:
            return correct_prevalence(logits, self.shift)
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Compute the last feature map: float32 (N, features, h, w) of the images of `forward`."""
        maps: Tensor = self.backbone.forward_features(self.normalise(images))  # type: ignore[operator]
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        """Compute what the classifier takes: float32 (N, features) of the images of `forward`."""
        vectors: Tensor = self.backbone.forward_head(self.features(images), pre_logits=True)  # type: ignore[operator]
        return vectors

    @property
    def input_channels(self) -> int:
        """Channels that the backbone takes, or each of its branches."""
        if isinstance(self.backbone, Branches) and self.backbone.inputs is not None:
            return len(self.backbone.inputs[0])
        return self.channels if self.used is None else len(self.used)

    @property
    def classifier(self) -> nn.Linear:
        """The backbone's last layer."""
        last: nn.Linear = self.backbone.get_classifier()  # type: ignore[operator]
        return last

    def normalise(self, images: Tensor) -> Tensor:
        """Bring grey levels to what the backbone takes, channels last in memory."""
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise HemtraceError(
                f"The network takes slices of {self.channels} channels, (N, {self.channels}, H, "
                f"W), but was given {tuple(images.shape)}."
            )
        if self.used is not None:
            images = images[:, self.used]
        # Without channels_last a CPU takes 1.3 to 1.7 times as long.
        floats = images.to(torch.float32, memory_format=torch.channels_last)
        side = floats.shape[2:] if self.input_size is None else (self.input_size, self.input_size)
        if floats.shape[2:] != side:
            floats = interpolate(floats, side, mode="bilinear", antialias=True)
        return floats / (255 * self.std) - self.mean / self.std


def correct_prevalence(logits: Tensor, shift: Sequence[float]) -> Tensor:
    """Bring logits from the prevalence of the slices shown in training to the natural one.

    The odds of `any` move, and each subtype's probability with it: that a bleed is of a subtype
    does not depend on how many bleeds were shown. Where subtypes were shown unevenly among the
    bleeds, their odds given a bleed move too.

    Parameters
    ----------
    logits
        float (N, 6), in the order of `labels.LABELS`, `any` last.
    shift
        From `train.sampler.prevalence_shift`.
    """
    logits = logits.float()
    moves = logits.new_tensor(list(shift))
    bleed = logits[:, -1:]
    given_bleed = (logits[:, :-1].sigmoid() / bleed.sigmoid()).clamp(_TINY, 1 - _TINY)
    moved = torch.sigmoid(torch.logit(given_bleed) + moves[:-1])
    natural = bleed + moves[-1]
    return torch.cat([torch.logit(moved * natural.sigmoid(), eps=_TINY), natural], dim=1)


def create_net(spec: ModelSpec, prevalence: np.ndarray | None = None) -> Net:
    """Make the network that a spec describes, with random weights drawn from its seed.

    Parameters
    ----------
    spec
        What is needed of it: network, windows, mean, std, labels and seed.
    prevalence
        float (6,), share of slices with each label: the classifier starts with small weights and
        a bias at its log-odds, so that training starts at the entropy of the labels. timm's own
        start has logits of +-7 and a loss of 4.

    Raises
    ------
    HemtraceError
        If timm does not know the architecture, cannot build it so, or a window is not among those
        of the slices.
    """
    network = spec.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        used = _used_channels(spec)
        backbone = (
            _create_backbone(spec, len(used), len(spec.labels))
            if network.branches == "one"
            else _create_branches(spec, used)
        )
        net = Net(backbone, spec.channels, used, spec.mean, spec.std, network.input_size)
        if not isinstance(net.classifier, nn.Linear):
            raise HemtraceError(
                f"train.architecture: {network.architecture} does not end in a linear classifier, "
                "which hemtrace needs; choose another, e.g. tf_efficientnet_b4."
            )
        nn.init.normal_(net.classifier.weight, std=0.01)
        nn.init.zeros_(net.classifier.bias)
    net.shift = spec.shift
    if prevalence is not None:
        net.classifier.bias.data.copy_(torch.from_numpy(start_bias(prevalence)))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _used_channels(spec: ModelSpec) -> list[int]:
    """Choose the channels of the slices that the backbone takes."""
    windows = len(spec.windows)
    if spec.network.context == "neighbours" and spec.network.branches != "windows":
        place = _window_place(spec, "context_window", spec.network.context_window)
        return [place, windows + place, 2 * windows + place]
    return list(range(spec.channels))


def _window_place(spec: ModelSpec, parameter: str, name: str) -> int:
    try:
        return spec.window_place(name)
    except ValueError:
        known = ", ".join(window.name for window in spec.windows)
        raise HemtraceError(
            f"train.{parameter}: the slices have no window {name!r}; they have {known} "
            "(ingest.windows)."
        ) from None


def _create_branches(spec: ModelSpec, used: Sequence[int]) -> Branches:
    network, windows = spec.network, len(spec.windows)
    inputs = None
    count = len(used)
    if network.branches == "windows":
        places = [_window_place(spec, "branch_windows", name) for name in network.branch_windows]
        first, second = (list(range(place, spec.channels, windows)) for place in places)
        inputs, count = (first, second), len(first)
    left, right = _create_backbone(spec, count, 0), _create_backbone(spec, count, 0)
    _check_map(left, spec, count)
    return Branches(left, right, inputs, len(spec.labels), network.dropout)


def _check_map(branch: nn.Module, spec: ModelSpec, channels: int) -> None:
    """Refuse a branch whose pooled map is not what its classifier would take."""
    side = spec.network.input_size or spec.size
    width = side // 2 if spec.network.branches == "halves" else side
    # Where timm has a layer between pooling and classifier, this is its width.
    features = getattr(branch, "head_hidden_size", None) or branch.num_features
    shape, found = (), "none that its size allows"
    try:
        with torch.inference_mode():
            trial = torch.zeros(1, channels, side, width)
            shape = tuple(branch.eval().forward_features(trial).shape)  # type: ignore[operator]
        found = f"a map of {shape} and a classifier of {features} features"
    except (RuntimeError, AssertionError) as error:
        found += f" ({error})"
    finally:
        branch.train()
    if len(shape) != 4 or not shape[1] == features == branch.num_features:
        raise HemtraceError(
            f"train.branches: {spec.network.branches} needs a network whose pooled feature map its "
            f"classifier takes; {spec.network.architecture} has {found}. Choose an EfficientNet or "
            "a ResNet, or train.branches: one."
        )


def _create_backbone(spec: ModelSpec, channels: int, labels: int) -> nn.Module:
    network = spec.network
    options: dict[str, Any] = {
        "num_classes": labels,
        "in_chans": channels,
        "drop_rate": network.dropout,
    }
    # Not every architecture takes these two, so they are passed only where they say something.
    if network.drop_path:
        options["drop_path_rate"] = network.drop_path
    if network.output_stride != 32:
        options["output_stride"] = network.output_stride
    if not timm.is_model(network.architecture):
        near = difflib.get_close_matches(network.architecture, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}" if near else ""
        raise HemtraceError(
            f"train.architecture: timm has no model {network.architecture!r}{hint}. "
            "`timm.list_models()` names all."
        )
    try:
        backbone: nn.Module = timm.create_model(network.architecture, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise HemtraceError(
            f"train.architecture: {network.architecture} cannot be built with {options}: {error}"
        ) from None
    return backbone
