"""Heat maps of a model: those of one network, or the mean over all that vote."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from hemtrace.explain.heat import closed_form_cams, find_target_layer, gradient_cams, scale_up
from hemtrace.model import Net

BATCH = 16


@dataclass(frozen=True)
class Target:
    """A network, the layer of its heat map, and whether its maps have a closed form."""

    net: nn.Module
    layer: nn.Module
    closed: bool


@dataclass(frozen=True)
class Mapper:
    """What makes the heat maps of a model.

    Attributes
    ----------
    targets
        The networks.
    cells
        Rows and columns of a map.
    method
        A key of `heat.METHODS`.
    """

    targets: tuple[Target, ...]
    cells: tuple[int, int]
    method: str

    def raw(self, images: np.ndarray, labels: Sequence[int]) -> list[np.ndarray]:
        """Make the maps of each network: float32 (N, labels, rows, columns), not scaled."""
        return [raw_maps(target, images, labels, self.method) for target in self.targets]

    def maps(self, images: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Make maps of the picture's size.

        Parameters
        ----------
        images
            uint8 (N, channels, H, W).
        labels
            L places of labels among the logits.

        Returns
        -------
        float32 (N, L, H, W), each scaled to 0..1; all zero where nothing speaks for the label.
        """
        return mean_maps(self.raw(images, labels), images.shape[2], images.shape[3])

    @property
    def has_closed_form(self) -> bool:
        """Whether every network's maps come out of a plain forward pass."""
        return all(target.closed for target in self.targets)


def create_mapper(
    nets: Sequence[nn.Module], sample: np.ndarray, fewest_cells: int, method: str
) -> Mapper:
    """Find the layers to look at.

    A classifier that was fitted to a network's features has no maps of its own: they are those of
    the network below it. Nor are they those of logits corrected for prevalence, which mix labels.

    Parameters
    ----------
    nets
        One, or those that vote; the head and shift of each are taken off.
    sample
        uint8 (1, channels, H, W).
    fewest_cells, method
        As in `params.ExplainParams`.

    Raises
    ------
    HemtraceError
        If no layer gives such a map.
    """
    targets = []
    for net in nets:
        if isinstance(net, Net):
            net.head, net.shift = None, ()
        layer, cells = find_target_layer(net, torch.from_numpy(sample), fewest_cells)
        closed = closed_form_cams(net, layer, sample, [0]) is not None
        targets.append(Target(net, layer, closed))
    return Mapper(tuple(targets), cells, method)


def raw_maps(target: Target, images: np.ndarray, labels: Sequence[int], method: str) -> np.ndarray:
    """Make a network's maps in the closed form where there is one: (N, labels, rows, columns)."""
    if target.closed:
        maps = closed_form_cams(target.net, target.layer, images, labels, method)
        if maps is not None:
            return np.nan_to_num(maps, posinf=0, neginf=0)
    maps = gradient_cams(target.net, target.layer, images, labels, method)
    return np.nan_to_num(maps, posinf=0, neginf=0)


def mean_maps(raw: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Average the maps of networks, each scaled to 0..1 before and the mean again after."""
    count, labels = raw[0].shape[:2]
    mean = np.zeros((count, labels, height, width), dtype=np.float32)
    for maps in raw:
        for place in np.ndindex(count, labels):
            mean[place] += scale_up(maps[place], height, width)
    top = mean.max(axis=(2, 3), keepdims=True)
    return np.divide(mean, top, out=np.zeros_like(mean), where=top > 0)


def batches(count: int, what: str, size: int = BATCH) -> Iterator[range]:
    """Count off places in batches, with a bar of progress where there are several."""
    starts: Iterable[int] = range(0, count, size)
    for start in tqdm(starts, desc=what, unit="batch", disable=count <= size):
        yield range(start, min(start + size, count))
