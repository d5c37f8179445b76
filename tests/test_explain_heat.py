"""explain: raw heat maps against pytorch-grad-cam, whose own run is the judge."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from hemtrace.errors import HemtraceError
from hemtrace.explain.heat import (
    METHODS,
    closed_form_cams,
    find_target_layer,
    gradient_cams,
    scale_up,
)
from hemtrace.explain.maps import create_mapper, mean_maps
from hemtrace.labels import ANY
from hemtrace.model import ModelSpec, create_net
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams

SIZE = 64
EVERY = list(range(6))
JUDGES = {"grad-cam": GradCAM, "grad-cam++": GradCAMPlusPlus, "hirescam": HiResCAM}


class StandIn(nn.Module):
    """A network of the contract: grey levels in, six logits out."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.backbone(images.to(torch.float32) / 127.5 - 1)
        return logits


class TwoLayerHead(nn.Module):
    """A network whose head is no single linear layer: no closed form holds."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=8, padding=1)
        self.hidden, self.classifier = nn.Linear(8, 8), nn.Linear(8, 6)

    def forward(self, images: Tensor) -> Tensor:
        cells = torch.relu(self.convolution(images.to(torch.float32) / 255))
        logits: Tensor = self.classifier(torch.tanh(self.hidden(cells.mean(dim=(2, 3)))))
        return logits


def judge_raw(
    net: nn.Module, layer: nn.Module, images: np.ndarray, label: int, method: str
) -> np.ndarray:
    """Let the library run as a user would run it, and keep its map before it is scaled."""
    kept: list[np.ndarray] = []

    class Recorder(JUDGES[method]):
        def get_cam_image(self, *given: Any) -> np.ndarray:
            kept.append(super().get_cam_image(*given))
            return kept[-1]

    net.requires_grad_(True)
    with Recorder(model=net, target_layers=[layer]) as cam:
        cam(torch.from_numpy(images), [ClassifierOutputTarget(label)] * len(images))
    assert len(kept) == 1
    return kept[0]


def relative(found: np.ndarray, judge: np.ndarray) -> float:
    """Give the greatest difference, relative to the map's greatest value."""
    assert np.abs(judge).max() > 0
    return float(np.abs(found - judge).max() / np.abs(judge).max())


def lite0(**options: int) -> nn.Module:
    torch.manual_seed(0)
    return StandIn(timm.create_model("tf_efficientnet_lite0", num_classes=6, **options)).eval()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return lite0(output_stride=8)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, 3, SIZE, SIZE)).astype(np.uint8)


def test_target_layer_is_the_activation_before_pooling(net, images: np.ndarray) -> None:
    layer, cells = find_target_layer(net, torch.from_numpy(images[:1]), 7)
    assert layer is net.backbone.bn2
    assert cells == (8, 8)


def test_where_the_last_map_is_too_coarse_the_last_fine_stage_is_taken(images: np.ndarray) -> None:
    coarse = lite0()
    layer, cells = find_target_layer(coarse, torch.from_numpy(images[:1]), 7)
    assert layer is coarse.backbone.blocks[2]  # stride 8; blocks 3 to 6 have 4 x 4 and 2 x 2 cells
    assert cells == (8, 8)
    mapper = create_mapper([coarse], images[:1], 7, "grad-cam")
    assert not mapper.has_closed_form
    maps = mapper.maps(images, [ANY])
    assert maps.shape == (3, 1, SIZE, SIZE)
    assert maps.max() == pytest.approx(1)


def test_too_few_cells_are_a_sentence(images: np.ndarray) -> None:
    with pytest.raises(HemtraceError, match=r"100 x 100 cells.*explain\.fewest_cells"):
        find_target_layer(lite0(), torch.from_numpy(images[:1]), 100)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "tf_efficientnet_b4"])
def test_closed_form_equals_the_librarys_raw_maps(
    architecture: str, method: str, images: np.ndarray
) -> None:
    torch.manual_seed(1)
    net = StandIn(timm.create_model(architecture, num_classes=6)).eval()
    layer, _ = find_target_layer(net, torch.from_numpy(images[:1]), 2)
    assert layer is net.backbone.bn2
    found = closed_form_cams(net, layer, images, EVERY, method)
    assert found is not None
    assert found.shape == (3, 6, 2, 2)
    for label in (0, ANY):
        judge = judge_raw(net, layer, images, label, method)
        assert relative(found[:, label], judge) < 1e-4


@pytest.mark.parametrize("method", list(METHODS))
def test_gradients_down_to_the_layer_give_the_librarys_raw_maps(
    method: str, images: np.ndarray
) -> None:
    coarse = lite0()
    layer, _ = find_target_layer(coarse, torch.from_numpy(images[:1]), 7)
    found = gradient_cams(coarse, layer, images, EVERY, method)
    for label in (1, ANY):
        assert relative(found[:, label], judge_raw(coarse, layer, images, label, method)) < 1e-4


