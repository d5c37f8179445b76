"""One step of training: its passes, their gradients, the update."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3  # type: ignore[attr-defined]
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from hemtrace.errors import HemtraceError
from hemtrace.model import ModelSpec, Net
from hemtrace.params import TrainParams
from hemtrace.train.augment import Augment, Chance
from hemtrace.train.checkpoint import State
from hemtrace.train.loss import slice_losses
from hemtrace.train.memory import advise_batch
from hemtrace.train.optim import choose_precision, create_optimizer
from hemtrace.train.processes import World
from hemtrace.train.watch import is_out_of_memory, keep_batch

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Taken:
    """What a step came to.

    Attributes
    ----------
    loss, right
        Sums over its slices, in all processes: the loss, and the share of labels told right.
    is_last
        Whether one of the processes was told to stop.
    seen
        Logits and labels (n, 6) of what this process saw.
    """

    loss: float
    right: float
    is_last: bool
    seen: list[Batch]


class Stepper:
    """Takes steps; holds all that changes with them.

    Parameters
    ----------
    net
        On its device; trained in place.
    spec, params, seed, world
        As for `loop.fit`.
    checkpoint
        Beside it the slices are kept at which training diverged; None: nowhere.
    """

    def __init__(
        self,
        net: Net,
        spec: ModelSpec,
        params: TrainParams,
        seed: int,
        world: World,
        checkpoint: Path | None,
    ) -> None:
        self._net, self._params, self._seed, self._world = net, params, seed, world
        self._checkpoint = checkpoint
        self._device = device = next(net.parameters()).device
        precision = choose_precision(params, device)
        self._mixed = torch.autocast(device.type, dtype=precision, enabled=precision is not None)
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self.optimizer = create_optimizer(net, params)
        self._average = ModelEmaV3(net, decay=params.ema, use_warmup=True) if params.ema else None
        self._augment = Augment(params, spec.windows)
        self._generator = torch.Generator(device)
        self._forward: Callable[[Tensor], Tensor] = net
        self._parallel: DistributedDataParallel | None = None
        if world.size > 1:
            ids = [device.index] if device.type == "cuda" else None
            # The batch norms are in step already: nothing needs to be sent around at each step.
            self._parallel = DistributedDataParallel(
                net, device_ids=ids, forward_sync_buffers=False
            )
            self._forward = self._parallel
        if params.compile:
            self._forward = torch.compile(self._forward)

    @property
    def kept(self) -> Net:
        """The network that is validated and saved: the average, where there is one."""
        return self._net if self._average is None else self._average.module

    def states(self) -> State:
        """Give the states of all parts, for a checkpoint."""
        return {name: part and part.state_dict() for name, part in self._parts().items()}

    def load_states(self, states: State) -> None:
        """Go on from what `states` gave."""
        for name, part in self._parts().items():
            if part is not None and states[name]:  # a scaler that was off has none
                part.load_state_dict(states[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "net": self._net,
            "optimizer": self.optimizer,
            "average": self._average,
            "scaler": self._scaler,
        }

    def take(self, step: int, count: int, batches: Iterator[Batch], *, stop: bool) -> Taken:
        """Take one step, at the learning rate that the optimizer has.

        Parameters
        ----------
        step
            Its number, from 0.
        count
            Slices of the step, of all processes together.
        batches
            Gives the next `train.accumulate` parts of this process: uint8 images, labels.
        stop
            Whether this process was told to stop; the others learn of it.

        Raises
        ------
        HemtraceError
            If loss or gradient is no finite number, or memory runs out.
        """
        self.optimizer.zero_grad(set_to_none=True)
        sums = [0.0, 0.0, float(stop)]
        seen: list[Batch] = []
        for number, part in enumerate(cut(count, self._world, self._params.accumulate)):
            images, labels = next(batches)
            logits, losses = self._pass(images, labels, step, count, number, part)
            if not isfinite(losses):
                raise self._diverged("loss", step, images, labels)
            seen.append((logits, labels))
            sums[0] += losses
            sums[1] += ((logits > 0) == (labels > 0)).float().mean(1).sum().item()
        loss, right, is_last = self._world.sum(sums, self._device)
        self._scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._net.parameters(), self._params.clip_norm)
        # With fp16 the scaler skips such a step, and scales less.
        if not (self._scaler.is_enabled() or isfinite(float(norm))):
            raise self._diverged("gradient", step, images, labels)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update(self._net, step=step)
        return Taken(loss, right, bool(is_last), seen)

    def _pass(
        self, images: Tensor, labels: Tensor, step: int, count: int, number: int, part: slice
    ) -> tuple[Tensor, float]:
        """Pass a part of a step through, forth and back: its logits, and the sum of its losses."""
        accumulate = self._params.accumulate
        chance = Chance(self._generator, count, part.start, part.stop)
        seed_step(self._generator, self._seed, step, self._world.rank * accumulate + number)
        # Gradients travel between processes with the last part alone.
        is_last = number + 1 == accumulate
        wait = nullcontext() if self._parallel is None or is_last else self._parallel.no_sync()
        try:
            with wait:
                with self._mixed:
                    logits = self._forward(self._augment(images, chance))
                losses = slice_losses(logits, labels, self._params).sum()
                # Processes average their gradients; those of a step add up.
                self._scaler.scale(losses / count * self._world.size).backward()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return logits.detach(), losses.item()
        # Out here the failed pass has let go of its memory.
        raise HemtraceError(
            advise_batch(self._net, images, labels, self._mixed, self._params, self._world.size)
        )

    def _diverged(self, what: str, step: int, images: Tensor, labels: Tensor) -> HemtraceError:
        kept, params = "", self._params
        if self._checkpoint is not None:
            folder = self._checkpoint.parent
            path = keep_batch(folder, self._world.rank, step + 1, images, labels)
            kept = (
                f" The slices are in {path} (they stay on this machine); with other parameters "
                f"delete {self._checkpoint}."
            )
        return HemtraceError(
            f"The {what} of step {step + 1:,} is no finite number: training diverged. Lower "
            f"train.learning_rate ({params.learning_rate:g}) or train.clip_norm "
            f"({params.clip_norm:g}), or set train.precision: fp32.{kept}"
        )


def cut(count: int, world: World, accumulate: int) -> list[slice]:
    """Cut a step's slices into a part for each process and pass; those of this process, in order.

    As even as can be: the same slices lie together whatever the number of processes.
    """
    edges = np.linspace(0, count, world.size * accumulate + 1).round().astype(int).tolist()
    every = [slice(*pair) for pair in pairwise(edges)]
    return every[world.rank * accumulate : (world.rank + 1) * accumulate]


def seed_step(generator: torch.Generator, seed: int, step: int, part: int) -> None:
    """Set all chance of a step: drawn for the whole step, but for dropout, drawn by parts."""
    first, second = np.random.SeedSequence([seed, step]).generate_state(2, np.uint64).tolist()
    generator.manual_seed(first >> 1)
    torch.manual_seed((second >> 1) + part)
