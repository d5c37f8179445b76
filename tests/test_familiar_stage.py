"""What knows the training slices: made, kept in a file, and asked."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import make_products
from held import SPEC, hold
from scipy.stats import norm

from hemtrace.engine import Answers
from hemtrace.errors import HemtraceError
from hemtrace.familiar import Familiar, find_familiar, read, stage
from hemtrace.familiar.score import fit_shape
from hemtrace.familiar.stage import make_familiar
from hemtrace.familiar.stored import write
from hemtrace.familiar.threshold import choose_threshold
from hemtrace.model import ModelSpec
from hemtrace.shards import TrainSlices, ValSlices

SHA = "a" * 64


class Greys:
    """An engine whose features are grey levels at some places of the picture."""

    spec: ModelSpec = SPEC
    runtime = "a test"
    model_sha256 = SHA
    fallback = None
    has_cells = False
    pools = True

    def run(self, pictures: np.ndarray) -> Answers:
        features = pictures[:, :, 3::12, 3::12].reshape(len(pictures), -1).astype(np.float32)
        return Answers(np.zeros((len(pictures), 6)), None, features if self.pools else None)

    def heat(self, pictures: np.ndarray, labels: object) -> np.ndarray:
        raise NotImplementedError


def make_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patients: int = 30
) -> pl.DataFrame:
    """Let `open_partition` give slices that are held in memory; their catalog."""
    parts = {
        TrainSlices: hold(TrainSlices, 400, 1),
        ValSlices: hold(ValSlices, 3 * patients, 2),
    }
    monkeypatch.setattr(stage, "open_partition", lambda kind, *_: parts[kind])
    return pl.DataFrame({"slice": parts[ValSlices].slices, "series": parts[ValSlices].patients})


def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **other: int) -> Familiar | str:
    catalog = make_splits(tmp_path, monkeypatch, **other)
    return make_familiar(Greys(), catalog, pl.DataFrame(), tmp_path, 0.99, 0)


def small(threshold: float = 1.5) -> Familiar:
    shape = fit_shape(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    return Familiar(shape, threshold, 0.99, 50, 9, 1.2, True)


def test_validation_patients_pass_and_foreign_pictures_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path, monkeypatch)
    assert isinstance(made, Familiar)
    assert (made.slices, made.patients, made.synthetic) == (400, 30, True)
    assert made.threshold >= made.highest > 0
    unseen = hold(ValSlices, 60, 9).read(np.arange(60))
    features = Greys().run(unseen).features
    assert features is not None
    assert made.judge(made.distance(features)) is None
    foreign = Greys().run(255 - unseen).features
    assert foreign is not None
    reason = made.judge(made.distance(foreign))
    assert reason is not None
    assert reason.stops
    assert reason.code == "unlike-training"
    assert "synthetic data" in reason.sentence


def test_half_of_the_slices_must_be_unlike() -> None:
    familiar = small()
    assert familiar.judge(np.array([1.0, 1.0, 1.0, 99.0, 99.0])) is None
    assert familiar.judge(np.array([1.0, 1.0, 99.0, 99.0, 99.0])) is not None
    assert familiar.judge(np.array([1.0, np.nan, np.nan])) is not None
    assert familiar.judge(np.array([])) is None


def test_with_many_patients_the_limit_is_one_of_their_scores() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 200.0))  # 199 of them
    assert choose_threshold(scores, 0.99) == 198  # the ceil(200 x 0.99)th
    assert choose_threshold(scores, 0.5) == 100


def test_with_few_patients_the_limit_keeps_its_promise() -> None:
    chance = np.random.default_rng(0)
    share = [
        norm.cdf(np.log(choose_threshold(np.exp(chance.normal(size=15)), 0.95)))
        for _ in range(2000)
    ]
    # Of a further score, over all draws of 15. The highest of them alone would give 15/16.
    assert np.mean(share) == pytest.approx(0.955, abs=0.01)
    for count in (5, 15, 98):
        scores = np.exp(chance.normal(size=count))
        assert choose_threshold(scores, 0.99) >= scores.max()


@pytest.mark.parametrize("scores", [[1, 2, 3, 4], [1, 2, 3, 4, 0], [1, 2, 3, 4, np.nan]])
def test_a_limit_is_not_fixed_on_nothing(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="do not fix a threshold"):
        choose_threshold(np.array(scores, float), 0.99)


def test_a_file_says_why_nothing_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_few = make(tmp_path, monkeypatch, patients=4)
    assert isinstance(too_few, str)
    assert "4 validation patients are too few" in too_few
    monkeypatch.setattr(Greys, "pools", False)
    made = make(tmp_path, monkeypatch)
    assert isinstance(made, str)
    assert "does not pool" in made
    write(made, SHA, True, tmp_path / "familiar.npz")
    assert read(tmp_path / "familiar.npz", SHA) is None
    assert find_familiar(tmp_path / "model.safetensors", SHA) is None


def test_the_file_gives_the_same_distances(tmp_path: Path) -> None:
    familiar, path = small(), tmp_path / "familiar.npz"
    assert find_familiar(tmp_path / "model.safetensors", SHA) is None
    write(familiar, SHA, True, path)
    first = path.read_bytes()
    again = find_familiar(tmp_path / "model.safetensors", SHA)
    assert again is not None
    features = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    np.testing.assert_array_equal(again.distance(features), familiar.distance(features))
    numbers = ("threshold", "share", "slices", "patients", "highest", "synthetic")
    assert [getattr(again, name) for name in numbers] == [
        getattr(familiar, name) for name in numbers
    ]
    write(familiar, SHA, True, path)
    assert path.read_bytes() == first
    with pytest.raises(HemtraceError, match="made for 4 features"):
        again.distance(features[:, :3])


def test_what_is_damaged_or_anothers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "familiar.npz"
    with pytest.raises(HemtraceError, match="not found"):
        read(path, SHA)
    write(small(), SHA, True, path)
    with pytest.raises(HemtraceError, match="belongs to another model"):
        read(path, "b" * 64)
    whole = path.read_bytes()
    for damaged in (whole[:200], b"", b"text", whole[:100] + b"\0" * 60 + whole[160:]):
        path.write_bytes(damaged)
        with pytest.raises(HemtraceError, match="damaged"):
            read(path, SHA)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", np.array(99)),
        ("mean", np.zeros(3, np.float32)),
        ("mean", np.full(4, np.nan, np.float32)),
        ("mean", np.zeros(4)),
        ("spread", np.zeros(4, np.float32)),
        ("whiten", np.array([object()])),
        ("threshold", np.array(np.inf)),
        ("share", np.zeros(3)),
        ("share", None),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(
    tmp_path: Path, name: str, value: np.ndarray | None
) -> None:
    path = tmp_path / "familiar.npz"
    write(small(), SHA, True, path)
    with np.load(path) as stored:
        held = dict(stored) | {name: value}
    np.savez(path, **{key: one for key, one in held.items() if one is not None})
    with pytest.raises(HemtraceError, match="damaged"):
        read(path, SHA)


def test_real_products_need_more_patients_and_say_so(raw: Path, tmp_path: Path) -> None:
    folder = make_products(raw, tmp_path, "npy", SPEC.view)
    catalog, splits = (
        pl.read_parquet(folder / f"{name}.parquet") for name in ("catalog", "splits")
    )
    made = make_familiar(Greys(), catalog, splits, folder, 0.99, 0)
    assert made == (
        "3 validation patients are too few to tell a usual distance from an unusual one; 5 or more "
        "are needed."
    )
