"""The measured distance from the training data refuses what is foreign, and nothing else."""

import dataclasses
import hashlib
import math

import numpy as np
import polars as pl
import pytest
from conftest import make_products
from held import SPEC
from scipy.spatial.distance import mahalanobis
from scipy.stats import norm
from sklearn.covariance import ledoit_wolf

from hemtrace.engine import Answers
from hemtrace.errors import HemtraceError
from hemtrace.familiar import Familiar, find_familiar, read
from hemtrace.familiar.count import NOT_MEASURED, count_unlike, tell_unlike
from hemtrace.familiar.score import fit_shape, score_series
from hemtrace.familiar.stage import count_unlike_test, make_familiar
from hemtrace.familiar.stored import write
from hemtrace.familiar.threshold import FEWEST, choose_threshold
from hemtrace.shards import TestSlices, open_partition

SHA = hashlib.sha256(b"model").hexdigest()


def draw(seed: int, count: int, shift: float = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3 + shift, 2, (count, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def familiar() -> Familiar:
    return Familiar(fit_shape(draw(0, 300)), 1.5, 0.99, 300, 9, 1.2, synthetic=True)


def test_distance_is_mahalanobis_of_standardised_features(familiar):
    train, asked, shape = draw(0, 300), draw(1, 20), familiar.shape
    scaled = (train - shape.mean.astype(np.float64)) / shape.spread
    inverse = np.linalg.inv(ledoit_wolf(scaled, assume_centered=True)[0])
    standard = (asked - shape.mean) / shape.spread
    judge = [mahalanobis(row, np.zeros(8), inverse) / np.sqrt(8) for row in standard]
    np.testing.assert_allclose(familiar.distance(asked), judge, rtol=1e-4)


def test_foreign_features_are_refused_and_those_like_training_are_not(familiar):
    assert familiar.judge(familiar.distance(draw(1, 20))) is None
    reason = familiar.judge(familiar.distance(draw(1, 20, shift=9)))
    assert (reason.code, reason.stops) == ("unlike-training", True)
    assert "9 validation patients" in reason.sentence
    assert "synthetic data" in reason.sentence
    assert familiar.judge(np.array([])) is None


def test_half_of_the_slices_must_be_foreign(familiar):
    odd = np.r_[np.full(9, 1.0), np.full(8, 50.0)]
    assert familiar.judge(odd) is None
    assert familiar.judge(np.r_[odd, 50.0, 50.0]) is not None
    assert score_series(odd) == 1.0


def test_a_number_that_is_none_is_refused(familiar):
    features = draw(1, 5)
    features[:3, 0] = np.nan
    assert familiar.judge(familiar.distance(features)) is not None


def test_another_number_of_features_is_refused_in_a_sentence(familiar):
    with pytest.raises(HemtraceError, match="belongs to another model"):
        familiar.distance(np.zeros((2, 7)))


def test_what_cannot_be_fitted_is_told():
    with pytest.raises(ValueError, match="same features"):
        fit_shape(np.ones((9, 3)))
    with pytest.raises(ValueError, match="not finite"):
        fit_shape(np.array([[1.0, np.inf], [0.0, 1.0]]))


def test_with_many_patients_the_threshold_is_one_of_their_scores():
    scores = np.random.default_rng(3).lognormal(0, 0.2, 199)
    assert choose_threshold(scores, 0.99) == np.sort(scores)[197]


def test_with_few_patients_a_further_one_passes_with_the_wanted_chance():
    """Simulated: the threshold is of the patients, the further one is new."""
    chance = np.random.default_rng(4)
    passed = 0.0
    for _ in range(2000):
        scores = chance.lognormal(0, 0.3, 12)
        passed += norm.cdf(math.log(choose_threshold(scores, 0.9)) / 0.3)
    # "Never less than the highest score" makes it pass a little more often.
    assert 0.9 <= passed / 2000 < 0.94


@pytest.mark.parametrize("scores", [np.ones(FEWEST - 1), np.r_[np.ones(9), np.nan], np.zeros(9)])
def test_scores_that_fix_no_threshold_are_refused(scores):
    with pytest.raises(ValueError, match="do not fix"):
        choose_threshold(scores, 0.99)


def test_the_file_gives_back_what_was_written(familiar, tmp_path):
    path = tmp_path / "familiar.npz"
    write(familiar, SHA, True, path)
    found = find_familiar(tmp_path / "model.safetensors", SHA)
    for field in dataclasses.fields(Familiar):
        if field.name != "shape":
            assert getattr(found, field.name) == getattr(familiar, field.name)
    assert (found.distance(draw(2, 5)) == familiar.distance(draw(2, 5))).all()
    first = path.read_bytes()
    write(familiar, SHA, True, path)
    assert path.read_bytes() == first


def test_where_nothing_was_measured_there_is_none(tmp_path):
    assert find_familiar(tmp_path / "model.safetensors", SHA) is None
    write("The network has no features.", SHA, True, tmp_path / "familiar.npz")
    assert find_familiar(tmp_path / "model.safetensors", SHA) is None


def test_the_file_of_another_model_and_a_damaged_one_are_refused(familiar, tmp_path):
    path = tmp_path / "familiar.npz"
    write(familiar, SHA, True, path)
    with pytest.raises(HemtraceError, match="another model"):
        read(path, "0" * 64)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(HemtraceError, match="make it again"):
        read(path, SHA)
    np.savez(path, version=np.array([object()], dtype=object))
    with pytest.raises(HemtraceError, match="make it again"):
        read(path, SHA)


class Means:
    """An engine whose features are means of the picture's quarters."""

    spec = SPEC

    def __init__(self, has_features: bool = True) -> None:
        self.seen: list[np.ndarray] = []
        self._has_features = has_features

    def run(self, pictures: np.ndarray) -> Answers:
        self.seen.append(pictures)
        half = pictures.shape[-1] // 2
        cut = (pictures[..., :half], pictures[..., half:])
        told = np.stack([part.mean(axis=(1, 2, 3)) for part in cut], axis=1).astype(np.float32)
        return Answers(np.zeros((len(pictures), 6)), None, told if self._has_features else None)


@pytest.fixture(scope="module")
def products(raw, tmp_path_factory):
    folder = make_products(raw, tmp_path_factory.mktemp("familiar"), "npy", SPEC.view)
    catalog = pl.read_parquet(folder / "catalog.parquet")
    patients = catalog["patient"].drop_nulls().unique().sort()
    parts = ["train"] * 4 + ["val"] * 6 + ["test"] * (len(patients) - 10)
    return folder, catalog, pl.DataFrame({"patient": patients, "partition": parts})


def test_it_is_fitted_to_training_slices_and_judged_by_validation_patients(products):
    folder, catalog, splits = products
    engine = Means()
    made = make_familiar(engine, catalog, splits, folder, 0.9, seed=1)
    assert (made.slices, made.patients, made.synthetic) == (12, 6, SPEC.synthetic)
    train, val = engine.seen
    assert len(train) == 12
    shape = fit_shape(Means().run(train).features)
    assert (shape.mean == made.shape.mean).all()
    by_patient = shape.distance(Means().run(val).features).reshape(6, 3)
    assert made.threshold == choose_threshold(np.median(by_patient, axis=1), 0.9)
    assert made.highest == np.median(by_patient, axis=1).max()


def test_without_features_or_with_too_few_patients_the_reason_is_told(products):
    folder, catalog, splits = products
    told = make_familiar(Means(False), catalog, splits, folder, 0.9, seed=1)
    assert "does not pool" in told
    val = pl.col("partition").replace("val", "test")
    few = splits.with_columns(pl.when(pl.int_range(pl.len()) < 7).then("partition").otherwise(val))
    told = make_familiar(Means(), catalog, few, folder, 0.9, seed=1)
    assert "3 validation patients are too few" in told


def rows(*series: tuple[str, str, list[float], int | None]) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame({"study": study, "series": name, "distance": distances}).with_columns(
            any=pl.lit(bleed, pl.UInt8)
        )
        for study, name, distances, bleed in series
    )


def test_studies_beyond_the_limit_are_counted_as_prediction_judges_them(familiar):
    found = count_unlike(
        familiar,
        rows(
            ("a", "1", [1.0, 1.1, 9.0], 1),  # half of its slices are familiar
            ("b", "1", [1.0], 0),
            ("b", "2", [1.6], 0),
            ("c", "1", [1.5], 1),  # at the limit
            ("d", "1", [1.0, math.nan, 1.0], 1),
        ),
    )
    assert found == {
        "why": None,
        "studies": 4,
        "unlike": 2,
        "bleeding": 3,
        "unlike_bleeding": 1,
        "threshold": 1.5,
        "farthest": None,
        "drawn": None,
    }
    assert "Of 4 scored studies 2 (1 of the 3 with a bleed) lie farther" in tell_unlike(found)


def test_bleeds_that_nobody_knows_of_are_not_counted(familiar):
    found = count_unlike(familiar, rows(("a", "1", [1.0], None), ("b", "1", [1.7], None)))
    assert (found["unlike"], found["bleeding"], found["farthest"]) == (1, None, 1.7)
    assert "Of 2 scored studies 1 lies farther" in tell_unlike(found)
    assert "the farthest study: 1.70" in tell_unlike(found)
    nobody = count_unlike(familiar, rows(("a", "1", [1.0], 1), ("b", "1", [1.2], 0)))
    assert "Of 2 scored studies none lies farther from" in tell_unlike(nobody)


@pytest.mark.parametrize("distances", [(1.0, math.nan), (math.nan, 1.0)])
def test_a_series_without_a_number_makes_its_study_unlike(familiar, distances):
    found = count_unlike(familiar, rows(*(("a", str(d), [d], 0) for d in distances)))
    assert found["unlike"] == 1


@pytest.fixture(scope="module")
def counted(products):
    """Four test patients: the first has two series, the second no identifiers, two of them bleed.

    What is counted at the middle of their distances, and these distances.
    """
    folder, catalog, splits = products
    parts = ["train"] * (splits.height - 9) + ["val"] * 5 + ["test"] * 4
    splits = splits.with_columns(partition=pl.Series(parts))
    ours = splits.filter(pl.col("partition") == "test")["patient"]
    of = [pl.col("patient") == name for name in ours]
    first = pl.col("slice").rank("ordinal").over("patient") == 1
    catalog = catalog.with_columns(
        pl.when(of[0] & first).then(pl.lit("x")).when(~of[1]).then("series").alias("series"),
        pl.when(~of[1]).then("study").alias("study"),
        pl.when(pl.col("patient").is_in(ours))
        .then((of[1] | of[2]).cast(pl.Int8))
        .otherwise("any")
        .alias("any"),
    )
    engine = Means()
    made = make_familiar(engine, catalog, splits, folder, 0.9, seed=1)
    engine.seen.clear()
    count_unlike_test(engine, made, catalog, splits, folder, seed=1)
    test = open_partition(TestSlices, catalog, splits, folder)
    by_slice = dict(
        zip(test.slices, made.distance(Means().run(engine.seen[0]).features), strict=True)
    )
    names = catalog.filter(pl.col("status") == "used").select("patient", "slice").sort("slice")
    scores = [[by_slice[k] for k in names.filter(pl.col("patient") == p)["slice"]] for p in ours]
    far = [max(scores[0][0], np.median(scores[0][1:])), *(np.median(one) for one in scores[1:])]
    return dataclasses.replace(made, threshold=sorted(far)[1]), far, (catalog, splits, folder)


def test_test_studies_are_counted_with_their_series_and_bleeds(counted):
    familiar, far, (catalog, splits, folder) = counted
    unlike = [int(one > familiar.threshold) for one in far]
    assert count_unlike_test(Means(), familiar, catalog, splits, folder, seed=1) == {
        "why": None,
        "studies": 4,
        "unlike": 2,
        "bleeding": 2,
        "unlike_bleeding": unlike[1] + unlike[2],
        "threshold": familiar.threshold,
        "farthest": max(far),
        "drawn": None,
    }


def test_many_test_patients_are_drawn_by_lot_and_this_is_said(counted, monkeypatch):
    familiar, _, given = counted
    monkeypatch.setattr("hemtrace.familiar.stage.MOST_PATIENTS", 3)
    found = count_unlike_test(Means(), familiar, *given, seed=1)
    assert (found["studies"], found["drawn"]) == (3, {"patients": 3, "of": 4})
    assert "Of 3 scored studies of 3 patients, drawn by lot from 4, " in tell_unlike(found)


def test_why_nothing_was_counted_is_told(counted):
    found = count_unlike_test(Means(), "Too few.", *counted[2], seed=1)
    assert (found["why"], found["unlike"]) == ("Too few", None)
    assert "was not measured: Too few." in tell_unlike(found)
    assert NOT_MEASURED in tell_unlike(count_unlike(None, rows(("a", "1", [1.0], 1))))
