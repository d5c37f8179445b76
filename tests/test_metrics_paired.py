"""Two models on the same slices: by hand, by the jackknife, by published figures, by simulation."""

from random import Random

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels

from hemtrace.metrics import (
    area_covariance,
    average_precision,
    compare_areas,
    compare_figures,
    compare_means,
    difference,
    mcnemar,
    resample_patients,
    roc_auc,
)

# Ovarian cancer with obstruction, 43 patients: albumin, total protein, ten less the Krebs-Goplerud
# score, and whether surgery would help. From DeLong et al. 1988, as printed in the SAS/STAT User's
# Guide, PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves".
_OVARIAN = """
3 5.8 0 0   3.2 6.3 5 1   3.9 6.8 7 1   2.8 4.8 4 0   3.2 5.8 7 1   .9 4 5 0
2.5 5.7 2 0   1.6 5.6 5 1   3.8 5.7 5 1   3.7 6.7 4 1   3.2 5.4 6 1   3.8 6.6 4 1
4.1 6.6 5 1   3.6 5.7 5 1   4.3 7 6 1   3.6 6.7 6 0   2.3 4.4 4 1   4.2 7.6 6 0
4 6.6 4 0   3.5 5.8 4 1   3.8 6.8 3 1   3 4.7 2 0   4.5 7.4 5 1   3.7 7.4 5 1
3.1 6.6 4 1   4.1 8.2 4 1   4.3 7 5 1   4.3 6.5 6 1   3.2 5.1 5 1   2.6 4.7 4 1
3.3 6.8 4 0   1.7 4 3 0   3.7 6.1 5 1   3.3 6.3 3 1   4.2 7.7 4 1   3.5 6.2 5 1
2.9 5.7 1 0   2.1 4.8 3 1   2.8 6.2 2 0   4 7 3 1   3.3 5.7 4 1   3.7 6.9 5 1
3.6 6.6 5 1
"""
OVARIAN = np.array(_OVARIAN.split(), dtype=float).reshape(43, 4)


def clustered(
    seed: int, people: int = 40, shared: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, scores of two models with ties (2, N), and patients of unequal numbers of slices."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(people), rng.integers(1, 9, people))
    truth = rng.random(len(patients)) < rng.choice([0, 0.6], people)[patients]
    of_patient = rng.normal(size=people)[patients] * shared
    noise = rng.normal(size=(2, len(patients)))
    scores = np.round(noise + of_patient + truth * np.array([[1.2], [0.7]]), 1)
    return truth, scores, patients


def pair_by_pair(truth: np.ndarray, scores: np.ndarray, patients: np.ndarray):
    """Follow Obuchowski's formulae letter by letter, over all pairs of slices."""
    positives, negatives = np.flatnonzero(truth), np.flatnonzero(~truth)
    count = len(scores)
    psi = np.zeros((count, len(positives), len(negatives)))
    for r in range(count):
        for i, x in enumerate(scores[r, positives]):
            for j, y in enumerate(scores[r, negatives]):
                psi[r, i, j] = 1.0 if x > y else 0.5 if x == y else 0.0
    areas = psi.mean(axis=(1, 2))
    v10, v01 = psi.mean(axis=2), psi.mean(axis=1)
    covariance = np.zeros((count, count))
    people = np.unique(patients)
    with_positive = len(np.unique(patients[positives]))
    with_negative = len(np.unique(patients[negatives]))
    for r in range(count):
        for s in range(count):
            s10 = s01 = s11 = s11_turned = 0.0
            for person in people:
                mine = patients[positives] == person
                others = patients[negatives] == person
                x_r = v10[r, mine].sum() - mine.sum() * areas[r]
                x_s = v10[s, mine].sum() - mine.sum() * areas[s]
                y_r = v01[r, others].sum() - others.sum() * areas[r]
                y_s = v01[s, others].sum() - others.sum() * areas[s]
                s10, s01 = s10 + x_r * x_s, s01 + y_r * y_s
                s11, s11_turned = s11 + x_r * y_s, s11_turned + x_s * y_r
            m, n = len(positives), len(negatives)
            s10 *= with_positive / ((with_positive - 1) * m)
            s01 *= with_negative / ((with_negative - 1) * n)
            both = len(people) / (len(people) - 1) * (s11 + s11_turned)
            covariance[r, s] = s10 / m + s01 / n + both / (m * n)
    return areas, covariance


@pytest.mark.parametrize("seed", [0, 1])
def test_covariance_equals_that_of_all_pairs(seed: int) -> None:
    truth, scores, patients = clustered(seed)
    for groups in (patients, np.arange(len(truth))):
        areas, covariance = area_covariance(truth, scores, groups)
        expected_areas, expected = pair_by_pair(truth, scores, groups)
        np.testing.assert_allclose(areas, expected_areas, atol=1e-12)
        np.testing.assert_allclose(covariance, expected, rtol=1e-10)
        assert areas == pytest.approx([roc_auc_score(truth, score) for score in scores])


def test_delong_reproduces_the_published_ovarian_cancer_figures() -> None:
    albumin, protein, krebs, helped = OVARIAN.T
    areas, covariance = area_covariance(helped == 1, np.stack([albumin, krebs, protein]))
    assert areas == pytest.approx([0.7366, 0.7258, 0.6478], abs=5e-5)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.0927, 0.1028, 0.1000], abs=5e-5)
    # The contrast of all three with the Krebs-Goplerud score as reference.
    contrast = np.array([[1, -1, 0], [0, -1, 1]])
    apart = contrast @ areas
    chi2 = apart @ np.linalg.solve(contrast @ covariance @ contrast.T, apart)
    assert chi2 == pytest.approx(2.5340, abs=5e-5)
    assert stats.chi2.sf(chi2, 2) == pytest.approx(0.2817, abs=5e-5)


