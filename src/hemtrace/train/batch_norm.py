"""Batch norms that see the slices of all processes, on a CPU too."""

from typing import Any

import timm.layers
import torch
import torch.distributed
from torch import Tensor, nn


class _SumOfAll(torch.autograd.Function):
    """Add a tensor over all processes; its gradient is the sum of all their gradients."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


class _Synced(nn.BatchNorm2d):
    """A batch norm whose statistics are those of the whole step.

    torch's own SyncBatchNorm refuses a CPU.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        normed = self._normalise(images.float())
        # timm's batch norms hold the activation that follows.
        for name in ("drop", "act"):
            if hasattr(self, name):
                normed = getattr(self, name)(normed)
        return normed

    def _normalise(self, images: Tensor) -> Tensor:
        dims = (0, 2, 3)
        count = torch.tensor(float(images.numel() // images.shape[1]))
        torch.distributed.all_reduce(count)
        mean = _SumOfAll.apply(images.sum(dims)) / count
        centred = images - mean[:, None, None]
        variance = _SumOfAll.apply((centred * centred).sum(dims)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            share = self.momentum or 0.1
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1), share)
            self.num_batches_tracked += 1
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return centred * scale[:, None, None] + self.bias[:, None, None]


def sync_batch_norms(net: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch norm of a network see the slices of all processes, in place."""
    if device.type == "cuda":
        synced: nn.Module = timm.layers.convert_sync_batchnorm(net)
        return synced
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Same tensors under the same names, another forward.
            module.__class__ = type("Synced", (_Synced, type(module)), {})
    return net
