"""train: what the loop makes of slices, and that it makes the same again."""

import copy
import os
import re
import signal
import threading
import time
from dataclasses import fields

import numpy as np
import pytest
import torch
from held import PARAMS, SPEC, hold, same_weights
from mypy import api as mypy
from sklearn.metrics import roc_auc_score

from hemtrace.errors import HemtraceError, StoppedError
from hemtrace.labels import LABELS
from hemtrace.model import Net, create_net
from hemtrace.params import TrainParams
from hemtrace.shards import TestSlices, TrainSlices, ValSlices
from hemtrace.train.checkpoint import load_checkpoint
from hemtrace.train.loop import Fit, fit
from hemtrace.train.sampler import prevalence_shift, shown_prevalence, slice_chances


def new_net() -> Net:
    return create_net(SPEC, hold(TrainSlices, 90, 1).labels.mean(axis=0))


def train_tiny(params: TrainParams = PARAMS, seed: int = 7, val_seed: int = 2, **more) -> Fit:
    slices = hold(TrainSlices, 90, 1), hold(ValSlices, 30, val_seed)
    return fit(SPEC, params, *slices, seed, new_net(), **more)


def changed(**update: object) -> TrainParams:
    return PARAMS.model_copy(update=update)


@pytest.fixture(scope="module")
def trained() -> Fit:
    return train_tiny()


def test_same_seed_gives_same_weights_bit_for_bit(trained: Fit) -> None:
    assert same_weights(train_tiny().net, trained.net)


def test_another_seed_gives_other_weights(trained: Fit) -> None:
    assert not same_weights(train_tiny(seed=8).net, trained.net)


def test_validation_slices_have_no_part_in_the_weights(trained: Fit) -> None:
    assert same_weights(train_tiny(val_seed=3).net, trained.net)


def test_test_slices_are_refused_by_the_types_and_at_run_time(tmp_path) -> None:
    train, val, test = (hold(kind, 30, 1) for kind in (TrainSlices, ValSlices, TestSlices))
    for pair in ((test, val), (train, test), (val, train)):
        with pytest.raises(TypeError, match="TrainSlices and ValSlices"):
            fit(SPEC, PARAMS, *pair, 1, new_net())
    program = (
        "from hemtrace.model import ModelSpec, Net\n"
        "from hemtrace.params import TrainParams\n"
        "from hemtrace.shards import TestSlices, TrainSlices, ValSlices\n"
        "from hemtrace.train.loop import fit\n"
        "def go(s: ModelSpec, p: TrainParams, a: TrainSlices, b: ValSlices, c: TestSlices, n: Net)"
        " -> None:\n"
        "    fit(s, p, a, b, 1, n)\n    fit(s, p, a, c, 1, n)\n    fit(s, p, c, b, 1, n)\n"
    )
    (tmp_path / "program.py").write_text(program)
    found, _, _ = mypy.run([str(tmp_path / "program.py"), "--config-file", "pyproject.toml"])
    wrong = re.findall(r"program\.py:(\d+): error: .*\"TestSlices\"; expected", found)
    assert wrong == ["7", "8"], found


def test_it_learns_what_can_be_seen(trained: Fit) -> None:
    first, last = trained.history[0], trained.history[-1]
    assert last["train_loss"] < first["train_loss"]
    assert train_tiny(changed(epochs=8)).history[-1]["val_auc_any"] > 0.9


@pytest.mark.parametrize(
    "update",
    [
        {"optimizer": "lamb", "schedule": "poly"},
        {"ema": 0.9},
        {"sampling": "classes", "loss": "focal"},
        {"precision": "bf16"},
        {"label_smoothing": 0.05, "schedule": "constant", "learning_rate": 3e-3},
    ],
    ids=str,
)
def test_every_way_of_training_learns(update: dict[str, object]) -> None:
    assert train_tiny(changed(epochs=6).model_copy(update=update)).history[-1]["val_auc_any"] > 0.9


def test_parts_of_a_step_give_the_gradient_of_the_whole() -> None:
    """With batch norms the parts see other statistics: a network without any is compared."""
    spec = SPEC.model_copy(
        update={"network": SPEC.network.model_copy(update={"architecture": "test_convnext"})}
    )
    nets = []
    for accumulate in (1, 4):
        params = changed(epochs=1, accumulate=accumulate, learning_rate=1e-3)
        slices = hold(TrainSlices, 90, 1), hold(ValSlices, 30, 2)
        nets.append(fit(spec, params, *slices, 7, create_net(spec)).net)
    for first, second in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(first, second, atol=2e-4, rtol=1e-3)


