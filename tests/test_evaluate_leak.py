"""The leak test: it finds planted leaks, none where there is none, and says what it can find."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from sklearn.neighbors import KNeighborsClassifier

from hemtrace.evaluate import leak
from hemtrace.evaluate.leak import POWER, find_leak
from hemtrace.evaluate.position import look_up, position_scores
from hemtrace.evaluate.scored import PROBABILITIES, Scored, scored_partition
from hemtrace.evaluate.shuffle import Scans, give_labels, shuffle_labels
from hemtrace.labels import ANY, LABELS, SUBTYPES
from hemtrace.report.verdicts import tell_leak

HEIGHTS = 11


def make_scans(patients: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make patients of eleven slices, a third in each partition; in half of each three bleed.

    Bleeds lie about the middle, here higher and there lower.
    """
    names = [f"a{n:03}" for n in range(patients)]
    firsts = [(4, 3, 5, 2, 6)[n // 6 % 5] for n in range(patients)]
    bleeds = [
        int(n // 3 % 2 == 0 and 0 <= k - first < 3)
        for n, first in enumerate(firsts)
        for k in range(HEIGHTS)
    ]
    catalog = pl.DataFrame(
        {
            "slice": [f"{name}-{k:02}" for name in names for k in range(HEIGHTS)],
            "status": "used",
            "patient": np.repeat(names, HEIGHTS),
            "study": np.repeat(names, HEIGHTS),
            "series": "1",
            "z_mm": np.tile(np.arange(HEIGHTS) * 5.0, patients),
            "any": bleeds,
        }
    ).with_columns(pl.lit(0).alias(label) for label in SUBTYPES)
    splits = pl.DataFrame(
        {"patient": names, "partition": [("train", "val", "test")[n % 3] for n in range(patients)]}
    ).with_columns(pl.lit(0).alias(label) for label in LABELS)
    return catalog, splits


def learn_shuffled(seed: int, hole: str | None, patients: int = 90) -> dict:
    """Run the leak test on a system that learns shuffled labels, as the stage does.

    What it sees of a slice is whose it is (bones, noise of the scanner), how high it lies, and, in
    the leak `label`, the very label that it is asked for. With
    the hole `patient` every other slice
    of each test patient is among those that it learns from.
    """
    rng = np.random.default_rng(seed)
    catalog, splits = make_scans(patients)
    moved, _ = shuffle_labels(catalog, splits, seed)
    table = moved.join(splits.select("patient", "partition"), on="patient", maintain_order="left")
    truth, partition = table["any"].to_numpy(), table["partition"].to_numpy()
    place = np.tile(np.arange(HEIGHTS), patients)
    looks = np.repeat(rng.normal(size=(patients, 6)), HEIGHTS, axis=0)
    seen = [looks + rng.normal(0, 0.1, looks.shape), place[:, None] / 2]
    if hole == "label":
        seen.append((truth + rng.normal(0, 0.3, len(truth)))[:, None] * 3)
    features = np.hstack(seen)
    test = partition == "test"
    learned = partition == "train"
    if hole == "patient":
        learned |= test & (place % 2 == 0)
        test &= place % 2 == 1
    neighbours = KNeighborsClassifier(5, weights="distance")
    guessed = neighbours.fit(features[learned], truth[learned]).predict_proba(features[test])[:, 1]
    predictions = table.filter(pl.Series(test)).with_columns(
        pl.Series(name, guessed) for name in PROBABILITIES
    )
    position = position_scores(moved, splits)
    return find_leak(scored_partition(predictions, "test"), position, 300, seed)


@pytest.mark.parametrize("hole", ["patient", "label"])
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_leak_is_found(hole: str, seed: int) -> None:
    found = learn_shuffled(seed, hole)
    assert found["passed"] is False
    assert found["difference"]["low"] > 0


def test_without_a_leak_nothing_is_found() -> None:
    passed = [learn_shuffled(seed, None)["passed"] for seed in range(10)]
    assert passed.count(True) >= 9


def guess(scored: Scored, position: pl.DataFrame, lift: float, rng: np.random.Generator) -> Scored:
    """Guess by the position, by whims about patients and slices, and by the truth times `lift`."""
    whims = rng.normal(size=len(np.unique(scored.patients))).repeat(HEIGHTS)
    whims += rng.normal(size=len(scored))
    place = look_up(position, scored.keys)[:, ANY]
    guessed = expit(12 * place + whims + lift * scored.truth[:, ANY])
    return replace(scored, probability=np.tile(guessed[:, None], (1, len(LABELS))))


def knowing_the_position(seed: int, patients: int) -> tuple[Scored, pl.DataFrame]:
    """Make a shuffled run of a network that knows where slices lie, and nothing else."""
    catalog, splits = make_scans(patients)
    moved, _ = shuffle_labels(catalog, splits, seed)
    table = moved.join(splits.select("patient", "partition"), on="patient", maintain_order="left")
    blank = table.with_columns(pl.lit(0.5).alias(name) for name in PROBABILITIES)
    position = position_scores(moved, splits)
    scored = scored_partition(blank, "test")
    return guess(scored, position, 0, np.random.default_rng(seed)), position


def test_a_lift_of_the_stated_size_is_found_four_times_in_five(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lifts, rounds, powers, false_alarms = (0.0, 1.0, 1.5, 2.0), 25, [], []
    for seed in range(4):
        scored, position = knowing_the_position(seed, 90)
        shift = find_leak(scored, position, 300, seed)["detectable"]["shift"]
        # The same network meets other patients, and knows more and more of their labels.
        people = len(scored) // HEIGHTS
        scans = Scans(np.full(people, HEIGHTS), np.arange(people))
        areas, caught = np.zeros((rounds, len(lifts))), np.zeros((rounds, len(lifts)))
        with monkeypatch.context() as patch:
            patch.setattr(leak, "PERMUTATIONS", 1)
            for k in range(rounds):
                rng = np.random.default_rng([seed, k])
                other = replace(scored, truth=scored.truth[give_labels(scans, rng)])
                for column, lift in enumerate(lifts):
                    run = find_leak(guess(other, position, lift, rng), position, 100, k)
                    areas[k, column] = run["network"]["value"]
                    caught[k, column] = run["passed"] is False
        of_lift, found = areas.mean(axis=0), caught.mean(axis=0)
        powers.append(np.interp(of_lift[0] + shift, of_lift, found))
        false_alarms.append(found[0])
    assert np.mean(powers) == pytest.approx(POWER, abs=0.12)
    assert np.mean(false_alarms) < 0.1


def test_more_patients_show_smaller_leaks() -> None:
    few, many = (
        [find_leak(*knowing_the_position(s, count), 100, s)["detectable"]["shift"] for s in seeds]
        for count, seeds in ((90, range(6)), (900, range(3)))
    )
    assert 0.03 < np.mean(many) < 0.85 * np.mean(few)


def take(scored: Scored, rows: np.ndarray) -> Scored:
    """Keep some rows."""
    names = ("keys", "patients", "studies", "truth", "probability")
    return replace(scored, **{name: getattr(scored, name)[rows] for name in names})


def test_what_the_test_could_find_says_why_where_it_cannot_be_told() -> None:
    scored, position = knowing_the_position(0, 30)
    names = np.unique(scored.patients)
    few = find_leak(take(scored, np.isin(scored.patients, names[:2])), position, 200, 0)
    assert few["passed"] is None
    assert few["detectable"]["shift"] is None
    assert few["detectable"]["why"] == "only 2 patients"
    clear = take(scored, ~scored.truth[:, -1])
    none = find_leak(clear, position, 200, 0)
    assert none["detectable"]["why"] == "no positive slice"
    told = find_leak(scored, position, 200, 0)["detectable"]
    assert (told["why"], told["power"], told["patients"]) == (None, POWER, 10)
    assert told["bearers"] == len(np.unique(scored.patients[scored.truth[:, -1]]))


def leak_note(found: dict | None) -> str:
    return tell_leak({"leak_test": found})


def test_words_of_the_leak_test_say_what_was_found() -> None:
    leaked, sound = leak_note(learn_shuffled(0, "patient")), leak_note(learn_shuffled(0, None))
    scored, position = knowing_the_position(0, 30)
    few = take(scored, np.isin(scored.patients, np.unique(scored.patients)[:2]))
    untold = leak_note(find_leak(few, position, 200, 0))
    assert leaked.startswith("Failed, because")
    assert "no sign" not in leaked
    assert sound.startswith("Passed, because")
    for note in (untold, leak_note(find_leak(take(scored, ~scored.truth[:, -1]), position, 9, 0))):
        assert note.startswith("Cannot be told, because")
    assert "No network was trained on shuffled labels" in leak_note(None)
