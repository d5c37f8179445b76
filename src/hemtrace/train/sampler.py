"""Which slices an epoch shows, in what order, and how the prevalence is put right afterwards."""

import numpy as np

from hemtrace.labels import ANY
from hemtrace.params import SamplingParams

_LEAST_SHARE = 1e-4


def slice_chances(labels: np.ndarray, params: SamplingParams) -> np.ndarray | None:
    """Give each slice its share of an epoch.

    Parameters
    ----------
    labels
        uint8 (N, 6).
    params
        How they are sampled.

    Returns
    -------
    float64 (N,), summing to 1; None where each slice is shown once. A class or side without any
    slice is left out.
    """
    if params.sampling == "natural":
        return None
    bleeds = labels[:, ANY] > 0
    if params.sampling == "positives":
        weights = np.where(bleeds, params.positive_share, 1 - params.positive_share)
        counts = np.where(bleeds, bleeds.sum(), (~bleeds).sum())
        chances = weights / counts
    else:
        classes = np.column_stack([~bleeds, labels[:, :ANY] > 0])
        # A slice with several subtypes is shown as often as its rarest asks for.
        chances = (classes / np.maximum(classes.sum(axis=0), 1)).max(axis=1)
    return chances / chances.sum()


def draw_epoch(chances: np.ndarray | None, count: int, seed: int, epoch: int) -> np.ndarray:
    """Draw the order of an epoch: int64 (count,), places of slices.

    It depends on nothing but seed and epoch, so that a resumed training goes on in it. Each slice
    is shown the whole number of times below or above its expectation (systematic sampling).
    """
    order = np.random.default_rng([seed, epoch])
    shuffled = order.permutation(count)
    if chances is None:
        return shuffled
    reached = np.cumsum(chances[shuffled]) * count
    reached[-1] = count  # whatever rounding made of it
    edges = np.floor(np.concatenate([[0.0], reached]) + order.random()).astype(np.int64)
    return order.permutation(np.repeat(shuffled, edges[1:] - edges[:-1])[:count])


def prevalence_shift(labels: np.ndarray, chances: np.ndarray | None) -> np.ndarray:
    """Give what the logits must be moved by, so that their probabilities hold for natural slices.

    The log-odds of each label among the slices, less those among the slices shown: exact where the
    chance of a slice depends on that label alone, as for `any` with `sampling: positives`.

    Returns
    -------
    float64 (6,).

    References
    ----------
    Saerens, Latinne and Decaestecker 2002, Adjusting the outputs of a classifier to new a priori
    probabilities (Neural Computation 14, 21-41).
    """
    if chances is None:
        return np.zeros(labels.shape[1])
    natural = np.clip(labels.mean(axis=0), _LEAST_SHARE, 1 - _LEAST_SHARE)
    shown = np.clip(chances @ labels, _LEAST_SHARE, 1 - _LEAST_SHARE)
    return np.log(natural / (1 - natural)) - np.log(shown / (1 - shown))
