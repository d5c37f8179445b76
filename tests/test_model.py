from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn.functional import interpolate
from torchvision.models import alexnet as torchvision_alexnet
from torchvision.transforms.v2.functional import normalize

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.model import (
    Branches,
    Ensemble,
    ModelSpec,
    Net,
    create_net,
    is_model,
    list_members,
    load_model,
    load_spec,
    save_model,
)
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams

TINY = "test_efficientnet"
SPEC = ModelSpec(
    network=NetworkParams(architecture=TINY),
    weights="random weights",
    windows=DEFAULT_WINDOWS,
    size=64,
    synthetic=True,
    seed=1,
    train={"epochs": 1},
    git_commit="abc",
    data_digest="def",
)
BRAIN, SUBDURAL, SOFT = range(3)


def make_spec(**network: object) -> ModelSpec:
    params = NetworkParams(**{"architecture": TINY} | network)  # type: ignore[arg-type]
    return SPEC.model_copy(update={"network": params})


def random_images(count: int = 2, size: int = 64, channels: int = 3) -> torch.Tensor:
    chance = torch.Generator().manual_seed(0)
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=chance)


def make_net(**network: object) -> Net:
    """A network whose batch norms have seen images, so that its maps are not near zero."""
    net = create_net(make_spec(**network))
    with torch.no_grad():
        for _ in range(3):
            net(random_images(8, channels=net.channels))
    return net.eval()


def test_training_starts_at_the_prevalence() -> None:
    prevalence = np.array([0.004, 0.05, 0.035, 0.05, 0.06, 0.14])
    net = create_net(SPEC, prevalence).eval()
    with torch.inference_mode():
        shown = net(random_images()).sigmoid().numpy()
    np.testing.assert_allclose(shown, np.tile(prevalence, (2, 1)), rtol=0.35)


def test_a_label_that_never_occurs_gives_a_finite_start() -> None:
    net = create_net(SPEC, np.array([0, 0.1, 0.1, 0.1, 0.1, 1.0]))
    assert torch.isfinite(net.classifier.bias).all()


def test_same_seed_gives_same_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = create_net(SPEC).state_dict(), create_net(SPEC).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = create_net(SPEC.model_copy(update={"seed": 2})).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


# What the network is given.


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), (0.449, 0.226)])
def test_grey_levels_are_normalised_as_torchvision_does(mean: float, std: float) -> None:
    net = create_net(SPEC.model_copy(update={"mean": mean, "std": std}))
    images = random_images()
    expected = normalize(images.float() / 255, [mean] * 3, [std] * 3)
    torch.testing.assert_close(net.normalise(images), expected, rtol=0, atol=1e-5)
    assert torch.equal(net.normalise(images), net.normalise(images.float()))


def test_wrong_number_of_channels_is_said() -> None:
    with pytest.raises(HemtraceError, match=r"slices of 3 channels.*\(2, 4, 64, 64\)"):
        create_net(SPEC)(random_images(channels=4))


def test_slices_are_scaled_to_the_input_size_whatever_their_shape() -> None:
    net = create_net(make_spec(input_size=32))
    for images in (random_images(), random_images()[..., :32], random_images(size=32)):
        expected = interpolate(images.float(), (32, 32), mode="bilinear", antialias=True)
        torch.testing.assert_close(net.normalise(images), expected / 127.5 - 1, rtol=0, atol=1e-4)
    assert create_net(SPEC).normalise(random_images(size=96)).shape[2:] == (96, 96)


@pytest.mark.parametrize(
    ("network", "taken"),
    [
        ({"context": "none"}, [0, 1, 2]),
        ({"context": "neighbours", "context_window": "subdural"}, [1, 4, 7]),
        ({"context": "both"}, list(range(9))),
        ({"context": "neighbours", "branches": "halves"}, [0, 3, 6]),
    ],
)
def test_slice_context_takes_the_window_of_the_three_slices(
    network: dict[str, object], taken: list[int]
) -> None:
    net = create_net(make_spec(**network))
    assert net.channels == (3 if network["context"] == "none" else 9)
    images = torch.arange(net.channels, dtype=torch.uint8)[None, :, None, None].expand(1, -1, 4, 4)
    seen = (net.normalise(images)[0, :, 0, 0] + 1) * 127.5
    torch.testing.assert_close(seen, torch.tensor(taken).float(), rtol=0, atol=1e-3)
    assert net.input_channels == len(taken)


