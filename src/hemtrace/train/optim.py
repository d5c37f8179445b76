"""Optimizer, schedule, moving average and precision, by their parameters."""

import difflib
from typing import Any

import timm.optim
import torch
from timm.scheduler import CosineLRScheduler, PolyLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from hemtrace.errors import HemtraceError
from hemtrace.params import OptimizerParams, RunParams

# Where the warm-up begins, of the peak.
_FIRST_RATE = 0.01


def create_optimizer(net: nn.Module, params: OptimizerParams) -> torch.optim.Optimizer:
    """Make a timm optimizer; weight decay pulls at weights, not at biases and batch norms.

    Raises
    ------
    HemtraceError
        If timm knows none of that name.
    """
    check_optimizer(params)
    # torch's own AdamW in one pass over the memory: a quarter of the time.
    fused = {"fused": True} if params.optimizer in ("adam", "adamw") else {}
    optimizer: torch.optim.Optimizer = timm.optim.create_optimizer_v2(
        net,
        opt=params.optimizer,
        lr=params.learning_rate,
        weight_decay=params.weight_decay,
        filter_bias_and_bn=True,
        **fused,
    )
    return optimizer


def check_optimizer(params: OptimizerParams) -> None:
    """Refuse an optimizer that timm does not know, naming some that are called alike."""
    known = timm.optim.list_optimizers()
    if params.optimizer not in known:
        near = difflib.get_close_matches(params.optimizer, known, 3) or ["adamw", "sgd", "lamb"]
        raise HemtraceError(
            f"train.optimizer: timm knows no {params.optimizer!r}; it knows {', '.join(near)} and "
            f"{len(known) - len(near)} more: python -c 'import timm; "
            "print(timm.optim.list_optimizers())'"
        )


def create_schedule(
    optimizer: torch.optim.Optimizer, params: OptimizerParams, steps: int
) -> Scheduler:
    """Make a timm schedule over all steps: a linear rise, then what `schedule` says.

    With `cosine` it is the one of Smith and Topin 2019, Super-Convergence (arXiv 1708.07120),
    without its cycled momentum.
    """
    warmup = min(round(params.warmup_share * steps), steps - 1)
    common: dict[str, Any] = {
        "warmup_t": warmup,
        "warmup_lr_init": _FIRST_RATE * params.learning_rate if warmup else 0.0,
        "warmup_prefix": True,
        "t_in_epochs": False,
    }
    if params.schedule == "cosine":
        return CosineLRScheduler(optimizer, t_initial=steps - warmup, **common)
    if params.schedule == "poly":
        return PolyLRScheduler(optimizer, t_initial=steps - warmup, power=1.0, **common)
    return StepLRScheduler(optimizer, decay_t=steps, decay_rate=1.0, **common)


def choose_device(params: RunParams, local_rank: int = 0) -> torch.device:
    """Choose where to train.

    Raises
    ------
    HemtraceError
        If a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if params.device == "cuda" and not available:
        raise HemtraceError(
            "train.device: cuda, but torch sees no GPU on this machine (is its driver installed? "
            "nvidia-smi tells). Set train.device: auto to train on the CPU."
        )
    if params.device == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda", local_rank)


def choose_precision(params: RunParams, device: torch.device) -> torch.dtype | None:
    """Choose the type of mixed precision; None: float32 throughout.

    `auto` never takes bfloat16 on a CPU: there it was 10 to 30 times slower without AMX.
    """
    if params.precision == "fp32" or (params.precision == "auto" and device.type == "cpu"):
        return None
    if params.precision == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    return {"bf16": torch.bfloat16, "fp16": torch.float16}[params.precision]
