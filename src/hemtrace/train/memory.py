"""Which number of slices would fit, where those of a step do not."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from hemtrace.model import Net
from hemtrace.params import TrainParams
from hemtrace.train.loss import slice_losses
from hemtrace.train.watch import is_out_of_memory

_FEWEST = 2  # a batch norm needs two


def advise_batch(
    net: Net,
    images: Tensor,
    labels: Tensor,
    mixed: AbstractContextManager[object],
    params: TrainParams,
    processes: int,
) -> str:
    """Find out by trying how many slices fit, and say what to set.

    Parameters
    ----------
    net, images, labels, mixed
        Those of the pass that ran out of memory, which must have let go of it.
    params
        `accumulate` and `batch_size` are told.
    processes
        With several nothing is tried: their batch norms would wait for each other.
    """
    count, side, device = len(images), images.shape[-1], images.device
    what = f"Memory ran out: {count} slices of {side} x {side} pixels do not fit on {device}"

    def passes(slices: int) -> bool:
        net.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            with mixed:
                logits = net(images[:slices])
            slice_losses(logits, labels[:slices], params).sum().backward()
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return False
            raise
        return True

    if processes > 1:
        return f"{what}. Set train.accumulate: {2 * params.accumulate} to pass them in halves."
    fits = largest_that_fits(count, passes)
    if fits < _FEWEST:
        return (
            f"{what}, nor do {_FEWEST}; take a smaller network (train.architecture) or smaller "
            "slices (train.input_size)."
        )
    wanted = params.accumulate * -(-count // fits)
    return (
        f"{what}, {fits} do. Set train.accumulate: {wanted} to pass a step of {params.batch_size} "
        f"slices in parts that fit, or train.batch_size: {fits * params.accumulate}."
    )


def largest_that_fits(count: int, passes: Callable[[int], bool]) -> int:
    """Halve a number until it passes: the number, 0 if not even the fewest do."""
    while count >= 2 * _FEWEST:
        count //= 2
        if passes(count):
            return count
    return 0
