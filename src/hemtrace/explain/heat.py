"""Heat maps of one network: where in a slice the evidence for a label lies."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM
from torch import Tensor, nn

from hemtrace.errors import HemtraceError
from hemtrace.model.branches import Branches

METHODS = {"grad-cam": GradCAM, "grad-cam++": GradCAMPlusPlus, "hirescam": HiResCAM}


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


def gradient_cams(
    net: nn.Module,
    layer: nn.Module,
    images: np.ndarray,
    labels: Sequence[int],
    method: str = "grad-cam",
) -> np.ndarray:
    """Map the evidence for some labels by pytorch-grad-cam, in one forward pass for all of them.

    The library runs the whole network forward and back for each label. What it then makes of map
    and gradients is its own here too, but the gradients are taken from the logits back to `layer`
    and no further, over one graph.

    Parameters
    ----------
    net
        Any network of six logits.
    layer
        From `find_target_layer`.
    images
        uint8 (N, channels, H, W).
    labels
        L places of labels among the logits.
    method
        A key of `METHODS`.

    Returns
    -------
    float32 (N, L, rows, columns) of the map's cells, as the library has it before it cuts off what
    is negative and scales.

    References
    ----------
    Selvaraju et al., ICCV 2017, arXiv 1610.02391 (Grad-CAM); Chattopadhyay et al., WACV 2018, arXiv
    1710.11063 (Grad-CAM++); Draelos and Carin 2020, arXiv 2011.08891 (HiResCAM).
    """
    net.eval()
    kept: list[Tensor] = []

    def restart(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        # The graph begins here. A copy goes on, lest a layer that works in place change the map.
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()

    needed = [parameter.requires_grad for parameter in net.parameters()]
    hook = layer.register_forward_hook(restart)
    try:
        net.requires_grad_(False)
        with torch.enable_grad():
            logits = net(torch.from_numpy(images))
            gradients = [
                torch.autograd.grad(logits[:, label].sum(), kept[0], retain_graph=True)[0]
                for label in labels
            ]
    finally:
        hook.remove()
        for parameter, wanted in zip(net.parameters(), needed, strict=True):
            parameter.requires_grad_(wanted)
    cells = kept[0].detach().numpy()
    return _library_cams(net, method, cells, [one.numpy() for one in gradients])


def closed_form_cams(
    net: nn.Module,
    layer: nn.Module,
    images: np.ndarray,
    labels: Sequence[int],
    method: str = "grad-cam",
) -> np.ndarray | None:
    """Map the evidence for some labels in one plain forward pass, where the head allows it.

    Where global average pooling and one linear layer follow the last map, the gradient of a logit
    is the same in every cell: the classifier's weight divided by the number of cells. Grad-CAM and
    HiResCAM then are one sum over the channels.

    Parameters and what is returned are those of `gradient_cams`; None where the head is of another
    kind.

    References
    ----------
    Zhou et al., CVPR 2016, arXiv 1512.04150 (class activation mapping).
    """
    classifier = _last_linear(net)
    if classifier is None:
        return None
    with torch.inference_mode(), _kept(layer) as maps, _kept(classifier) as logits:
        net.eval()(torch.from_numpy(images))
        if len(maps) != 1 or len(logits) != 1:
            return None
        cells, given = maps[0], logits[0]
        if cells.ndim != 4 or cells.shape[1] != classifier.in_features:
            return None
        # The proof that nothing else stands between map and logits in this network.
        if not torch.allclose(classifier(cells.mean(dim=(2, 3))), given, rtol=1e-3, atol=1e-4):
            return None
        weights = classifier.weight[list(labels)] / (cells.shape[2] * cells.shape[3])
        if method != "grad-cam++":
            return torch.einsum("lc,nchw->nlhw", weights, cells).numpy()
        gradients = [one[None, :, None, None].expand_as(cells).numpy() for one in weights]
        return _library_cams(net, method, cells.numpy(), gradients)


def scale_up(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge (rows, columns) of cells to the picture and scale them to 0..1, as Grad-CAM does."""
    spread = cv2.resize(np.maximum(cells, 0).astype(np.float32), (width, height))
    spread -= spread.min()
    top = spread.max()
    return spread / top if top > 0 else spread


def _library_cams(
    net: nn.Module, method: str, cells: np.ndarray, gradients: Sequence[np.ndarray]
) -> np.ndarray:
    """Let pytorch-grad-cam weigh a map by the gradients of each label."""
    with METHODS[method](model=net, target_layers=[]) as cam:
        raw = [cam.get_cam_image(None, None, None, cells, one, False) for one in gradients]
    return np.stack(raw, axis=1).astype(np.float32)


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
