"""How good the network is on the validation slices, after each epoch."""

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from hemtrace.inference import predict_probabilities
from hemtrace.labels import LABELS
from hemtrace.model import Net
from hemtrace.shards import ValSlices
from hemtrace.train.checkpoint import Row
from hemtrace.train.loss import weighted_log_loss
from hemtrace.train.processes import World

_CLIP = 1e-7


def validate(net: Net, val: ValSlices, batch_size: int, world: World) -> Row:
    """Score the validation slices; each process predicts its part of them.

    Returns
    -------
    val_loss (weighted log loss), val_accuracy (mean over labels, at 0.5), val_auc (mean over the
    labels that occur), val_auc_<label>; None where a label has slices of one class only.
    """
    places = np.array_split(np.arange(len(val)), world.size)[world.rank]
    own = ValSlices(
        slices=[val.slices[place] for place in places],
        patients=val.patients[places],
        labels=val.labels[places],
        squares=val.squares[places],
        read_places=lambda indices: val.read(places[indices]),
    )
    device = next(net.parameters()).device
    part = predict_probabilities(
        net, own, batch_size, "validate", quiet=not world.is_first, device=device
    )
    probabilities = np.concatenate(world.gather(part))
    clipped = torch.from_numpy(probabilities).clamp(_CLIP, 1 - _CLIP)
    labels = np.asarray(val.labels)
    aucs = {
        f"val_auc_{label}": _auc(labels[:, place], probabilities[:, place])
        for place, label in enumerate(LABELS)
    }
    known = [auc for auc in aucs.values() if auc is not None]
    return {
        "val_loss": weighted_log_loss(torch.logit(clipped), torch.from_numpy(labels)).item(),
        "val_accuracy": float(((probabilities > 0.5) == labels).mean()),
        "val_auc": float(np.mean(known)) if known else None,
        **aucs,
    }


def _auc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    if len(np.unique(labels)) < 2:
        return None
    return float(roc_auc_score(labels, probabilities))