def test_history_has_a_row_an_epoch_and_its_own_figures(trained: Fit) -> None:
    assert [row["epoch"] for row in trained.history] == [1, 2, 3]
    assert set(trained.history[0]) == {
        "epoch", "learning_rate", "train_loss", "train_accuracy",
        "val_loss", "val_accuracy", "val_auc", *(f"val_auc_{label}" for label in LABELS), "seconds",
    }  # fmt: skip
    val = hold(ValSlices, 30, 2)
    with torch.inference_mode():
        shown = trained.net(torch.from_numpy(val.read(range(30)))).sigmoid().numpy()
    last = trained.history[-1]
    assert last["val_auc_any"] == pytest.approx(roc_auc_score(val.labels[:, 5], shown[:, 5]))
    assert last["val_accuracy"] == pytest.approx(((shown > 0.5) == val.labels).mean())


def test_labels_that_do_not_occur_give_none_and_no_crash() -> None:
    val = hold(ValSlices, 20, 2)
    val.labels[:] = 0
    result = fit(SPEC, PARAMS, hold(TrainSlices, 40, 1), val, 1, new_net())
    assert result.history[-1]["val_auc"] is None
    assert result.history[-1]["val_auc_any"] is None
    assert result.history[-1]["val_loss"] is not None


@pytest.mark.parametrize("count", [90, 16, 5, 17])
def test_every_slice_is_read_once_an_epoch(count: int) -> None:
    seen: list[int] = []
    params = changed(epochs=2)
    fit(SPEC, params, hold(TrainSlices, count, 1, seen), hold(ValSlices, 10, 2), 1, new_net())
    assert sorted(seen) == sorted(list(range(count)) * 2)
    assert seen[:count] != seen[count:]


class Told:
    """A record that keeps what it is told."""

    def __init__(self) -> None:
        self.run_id = "the run"
        self.rows: list[object] = []

    def log_step(self, row, step) -> None:
        pass

    def log_epoch(self, row) -> None:
        self.rows.append(row)


def test_rows_are_told_as_they_come() -> None:
    record = Told()
    result = train_tiny(record=record)
    assert record.rows == result.history


@pytest.mark.parametrize("sampling", ["positives", "classes"])
def test_probabilities_are_those_of_the_natural_prevalence(sampling: str) -> None:
    """Noise alone, of which 6 % are positive: a network that learned nothing must say 6 %."""
    train, val = hold(TrainSlices, 600, 1), hold(ValSlices, 50, 2)
    train.labels[:] = 0
    train.labels[:36, 4:] = 1
    noise = np.random.default_rng(0).integers(0, 255, (600, 3, 32, 32), dtype=np.uint8)
    blind = TrainSlices(
        **{f.name: getattr(train, f.name) for f in fields(train)}
        | {"read_places": lambda i: noise[i]}
    )
    params = changed(epochs=2, sampling=sampling, positive_share=0.6, learning_rate=1e-4)
    chances = slice_chances(train.labels, params)
    spec = SPEC.model_copy(update={"shift": prevalence_shift(train.labels, chances)})
    net = create_net(spec, shown_prevalence(train.labels, chances))
    result = fit(spec, params, blind, val, 1, net)
    with torch.inference_mode():
        shown = result.net(torch.from_numpy(noise[100:400])).sigmoid().mean(dim=0)
    assert shown[5].item() == pytest.approx(0.06, abs=0.02)


def test_the_best_epoch_is_kept_beside_the_last(tmp_path) -> None:
    params = changed(learning_rate=0.03, epochs=5)
    last, best = (
        train_tiny(params),
        train_tiny(changed(learning_rate=0.03, epochs=5, select="best")),
    )
    losses = [row["val_loss"] for row in last.history]
    assert losses.index(min(losses)) + 1 == last.best_epoch == best.best_epoch < 5
    for name, tensor in best.net.state_dict().items():
        assert torch.equal(tensor, last.other[name])
    for name, tensor in last.net.state_dict().items():
        assert torch.equal(tensor, best.other[name])
    val = hold(ValSlices, 30, 2)
    with torch.inference_mode():
        shown = best.net(torch.from_numpy(val.read(range(30)))).sigmoid().numpy()
    assert ((shown > 0.5) == val.labels).mean() == pytest.approx(
        best.history[best.best_epoch - 1]["val_accuracy"]
    )


