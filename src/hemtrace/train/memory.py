"""Which number of slices would fit, where those of a step do not."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from hemtrace.model import Net
from hemtrace.params import LossParams
from hemtrace.train.loss import slice_losses
from hemtrace.train.watch import is_out_of_memory

_FEWEST = 2  # a batch norm needs two


def advise_batch(
    net: Net,
    images: Tensor,
    labels: Tensor,
    device: torch.device,
    mixed: AbstractContextManager[object],
    sizes: tuple[int, int, int],
) -> str:
    """Find out by trying how many slices fit, and say what to set.

    Parameters
    ----------
    net, images, labels, device, mixed
        Those of the pass that ran out of memory.
    sizes
        Slices of that pass, `train.accumulate` and `train.batch_size`.
    """
    count, accumulate, batch_size = sizes

    def passes(slices: int) -> bool:
        net.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            with mixed:
                logits = net(images[:slices])
            slice_losses(logits, labels[:slices], LossParams()).sum().backward()
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return False
            raise
        return True

    fits = largest_that_fits(count, passes)
    side = images.shape[-1]
    what = f"Memory ran out: {count} slices of {side} x {side} pixels do not fit on {device}"
    if fits < _FEWEST:
        return (
            f"{what}, nor do {_FEWEST}; take a smaller network (train.architecture) or smaller "
            "slices (train.input_size)."
        )
    wanted = accumulate * -(-count // fits)
    return (
        f"{what}, {fits} do. Set train.accumulate: {wanted} to pass a step of {batch_size} slices "
        f"in parts that fit, or train.batch_size: {fits * accumulate}."
    )


def largest_that_fits(count: int, passes: Callable[[int], bool]) -> int:
    """Halve a number until it passes: the number, 0 if not even the fewest do.

    Half of it is left for what else a training holds, which the trial lacks: the optimizer's state.
    """
    while count >= 2 * _FEWEST:
        count //= 2
        if passes(count):
            return max(_FEWEST, count)
    return 0
