"""A model that is ready to predict says what torch and pytorch-grad-cam say."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from held import SPEC, TINY

from hemtrace.engine import Engine, by_openvino, by_torch, open_engine
from hemtrace.engine.cache import cache_folder
from hemtrace.errors import HemtraceError
from hemtrace.explain.heat import find_target_layer, gradient_cams
from hemtrace.inference import predict_probabilities
from hemtrace.labels import LABELS
from hemtrace.model import (
    Ensemble,
    ModelSpec,
    Net,
    create_net,
    list_members,
    load_model,
    save_model,
)
from hemtrace.model.heads import fit_forest
from hemtrace.params import NetworkParams

EVERY = list(range(len(LABELS)))
CELLS = 2
pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")


def make_spec(size: int = 64, shift: tuple[float, ...] = (), **network: object) -> ModelSpec:
    params = NetworkParams(**({"architecture": TINY} | network))  # type: ignore[arg-type]
    return SPEC.model_copy(update={"network": params, "size": size, "shift": shift})


def make_pictures(spec: ModelSpec, count: int, seed: int = 5) -> np.ndarray:
    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 256, (count, spec.channels, 8, 8), dtype=np.uint8)
    return coarse.repeat(spec.size // 8, axis=2).repeat(spec.size // 8, axis=3)


def make_net(spec: ModelSpec, seed: int = 0) -> Net:
    """A network whose answers differ from slice to slice, as those of a trained one do."""
    net = create_net(spec.model_copy(update={"seed": seed}))
    torch.manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.5
        net.train()(torch.from_numpy(make_pictures(spec, 16)))
        net.eval()
        features = net.pooled(torch.from_numpy(make_pictures(spec, 16)))
        torch.nn.init.normal_(net.classifier.weight)
        logits = features @ net.classifier.weight.T
        net.classifier.weight /= logits.std(0)[:, None]
        net.classifier.bias.copy_(-(features @ net.classifier.weight.T).mean(0))
    return net


def save(folder: Path, spec: ModelSpec, *nets: Net) -> Path:
    path = folder / "model.safetensors"
    net = nets[0] if len(nets) == 1 else Ensemble(list(nets))
    save_model(path, net, spec.model_copy(update={"members": len(nets)}))
    return path


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache folder of these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield cache_folder()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with heat maps in closed form."""
    spec = make_spec()
    return save(tmp_path_factory.mktemp("model"), spec, make_net(spec))


def library_maps(net: Net, pictures: np.ndarray) -> np.ndarray:
    """What pytorch-grad-cam makes of the network itself, without head and shift."""
    net.head, net.shift = None, ()
    layer, _ = find_target_layer(net, torch.from_numpy(pictures[:1]), CELLS)
    return gradient_cams(net, layer, pictures, EVERY)


