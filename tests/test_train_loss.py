import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torchvision.ops import sigmoid_focal_loss

from hemtrace.params import LossParams
from hemtrace.train.loss import slice_losses, weighted_log_loss


def test_weighted_log_loss_is_that_of_scikit_learn_by_label() -> None:
    chance = np.random.default_rng(0)
    labels = (chance.random((50, 6)) < 0.3).astype(np.uint8)
    logits = chance.normal(size=(50, 6)) * 3
    probabilities = 1 / (1 + np.exp(-logits))
    by_label = [log_loss(labels[:, k], probabilities[:, k], labels=[0, 1]) for k in range(6)]
    expected = (sum(by_label[:5]) + 2 * by_label[5]) / 7
    given = weighted_log_loss(torch.from_numpy(logits), torch.from_numpy(labels))
    assert given.item() == pytest.approx(expected, abs=1e-6)


def test_the_entropy_of_the_rsna_set_is_what_teams_quote() -> None:
    # FACTS, section 3: 0.232 for constant prevalence (section 1 has those of stage 1)
    prevalence = np.array([0.0041, 0.0483, 0.0352, 0.0476, 0.0630, 0.1440])
    count = 10_000
    labels = np.arange(count)[:, None] < prevalence * count
    logits = torch.from_numpy(np.tile(np.log(prevalence / (1 - prevalence)), (count, 1)))
    loss = weighted_log_loss(logits, torch.from_numpy(labels))
    assert loss.item() == pytest.approx(0.232, abs=0.002)


def test_any_counts_twice() -> None:
    sure = torch.full((1, 6), -20.0)
    missed_any, missed_subdural = torch.zeros(2, 1, 6)
    missed_any[0, 5] = 1
    missed_subdural[0, 4] = 1
    any_loss = weighted_log_loss(sure, missed_any).item()
    assert any_loss == 2 * weighted_log_loss(sure, missed_subdural).item()


def test_confident_errors_stay_finite() -> None:
    loss = weighted_log_loss(torch.full((1, 6), 500.0), torch.zeros(1, 6))
    assert loss.item() == pytest.approx(500)


def some_logits_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(2)
    logits = torch.randn(40, 6, generator=chance) * 3
    return logits, (torch.rand(40, 6, generator=chance) < 0.3).to(torch.uint8)


def test_focal_loss_is_that_of_torchvision_without_its_alpha() -> None:
    logits, labels = some_logits_and_labels()
    each = sigmoid_focal_loss(logits, labels.float(), alpha=-1, gamma=1.5)
    expected = each @ torch.tensor([1.0, 1, 1, 1, 1, 2]) / 7
    given = slice_losses(logits, labels, LossParams(loss="focal", focal_gamma=1.5))
    torch.testing.assert_close(given, expected)


def test_focal_loss_of_gamma_0_is_the_log_loss() -> None:
    logits, labels = some_logits_and_labels()
    focal = slice_losses(logits, labels, LossParams(loss="focal", focal_gamma=0))
    torch.testing.assert_close(focal, slice_losses(logits, labels, LossParams()))


def test_smoothed_labels_are_best_met_between_them_and_a_half() -> None:
    params = LossParams(label_smoothing=0.1)
    chances = torch.linspace(0.01, 0.99, 99)
    logits = torch.logit(chances)[:, None].expand(-1, 6)
    losses = slice_losses(logits, torch.ones(99, 6), params)
    assert chances[losses.argmin()].item() == pytest.approx(0.9)
