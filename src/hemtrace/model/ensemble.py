"""Several networks that vote: those of the folds and seeds."""

import torch
from torch import Tensor, nn

from hemtrace.model.net import Net


class Ensemble(nn.Module):
    """The mean of the probabilities of several networks, as logits."""

    def __init__(self, members: list[Net]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits of the images that each member takes: float32 (N, 6)."""
        mean = torch.stack([member(images).float().sigmoid() for member in self.members]).mean(0)
        # The nearest to 0 and 1 that float32 can tell.
        return torch.logit(mean, eps=1e-7)


def list_members(net: Net | Ensemble) -> list[Net]:
    """Give the single networks of a model."""
    return [net] if isinstance(net, Net) else list(net.members)  # type: ignore[arg-type]