def test_delong_variance_is_that_of_the_two_sample_jackknife() -> None:
    truth, scores, _ = clustered(3)
    _, covariance = area_covariance(truth, scores)
    for column, score in enumerate(scores):
        variance = 0.0
        for one_class in (truth, ~truth):
            left_out = [
                roc_auc_score(np.delete(truth, row), np.delete(score, row))
                for row in np.flatnonzero(one_class)
            ]
            count = len(left_out)
            variance += (count - 1) / count * np.square(left_out - np.mean(left_out)).sum()
        assert covariance[column, column] == pytest.approx(variance, rel=1e-10)


def test_showing_every_slice_twice_tells_nothing_only_where_patients_are_known() -> None:
    truth, scores, patients = clustered(4)
    twice = np.tile(truth, 2), np.tile(scores, 2)
    _, once = area_covariance(truth, scores, patients)
    _, doubled = area_covariance(*twice, np.tile(patients, 2))
    np.testing.assert_allclose(doubled, once, rtol=1e-12)
    _, single = area_covariance(truth, scores)
    _, fooled = area_covariance(*twice)
    assert fooled[0, 0] < 0.55 * single[0, 0]


def test_clustered_error_is_that_of_the_patient_bootstrap_and_plain_delongs_is_not() -> None:
    truth, scores, patients = clustered(5, people=300)
    resamples = resample_patients(patients, 1500, seed=0)
    replicates = roc_auc(truth, scores[0], resamples)
    apart = replicates - roc_auc(truth, scores[1], resamples)
    _, covariance = area_covariance(truth, scores, patients)
    assert np.sqrt(covariance[0, 0]) == pytest.approx(replicates.std(), rel=0.06)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert np.sqrt(variance) == pytest.approx(apart.std(), rel=0.06)
    _, plain = area_covariance(truth, scores)
    assert np.sqrt(plain[0, 0]) < 0.85 * replicates.std()


def test_clustered_test_keeps_its_level_where_models_are_alike_and_plain_delongs_does_not() -> None:
    known, unknown = [], []
    for seed in range(300):
        truth, scores, patients = clustered(1000 + seed)
        # Each model errs in its own way about a patient, on all of his slices alike.
        whims = np.random.default_rng(seed).normal(size=(2, 40))[:, patients]
        alike = scores[0] + whims
        known.append(compare_areas(truth, *alike, patients).p)
        unknown.append(compare_areas(truth, *alike, unit="patient").p)
    assert 0.02 < np.mean(np.array(known) < 0.05) < 0.09
    assert np.mean(np.array(unknown) < 0.05) > 0.15


