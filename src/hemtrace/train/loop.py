"""The training loop, from top to bottom."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from hemtrace.errors import HemtraceError, StoppedError
from hemtrace.model import ModelSpec, Net
from hemtrace.params import TrainParams
from hemtrace.shards import TrainSlices, ValSlices
from hemtrace.train.batch_norm import sync_batch_norms
from hemtrace.train.checkpoint import Progress, Row, State, save_checkpoint
from hemtrace.train.loader import Loader
from hemtrace.train.optim import choose_device, create_schedule
from hemtrace.train.processes import World
from hemtrace.train.sampler import draw_epoch, slice_chances
from hemtrace.train.step import Stepper, cut
from hemtrace.train.validate import validate
from hemtrace.train.watch import Watch


class Record(Protocol):
    """What a training is recorded in; `tracking.Tracker` is one."""

    run_id: str | None

    def log_step(self, row: dict[str, float], step: int) -> None:
        """Record figures of the moment."""

    def log_epoch(self, row: Row) -> None:
        """Record a row of the history."""


@dataclass(frozen=True)
class Fit:
    """A trained network.

    Attributes
    ----------
    net
        With the weights of the selected epoch, ready to predict.
    other
        The state dict of the epoch that was not selected: the last, or the best.
    history
        A row an epoch: epoch (from 1), learning_rate at its end, train_loss and train_accuracy over
        the epoch's own augmented batches, val_loss, val_accuracy, val_auc (mean over the labels
        that occur), val_auc_<label>, seconds. What does not exist (the AUC of a label that no slice
        has) is None.
    best_epoch
        That of the least validation loss.
    """

    net: Net
    other: State
    history: list[Row]
    best_epoch: int


def fit(
    spec: ModelSpec,
    params: TrainParams,
    train: TrainSlices,
    val: ValSlices,
    seed: int,
    net: Net,
    checkpoint: Path | None = None,
    resumed: tuple[Progress, State] | None = None,
    world: World | None = None,
    record: Record | None = None,
) -> Fit:
    """Train a network: on a CPU, one GPU, or as one of several processes.

    On a CPU the same seed and number of threads give the same weights, whether the training was
    killed in between or not: what is drawn depends on seed and step alone.

    Parameters
    ----------
    spec
        Of the network; written into its checkpoints.
    params
        The `train` section.
    train, val
        Slices to learn from, and slices to watch. Test slices are of another type.
    seed
        Fixes order, augmentation and dropout.
    net
        With its starting weights; trained in place.
    checkpoint
        The file to write to at intervals and when told to stop; None: none.
    resumed
        What `load_checkpoint` read of it, to go on from there.
    world
        The processes that train together.
    record
        Told of each epoch, and of the figures of the moment.

    Raises
    ------
    HemtraceError
        If the loss is no longer finite, memory runs out, a GPU is asked for and absent, or the
        batch is too small for the processes.
    StoppedError
        If SIGTERM or SIGINT came: the checkpoint holds where it was.
    TypeError
        If the slices are not those of training and validation patients.
    """
    if not isinstance(train, TrainSlices) or not isinstance(val, ValSlices):
        raise TypeError("fit takes TrainSlices and ValSlices")
    world = world or World()
    if _pass_size(params, world) < 2:
        raise HemtraceError(
            f"train.batch_size {params.batch_size} leaves fewer than 2 slices to each of "
            f"{world.size} processes in {params.accumulate} passes, too few for a batch norm; "
            "raise it."
        )
    device = choose_device(params, world.local_rank)
    _set_determinism(params, device)
    net.to(device)
    if world.size > 1:
        sync_batch_norms(net, device)
    stepper = Stepper(net, spec, params, seed, world, checkpoint)
    kept = stepper.kept
    chances = slice_chances(train.labels, params)
    epoch_steps = max(1, round(len(train) / params.batch_size))
    steps = params.epochs * epoch_steps
    schedule = create_schedule(stepper.optimizer, params, steps)

    progress = Progress()
    if resumed is not None:
        progress, states = resumed
        stepper.load_states(states)
    if record is not None:
        progress.run_id = record.run_id

    def save() -> None:
        if checkpoint and world.is_first:
            save_checkpoint(checkpoint, spec, progress, stepper.states())

    loader = Loader(train, params.loader_threads, device)
    saved = time.monotonic()

    with _stop_signals() as told_to_stop:
        if resumed is None:
            save()  # so that a training killed before its first interval goes on with its record
        while progress.step < steps and not _is_stale(progress, params.patience):
            epoch, first = divmod(progress.step, epoch_steps)
            epoch += 1
            order = draw_epoch(chances, len(train), seed, epoch)
            # Batches of nearly one size: no slice is left out, and no batch norm sees a batch of 1.
            batches = np.array_split(order, epoch_steps)[first:]
            mine = loader.read(_own_parts(batches, world, params.accumulate))
            started, waited = time.perf_counter(), loader.waited
            net.train()
            done = len(order) - sum(map(len, batches))
            title = f"epoch {epoch}/{params.epochs}"
            with Watch(title, len(order), done, device, world.is_first) as watch:
                for batch in batches:
                    schedule.step_update(progress.step)
                    rate = stepper.optimizer.param_groups[0]["lr"]
                    stop = told_to_stop.is_set()
                    taken = stepper.take(progress.step, len(batch), mine, stop=stop)
                    progress.step += 1
                    for k, value in enumerate((taken.loss, taken.right, len(batch))):
                        progress.sums[k] += value
                    loss = progress.sums[0] / progress.sums[2]
                    watch.see(taken.seen, len(batch), loss, loader.waited - waited)
                    figures = watch.figures(loss, rate, loader.waited - waited)
                    if record is not None and figures is not None:
                        record.log_step(figures, progress.step)
                    if progress.step % epoch_steps == 0:
                        continue  # the epoch is saved with its validation
                    if taken.is_last or time.monotonic() - saved > 60 * params.checkpoint_minutes:
                        progress.seconds += time.perf_counter() - started
                        started = time.perf_counter()
                        save()
                        saved = time.monotonic()
                    if taken.is_last:
                        raise _stopped(progress.step, steps, checkpoint)
            scores = validate(kept, val, _pass_size(params, world), world)
            row: Row = {
                "epoch": epoch,
                "learning_rate": rate,
                "train_loss": progress.sums[0] / progress.sums[2],
                "train_accuracy": progress.sums[1] / progress.sums[2],
                **scores,
                "seconds": progress.seconds + time.perf_counter() - started,
            }
            if scores["val_loss"] is not None and scores["val_loss"] < progress.best_loss:
                progress.best_loss, progress.best_epoch = scores["val_loss"], epoch
                progress.best = copy_state(kept)
            progress.history.append(row)
            progress.sums, progress.seconds = [0.0, 0.0, 0.0], 0.0
            if record is not None:
                record.log_epoch(row)
            save()
            saved = time.monotonic()
            if taken.is_last and progress.step < steps:
                raise _stopped(progress.step, steps, checkpoint)

    last = copy_state(kept)
    best = progress.best or last
    selected, other = (best, last) if params.select == "best" else (last, best)
    net.load_state_dict(selected)
    return Fit(net.cpu().eval(), other, progress.history, progress.best_epoch)


def copy_state(net: nn.Module) -> State:
    """Copy the tensors of a network to main memory."""
    return {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}


def _own_parts(batches: list[np.ndarray], world: World, accumulate: int) -> Iterator[np.ndarray]:
    for batch in batches:
        for part in cut(len(batch), world, accumulate):
            yield batch[part]


def _is_stale(progress: Progress, patience: int) -> bool:
    """Whether the validation loss has not fallen for too many epochs."""
    return bool(patience) and len(progress.history) - progress.best_epoch >= patience


def _set_determinism(params: TrainParams, device: torch.device) -> None:
    if params.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # the size of the slices never changes


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Take note of being told to stop instead of dying of it.

    By SIGTERM, which clusters send before they end a job, or by SIGINT, which is Ctrl-C.
    """
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: told.set()) for number in numbers]
    try:
        yield told
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _stopped(step: int, steps: int, checkpoint: Path | None) -> StoppedError:
    where = f"; {checkpoint} holds it: run again to go on." if checkpoint else "."
    return StoppedError(f"Training was told to stop at step {step:,} of {steps:,}{where}")


def _pass_size(params: TrainParams, world: World) -> int:
    """Slices that a process passes through at once."""
    return max(1, params.batch_size // (world.size * params.accumulate))
