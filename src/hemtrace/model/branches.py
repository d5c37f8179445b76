"""Two networks under one head, each with its own view of a slice.

After Sage and Badura 2020, Intracranial Hemorrhage Detection in Head CT Using Double-Branch
Convolutional Neural Network, Support Vector Machine, and Random Forest (Appl. Sci. 10, 7577), who
gave each branch a window, or each a half of the head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class Branches(nn.Module):
    """Two timm networks whose features stand side by side, with timm's names for the parts.

    The maps of both fill one map: where the branches see halves, each half of it is the map of one
    and zero in the channels of the other. So global pooling, the linear classifier and heat maps
    are those of a single network.

    Parameters
    ----------
    first, second
        Networks without classifier (`num_classes=0`).
    inputs
        Channels that each takes; None: each takes all channels of one half, left and right.
    labels
        Outputs of the classifier.
    dropout
        Before the classifier.
    """

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        inputs: tuple[Sequence[int], Sequence[int]] | None,
        labels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList([first, second])
        self.inputs = inputs
        self.num_features: int = 2 * int(first.num_features)  # type: ignore[arg-type]
        # Where both maps meet: the place of heat maps.
        self.join = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.num_features, labels)
        # timm's networks say so which of their tensors are the classifier.
        self.pretrained_cfg = {"classifier": "classifier"}

    def get_classifier(self) -> nn.Linear:
        """Give the last layer."""
        return self.classifier

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute the map: (N, features, h, w), or (N, features, h, 2 w) of two halves."""
        views = self._views(images)
        first, second = (
            branch.forward_features(view)  # type: ignore[operator]
            for branch, view in zip(self.branches, views, strict=True)
        )
        if self.inputs is None:
            first, second = pad(first, (0, second.shape[3])), pad(second, (first.shape[3], 0))
        joined: Tensor = self.join(torch.cat([first, second], dim=1))
        return joined

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the map, and classify it."""
        pooled = self.dropout(features.mean(dim=(2, 3)))
        return pooled if pre_logits else self.classifier(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits."""
        return self.forward_head(self.forward_features(images))

    def _views(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.inputs is not None:
            first, second = (images[:, list(channels)] for channels in self.inputs)
            return first, second
        middle = images.shape[3] // 2
        return images[..., :middle], images[..., middle:]
