"""What a system is, and what its network costs: parameters, operations and time for a slice."""

import time
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hemtrace.model import Ensemble, ModelSpec, Net

_BATCH = 16


def describe_system(net: Net | Ensemble, spec: ModelSpec) -> dict[str, Any]:
    """Say what a system is and costs, its speed measured on the machine at hand."""
    network = spec.network
    return {
        "architecture": network.architecture,
        "branches": network.branches,
        "context": network.context,
        "classifier": network.classifier,
        "members": spec.members,
        "weights": spec.weights,
        "input_size": network.input_size or spec.size,
        "epochs": spec.train.get("epochs"),
        "parameters": count_parameters(net),
        "macs": count_macs(net, spec),
        "slices_per_second": measure_speed(net, spec),
    }


def count_parameters(net: nn.Module) -> int:
    """Count the weights."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net: Net | Ensemble, spec: ModelSpec) -> int:
    """Count the multiply-accumulate operations of convolutions and matrices for one slice."""
    images = torch.zeros((1, spec.channels, spec.size, spec.size), dtype=torch.uint8)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net.cpu().eval()(images)
    return int(counter.get_total_flops()) // 2  # a multiplication and an addition are two


def measure_speed(net: Net | Ensemble, spec: ModelSpec, seconds: float = 2.0) -> float:
    """Measure slices a second of the network alone, on the CPU, after a first pass to warm up."""
    images = torch.zeros((_BATCH, spec.channels, spec.size, spec.size), dtype=torch.uint8)
    net.cpu().eval()
    with torch.inference_mode():
        net(images)
        passes, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            net(images)
            passes += 1
    return passes * _BATCH / elapsed
