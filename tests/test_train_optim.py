import numpy as np
import pytest
import torch

from hemtrace.params import OptimizerParams, RunParams
from hemtrace.train.optim import choose_precision, create_optimizer, create_schedule


def rates(steps: int = 101, **params: object) -> list[float]:
    given = OptimizerParams(learning_rate=1.0, **params)
    optimizer = create_optimizer(torch.nn.Linear(2, 2), given)
    schedule = create_schedule(optimizer, given, steps)
    found = []
    for step in range(steps):
        schedule.step_update(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    found = rates(100, warmup_share=0.25)
    assert found[0] == pytest.approx(0.01)
    assert max(found) == pytest.approx(found[25]) == pytest.approx(1.0)
    assert found[:26] == sorted(found[:26])
    assert found[25:] == sorted(found[25:], reverse=True)
    assert found[-1] < 0.001


def test_the_fall_is_half_a_cosine() -> None:
    found = rates(200, warmup_share=0.0)
    expected = (1 + np.cos(np.pi * np.arange(200) / 200)) / 2
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_poly_is_a_straight_line_and_constant_stays() -> None:
    np.testing.assert_allclose(
        rates(100, warmup_share=0, schedule="poly"), 1 - np.arange(100) / 100, atol=1e-9
    )
    constant = rates(100, warmup_share=0.1, schedule="constant")
    assert constant[:10] == sorted(constant[:10])
    assert set(constant[10:]) == {1.0}


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_the_rate_stays_in_range_whatever_the_warm_up(warmup: float, steps: int) -> None:
    assert all(0 < rate <= 1 for rate in rates(steps, warmup_share=warmup))


def test_weight_decay_pulls_at_weights_alone() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = create_optimizer(net, OptimizerParams(weight_decay=0.3))
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert decays[id(net[0].weight)] == 0.3
    assert {decays[id(p)] for p in (net[0].bias, net[1].weight, net[1].bias)} == {0.0}


def test_a_cpu_never_gets_bf16_unless_asked() -> None:
    cpu = torch.device("cpu")
    assert choose_precision(RunParams(), cpu) is None
    assert choose_precision(RunParams(precision="bf16"), cpu) is torch.bfloat16
    assert choose_precision(RunParams(precision="fp32"), torch.device("cuda")) is None
