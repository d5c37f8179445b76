"""What training minimises: the weighted multi-label log loss, and its variants."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from hemtrace.labels import LABEL_WEIGHTS
from hemtrace.params import LossParams


def weighted_log_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the RSNA 2019 challenge's metric from logits: `any` counts twice.

    Parameters
    ----------
    logits
        float (N, 6), in the order of `labels.LABELS`.
    labels
        (N, 6), 0 or 1.

    Returns
    -------
    float32 scalar: the mean over slices of (2 any + the five others) / 7, natural logarithm.
    """
    return slice_losses(logits, labels, LossParams()).mean()


def slice_losses(logits: Tensor, labels: Tensor, params: LossParams) -> Tensor:
    """Compute the loss of each slice, its labels weighted as in the challenge's metric.

    Parameters
    ----------
    logits, labels
        As for `weighted_log_loss`.
    params
        `loss: focal` multiplies each label's log loss by (1 - p)^gamma, p being the probability
        given to the truth (Lin et al. 2017, Focal loss, arXiv 1708.02002, without its alpha: the
        labels' weights stand for it). `label_smoothing` e makes targets of e and 1 - e.

    Returns
    -------
    float32 (N,).
    """
    logits, labels = logits.float(), labels.float()
    targets = labels * (1 - 2 * params.label_smoothing) + params.label_smoothing
    each = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if params.loss == "focal":
        missed = torch.sigmoid(torch.where(labels > 0, -logits, logits))
        each = each * missed**params.focal_gamma
    weights = torch.as_tensor(LABEL_WEIGHTS, dtype=torch.float32, device=logits.device)
    return each @ weights