KINDS = {
    "one network": make_spec(),
    "dilated": make_spec(output_stride=16),
    "shift": make_spec(shift=(0.4, -0.2, 0.1, 0.3, -0.5, 0.8)),
    "neighbours": make_spec(context="neighbours"),
    "both": make_spec(context="both"),
    "windows": make_spec(branches="windows"),
    "halves": make_spec(branches="halves", context="neighbours"),
    "scaled": make_spec(input_size=48),
    "resnet": make_spec(architecture="test_resnet"),
    "vit": make_spec(160, architecture="test_vit"),
    "convnext": make_spec(architecture="test_convnext"),
    "alexnet": make_spec(96, architecture="alexnet"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_openvino_says_what_torch_and_the_library_say(tmp_path: Path, kind: str) -> None:
    spec = KINDS[kind]
    net = make_net(spec)
    engine = open_engine(save(tmp_path, spec, net), "openvino", threads=1, fewest_cells=CELLS)
    pictures = make_pictures(spec, 11, seed=7)  # more than go through at once
    told = engine.run(pictures)

    wanted = predict_probabilities(net, pictures, quiet=True)
    assert np.ptp(wanted, axis=0).min() > 0.01  # or equal answers would say nothing
    np.testing.assert_allclose(told.probabilities, wanted, rtol=0, atol=1e-4)
    with torch.inference_mode():
        features = net.pooled(torch.from_numpy(pictures)).numpy()
    assert told.features is not None
    np.testing.assert_allclose(told.features, features, rtol=0, atol=1e-4 * np.abs(features).max())
    assert engine.runtime.startswith("OpenVINO ")
    assert engine.fallback is None
    assert engine.has_cells == (told.cells is not None)
    if told.cells is not None:
        judge = library_maps(net, pictures)
        np.testing.assert_allclose(told.cells, judge, rtol=0, atol=1e-4 * np.abs(judge).max())


def test_kinds_with_and_without_a_closed_form_are_among_those_tried(tmp_path: Path) -> None:
    for kind, closed in (("halves", True), ("convnext", False)):
        spec = KINDS[kind]
        path = save(tmp_path, spec, make_net(spec))
        assert open_engine(path, "torch", fewest_cells=CELLS).has_cells == closed, kind


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_an_ensemble_gives_the_mean_of_its_networks(tmp_path: Path, runtime: str) -> None:
    spec = make_spec(shift=(0.4, -0.2, 0.1, 0.3, -0.5, 0.8))
    nets = [make_net(spec, seed) for seed in range(3)]
    engine = open_engine(save(tmp_path, spec, *nets), runtime, fewest_cells=CELLS)
    pictures = make_pictures(spec, 3, seed=7)
    told = engine.run(pictures)
    ones = [predict_probabilities(net, pictures, quiet=True) for net in nets]
    np.testing.assert_allclose(told.probabilities, np.mean(ones, axis=0), rtol=0, atol=1e-4)
    mean = np.zeros((3, 6, 2, 2))
    for net in nets:
        cells = library_maps(net, pictures).clip(min=0)
        cells -= cells.min(axis=(2, 3), keepdims=True)
        mean += cells / np.maximum(cells.max(axis=(2, 3), keepdims=True), 1e-12) / len(nets)
    assert told.cells is not None
    np.testing.assert_allclose(told.cells, mean, rtol=0, atol=1e-4)
    np.testing.assert_allclose(engine.heat(pictures, [5, 0]), mean[:, [5, 0]], rtol=0, atol=1e-4)


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_maps_that_take_gradients_are_made_when_asked_for(tmp_path: Path, runtime: str) -> None:
    spec = make_spec(32)  # its last map has one cell
    nets = [make_net(spec, seed) for seed in range(2)]
    engine = open_engine(save(tmp_path, spec, nets[0]), runtime, fewest_cells=CELLS)
    pictures = make_pictures(spec, 9)
    assert not engine.has_cells
    assert engine.run(pictures).cells is None
    judge = library_maps(nets[0], pictures)
    np.testing.assert_allclose(engine.heat(pictures, [5, 2]), judge[:, [5, 2]], atol=1e-6)
    assert engine.heat(pictures[:0], [5]).shape == (0, 1, 2, 2)

    save(tmp_path, spec, nets[1])
    replaced = open_engine(tmp_path / "model.safetensors", runtime, fewest_cells=CELLS)
    save(tmp_path, spec, nets[0])
    with pytest.raises(HemtraceError, match="was replaced"):
        replaced.heat(pictures, [5])


def test_the_parts_are_those_of_the_whole(model: Path) -> None:
    for runtime in ("openvino", "torch"):
        engine = open_engine(model, runtime, fewest_cells=CELLS)
        pictures = make_pictures(engine.spec, 20)
        whole = engine.run(pictures)
        assert len(whole) == 20
        assert whole.probabilities.dtype == np.float64
        assert len(engine.run(pictures[:0])) == 0
        part = whole.part(9, 10)
        alone = engine.run(pictures[9:10])
        np.testing.assert_allclose(part.probabilities, alone.probabilities, atol=1e-5)
        assert part.cells is not None
        assert alone.cells is not None
        np.testing.assert_allclose(part.cells, alone.cells, atol=1e-5 * np.abs(alone.cells).max())


def test_a_forest_is_left_to_torch(tmp_path: Path) -> None:
    spec = make_spec(classifier="forest")
    net = make_net(spec)
    pictures = make_pictures(spec, 40)
    with torch.inference_mode():
        features = net.pooled(torch.from_numpy(pictures)).numpy()
    labels = (np.random.default_rng(0).random((40, 6)) < 0.4).astype(np.uint8)
    net.head = fit_forest(features, labels, 0).eval()
    path = save(tmp_path, spec, net)
    engine = open_engine(path, fewest_cells=CELLS)
    assert engine.runtime.startswith("torch ")
    assert engine.fallback is not None
    assert "random forest" in engine.fallback
    told = engine.run(pictures)
    np.testing.assert_allclose(
        told.probabilities, predict_probabilities(net, pictures, quiet=True), atol=1e-6
    )
    assert told.cells is not None
    judge = library_maps(net, pictures)
    np.testing.assert_allclose(told.cells, judge, atol=1e-4 * np.abs(judge).max())
    with pytest.raises(HemtraceError, match="Run it with --runtime torch"):
        open_engine(path, "openvino", fewest_cells=CELLS)


def test_a_second_start_takes_the_export_from_the_cache(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_engine(model, fewest_cells=CELLS)
    monkeypatch.setattr(by_openvino, "export", lambda *_: pytest.fail("exported again"))
    second = open_engine(model, fewest_cells=CELLS)
    pictures = make_pictures(first.spec, 5)
    np.testing.assert_array_equal(
        first.run(pictures).probabilities, second.run(pictures).probabilities
    )


@pytest.mark.parametrize("damage", ["cut", "other weights", "no judge", "gone"])
def test_a_damaged_export_is_made_again(model: Path, cache: Path, damage: str) -> None:
    first = open_engine(model, fewest_cells=CELLS)
    (folder,) = (one for one in cache.iterdir() if one.stat().st_mtime == newest(cache))
    weights = folder / "graph.bin"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif damage == "other weights":
        weights.write_bytes(weights.read_bytes()[::-1])
    elif damage == "no judge":
        (folder / "judge.npz").write_bytes(b"not an archive")
    else:
        (folder / "graph.xml").unlink()
    again = open_engine(model, "openvino", fewest_cells=CELLS)
    pictures = make_pictures(first.spec, 5)
    np.testing.assert_array_equal(
        again.run(pictures).probabilities, first.run(pictures).probabilities
    )
    assert weights.stat().st_size > 5000
    assert not list(cache.glob("part-*"))


def newest(cache: Path) -> float:
    return max(one.stat().st_mtime for one in cache.iterdir())


def test_only_the_exports_used_last_are_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number in range(9):
        (cache_folder() / f"old{number}").mkdir(parents=True)
        os.utime(cache_folder() / f"old{number}", (number, number))
    open_engine(model, fewest_cells=CELLS)
    kept = {path.name for path in cache_folder().iterdir()}
    assert {name for name in kept if name.startswith("old")} == {f"old{k}" for k in range(4, 9)}
    assert len(kept) == 6


def test_a_cache_that_cannot_be_written_is_done_without(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    engine = open_engine(model, fewest_cells=CELLS)
    assert engine.fallback is None
    assert len(engine.run(make_pictures(engine.spec, 2))) == 2


def test_torch_runs_what_openvino_cannot(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def lack() -> None:
        raise ImportError("No module named 'openvino'")

    with monkeypatch.context() as patch:
        patch.setattr(by_openvino, "import_openvino", lack)
        engine = open_engine(model, fewest_cells=CELLS)
        assert engine.fallback == (
            "OpenVINO cannot be used: No module named 'openvino'. So torch runs the model, more "
            "slowly."
        )
        with pytest.raises(HemtraceError, match="OpenVINO cannot be used"):
            open_engine(model, "openvino")

    # As if its answers were others: those of torch are moved.
    whole = by_openvino.export

    def move(*given: object) -> object:
        exported = whole(*given)  # type: ignore[arg-type]
        exported.judge["cells"] = exported.judge["cells"] + 1e-2 * exported.judge["cells"].max()
        return exported

    monkeypatch.setattr(by_openvino, "export", move)
    engine = open_engine(model, fewest_cells=CELLS)
    assert engine.fallback is not None
    assert "does not give torch's cells" in engine.fallback
    assert isinstance(engine, by_torch.TorchEngine)
    assert not list(cache_folder().iterdir())


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_several_threads_may_ask_at_once(model: Path, runtime: str) -> None:
    engine = open_engine(model, runtime, fewest_cells=CELLS)
    asked = [make_pictures(engine.spec, 1 + seed % 3, seed) for seed in range(24)]
    alone = [engine.run(pictures) for pictures in asked]
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(engine.run, asked))
    for one, other in zip(alone, told, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=0, atol=1e-9)


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_other_pictures_are_refused_in_a_sentence(model: Path, runtime: str) -> None:
    engine: Engine = open_engine(model, runtime, fewest_cells=CELLS)
    for wrong in (
        np.zeros((2, 3, 32, 32), np.uint8),
        np.zeros((2, 3, 64, 64), np.float32),
        np.zeros((3, 64, 64), np.uint8),
    ):
        with pytest.raises(HemtraceError, match=r"uint8 pictures \(N, 3, 64, 64\)"):
            engine.run(wrong)
    with pytest.raises(ValueError, match="places"):
        engine.heat(make_pictures(engine.spec, 1), [6])


def test_what_is_no_model_is_told(model: Path, tmp_path: Path) -> None:
    with pytest.raises(HemtraceError, match="choose from auto, openvino, torch"):
        open_engine(model, "tensorrt")
    with pytest.raises(HemtraceError, match="0 threads"):
        open_engine(model, threads=0)
    with pytest.raises(HemtraceError, match="not found"):
        open_engine(tmp_path / "absent")
    (tmp_path / "text").write_text("no model")
    with pytest.raises(HemtraceError, match="damaged"):
        open_engine(tmp_path / "text")
    net, spec = load_model(model)
    other = spec.model_copy(update={"network": NetworkParams(architecture="test_resnet")})
    save_model(tmp_path / "other", list_members(net)[0], other)
    with pytest.raises(HemtraceError, match="does not hold the tensors"):
        open_engine(tmp_path / "other")


WATCH = """
import sys, threading
def watch(event, given):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("SOCKET", event)
        raise OSError("no network in this test")
sys.addaudithook(watch)
"""
OPEN = """
from pathlib import Path
from hemtrace.engine import open_engine
print(open_engine(Path(sys.argv[1]), "openvino", fewest_cells=2).runtime)
print([name for name in sys.modules if name.startswith("openvino_telemetry.")])
"""


def run_watched(code: str, home: Path, *given: str) -> str:
    home.mkdir(exist_ok=True)
    # Some names of CI services keep the telemetry quiet by themselves.
    environment = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    environment |= {"HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WATCH + code, *given],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_no_socket_is_opened_and_nothing_is_left_in_the_home_folder(
    model: Path, tmp_path: Path
) -> None:
    for _ in range(2):  # an export, and a start from the cache
        told = run_watched(OPEN, tmp_path / "home", str(model))
        assert "OpenVINO" in told
        assert "SOCKET" not in told
        assert told.endswith("[]\n")
    # `import openvino` alone leaves a folder `intel` with a client's id there.
    assert {path.name for path in (tmp_path / "home").iterdir()} <= {".cache", ".config"}


def test_openvino_with_its_telemetry_is_not_used() -> None:
    code = (
        "import sys, openvino.tools.ovc.telemetry_utils as t, types\n"
        "t.tm = types.ModuleType('openvino_telemetry')\n"
        "from hemtrace.engine.vino import import_openvino\n"
        "try: import_openvino()\n"
        "except ImportError as error: print(error)\n"
    )
    guard = "import sys\nsys.modules['openvino_telemetry'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", guard + code], capture_output=True, text=True, check=True
    )
    assert "reports its use" in done.stdout


def test_threads_are_as_told(model: Path) -> None:
    before = torch.get_num_threads()
    try:
        open_engine(model, "torch", threads=1, fewest_cells=CELLS)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert threading.active_count() < 50


SIGNALLED = """
import gc, os, signal, sys, threading
from pathlib import Path
from hemtrace.engine import open_engine
held = [open_engine(Path(sys.argv[1]), "openvino", fewest_cells=2)]
def drop():
    held.clear()
    gc.collect()
thread = threading.Thread(target=drop)
thread.start()
thread.join()
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
os.kill(os.getpid(), signal.SIGTERM)
assert told.wait(10)
print("alive")
"""


def test_a_signal_is_met_after_the_model_was_dropped_by_another_thread(model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(model)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
