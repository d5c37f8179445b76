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


def shown_prevalence(labels: np.ndarray, chances: np.ndarray | None) -> np.ndarray:
    """Give the share of slices with each label in an epoch: float64 (6,)."""
    return labels.mean(axis=0) if chances is None else chances @ labels


def prevalence_shift(labels: np.ndarray, chances: np.ndarray | None) -> tuple[float, ...]:
    """Give what brings the probabilities of such an epoch to the natural prevalence.

    The difference of the log-odds, natural less shown: of `any`, and of each subtype among the
    slices with a bleed (`model.net.correct_prevalence` applies it so). Exact with `sampling:
    positives`, where the chance of a slice depends on `any` alone and the subtypes' part is 0;
    near with `classes`, where slices with several subtypes count by their rarest.

    Returns
    -------
    In the order of `labels.LABELS`; empty where every slice is shown once.

    References
    ----------
    Saerens, Latinne and Decaestecker 2002, Adjusting the outputs of a classifier to new a priori
    probabilities (Neural Computation 14, 21-41).
    """
    if chances is None:
        return ()
    natural = np.full(len(labels), 1 / len(labels))
    odds = [_log_odds(labels, weights) for weights in (natural, chances)]
    return tuple((odds[0] - odds[1]).tolist())


def _log_odds(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    shares = weights @ labels
    shares[:ANY] /= max(shares[ANY], _LEAST_SHARE)
    held = np.clip(shares, _LEAST_SHARE, 1 - _LEAST_SHARE)
    return np.log(held / (1 - held))
