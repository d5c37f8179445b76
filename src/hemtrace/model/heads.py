"""Classifiers of scikit-learn on the features of a trained network.

After Kumaravel and others 2022 (AlexNet's features and an SVM), and Sage and Badura 2020 (SVM and
random forest on the features of two branches, Appl. Sci. 10, 7577).
"""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

    from hemtrace.model.net import Net

log = logging.getLogger(__name__)

# No label is held for rarer or more certain than this; one that never occurs has it.
LEAST_SHARE = 1e-4

_FOLDS = 3
_PENALTY = 0.01  # C of the SVM: with thousands of features 1 fits the training slices by heart
# Above so many numbers an SVM is fitted in parts: liblinear copies all of them to float64.
_MOST_AT_ONCE = 40_000_000
_ROWS = 4096
_PASSES = 5
# A feature that varies less than this share of the most varied is a dead one: divided by its
# deviation, a first sign of life would outweigh all others.
_LEAST_SCALE = 1e-6
# One that varies less than this share of its mean would cost the layer's float32 its digits.
_LEAST_CONTRAST = 1e-4

_TREES = 100
_DEPTH = 10
_LEAST_LEAF = 5
# Slices that a tree is grown from: more cost time and memory, and change little at this depth.
_MOST_SLICES = 100_000


def start_bias(prevalence: np.ndarray) -> np.ndarray:
    """Compute the log-odds of a prevalence, within `LEAST_SHARE` of 0 and 1: float32."""
    share = np.clip(np.asarray(prevalence, np.float64), LEAST_SHARE, 1 - LEAST_SHARE)
    return np.log(share / (1 - share)).astype(np.float32)


def replace_head(
    net: "Net",
    kind: Literal["svm", "forest"],
    features: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    seed: int,
) -> None:
    """Fit a classifier to a trained network's features, and put it in the place of its own.

    An SVM is written into the linear classifier itself, so that heat maps and exports are those of
    any network; a forest becomes `net.head`.

    Parameters
    ----------
    net
        The network, in place.
    kind
        Which classifier.
    features
        float32 (N, F), from `Net.pooled`; a memory map will do.
    labels
        0 or 1 (N, 6).
    patients
        (N,), whose slice it is.
    seed
        Of folds, orders and trees.

    Raises
    ------
    HemtraceError
        If a feature is not finite.
    """
    for rows in _parts(len(features)):
        if not np.isfinite(features[rows]).all():
            raise HemtraceError(
                f"train.classifier: the features to which the {kind} is fitted are not all finite "
                f"(slices {rows.start:,} to {rows.stop:,}); the network diverged. Lower "
                "train.learning_rate."
            )
    if kind == "svm":
        net.classifier.load_state_dict(fit_svm(features, labels, patients, seed).state_dict())
    else:
        net.head = fit_forest(features, labels, seed).to(net.classifier.weight.device).eval()


def fit_svm(features: np.ndarray, labels: np.ndarray, patients: np.ndarray, seed: int) -> nn.Linear:
    """Fit a linear SVM with probabilities to each label, as one linear layer of logits.

    Scaling to unit variance, the SVM's distance from its plane and the argument of Platt's sigmoid
    are linear each, so that together they are one layer w x + b. Both classes weigh the same in the
    SVM; the sigmoid is fitted at the natural prevalence to slices of patients that the SVM did not
    see (3 folds), and so brings the prevalence back. A label gets its prevalence as a constant if
    fewer than two patients bear it, or if the SVM does not know it in patients it did not see.

    Platt 1999, Probabilistic Outputs for Support Vector Machines.

    Parameters
    ----------
    features, labels, patients, seed
        As in `replace_head`.
    """

    def fit_label(place: int) -> tuple[np.ndarray, float] | None:
        return _fit_label(features, labels[:, place].astype(bool), patients, seed)

    count = labels.shape[1]
    weights = np.zeros((count, features.shape[1]))
    biases = start_bias(labels.mean(axis=0)).astype(np.float64)
    # scikit-learn's solvers leave Python's lock to others.
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1)) as pool:
        for place, fitted in enumerate(pool.map(fit_label, range(count))):
            if fitted is not None:
                weights[place], biases[place] = fitted
                continue
            log.warning(
                "%s: the SVM has too few patients to know it in others; its prevalence stands in.",
                LABELS[place] if count == len(LABELS) else f"label {place}",
            )
    layer = nn.Linear(features.shape[1], count)
    layer.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.from_numpy(biases)})
    return layer