def test_it_stops_when_the_validation_loss_no_longer_falls() -> None:
    result = train_tiny(changed(learning_rate=0.03, epochs=20, patience=2))
    assert len(result.history) == result.best_epoch + 2 < 20


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("at_step", [1, 5, 6, 11, 15])
def test_a_training_goes_on_from_any_step_as_if_nothing_had_been(tmp_path, ema, at_step) -> None:
    params = changed(ema=ema, checkpoint_minutes=1e-9, sampling="positives", dropout=0.2)
    whole = train_tiny(params)
    seen = 0

    train = hold(TrainSlices, 90, 1)

    def read(indices: np.ndarray) -> np.ndarray:
        nonlocal seen
        seen += 1
        if seen > at_step + 2:  # two batches are read ahead
            raise KilledError
        return train.read_places(indices)

    killed = TrainSlices(train.slices, train.patients, train.labels, train.squares, read)
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KilledError):
        fit(SPEC, params, killed, hold(ValSlices, 30, 2), 7, new_net(), checkpoint)
    resumed = load_checkpoint(checkpoint, SPEC)
    assert resumed is not None
    assert 0 < resumed[0].step <= at_step + 2
    again = train_tiny(params, checkpoint=checkpoint, resumed=resumed)
    assert same_weights(again.net, whole.net)
    for first, second in zip(again.history, whole.history, strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_a_training_killed_while_it_validates_goes_on_too(tmp_path, trained: Fit) -> None:
    params = changed(checkpoint_minutes=1e-9)
    val = hold(ValSlices, 30, 2)

    def fail(indices: np.ndarray) -> np.ndarray:
        raise KilledError

    killed = ValSlices(val.slices, val.patients, val.labels, val.squares, fail)
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KilledError):
        fit(SPEC, params, hold(TrainSlices, 90, 1), killed, 7, new_net(), checkpoint)
    again = train_tiny(params, checkpoint=checkpoint, resumed=load_checkpoint(checkpoint, SPEC))
    assert same_weights(again.net, trained.net)
    assert [row["epoch"] for row in again.history] == [1, 2, 3]


def test_sigterm_ends_in_a_checkpoint_and_a_sentence(tmp_path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    params = changed(epochs=200)

    def terminate() -> None:
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=terminate).start()
    with pytest.raises(StoppedError, match=r"told to stop at step .* run again"):
        train_tiny(params, checkpoint=checkpoint)
    assert load_checkpoint(checkpoint, SPEC)[0].step > 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_loss_that_is_no_number_ends_in_a_sentence_with_the_batch_kept(tmp_path) -> None:
    net = copy.deepcopy(new_net())
    torch.nn.init.constant_(net.classifier.weight, float("nan"))
    seen: list[int] = []
    train = hold(TrainSlices, 40, 1, seen)
    sentence = r"loss of step 1 is no finite .* Lower train.learning_rate .*diverged_step1_process0"
    with pytest.raises(HemtraceError, match=sentence):
        fit(SPEC, PARAMS, train, hold(ValSlices, 10, 2), 1, net, tmp_path / "checkpoint.pt")
    kept = np.load(tmp_path / "diverged_step1_process0.npz")
    np.testing.assert_array_equal(kept["images"], train.read(seen[: len(kept["images"])]))
    np.testing.assert_array_equal(kept["labels"], train.labels[seen[: len(kept["images"])]])


def test_a_gradient_that_is_no_number_never_reaches_the_weights() -> None:
    net = new_net()
    before = net.classifier.weight.detach().clone()
    net.classifier.weight.register_hook(lambda gradient: gradient * float("inf"))
    slices = hold(TrainSlices, 40, 1), hold(ValSlices, 10, 2)
    with pytest.raises(HemtraceError, match="gradient of step 1 is no finite number"):
        fit(SPEC, PARAMS, *slices, 1, net)
    assert torch.equal(net.classifier.weight, before)


def test_memory_that_runs_out_ends_in_the_batch_that_would_fit(monkeypatch) -> None:
    """A network that refuses more than 5 slices, as a small GPU does."""
    net = new_net()
    forward = net.backbone.forward

    def refuse(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return forward(images)

    monkeypatch.setattr(net.backbone, "forward", refuse)
    slices = hold(TrainSlices, 64, 1), hold(ValSlices, 10, 2)
    sentence = (
        r"16 slices of 32 x 32 pixels do not fit on cpu, 4 do. Set train.accumulate: 4 .* 4\."
    )
    with pytest.raises(HemtraceError, match=sentence):
        fit(SPEC, PARAMS, *slices, 1, net)


def test_a_gpu_that_is_asked_for_and_absent_is_told(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HemtraceError, match=r"train.device: cuda, but torch sees no GPU"):
        train_tiny(changed(device="cuda"))


def test_an_optimizer_that_timm_does_not_know_is_told() -> None:
    with pytest.raises(HemtraceError, match=r"timm knows no 'adamww'; it knows .*adamw"):
        train_tiny(changed(optimizer="adamww"))
