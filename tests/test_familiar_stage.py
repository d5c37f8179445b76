"""What knows the training slices: made, kept in a file, and asked."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import make_products
from held import SPEC, hold

from hemtrace.engine import Answers
from hemtrace.errors import HemtraceError
from hemtrace.familiar import Familiar, find_familiar, read, stage
from hemtrace.familiar.score import fit_shape
from hemtrace.familiar.stage import make_familiar
from hemtrace.familiar.stored import write
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


def make_splits(monkeypatch: pytest.MonkeyPatch, patients: int = 30) -> pl.DataFrame:
    """Let `open_partition` give slices that are held in memory; their catalog."""
    parts = {
        TrainSlices: hold(TrainSlices, 400, 1),
        ValSlices: hold(ValSlices, 3 * patients, 2),
    }
    monkeypatch.setattr(stage, "open_partition", lambda kind, *_: parts[kind])
    val = parts[ValSlices]
    told = {"slice": val.slices, "patient": val.patients, "series": val.patients}
    return pl.DataFrame(told).with_columns(study=None, any=None)


def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **other: int) -> Familiar | str:
    catalog = make_splits(monkeypatch, **other)
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
