"""The weighted multi-label log loss, as training minimises it."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from hemtrace.labels import LABEL_WEIGHTS


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
    each = binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
    weights = torch.as_tensor(LABEL_WEIGHTS, dtype=torch.float32, device=logits.device)
    return (each @ weights).mean()
