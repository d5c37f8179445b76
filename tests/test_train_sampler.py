import tracemalloc

import numpy as np
import pytest
import torch

from hemtrace.model.net import correct_prevalence
from hemtrace.params import SamplingParams
from hemtrace.train.sampler import draw_epoch, prevalence_shift, slice_chances

NATURAL = SamplingParams()


def rare_labels(count: int = 4000) -> np.ndarray:
    """A tenth bleeds: most subdural, few epidural, some of both."""
    labels = np.zeros((count, 6), dtype=np.uint8)
    labels[: count // 10, [4, 5]] = 1
    labels[: count // 200, 0] = 1
    labels[count // 200 : count // 100, [0, 4]] = 1, 0
    return labels


def shown(labels: np.ndarray, params: SamplingParams, epochs: int = 1) -> np.ndarray:
    """How often each slice is shown."""
    chances = slice_chances(labels, params)
    draws = [draw_epoch(chances, len(labels), 5, epoch) for epoch in range(epochs)]
    assert all(len(draw) == len(labels) for draw in draws)
    return np.bincount(np.concatenate(draws), minlength=len(labels))


def test_naturally_every_slice_is_shown_once() -> None:
    assert (shown(rare_labels(), NATURAL) == 1).all()


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_the_share_of_positives_is_the_one_asked_for(share: float) -> None:
    labels = rare_labels()
    params = SamplingParams(sampling="positives", positive_share=share)
    times = shown(labels, params)
    assert times[labels[:, 5] > 0].sum() / len(labels) == pytest.approx(share, abs=0.002)


def test_classes_are_shown_equally_often_so_that_epidural_is_not_forgotten() -> None:
    labels = rare_labels()
    times = shown(labels, SamplingParams(sampling="classes"))
    epidural = times[labels[:, 0] > 0].sum()
    none = times[labels[:, 5] == 0].sum()
    assert epidural / none == pytest.approx(1, abs=0.05)
    assert epidural / len(labels) > 25 * labels[:, 0].mean()


def test_no_slice_is_shown_more_than_once_too_often() -> None:
    labels = rare_labels()
    params = SamplingParams(sampling="positives", positive_share=0.33)
    chances = slice_chances(labels, params)
    times, expected = shown(labels, params), chances * len(labels)
    assert (np.abs(times - expected) <= 1).all()
    # over epochs every slice has its turn
    many = shown(labels, SamplingParams(sampling="positives", positive_share=0.9), epochs=200)
    assert many.min() > 0


def test_epochs_differ_and_repeat_by_seed() -> None:
    chances = slice_chances(rare_labels(), SamplingParams(sampling="positives"))
    for given in (None, chances):
        first, again = draw_epoch(given, 4000, 5, 1), draw_epoch(given, 4000, 5, 1)
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, draw_epoch(given, 4000, 5, 2))
        assert not np.array_equal(first, draw_epoch(given, 4000, 6, 1))


def test_the_correction_is_that_of_bayes_for_every_label() -> None:
    """A table of findings x with known P(labels | x): sampled by `any`, and corrected again."""
    chance = np.random.default_rng(0)
    finding = chance.integers(0, 6, 60_000)
    bleeds = chance.random(60_000) < np.array([0.02, 0.1, 0.4, 0.8, 0.99, 0.05])[finding]
    of_type = chance.random(60_000) < np.array([0.5, 0.1, 0.3, 0.2, 0.214, 0.9])[finding]
    labels = np.zeros((60_000, 6), dtype=np.uint8)
    labels[:, 0], labels[:, 5] = bleeds & of_type, bleeds
    params = SamplingParams(sampling="positives", positive_share=0.7)
    chances = slice_chances(labels, params)

    def probability(weights: np.ndarray) -> np.ndarray:
        rows = [
            np.average(labels[finding == k], axis=0, weights=weights[finding == k])
            for k in range(6)
        ]
        return np.array(rows)

    shown, natural = probability(chances), probability(np.ones(60_000))
    logits = torch.logit(torch.from_numpy(shown), eps=1e-9)
    corrected = correct_prevalence(logits, prevalence_shift(labels, chances)).sigmoid().numpy()
    np.testing.assert_allclose(corrected[:, [0, 5]], natural[:, [0, 5]], atol=2e-3)
    assert abs(shown[4, 0] - natural[4, 0]) < 0.01 < abs(shown[1, 0] - natural[1, 0])
    assert prevalence_shift(labels, None) == ()


def test_the_shift_of_any_is_the_difference_of_the_log_odds() -> None:
    labels = rare_labels()
    chances = slice_chances(labels, SamplingParams(sampling="positives", positive_share=0.5))
    shift = prevalence_shift(labels, chances)
    # a tenth naturally, a half in the epoch: odds 1/9 for odds 1; no subtype moves given a bleed
    assert shift[5] == pytest.approx(np.log(1 / 9))
    assert shift[:5] == pytest.approx([0] * 5)


def test_a_side_without_slices_is_left_out() -> None:
    labels = np.zeros((50, 6), dtype=np.uint8)
    for kind in ("positives", "classes"):
        times = shown(labels, SamplingParams(sampling=kind))
        assert (times == 1).all()


@pytest.mark.parametrize("sampling", ["natural", "positives"])
def test_shuffling_the_rsna_set_takes_less_than_100_mb(sampling: str) -> None:
    labels = np.zeros((752_803, 6), dtype=np.uint8)
    labels[:107_933, 5] = 1
    chances = slice_chances(labels, SamplingParams(sampling=sampling))
    tracemalloc.start()
    draw_epoch(chances, len(labels), 1, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6