def test_difference_is_first_less_second_with_a_symmetrical_interval() -> None:
    truth, scores, patients = clustered(6, people=80)
    made, turned = (
        compare_areas(truth, *scores, patients),
        compare_areas(truth, *scores[::-1], patients),
    )
    expected = roc_auc_score(truth, scores[0]) - roc_auc_score(truth, scores[1])
    assert made.estimate.value == pytest.approx(expected)
    assert turned.estimate.value == pytest.approx(-expected)
    assert made.p == pytest.approx(turned.p)
    assert made.estimate.low + made.estimate.high == pytest.approx(2 * expected)
    assert (made.p < 0.05) == (made.estimate.low > 0 or made.estimate.high < 0)
    assert set(made.as_dict()) == {"value", "low", "high", "why", "p"}


def test_bootstrap_and_obuchowski_agree_on_a_difference() -> None:
    truth, scores, patients = clustered(7, people=200)
    resamples = resample_patients(patients, 1000, seed=1)
    drawn = compare_figures(roc_auc, truth, *scores, resamples).estimate
    formula = compare_areas(truth, *scores, patients).estimate
    assert drawn.value == pytest.approx(formula.value)
    assert drawn.high - drawn.low == pytest.approx(formula.high - formula.low, rel=0.12)


def test_paired_interval_is_that_of_a_bootstrap_drawn_by_another_hand() -> None:
    truth, scores, patients = clustered(12, people=120, shared=2.0)
    made = compare_figures(
        roc_auc, truth, *scores, resample_patients(patients, 1000, seed=5)
    ).estimate
    random = Random(1)
    rows = [np.flatnonzero(patients == name) for name in range(120)]
    drawn = [np.concatenate(random.choices(rows, k=120)) for _ in range(1000)]
    areas = np.array([[roc_auc_score(truth[few], score[few]) for score in scores] for few in drawn])
    low, high = np.percentile(areas[:, 0] - areas[:, 1], [2.5, 97.5])
    assert (made.low, made.high) == pytest.approx((low, high), abs=0.1 * (high - low))
    # Each model on draws of its own: what patients have in common would not cancel out.
    apart = np.percentile(areas[:, 0] - areas[::-1, 1], [2.5, 97.5])
    assert np.ptp(apart) > 1.4 * (made.high - made.low)


@pytest.mark.parametrize("unit", ["slice", "study"])
def test_delong_refuses_rows_whose_patients_are_not_told(unit: str) -> None:
    truth, scores, patients = clustered(13)
    with pytest.raises(ValueError, match=f"each a {unit} needs the patient"):
        compare_areas(truth, *scores, unit=unit)
    with pytest.raises(ValueError, match="each a slice"):
        compare_areas(truth, *scores)
    known = compare_areas(truth, *scores, patients, unit)
    plain = compare_areas(truth, *scores, unit="patient")
    assert known.p != pytest.approx(plain.p)
    assert compare_areas(truth, *scores, np.arange(len(truth))).p == pytest.approx(plain.p)


def test_bootstrap_compares_any_figure_on_the_same_draws() -> None:
    truth, scores, patients = clustered(8)
    resamples = resample_patients(patients, 200, seed=1)
    made = compare_figures(average_precision, truth, *scores, resamples)
    apart = average_precision(truth, scores[0], resamples) - average_precision(
        truth, scores[1], resamples
    )
    bounds = np.percentile(apart, [2.5, 97.5])
    assert (made.estimate.low, made.estimate.high) == pytest.approx(tuple(bounds))


