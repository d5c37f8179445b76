"""The training loop, from top to bottom."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, isfinite, pi
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from timm.optim import param_groups_weight_decay
from tqdm import tqdm

from hemtrace.augment import Augment
from hemtrace.errors import HemtraceError
from hemtrace.inference import Slices, predict_probabilities
from hemtrace.labels import LABELS
from hemtrace.loss import weighted_log_loss
from hemtrace.model import ModelSpec, Net
from hemtrace.params import TrainParams


class LabelledSlices(Slices, Protocol):
    """Slices with their labels; `shards.Partition` is one.

    Attributes
    ----------
    labels
        uint8 (N, 6), in the order of `labels.LABELS`.
    """

    labels: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A trained network, and a row an epoch of how it got there."""

    net: Net
    history: list[dict[str, float | None]]


def fit(
    spec: ModelSpec,
    params: TrainParams,
    train: LabelledSlices,
    val: LabelledSlices,
    seed: int,
    init: Net,
    on_epoch: Callable[[dict[str, float | None]], None] | None = None,
) -> Fit:
    """Train a network; on a CPU the same seed and thread count give the same weights.

    Test patients are never handed in here.

    Parameters
    ----------
    spec
        Its windows tell the augmentation how many grey levels a HU is.
    params
        The `train` section.
    train, val
        Slices to learn from, and slices to watch.
    seed
        Fixes order, augmentation and dropout.
    init
        The network with its starting weights; trained in place.
    on_epoch
        Called with each row of the history as it comes.

    Returns
    -------
    The network after the last epoch, and the history: epoch (from 1), learning_rate at its end,
    train_loss and train_accuracy over the epoch's own augmented batches, val_loss, val_accuracy,
    val_auc (mean over the labels that occur), val_auc_<label>, seconds. What does not exist
    (the AUC of a label that no slice has) is None.

    Raises
    ------
    HemtraceError
        If the loss is no longer finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    chance = torch.Generator(device).manual_seed(seed)
    net = init.to(device)
    augment = Augment(params, spec.windows)
    # Weight decay pulls at weights, not at biases and batch norms.
    optimizer = torch.optim.AdamW(
        param_groups_weight_decay(net, params.weight_decay), lr=params.learning_rate
    )
    # fp32 on a CPU: bf16 there is 10 to 30 times slower without AMX.
    mixed = torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda")
    batches_per_epoch = max(1, round(len(train) / params.batch_size))
    steps = params.epochs * batches_per_epoch
    step = 0
    history = []
    for epoch in range(1, params.epochs + 1):
        started = time.perf_counter()
        net.train()
        losses, corrects = [], []
        with tqdm(
            total=len(train),
            desc=f"epoch {epoch}/{params.epochs}",
            unit="slice",
            mininterval=2,
        ) as progress:
            # Batches of nearly one size: no slice is left out, and no batch norm sees a batch of 1.
            for indices in np.array_split(order.permutation(len(train)), batches_per_epoch):
                rate = one_cycle(step / steps, params)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                images = torch.from_numpy(train.read(indices)).to(device)
                labels = torch.from_numpy(train.labels[indices]).to(device)
                with mixed:
                    logits = net(augment(images, chance))
                loss = weighted_log_loss(logits, labels)
                step += 1
                if not isfinite(loss.item()):
                    raise HemtraceError(
                        f"The training loss is {loss.item()} at step {step} of {steps} (epoch "
                        f"{epoch}): training diverged. Lower train.learning_rate "
                        f"({params.learning_rate}) or train.clip_norm ({params.clip_norm})."
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), params.clip_norm)
                optimizer.step()
                losses.append(loss.item() * len(indices))
                corrects.append(((logits > 0) == (labels > 0)).float().mean().item() * len(indices))
                progress.update(len(indices))
                progress.set_postfix(loss=f"{sum(losses) / progress.n:.4f}", refresh=False)
        row: dict[str, float | None] = {
            "epoch": epoch,
            "learning_rate": rate,
            "train_loss": sum(losses) / len(train),
            "train_accuracy": sum(corrects) / len(train),
            **_validate(net, val, params.batch_size),
            "seconds": time.perf_counter() - started,
        }
        history.append(row)
        if on_epoch is not None:
            on_epoch(row)
    return Fit(net.eval(), history)


def one_cycle(progress: float, params: TrainParams) -> float:
    """Give the learning rate at a share of all steps: a linear rise, then half a cosine to zero.

    After Smith and Topin 2019, Super-Convergence (arXiv 1708.07120), without its cycled momentum.
    """
    warmup = params.warmup_share
    if progress < warmup:
        return params.learning_rate * max(progress / warmup, 0.01)
    fall = (progress - warmup) / max(1 - warmup, 1e-9)
    return params.learning_rate * (1 + cos(pi * fall)) / 2


def _validate(net: Net, val: LabelledSlices, batch_size: int) -> dict[str, float | None]:
    probabilities = predict_probabilities(net, val, batch_size, label="validate")
    clipped = torch.from_numpy(probabilities).clamp(1e-7, 1 - 1e-7)
    labels = np.asarray(val.labels)
    aucs = [_auc(labels[:, place], probabilities[:, place]) for place in range(len(LABELS))]
    known = [auc for auc in aucs if auc is not None]
    return {
        "val_loss": weighted_log_loss(torch.logit(clipped), torch.from_numpy(labels)).item(),
        "val_accuracy": float(((probabilities > 0.5) == labels).mean()),
        "val_auc": float(np.mean(known)) if known else None,
        **{f"val_auc_{label}": auc for label, auc in zip(LABELS, aucs, strict=True)},
    }


def _auc(labels: np.ndarray[Any, Any], probabilities: np.ndarray[Any, Any]) -> float | None:
    if len(np.unique(labels)) < 2:
        return None
    return float(roc_auc_score(labels, probabilities))
