"""AlexNet, which timm lacks, as one of timm's networks.

Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks (arXiv 1404.5997),
in torchvision's form, whose ImageNet weights fit.
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torchvision.models.alexnet import AlexNet as TorchvisionAlexNet

_FEATURES = 4096

default_cfgs = generate_default_cfgs(
    {
        "alexnet.tv_in1k": {
            "url": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "features.0",
            "classifier": "classifier.6",
        }
    }
)


class AlexNet(TorchvisionAlexNet):  # type: ignore[misc]
    """AlexNet with timm's names for its parts."""

    num_features = _FEATURES

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5) -> None:
        super().__init__(num_classes=num_classes or 1, dropout=drop_rate)
        self.num_classes = num_classes
        if in_chans != 3:
            self.features[0] = nn.Conv2d(in_chans, 64, kernel_size=11, stride=4, padding=2)
        if num_classes == 0:
            self.classifier[6] = nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Give the last layer."""
        return self.classifier[6]

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute the map: (N, 256, h, w)."""
        features: Tensor = self.features(images)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool to 6 x 6 cells, and go through the fully connected layers."""
        hidden: Tensor = self.classifier[:6](self.avgpool(features).flatten(1))
        return hidden if pre_logits else self.classifier[6](hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits."""
        return self.forward_head(self.forward_features(images))


@register_model  # type: ignore[untyped-decorator]
def alexnet(pretrained: bool = False, **options: Any) -> AlexNet:
    """Make an AlexNet, as `timm.create_model` calls it."""
    made: AlexNet = build_model_with_cfg(AlexNet, "alexnet", pretrained, **options)
    return made
