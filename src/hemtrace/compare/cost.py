"""What a network costs: parameters, and operations for a slice."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hemtrace.model import Ensemble, ModelSpec, Net


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
