"""The network with everything that is asked of it as outputs: what is exported, and torch runs."""

import numpy as np
import torch
from torch import Tensor, nn

from hemtrace.explain.heat import closed_form_cams, find_target_layer
from hemtrace.labels import LABELS
from hemtrace.model import Ensemble, Net, list_members
from hemtrace.model.net import correct_prevalence

_EVERY = list(range(len(LABELS)))
_TINY = 1e-12


class Graph(nn.Module):
    """Pictures in; logits, heat map cells and features out, by one forward pass.

    Parameters
    ----------
    net
        As `load_model` gives it.
    with_cells, with_features
        Whether these are among the outputs.
    """

    def __init__(self, net: Net | Ensemble, with_cells: bool, with_features: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(list_members(net))
        self.with_cells, self.with_features = with_cells, with_features

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Give logits (N, 6), cells (N, 6, rows, columns) and features (N, F), as far as wanted."""
        if not self.with_features:
            said = [(member(pictures),) * 3 for member in self.members]
        else:
            said = [_ask(member, pictures) for member in self.members]  # type: ignore[arg-type]
        logits, cells = said[0][0], said[0][1]
        if len(said) > 1:
            mean = torch.stack([one[0].float().sigmoid() for one in said]).mean(0)
            logits = torch.logit(mean, eps=1e-7)  # as `Ensemble` does
            cells = torch.stack([_scale(one[1]) for one in said]).mean(0)
        told = [logits]
        if self.with_cells:
            told.append(cells)
        if self.with_features:
            told.append(said[0][2])
        return tuple(told)


def trace_outputs(
    net: Net | Ensemble, sample: np.ndarray, fewest_cells: int
) -> tuple[Graph, list[str]]:
    """Find out what a network can give by one forward pass, each by proof on sample pictures.

    Parameters
    ----------
    net
        In evaluation mode.
    sample
        uint8 (N, channels, size, size).
    fewest_cells
        Cells on a side that a heat map must have, as in `params.ExplainParams`: a coarser one is
        not the map that the report shows and scores.

    Returns
    -------
    The graph, and the names of its outputs.
    """
    pictures = torch.from_numpy(sample)
    with torch.inference_mode():
        pooled = [_pools_plainly(member, pictures) for member in list_members(net)]
    closed = all(pooled) and all(
        _has_closed_form(member, sample, fewest_cells) for member in list_members(net)
    )
    graph = Graph(net, closed, all(pooled)).eval()
    names = ["logits"] + ["cells"] * closed + ["features"] * all(pooled)
    return graph, names


def scale_cells(cells: np.ndarray) -> np.ndarray:
    """Cut cells (..., rows, columns) off below 0, and scale each map to 0..1."""
    scaled: np.ndarray = _scale(torch.from_numpy(cells)).numpy()
    return scaled


def _ask(net: Net, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give logits, cells and features of a network; the cells are those without head and shift."""
    maps = net.features(pictures)
    features: Tensor = net.backbone.forward_head(maps, pre_logits=True)  # type: ignore[operator]
    logits: Tensor = net.classifier(features) if net.head is None else net.head(features)
    if net.shift:
        logits = correct_prevalence(logits, net.shift)
    return logits, _cells(net, maps), features


def _cells(net: Net, maps: Tensor) -> Tensor:
    if maps.ndim != 4 or maps.shape[1] != net.classifier.in_features:
        return maps  # no output: `trace_outputs` found no closed form
    weights = net.classifier.weight / (maps.shape[2] * maps.shape[3])
    return nn.functional.conv2d(maps, weights[:, :, None, None])


def _scale(cells: Tensor) -> Tensor:
    positive = cells.clamp(min=0)
    positive = positive - positive.amin(dim=(-2, -1), keepdim=True)
    return positive / positive.amax(dim=(-2, -1), keepdim=True).clamp(min=_TINY)


def _pools_plainly(net: Net, pictures: Tensor) -> bool:
    """Tell whether map, features and classifier of a network are what its `forward` goes by."""
    features = net.pooled(pictures)
    if features.ndim != 2:
        return False
    logits = net.classifier(features) if net.head is None else net.head(features)
    if net.shift:
        logits = correct_prevalence(logits, net.shift)
    return torch.allclose(logits, net(pictures), rtol=1e-4, atol=1e-4)


def _has_closed_form(net: Net, sample: np.ndarray, fewest_cells: int) -> bool:
    """Tell whether a network's report maps are those of the graph."""
    head, shift = net.head, net.shift
    net.head, net.shift = None, ()
    try:
        layer, _ = find_target_layer(net, torch.from_numpy(sample[:1]), fewest_cells)
        judge = closed_form_cams(net, layer, sample, _EVERY)
        if judge is None:
            return False
        with torch.inference_mode():
            found = _cells(net, net.features(torch.from_numpy(sample))).numpy()
    finally:
        net.head, net.shift = head, shift
    if found.shape != judge.shape:
        return False
    return bool(np.abs(found - judge).max() <= 1e-4 * np.abs(judge).max())