@pytest.mark.parametrize(
    ("network", "parameter"),
    [
        ({"context": "neighbours", "context_window": "liver"}, "context_window"),
        ({"branches": "windows", "branch_windows": ("brain", "liver")}, "branch_windows"),
    ],
)
def test_a_window_that_the_slices_lack_is_said(network: dict[str, object], parameter: str) -> None:
    with pytest.raises(HemtraceError, match=rf"{parameter}.*'liver'; they have brain, subdural"):
        create_net(make_spec(**network))


# One network, two, or AlexNet.


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"branches": "windows"},
        {"branches": "halves"},
        {"branches": "windows", "context": "neighbours"},
        {"architecture": "resnet18", "branches": "halves", "dropout": 0.5},
    ],
)
def test_the_classifier_of_the_pooled_map_gives_the_logits(network: dict[str, object]) -> None:
    net = make_net(**network)
    images = random_images(channels=net.channels)
    with torch.inference_mode():
        pooled = net.features(images).mean(dim=(2, 3))
        torch.testing.assert_close(net.pooled(images), pooled)
        torch.testing.assert_close(net(images), net.classifier(pooled))
    assert pooled.std() > 0.01


def test_each_branch_is_the_plain_network_on_its_window() -> None:
    net = make_net(branches="windows", branch_windows=("soft tissue", "brain"))
    assert isinstance(net.backbone, Branches)
    for place, window in enumerate((SOFT, BRAIN)):
        plain = timm.create_model(TINY, in_chans=1, num_classes=0).eval()
        plain.load_state_dict(net.backbone.branches[place].state_dict())
        with torch.inference_mode():
            expected = plain.forward_features(random_images()[:, [window]].float() / 127.5 - 1)
            maps = net.features(random_images()).chunk(2, dim=1)
            torch.testing.assert_close(maps[place], expected, rtol=1e-4, atol=1e-5)


def test_a_branch_does_not_see_the_other_half() -> None:
    net = make_net(branches="halves")
    images = random_images()
    changed = images.clone()
    changed[..., 32:] = 255 - changed[..., 32:]
    with torch.inference_mode():
        left, right = net.features(images).chunk(2, dim=1)
        left_too, right_changed = net.features(changed).chunk(2, dim=1)
        mirrored = images.clone()
        mirrored[..., :32] = 255 - mirrored[..., :32]
        left_mirrored, right_too = net.features(mirrored).chunk(2, dim=1)
    assert torch.equal(left, left_too)
    assert torch.equal(right, right_too)
    assert not torch.allclose(right, right_changed)
    assert not torch.allclose(left, left_mirrored)
    # Each half of the map belongs to the branch that sees it.
    middle = left.shape[3] // 2
    assert not left[..., middle:].any()
    assert not right[..., :middle].any()
    assert left[..., :middle].any()
    assert right[..., middle:].any()


def test_a_branch_does_not_see_the_other_window_or_its_neighbours() -> None:
    net = make_net(branches="windows", context="neighbours")
    images = random_images(channels=9)
    changed = images.clone()
    changed[:, [SUBDURAL, 3 + SUBDURAL, 6 + SUBDURAL]] = 0
    unseen = images.clone()
    unseen[:, [SOFT, 3 + SOFT, 6 + SOFT]] = 0
    with torch.inference_mode():
        first, second = net.features(images).chunk(2, dim=1)
        first_too, second_changed = net.features(changed).chunk(2, dim=1)
        assert torch.equal(net.features(unseen), net.features(images))
    assert torch.equal(first, first_too)
    assert not torch.allclose(second, second_changed)


def test_the_branches_begin_differently() -> None:
    net = create_net(make_spec(branches="halves"))
    assert isinstance(net.backbone, Branches)
    first, second = (branch.conv_stem.weight for branch in net.backbone.branches)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("architecture", ["alexnet", "test_vit", "mobilenetv3_small_050"])
@pytest.mark.parametrize("branches", ["windows", "halves"])
def test_branches_of_a_network_without_a_pooled_map_are_said(
    architecture: str, branches: str
) -> None:
    with pytest.raises(HemtraceError, match=rf"train.branches: {branches} .*; {architecture} has"):
        create_net(make_spec(architecture=architecture, branches=branches))


def test_alexnet_is_torchvisions() -> None:
    judge = torchvision_alexnet(num_classes=6).eval()
    net = create_net(make_spec(architecture="alexnet")).eval()
    net.backbone.load_state_dict(judge.state_dict())
    images = random_images(size=96)
    with torch.inference_mode():
        plain = images.float().contiguous(memory_format=torch.channels_last) / 127.5 - 1
        torch.testing.assert_close(net(images), judge.to(memory_format=torch.channels_last)(plain))
        torch.testing.assert_close(net(images), net.classifier(net.pooled(images)))
    assert net.pooled(images).shape == (2, 4096)