def deal_folds(label: np.ndarray, patients: np.ndarray, seed: int) -> np.ndarray | None:
    """Part slices into 3 or 2 folds by patient, those who bear the label spread evenly.

    Returns
    -------
    Fold of each slice; None if some fold's complement would lack one of the classes.
    """
    names, who = np.unique(patients, return_inverse=True)
    bears = np.zeros(len(names), bool)
    bears[who[label]] = True
    count = min(_FOLDS, int(bears.sum()))
    if count < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(bears[order], kind="stable")]
    fold_of = np.empty(len(names), np.int64)
    fold_of[order] = np.arange(len(names)) % count
    folds = fold_of[who]
    whole = all(len(np.unique(label[folds != fold])) == 2 for fold in range(count))
    return folds if whole else None


def _fit_label(
    features: np.ndarray, label: np.ndarray, patients: np.ndarray, seed: int
) -> tuple[np.ndarray, float] | None:
    """Fit weights and bias of one label's logit; None if it cannot be known in other patients."""
    folds = deal_folds(label, patients, seed)
    if folds is None:
        return None
    values = np.empty(len(label))
    for fold in np.unique(folds):
        weight, bias = _fit_plane(features, label, np.flatnonzero(folds != fold), seed)
        held_out = np.flatnonzero(folds == fold)
        for rows in _parts(len(held_out)):
            values[held_out[rows]] = features[held_out[rows]] @ weight + bias
    slope, offset = _fit_platt(values, label)
    if slope <= 0:
        return None
    weight, bias = _fit_plane(features, label, np.arange(len(label)), seed)
    return slope * weight, slope * bias + offset


