"""evaluate: what stands in its JSON, and where its thresholds come from."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, roc_auc_score

from hemtrace.errors import HemtraceError
from hemtrace.evaluate import (
    FIGURES,
    PROBABILITIES,
    draw_figures,
    evaluate,
    roc_table,
    training_table,
    write_metrics,
)
from hemtrace.evaluate.position import position_scores
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.params import EvaluateParams

PARAMS = EvaluateParams(bootstrap=60, sensitivity=0.8)


def make_predictions(seed: int = 0, slices: int = 400) -> pl.DataFrame:
    """Make up predictions that are better than chance; epidural is absent from the test slices."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, 24, slices)
    partition = np.where(patient % 2, "test", "val")
    bleeding = patient % 3 == 0
    truth = (rng.random((slices, 5)) < 0.25) & bleeding[:, None]
    truth[partition == "test", 0] = False
    truth = np.c_[truth, truth.any(axis=1)]
    logit = rng.normal(size=(slices, 6)) + 2.5 * truth - 2
    return pl.DataFrame(
        {
            "slice": [f"ID_{k:09x}" for k in range(slices)],
            "patient": [f"ID_{k:08x}" for k in patient],
            "partition": partition,
        }
    ).hstack(
        pl.DataFrame(1 / (1 + np.exp(-logit)), schema=list(PROBABILITIES)).hstack(
            pl.DataFrame(truth.astype(np.uint8), schema=list(LABELS))
        )
    )


@pytest.fixture(scope="module")
def predictions() -> pl.DataFrame:
    return make_predictions()


@pytest.fixture(scope="module")
def metrics(predictions: pl.DataFrame) -> dict:
    return evaluate(predictions, PARAMS, seed=1)


