"""Heat maps: where in a slice the evidence for a label lies."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from hemtrace.errors import HemtraceError
from hemtrace.model.branches import Branches


def find_target_layer(
    net: nn.Module, images: Tensor, fewest_cells: int
) -> tuple[nn.Module, tuple[int, int]]:
    """Find the deepest layer whose map is fine enough to point at something.

    That is the last layer before global pooling where its map is, and otherwise the last stage that
    is, or the last layer at all that is. The two branches of a network meet in one map, which is
    taken whatever its size: no layer before it sees both. Dilating the last stages instead was
    tried on the default run: their maps then point at the border of the picture rather than at the
    bleed.

    Parameters
    ----------
    net
        Any network of stages, pooling and a classifier.
    images
        uint8 (1, windows, H, W), what the network takes.
    fewest_cells
        Cells on a side that the map must have.

    Returns
    -------
    The layer, and the rows and columns of its map.

    Raises
    ------
    HemtraceError
        If no layer gives such a map.
    """
    last: tuple[nn.Module, tuple[int, int]] | None = None
    last_stage: tuple[nn.Module, tuple[int, int]] | None = None
    last_fine: tuple[nn.Module, tuple[int, int]] | None = None

    def watch(module: nn.Module, _: Any, output: Any) -> None:
        nonlocal last, last_stage, last_fine
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            last = (module, (output.shape[2], output.shape[3]))
            if min(last[1]) >= fewest_cells:
                last_fine = last
                if isinstance(module, nn.Sequential):
                    last_stage = last

    hooks = [module.register_forward_hook(watch) for module in net.modules()]
    try:
        with torch.no_grad():
            net.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    target = last if last is last_fine else last_stage or last_fine
    backbone = getattr(net, "backbone", None)
    if isinstance(backbone, Branches) and last is not None:
        target = (backbone.join, last[1])
    if target is None:
        raise HemtraceError(
            f"No stage of the network gives a map of {fewest_cells} x {fewest_cells} cells; lower "
            "explain.fewest_cells or raise ingest.size in params.yaml."
        )
    return target


def grad_cam(net: nn.Module, layer: nn.Module, images: np.ndarray, label: int) -> np.ndarray:
    """Map where the evidence for a label lies, by Grad-CAM.

    Parameters
    ----------
    net
        In evaluation mode; its parameters must take gradients.
    layer
        From `find_target_layer`.
    images
        uint8 (N, windows, H, W).
    label
        Place of the label among the logits.

    Returns
    -------
    float32 (N, H, W), each map scaled to 0..1; all zero where nothing speaks for the label.

    References
    ----------
    Selvaraju et al., ICCV 2017, arXiv 1610.02391; code: pytorch-grad-cam.
    """
    with GradCAM(model=net, target_layers=[layer]) as cam:
        maps = cam(torch.from_numpy(images), [ClassifierOutputTarget(label)] * len(images))
    return np.nan_to_num(np.asarray(maps, dtype=np.float32))


def closed_form_cams(net: nn.Module, layer: nn.Module, images: np.ndarray) -> np.ndarray | None:
    """Map the evidence for all labels in one plain forward pass, where the head allows it.

    Where global average pooling and one linear layer follow the last map, the gradient of a logit
    is the same in every cell: Grad-CAM is the classifier's weights times the map.

    Parameters
    ----------
    net, layer, images
        As for `grad_cam`.

    Returns
    -------
    float32 (N, labels, rows, columns) of the map's cells, not scaled, negative evidence cut off;
    None where the head is of another kind.

    References
    ----------
    Zhou et al., CVPR 2016, arXiv 1512.04150 (class activation mapping).
    """
    classifier = _last_linear(net)
    if classifier is None:
        return None
    with torch.no_grad(), _kept(layer) as maps, _kept(classifier) as logits:
        net.eval()(torch.from_numpy(images))
    cells, given = maps[0], logits[0]
    if cells.shape[1] != classifier.in_features:
        return None
    # The proof that nothing else stands between map and logits in this network.
    if not torch.allclose(classifier(cells.mean(dim=(2, 3))), given, rtol=1e-3, atol=1e-4):
        return None
    with torch.no_grad():
        cams = torch.einsum("lc,nchw->nlhw", classifier.weight, cells)
    return torch.relu(cams).numpy()


def scale_up(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge (rows, columns) of cells to the picture and scale them to 0..1, as Grad-CAM does."""
    spread = cv2.resize(cells.astype(np.float32), (width, height))
    spread -= spread.min()
    top = spread.max()
    return spread / top if top > 0 else spread


def _last_linear(net: nn.Module) -> nn.Linear | None:
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


@contextmanager
def _kept(module: nn.Module) -> Iterator[list[Tensor]]:
    outputs: list[Tensor] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()