def test_methods_differ_where_the_gradient_varies_over_the_map(images: np.ndarray) -> None:
    # Or the test above could not tell them apart.
    coarse = lite0()
    layer, _ = find_target_layer(coarse, torch.from_numpy(images[:1]), 7)
    maps = [gradient_cams(coarse, layer, images, [ANY], method) for method in METHODS]
    scaled = [one / np.abs(one).max() for one in maps]
    for one in range(3):
        for two in range(one):
            assert np.abs(scaled[one] - scaled[two]).max() > 0.05


def test_maps_are_scaled_as_the_library_scales_them(net, images: np.ndarray) -> None:
    mapper = create_mapper([net], images[:1], 7, "grad-cam")
    assert mapper.has_closed_form
    maps = mapper.maps(images, [0, ANY])
    net.requires_grad_(True)
    for place, label in enumerate((0, ANY)):
        with GradCAM(model=net, target_layers=[mapper.targets[0].layer]) as cam:
            judge = cam(torch.from_numpy(images), [ClassifierOutputTarget(label)] * 3)
        assert np.abs(maps[:, place] - judge).max() < 1e-4


def test_closed_form_equals_classifier_weights_times_last_activation(
    net, images: np.ndarray
) -> None:
    layer, _ = find_target_layer(net, torch.from_numpy(images[:1]), 7)
    found = closed_form_cams(net, layer, images, [ANY])
    assert found is not None
    with torch.no_grad():
        cells = net.backbone.forward_features(torch.from_numpy(images).float() / 127.5 - 1)
    weights = net.backbone.classifier.weight.detach()[ANY]
    judge = (weights[None, :, None, None] * cells).sum(dim=1).numpy() / 64
    assert relative(found[:, 0], judge) < 1e-4


def test_closed_form_is_refused_where_the_head_is_another(images: np.ndarray) -> None:
    torch.manual_seed(0)
    other = TwoLayerHead().eval()
    layer, cells = find_target_layer(other, torch.from_numpy(images[:1]), 7)
    assert layer is other.convolution
    assert cells == (8, 8)
    assert closed_form_cams(other, layer, images, EVERY) is None
    found = gradient_cams(other, layer, images, [2])
    assert relative(found[:, 0], judge_raw(other, layer, images, 2, "grad-cam")) < 1e-4


def test_network_is_left_as_it_was(images: np.ndarray) -> None:
    net = lite0(output_stride=8)
    layer, _ = find_target_layer(net, torch.from_numpy(images[:1]), 7)
    net.requires_grad_(False)
    net.backbone.conv_stem.weight.requires_grad_(True)
    gradient_cams(net, layer, images, [0])
    closed_form_cams(net, layer, images, EVERY)
    assert not any(module._forward_hooks for module in net.modules())
    assert [name for name, one in net.named_parameters() if one.requires_grad] == [
        "backbone.conv_stem.weight"
    ]
    assert all(one.grad is None for one in net.parameters())


def test_several_networks_are_averaged_on_one_scale(images: np.ndarray) -> None:
    nets = [lite0(output_stride=8), StandIn(timm.create_model("resnet18", num_classes=6)).eval()]
    mapper = create_mapper(nets, images[:1], 2, "grad-cam")
    raw = mapper.raw(images, [ANY])
    assert [maps.shape[2:] for maps in raw] == [(8, 8), (2, 2)]
    maps = mapper.maps(images, [ANY])
    parts = np.stack([[scale_up(one[0], SIZE, SIZE) for one in of_net] for of_net in raw])
    mean = parts.mean(axis=0)
    judge = mean / mean.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(maps[:, 0], judge, atol=1e-6)


def test_map_without_evidence_stays_empty() -> None:
    assert not mean_maps([np.full((1, 1, 4, 4), -1.0)], 8, 8).any()


@pytest.mark.parametrize("branches", ["windows", "halves"])
def test_two_branches_have_one_map_in_the_closed_form(branches: str) -> None:
    spec = ModelSpec(
        network=NetworkParams(architecture="test_efficientnet", branches=branches),
        weights="",
        windows=DEFAULT_WINDOWS,
        size=SIZE,
        synthetic=True,
        seed=0,
        train={},
        git_commit="",
        data_digest="",
        shift=(0.1, 0.2, 0.1, 0.1, 0.3, 0.5),
    )
    two = create_net(spec).eval()
    pictures = np.random.default_rng(1).integers(0, 256, (2, 3, SIZE, SIZE)).astype(np.uint8)
    mapper = create_mapper([two], pictures[:1], 4, "grad-cam")
    assert mapper.has_closed_form
    assert mapper.targets[0].layer is two.backbone.join
    found = mapper.raw(pictures, EVERY)[0]
    judge = judge_raw(two, two.backbone.join, pictures, 2, "grad-cam")
    assert relative(found[:, 2], judge) < 1e-4