def test_figures_equal_scikit_learns(predictions: pl.DataFrame, metrics: dict) -> None:
    test = predictions.filter(pl.col("partition") == "test")
    for label in LABELS[1:]:
        truth, score = test[label].to_numpy(), test[f"p_{label}"].to_numpy()
        own = metrics["partitions"]["test"]["labels"][label]
        assert own["roc_auc"]["value"] == pytest.approx(roc_auc_score(truth, score))
        assert own["log_loss"]["value"] == pytest.approx(log_loss(truth, score))
        assert own["accuracy"]["value"] == pytest.approx(accuracy_score(truth, score >= 0.5))
        flagged = score >= metrics["thresholds"][label]["value"]
        (tn, fp), (fn, tp) = confusion_matrix(truth, flagged)
        assert own["confusion"] == {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
        assert own["sensitivity"]["value"] == pytest.approx(tp / (tp + fn))
        assert own["specificity"]["value"] == pytest.approx(tn / (tn + fp))
        assert own["null"]["accuracy"] == pytest.approx(accuracy_score(truth, 0 * truth))


def test_patient_figures_take_the_highest_slice(predictions: pl.DataFrame, metrics: dict) -> None:
    by_patient = (
        predictions.filter(pl.col("partition") == "test")
        .group_by("patient")
        .agg(pl.col("any").max(), pl.col("p_any").max())
    )
    own = metrics["partitions"]["test"]["patient"]
    assert own["patients"] == by_patient.height
    assert own["positives"] == by_patient["any"].sum()
    expected = roc_auc_score(by_patient["any"], by_patient["p_any"])
    assert own["roc_auc"]["value"] == pytest.approx(expected)


def test_counts_of_the_confusion_add_up_to_the_slices(metrics: dict) -> None:
    for part in metrics["partitions"].values():
        for label in LABELS:
            assert sum(part["labels"][label]["confusion"].values()) == part["slices"]
        assert sum(part["patient"]["confusion"].values()) == part["patients"]


def test_intervals_hold_the_figure(metrics: dict) -> None:
    for label in LABELS[1:]:
        auc = metrics["partitions"]["test"]["labels"][label]["roc_auc"]
        assert auc["low"] < auc["value"] < auc["high"]


def test_thresholds_keep_the_sensitivity_on_validation(metrics: dict) -> None:
    for label in LABELS:
        assert metrics["partitions"]["val"]["labels"][label]["sensitivity"]["value"] >= 0.8
    assert metrics["partitions"]["val"]["patient"]["sensitivity"]["value"] >= 0.8


def test_test_slices_play_no_part_in_the_thresholds(
    predictions: pl.DataFrame, metrics: dict
) -> None:
    turned = predictions.with_columns(
        pl.when(pl.col("partition") == "test")
        .then(1 - pl.col(name))
        .otherwise(pl.col(name))
        .alias(name)
        for name in PROBABILITIES
    )
    other = evaluate(turned, PARAMS, seed=1)
    assert other["thresholds"] == metrics["thresholds"]
    assert other["prevalence"] == metrics["prevalence"]
    assert other["partitions"]["val"] == metrics["partitions"]["val"]
    assert other["headline"] != metrics["headline"]


def test_label_of_one_class_is_null_not_a_number(metrics: dict) -> None:
    absent = metrics["partitions"]["test"]["labels"]["epidural"]
    assert absent["positives"] == 0
    assert absent["roc_auc"]["value"] is None
    assert absent["average_precision"]["value"] is None
    assert absent["sensitivity"]["value"] is None
    assert absent["specificity"]["value"] is not None


def test_threshold_without_validation_positives_is_fixed_and_says_so(
    predictions: pl.DataFrame,
) -> None:
    metrics = evaluate(predictions.with_columns(subdural=pl.lit(0, pl.UInt8)), PARAMS, seed=1)
    threshold = metrics["thresholds"]["subdural"]
    assert threshold == {
        "value": 0.5,
        "positives": 0,
        "source": "0.5, as validation has no positive",
    }


def test_null_comes_from_training_patients_where_the_split_is_given(
    predictions: pl.DataFrame,
) -> None:
    splits = pl.DataFrame(
        {"patient": ["a", "b"], "partition": ["train", "test"], "slices": [20, 5]}
    ).with_columns(pl.Series(label, [4, 5]) for label in LABELS)
    metrics = evaluate(predictions, PARAMS, 1, splits)
    assert metrics["prevalence"] == dict.fromkeys(LABELS, 0.2)
    test = predictions.filter(pl.col("partition") == "test")
    expected = log_loss(test["any"], np.full(test.height, 0.2), labels=[0, 1])
    null = metrics["partitions"]["test"]["labels"]["any"]["null"]
    assert null["log_loss"] == pytest.approx(expected)


def make_scans(partition_of: dict[str, str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make patients of eleven slices whose middle three bleed in every other patient."""
    names = list(partition_of)
    catalog = pl.DataFrame(
        {
            "slice": [f"{name}-{k}" for name in names for k in range(11)],
            "status": "used",
            "patient": np.repeat(names, 11),
            "study": "s",
            "series": "1",
            "z_mm": np.tile(np.arange(11.0) * 5 - 20, len(names)),
            "any": [int(n % 2 == 0 and 4 <= k <= 6) for n in range(len(names)) for k in range(11)],
        }
    )
    splits = pl.DataFrame({"patient": names, "partition": list(partition_of.values())})
    return catalog, splits


def test_position_null_learns_from_training_patients_alone() -> None:
    names = {f"a{n}": "train" for n in range(8)} | {"b0": "test", "b1": "test"}
    catalog, splits = make_scans(names)
    scores = position_scores(catalog, splits)
    by_slice = dict(scores.iter_rows())
    assert by_slice["b0-5"] == by_slice["b1-5"] == 0.5
    assert by_slice["b1-0"] == by_slice["b0-10"] == 0
    turned = catalog.with_columns(
        any=pl.when(pl.col("patient").str.starts_with("b"))
        .then(1 - pl.col("any"))
        .otherwise(pl.col("any"))
    )
    assert position_scores(turned, splits).equals(scores)


def test_slice_without_position_gets_the_overall_share() -> None:
    names = {f"a{n}": "train" for n in range(8)} | {"b0": "test"}
    catalog, splits = make_scans(names)
    lost = catalog.with_columns(
        z_mm=pl.when(pl.col("patient") == "b0").then(None).otherwise(pl.col("z_mm"))
    )
    by_slice = dict(position_scores(lost, splits).iter_rows())
    assert by_slice["b0-5"] == pytest.approx(12 / 88)


def test_position_null_stands_beside_the_auc_of_any() -> None:
    names = {f"a{n}": ("train", "val", "test")[n % 3] for n in range(24)}
    catalog, splits = make_scans(names)
    scored = catalog.join(splits, on="patient").filter(pl.col("partition") != "train")
    scored = scored.with_columns(pl.lit(0).alias(label) for label in SUBTYPES)
    scored = scored.with_columns(pl.lit(0.3).alias(name) for name in PROBABILITIES)
    full = splits.with_columns(slices=11).with_columns(pl.lit(1).alias(label) for label in LABELS)
    test = evaluate(scored, PARAMS, 1, full, catalog)["partitions"]["test"]
    # Twelve of 88 test slices bleed, all at the places where training patients bled.
    assert test["labels"]["any"]["null"]["roc_auc_position"] > 0.9
    assert test["patient"]["null"]["roc_auc_position"] == 0.5
    assert test["labels"]["any"]["roc_auc"]["value"] == 0.5
    assert (
        "roc_auc_position"
        not in evaluate(scored, PARAMS, 1, full)["partitions"]["test"]["labels"]["any"]["null"]
    )


def test_order_of_rows_does_not_change_a_byte(
    predictions: pl.DataFrame, metrics: dict, tmp_path: Path
) -> None:
    shuffled = evaluate(predictions.sample(fraction=1, shuffle=True, seed=9), PARAMS, seed=1)
    write_metrics(metrics, tmp_path / "a.json")
    write_metrics(shuffled, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == metrics


def test_clip_and_rules_stand_beside_the_figures(metrics: dict) -> None:
    assert metrics["rules"]["clip"] == PARAMS.clip
    assert "1e-06" in metrics["rules"]["weighted_log_loss"]
    assert "80%" in metrics["rules"]["threshold"]


@pytest.mark.parametrize("column", ["p_any", "patient", "subdural"])
def test_missing_column_is_a_sentence(predictions: pl.DataFrame, column: str) -> None:
    with pytest.raises(HemtraceError, match=column):
        evaluate(predictions.drop(column), PARAMS, seed=1)


def test_empty_partition_is_a_sentence(predictions: pl.DataFrame) -> None:
    with pytest.raises(HemtraceError, match="'val'"):
        evaluate(predictions.filter(pl.col("partition") == "test"), PARAMS, seed=1)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1])
def test_what_is_no_probability_is_a_sentence(predictions: pl.DataFrame, value: float) -> None:
    wrong = predictions.with_columns(
        p_any=pl.when(pl.int_range(pl.len()) == 7).then(value).otherwise("p_any")
    )
    with pytest.raises(HemtraceError, match=r"1 slices .* first ID_000000007"):
        evaluate(wrong, PARAMS, seed=1)


def test_every_figure_is_drawn_even_where_a_label_is_undefined(
    predictions: pl.DataFrame, metrics: dict
) -> None:
    assert tuple(draw_figures(predictions, metrics)) == FIGURES


def test_roc_table_encloses_the_area(predictions: pl.DataFrame, metrics: dict) -> None:
    table = roc_table(predictions)
    assert set(table["label"]) == set(LABELS) - {"epidural"}
    for label in SUBTYPES[1:]:
        curve = table.filter(pl.col("label") == label)
        area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
        auc = metrics["partitions"]["test"]["labels"][label]["roc_auc"]["value"]
        assert area == pytest.approx(auc, abs=1e-4)


def test_long_curves_are_thinned_without_losing_area() -> None:
    many = make_predictions(seed=3, slices=30_000)
    table = roc_table(many)
    assert table.group_by("label").len()["len"].max() <= 401
    test = many.filter(pl.col("partition") == "test")
    curve = table.filter(pl.col("label") == "any")
    area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
    assert area == pytest.approx(roc_auc_score(test["any"], test["p_any"]), abs=1e-3)


def test_training_table_leaves_out_the_time() -> None:
    history = pl.DataFrame({"epoch": [1, 2], "val_loss": [0.12345678, 0.1], "seconds": [3.0, 4.0]})
    assert training_table(history).to_dict(as_series=False) == {
        "epoch": [1, 2],
        "val_loss": [0.123457, 0.1],
    }
