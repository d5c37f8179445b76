import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, Net, create_net
from hemtrace.params import DEFAULT_WINDOWS, TrainParams
from hemtrace.train import Fit, fit, one_cycle

SPEC = ModelSpec(
    architecture="test_efficientnet",
    weights="",
    windows=DEFAULT_WINDOWS,
    size=32,
    synthetic=True,
    seed=0,
    train={},
    git_commit="",
    data_digest="",
)
PARAMS = TrainParams(
    architecture="test_efficientnet",
    weights="scratch",
    epochs=3,
    batch_size=16,
    learning_rate=1e-2,
    rotate_degrees=5,
    noise_hu=1,
)


class Held:
    """Labelled slices in memory that remember what was read."""

    def __init__(self, count: int, seed: int) -> None:
        chance = np.random.default_rng(seed)
        self.labels = np.zeros((count, 6), dtype=np.uint8)
        self.labels[:, 4] = self.labels[:, 5] = chance.random(count) < 0.4
        self.images = chance.integers(0, 120, (count, 3, 32, 32), dtype=np.uint8)
        self.images[self.labels[:, 5] == 1, :, 10:20, 10:20] += 120  # a bright square bleeds
        self.seen: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        self.seen += list(indices)
        return self.images[indices]


def train_tiny(params: TrainParams = PARAMS, seed: int = 7, val_seed: int = 2) -> Fit:
    net = create_net(SPEC, Held(90, 1).labels.mean(axis=0))
    return fit(SPEC, params, Held(90, 1), Held(30, val_seed), seed, net)


def same_weights(first: Net, second: Net) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


@pytest.fixture(scope="module")
def trained() -> Fit:
    return train_tiny()


def test_same_seed_gives_same_weights_bit_for_bit(trained: Fit) -> None:
    assert same_weights(train_tiny().net, trained.net)


def test_another_seed_gives_other_weights(trained: Fit) -> None:
    assert not same_weights(train_tiny(seed=8).net, trained.net)


def test_validation_slices_have_no_part_in_the_weights(trained: Fit) -> None:
    assert same_weights(train_tiny(val_seed=3).net, trained.net)


def test_it_learns_what_can_be_seen(trained: Fit) -> None:
    first, last = trained.history[0], trained.history[-1]
    assert last["train_loss"] < first["train_loss"]
    longer = train_tiny(PARAMS.model_copy(update={"epochs": 8}))
    assert longer.history[-1]["val_auc_any"] > 0.9


def test_history_has_a_row_an_epoch_and_its_own_figures(trained: Fit) -> None:
    assert [row["epoch"] for row in trained.history] == [1, 2, 3]
    assert set(trained.history[0]) == {
        "epoch", "learning_rate", "train_loss", "train_accuracy",
        "val_loss", "val_accuracy", "val_auc", *(f"val_auc_{label}" for label in LABELS), "seconds",
    }  # fmt: skip
    val = Held(30, 2)
    with torch.inference_mode():
        shown = trained.net(torch.from_numpy(val.images)).sigmoid().numpy()
    last = trained.history[-1]
    assert last["val_auc_any"] == pytest.approx(roc_auc_score(val.labels[:, 5], shown[:, 5]))
    assert last["val_accuracy"] == pytest.approx(((shown > 0.5) == val.labels).mean())


def test_labels_that_do_not_occur_give_none_and_no_crash() -> None:
    val = Held(20, 2)
    val.labels[:] = 0
    result = fit(SPEC, PARAMS, Held(40, 1), val, 1, create_net(SPEC))
    assert result.history[-1]["val_auc"] is None
    assert result.history[-1]["val_auc_any"] is None
    assert result.history[-1]["val_loss"] is not None


@pytest.mark.parametrize("count", [90, 16, 5, 17])
def test_every_slice_is_read_once_an_epoch(count: int) -> None:
    train = Held(count, 1)
    params = PARAMS.model_copy(update={"epochs": 2})
    fit(SPEC, params, train, Held(10, 2), 1, create_net(SPEC))
    assert sorted(train.seen) == sorted(list(range(count)) * 2)
    assert train.seen[:count] != train.seen[count:]


def test_rows_are_told_as_they_come() -> None:
    told: list[dict[str, float | None]] = []
    result = fit(SPEC, PARAMS, Held(40, 1), Held(10, 2), 1, create_net(SPEC), told.append)
    assert told == result.history


def test_a_loss_that_is_no_number_ends_in_a_sentence() -> None:
    net = copy.deepcopy(create_net(SPEC))
    torch.nn.init.constant_(net.backbone.get_classifier().weight, float("nan"))
    with pytest.raises(HemtraceError, match=r"loss is nan at step 1 .* Lower train.learning_rate"):
        fit(SPEC, PARAMS, Held(40, 1), Held(10, 2), 1, net)


def test_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    params = PARAMS.model_copy(update={"learning_rate": 1.0, "warmup_share": 0.25})
    rates = [one_cycle(step / 100, params) for step in range(101)]
    assert rates[0] == 0.01
    assert max(rates) == rates[25] == 1.0
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[100] == pytest.approx(0)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_learning_rate_can_go_without_rise_or_fall(warmup: float) -> None:
    params = PARAMS.model_copy(update={"learning_rate": 1.0, "warmup_share": warmup})
    assert all(0 < one_cycle(step / 10, params) <= 1 for step in range(10))