def test_alexnet_takes_other_channels_and_no_classifier() -> None:
    bare = timm.create_model("alexnet", in_chans=9, num_classes=0).eval()
    assert bare(torch.zeros(1, 9, 64, 64)).shape == (1, 4096)


def test_unknown_architecture_is_said_with_near_names() -> None:
    with pytest.raises(HemtraceError, match=r"did you mean.*tf_efficientnet_b4"):
        create_net(make_spec(architecture="tf_eficientnet_b4"))


@pytest.mark.parametrize("architecture", ["deit_tiny_distilled_patch16_224", "sknet"])
def test_an_architecture_that_cannot_serve_is_said(architecture: str) -> None:
    with pytest.raises(HemtraceError, match=rf"train.architecture: .*{architecture}"):
        create_net(make_spec(architecture=architecture))


def test_an_option_that_an_architecture_lacks_is_said() -> None:
    with pytest.raises(HemtraceError, match=r"alexnet cannot be built with .*drop_path_rate"):
        create_net(make_spec(architecture="alexnet", drop_path=0.1))


# Several networks.


def test_an_ensemble_is_the_mean_of_the_probabilities() -> None:
    members = [create_net(SPEC.model_copy(update={"seed": seed})).eval() for seed in range(3)]
    for member in members:
        torch.nn.init.normal_(member.classifier.bias, std=3)
    ensemble = Ensemble(members)
    assert list_members(ensemble) == members
    assert list_members(members[0]) == members[:1]
    with torch.inference_mode():
        logits = [member(random_images()).double().numpy() for member in members]
        shown = ensemble(random_images()).double().numpy()
    expected = np.mean([1 / (1 + np.exp(-one)) for one in logits], axis=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-shown)), expected, rtol=1e-4)


def test_an_ensemble_that_is_certain_stays_finite() -> None:
    net = create_net(SPEC).eval()
    torch.nn.init.constant_(net.classifier.bias, 200)
    with torch.inference_mode():
        assert torch.isfinite(Ensemble([net, net])(random_images())).all()


# The file.


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"branches": "windows"},
        {"branches": "halves", "context": "both"},
        {"architecture": "alexnet"},
        {"context": "neighbours", "input_size": 32, "dropout": 0.2, "drop_path": 0.1},
    ],
)
@pytest.mark.parametrize("members", [1, 2])
def test_a_saved_model_predicts_the_same(
    tmp_path: Path, network: dict[str, object], members: int
) -> None:
    spec = make_spec(**network).model_copy(update={"members": members, "mean": 0.4, "std": 0.2})
    nets = [create_net(spec.model_copy(update={"seed": seed})).eval() for seed in range(members)]
    net = nets[0] if members == 1 else Ensemble(nets)
    path = tmp_path / "models" / "model.safetensors"
    save_model(path, net, spec)
    loaded, found = load_model(path)
    assert found == load_spec(path) == spec
    assert found.labels == LABELS
    assert not loaded.training
    images = random_images(channels=spec.channels)
    with torch.inference_mode():
        assert torch.equal(loaded(images), net(images))
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["model.safetensors"]


def test_no_model_of_ours_is_said(tmp_path: Path) -> None:
    with pytest.raises(HemtraceError, match="was not found"):
        load_model(tmp_path / "none.safetensors")
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"no tensors here")
    with pytest.raises(HemtraceError, match="damaged or no safetensors file"):
        load_model(junk)
    save_file({"weight": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(HemtraceError, match="is no model of hemtrace"):
        load_model(tmp_path / "plain.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "old.safetensors", metadata={"hemtrace": "{}"})
    with pytest.raises(HemtraceError, match="another version"):
        load_model(tmp_path / "old.safetensors")
    known = {path.stem: is_model(path) for path in tmp_path.iterdir()}
    assert known == {"junk": False, "plain": False, "old": True}


def test_a_truncated_model_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, create_net(SPEC), SPEC)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(HemtraceError, match="damaged"):
        load_model(path)


def test_a_model_with_other_tensors_than_it_says_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, create_net(SPEC), make_spec(architecture="resnet18"))
    with pytest.raises(HemtraceError, match="does not hold the tensors of the network"):
        load_model(path)