def test_mean_losses_are_compared_on_the_same_draws() -> None:
    _, losses, patients = clustered(8)
    resamples = resample_patients(patients, 200, seed=1)
    made = compare_means(*losses, resamples)
    assert made.estimate.value == pytest.approx(losses[0].mean() - losses[1].mean())
    apart = []
    for drawn in resamples.drawn:
        rows = np.repeat(np.arange(len(patients)), drawn[resamples.member])
        apart.append((losses[0] - losses[1])[rows].mean())
    bounds = np.percentile(apart, [2.5, 97.5])
    assert (made.estimate.low, made.estimate.high) == pytest.approx(tuple(bounds))
    losses[1, :3] = np.nan
    assert compare_means(*losses, resamples).estimate.why == f"3 of {len(patients)} values are NaN"


def test_bootstrap_p_is_twice_the_smaller_side() -> None:
    changes = np.r_[np.full(3, -0.1), np.linspace(0.1, 0.2, 96)]
    made = difference(0.9, 0.8, changes, np.zeros(99))
    assert made.p == pytest.approx(2 * (3 + 1) / (99 + 1))
    assert difference(0.9, 0.8, np.linspace(0.1, 0.2, 99), np.zeros(99)).p == 2 / 100
    assert difference(0.8, 0.8, np.linspace(-1, 1, 99), np.zeros(99)).p == 1


def test_model_compared_with_itself_differs_by_nothing() -> None:
    truth, scores, patients = clustered(9)
    resamples = resample_patients(patients, 50, seed=0)
    for made in (
        compare_figures(roc_auc, truth, scores[0], scores[0], resamples),
        compare_areas(truth, scores[0], scores[0], patients),
        compare_areas(truth, scores[0], 2 * scores[0] + 1, unit="patient"),
    ):
        assert made.estimate.value == 0
        assert (made.estimate.low, made.p) == (None, None)
        assert made.estimate.why in ("all replicates agree", "the difference does not vary")


def test_comparison_of_undefined_figures_says_why() -> None:
    truth, scores, patients = clustered(10)
    resamples = resample_patients(patients, 50, seed=0)
    holed = np.where(np.arange(len(truth)) == 3, np.nan, scores[1])
    for wrong, second, why in (
        (truth, holed, f"1 of {len(truth)} scores are NaN"),
        (np.zeros_like(truth), scores[1], "no positive slice"),
        (np.ones_like(truth), scores[1], "no negative slice"),
    ):
        for made in (
            compare_figures(roc_auc, wrong, scores[0], second, resamples),
            compare_areas(wrong, scores[0], second, patients),
        ):
            assert made.as_dict() == {
                "value": None, "low": None, "high": None, "why": why, "p": None
            }  # fmt: skip


def test_comparison_within_one_patient_has_a_value_but_no_test() -> None:
    truth, scores, _ = clustered(11)
    alone = np.zeros(len(truth))
    by_formula = compare_areas(truth, *scores, alone)
    by_draws = compare_figures(roc_auc, truth, *scores, resample_patients(alone, 50, seed=0))
    assert by_formula.estimate.value == pytest.approx(by_draws.estimate.value)
    assert (by_formula.p, by_draws.p) == (None, None)
    assert by_formula.estimate.why == "a class with a single patient"
    assert by_draws.estimate.why == "a single patient"


@pytest.mark.parametrize("seed", range(4))
def test_mcnemar_equals_that_of_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random(40) < 0.8, rng.random(40) < 0.6
    table = [[(a & b).sum() for b in (second, ~second)] for a in (first, ~first)]
    assert mcnemar(first, second) == pytest.approx(mcnemar_of_statsmodels(table, exact=True).pvalue)
    assert mcnemar(first, first) == 1


def test_difference_of_areas_on_few_bearers_bears_the_note() -> None:
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(60), 4)
    score = rng.random((2, 240))
    resamples = resample_patients(patients, 100, seed=0)
    few = compare_figures(roc_auc, patients < 6, *score, resamples)
    assert few.estimate.note is not None
    assert few.estimate.note.startswith("rests on 6 patients")
    # Negatives are counted too.
    many = compare_figures(roc_auc, patients >= 6, *score, resamples)
    assert many.estimate.note == few.estimate.note
    assert compare_figures(roc_auc, patients < 30, *score, resamples).estimate.note is None
