import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from hemtrace.loss import weighted_log_loss


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