def _fit_plane(
    features: np.ndarray, label: np.ndarray, rows: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """Fit an SVM to some rows; its plane in the features as they are: float64 (F,) and bias."""
    # Imported where they are used: scikit-learn costs every command a second.
    from sklearn.linear_model import SGDClassifier
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    scaler = StandardScaler()
    for part in _parts(len(rows)):
        scaler.partial_fit(features[rows[part]].astype(np.float64))
    deviation = np.sqrt(scaler.var_)
    speaks = (deviation > _LEAST_SCALE * deviation.max()) & (
        deviation > _LEAST_CONTRAST * np.abs(scaler.mean_)
    )
    scale = np.where(speaks, deviation, np.inf)
    if len(rows) * features.shape[1] <= _MOST_AT_ONCE:
        machine = LinearSVC(
            C=_PENALTY, class_weight="balanced", dual=False, max_iter=10_000, random_state=seed
        )
        machine.fit((features[rows] - scaler.mean_) / scale, label[rows])
    else:
        machine = SGDClassifier(
            loss="hinge", alpha=1 / (_PENALTY * len(rows)), average=True, random_state=seed
        )
        balance = len(rows) / (2 * np.bincount(label[rows], minlength=2))
        chance = np.random.default_rng(seed)
        for _ in range(_PASSES):
            order = chance.permutation(rows)
            for part in _parts(len(rows)):
                # Sorted, a part is read in one sweep where the features are a memory map.
                some = np.sort(order[part])
                scaled = ((features[some] - scaler.mean_) / scale).astype(np.float32)
                weight = balance[label[some].astype(int)]
                machine.partial_fit(scaled, label[some], [False, True], sample_weight=weight)
    plane = machine.coef_[0] / scale
    return plane, float(machine.intercept_[0] - plane @ scaler.mean_)


def _fit_platt(values: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Fit slope and offset of a sigmoid, to targets drawn off 0 and 1 as Platt has them."""
    from sklearn.linear_model import LogisticRegression

    positives = np.count_nonzero(label)
    negatives = len(label) - positives
    target = np.where(label, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = values.std() or 1.0
    # A target between 0 and 1 is both, with weights.
    twice = np.tile(values / spread, 2)[:, None]
    both = np.repeat([1, 0], len(label))
    sigmoid = LogisticRegression(C=np.inf, solver="newton-cholesky")
    sigmoid.fit(twice, both, sample_weight=np.concatenate([target, 1 - target]))
    return float(sigmoid.coef_[0, 0] / spread), float(sigmoid.intercept_[0])


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, _ROWS):
        yield slice(start, min(start + _ROWS, count))


class Forest(nn.Module):
    """Random forest as tensors: every tree is complete, its nodes numbered level by level.

    Parameters
    ----------
    feature, threshold
        (trees, nodes): a slice goes right where the feature is above the threshold.
    share
        float32 (trees, leaves, labels): probability of each label.
    """

    feature: Tensor
    threshold: Tensor
    share: Tensor

    def __init__(self, feature: Tensor, threshold: Tensor, share: Tensor) -> None:
        super().__init__()
        self.register_buffer("feature", feature)
        self.register_buffer("threshold", threshold)
        self.register_buffer("share", share)

    def forward(self, features: Tensor) -> Tensor:
        """Compute logits of the mean probability: float32 (N, labels) from (N, F).

        A forest is certain where no tree saw the contrary; for a finite logit probabilities are
        kept `LEAST_SHARE` away from 0 and 1.
        """
        features = features.float()
        nodes = self.feature.shape[1]
        trees = torch.arange(len(self.feature), device=features.device)
        place = torch.zeros(len(features), len(trees), dtype=torch.int64, device=features.device)
        for _ in range((nodes + 1).bit_length() - 1):
            value = features.gather(1, self.feature[trees, place].long())
            place = 2 * place + 1 + (value > self.threshold[trees, place]).long()
        mean = self.share[trees, place - nodes].mean(dim=1)
        return torch.logit(mean, eps=LEAST_SHARE)


def fit_forest(features: np.ndarray, labels: np.ndarray, seed: int) -> Forest:
    """Fit a random forest for all labels together.

    Parameters
    ----------
    features, labels, seed
        As in `replace_head`.
    """
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        _TREES,
        max_depth=_DEPTH,
        min_samples_leaf=_LEAST_LEAF,
        max_samples=min(len(features), _MOST_SLICES),
        random_state=seed,
        n_jobs=-1,
    ).fit(features, labels.astype(np.int64))
    return convert_forest(forest)


def convert_forest(forest: "RandomForestClassifier") -> Forest:
    """Lay scikit-learn's trees, fitted to several labels of 0 and 1, out as complete trees.

    A leaf above the last level is carried down to it, past nodes that send everything left.
    """
    depth = max(tree.get_depth() for tree in forest.estimators_)
    laid_out = [_complete(tree.tree_, forest.classes_, depth) for tree in forest.estimators_]
    feature, threshold, share = (np.stack(part) for part in zip(*laid_out, strict=True))
    return Forest(torch.from_numpy(feature), torch.from_numpy(threshold), torch.from_numpy(share))


def _complete(
    tree: Any, classes: list[np.ndarray], depth: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nodes = np.zeros(1, np.int64)  # of a level, in scikit-learn's numbers
    features, thresholds = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for _ in range(depth):
        is_leaf = tree.children_left[nodes] < 0
        features.append(np.where(is_leaf, 0, tree.feature[nodes]).astype(np.int32))
        thresholds.append(np.where(is_leaf, np.float32(np.inf), _floor(tree.threshold[nodes])))
        left = np.where(is_leaf, nodes, tree.children_left[nodes])
        right = np.where(is_leaf, nodes, tree.children_right[nodes])
        nodes = np.stack([left, right], axis=1).reshape(-1)
    # tree.value is (nodes, labels, classes), and a label that never varied has one class.
    shares = [tree.value[nodes, place, : len(known)] @ known for place, known in enumerate(classes)]
    share = np.stack(shares, axis=1).astype(np.float32)
    return np.concatenate(features), np.concatenate(thresholds), share


def _floor(threshold: np.ndarray) -> np.ndarray:
    """Round down to float32: a float32 is above the one just where it is above the other."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)
