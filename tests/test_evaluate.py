"""evaluate: what stands in its JSON, and where its thresholds come from."""

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    roc_auc_score,
)

from hemtrace.errors import HemtraceError
from hemtrace.evaluate import (
    FIGURES,
    PROBABILITIES,
    draw_figures,
    evaluate,
    fix_on_validation,
    render_latex,
    results_table,
    roc_table,
    training_table,
    write_metrics,
)
from hemtrace.evaluate.operating import read_operating, write_operating
from hemtrace.evaluate.position import learn_position, position_scores, slice_depths
from hemtrace.evaluate.results import SYNTHETIC
from hemtrace.evaluate.scored import LEVELS, scored_partition
from hemtrace.evaluate.shuffle import shuffle_labels
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.params import EvaluateParams

PARAMS = EvaluateParams(bootstrap=60, sensitivity=0.8, calibration="none")
POINTS = ("rule-out", "balanced", "rule-in")


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
            "study": [f"ID_{k:08x}{n % 2}" for n, k in enumerate(patient)],
            "partition": partition,
        }
    ).hstack(
        pl.DataFrame(1 / (1 + np.exp(-logit)), schema=list(PROBABILITIES)).hstack(
            pl.DataFrame(truth.astype(np.uint8), schema=list(LABELS))
        )
    )


def score(predictions: pl.DataFrame, params: EvaluateParams = PARAMS, **tables: object) -> dict:
    operating = fix_on_validation(predictions, params, "0" * 64, synthetic=True)
    return evaluate(predictions, operating, params, 1, **tables)


@pytest.fixture(scope="module")
def predictions() -> pl.DataFrame:
    return make_predictions()


@pytest.fixture(scope="module")
def metrics(predictions: pl.DataFrame) -> dict:
    return score(predictions)


def by_hand(predictions: pl.DataFrame, level: str) -> pl.DataFrame:
    """Keep the highest truth and probability of each study or patient, by polars."""
    test = predictions.filter(pl.col("partition") == "test")
    if level == "slices":
        return test
    key = {"studies": "study", "patients": "patient"}[level]
    return test.group_by(key).agg(pl.col(LABELS).max(), pl.col(PROBABILITIES).max())


@pytest.mark.parametrize("level", ["slices", "studies", "patients"])
def test_figures_equal_scikit_learns_at_every_level(
    predictions: pl.DataFrame, metrics: dict, level: str
) -> None:
    table, own_level = by_hand(predictions, level), metrics["partitions"]["test"][level]
    assert own_level["n"] == table.height
    for label in LABELS[1:]:
        truth, guess = table[label].to_numpy(), table[f"p_{label}"].to_numpy()
        own = own_level["labels"][label]
        expected = {
            "roc_auc": roc_auc_score(truth, guess),
            "average_precision": average_precision_score(truth, guess),
            "log_loss": log_loss(truth, guess),
            "brier": brier_score_loss(truth, guess),
            "accuracy": accuracy_score(truth, guess >= 0.5),
        }
        for name, value in expected.items():
            assert own[name]["value"] == pytest.approx(value), name
        assert own["null"]["accuracy"] == pytest.approx(accuracy_score(truth, 0 * truth))
        assert own["positives"] == truth.sum()


@pytest.mark.parametrize("level", ["slices", "studies", "patients"])
def test_rates_at_every_point_equal_scikit_learns(
    predictions: pl.DataFrame, metrics: dict, level: str
) -> None:
    table = by_hand(predictions, level)
    for label in LABELS[1:]:
        truth, guess = table[label].to_numpy(), table[f"p_{label}"].to_numpy()
        for point in POINTS:
            own = metrics["partitions"]["test"][level]["labels"][label]["points"][point]
            flagged = guess >= own["threshold"]
            (tn, fp), (fn, tp) = confusion_matrix(truth, flagged)
            assert own["confusion"] == {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
            expected = {
                "sensitivity": tp / (tp + fn),
                "specificity": tn / (tn + fp),
                "positive_predictive_value": precision_score(truth, flagged),
                "negative_predictive_value": precision_score(truth, flagged, pos_label=0),
                "f1": f1_score(truth, flagged),
                "balanced_accuracy": balanced_accuracy_score(truth, flagged),
                "accuracy": accuracy_score(truth, flagged),
            }
            if fp:
                expected["positive_likelihood_ratio"] = (tp / (tp + fn)) / (fp / (tn + fp))
            for name, value in expected.items():
                assert own[name]["value"] == pytest.approx(value), (label, point, name)


def test_accuracies_are_counted_in_both_ways(predictions: pl.DataFrame, metrics: dict) -> None:
    test = predictions.filter(pl.col("partition") == "test")
    truth = test.select(LABELS).to_numpy()
    answer = (test.select(PROBABILITIES).to_numpy() >= 0.5).astype(int)
    own = metrics["partitions"]["test"]["slices"]
    by_label = [accuracy_score(truth[:, k], answer[:, k]) for k in range(6)]
    assert own["mean_accuracy"]["value"] == pytest.approx(np.mean(by_label))
    # scikit-learn's accuracy of several labels is that of all being right.
    assert own["exact_match"]["value"] == pytest.approx(accuracy_score(truth, answer))


def test_weighted_log_loss_counts_any_twice(predictions: pl.DataFrame, metrics: dict) -> None:
    test = predictions.filter(pl.col("partition") == "test")
    losses = [log_loss(test[name], test[f"p_{name}"], labels=[0, 1]) for name in LABELS]
    expected = (sum(losses) + losses[-1]) / 7
    own = metrics["partitions"]["test"]["slices"]["weighted_log_loss"]
    assert own["value"] == pytest.approx(expected)


def test_mean_of_three_is_another_score_of_the_patient(predictions: pl.DataFrame) -> None:
    slices = scored_partition(predictions, "test")
    own = slices.at_level("patients", "mean-of-3")
    test = predictions.filter(pl.col("partition") == "test")
    for name, row in zip(own.keys, own.probability, strict=True):
        expected = test.filter(pl.col("patient") == name)["p_any"].sort(descending=True)[:3].mean()
        assert row[-1] == pytest.approx(expected)


def test_intervals_hold_the_figure(metrics: dict) -> None:
    for label in LABELS[1:]:
        auc = metrics["partitions"]["test"]["slices"]["labels"][label]["roc_auc"]
        assert auc["low"] < auc["value"] < auc["high"]


def test_points_reach_their_aims_on_validation(metrics: dict) -> None:
    val = metrics["partitions"]["val"]
    own = [val["slices"]["labels"][label]["points"] for label in LABELS]
    for points in [*own, val["patients"]["labels"]["any"]["points"]]:
        assert points["rule-out"]["sensitivity"]["value"] >= 0.8
        assert points["rule-in"]["specificity"]["value"] >= 0.95


def test_test_slices_play_no_part_in_what_is_fixed(predictions: pl.DataFrame) -> None:
    turned = predictions.with_columns(
        pl.when(pl.col("partition") == "test")
        .then(1 - pl.col(name))
        .otherwise(pl.col(name))
        .alias(name)
        for name in PROBABILITIES
    )
    params = EvaluateParams(bootstrap=20)
    first, second = (fix_on_validation(table, params, "0", True) for table in (predictions, turned))
    assert first == second
    own, other = score(predictions, params), score(turned, params)
    assert other["prevalence"] == own["prevalence"]
    assert other["partitions"]["val"] == own["partitions"]["val"]
    assert other["headline"] != own["headline"]


def test_patients_of_the_fit_are_never_reported_on(predictions: pl.DataFrame) -> None:
    other = predictions.with_columns(
        partition=pl.when(pl.col("partition") == "val")
        .then(pl.lit("test"))
        .otherwise(pl.lit("val"))
    )
    operating = fix_on_validation(other, PARAMS, "0", True)
    with pytest.raises(HemtraceError, match="12 of 12 patients"):
        evaluate(predictions, operating, PARAMS, 1)


def test_label_of_one_class_is_not_estimable_and_says_why(metrics: dict) -> None:
    absent = metrics["partitions"]["test"]["slices"]["labels"]["epidural"]
    assert absent["positives"] == 0
    for figure in ("roc_auc", "average_precision"):
        assert absent[figure]["value"] is None
        assert absent[figure]["why"] == "no positive slice"
    point = absent["points"]["balanced"]
    assert point["sensitivity"] == {
        "value": None, "low": None, "high": None, "why": "no positive slice",
    }  # fmt: skip
    assert point["specificity"]["value"] is not None


def test_point_without_validation_positives_is_not_estimable(predictions: pl.DataFrame) -> None:
    metrics = score(predictions.with_columns(subdural=pl.lit(0, pl.UInt8)))
    for point in POINTS:
        own = metrics["partitions"]["test"]["slices"]["labels"]["subdural"]["points"][point]
        assert own["threshold"] is None
        assert own["confusion"] is None
        assert "no positive validation slice" in own["sensitivity"]["why"]
        of_patients = metrics["partitions"]["test"]["patients"]["labels"]["subdural"]
        why = of_patients["points"][point]["sensitivity"]["why"]
        assert "no positive validation patient" in why


def test_one_nan_score_makes_its_label_not_estimable_and_the_rest_goes_on(
    predictions: pl.DataFrame, metrics: dict, tmp_path: Path
) -> None:
    test = pl.col("partition") == "test"
    first = test & (test.cum_sum() == 1)
    holed = predictions.with_columns(
        p_subdural=pl.when(first).then(float("nan")).otherwise("p_subdural")
    )
    own = score(holed)
    write_metrics(own, tmp_path / "evaluation.json")  # no NaN in it
    slices = own["partitions"]["test"]["slices"]
    assert slices["labels"]["subdural"]["roc_auc"]["value"] is None
    assert "1 of " in slices["labels"]["subdural"]["roc_auc"]["why"]
    for point in slices["labels"]["subdural"]["points"].values():
        # What the page prints beside the threshold, which there is.
        assert point["threshold"] is not None
        assert point["why"] == point["sensitivity"]["why"]
        assert re.fullmatch(r"1 of \d+ scores are NaN", point["why"])
    assert slices["weighted_log_loss"]["value"] is None
    assert slices["labels"]["any"] == metrics["partitions"]["test"]["slices"]["labels"]["any"]
    assert tuple(draw_figures(holed, own)) == FIGURES


def test_a_single_test_patient_gives_figures_without_intervals(predictions: pl.DataFrame) -> None:
    names = predictions.filter(pl.col("partition") == "test")["patient"].unique().sort()
    one = predictions.filter((pl.col("partition") == "val") | (pl.col("patient") == names[1]))
    any_ = score(one)["partitions"]["test"]["slices"]["labels"]["any"]
    assert any_["roc_auc"]["value"] is not None
    assert any_["roc_auc"]["low"] is None
    assert any_["roc_auc"]["why"] == "a single patient"


def test_null_comes_from_training_patients_where_the_split_is_given(
    predictions: pl.DataFrame,
) -> None:
    splits = pl.DataFrame(
        {"patient": ["a", "b"], "partition": ["train", "test"], "slices": [20, 5]}
    ).with_columns(pl.Series(label, [4, 5]) for label in LABELS)
    metrics = score(predictions, splits=splits)
    assert metrics["prevalence"] == dict.fromkeys(LABELS, 0.2)
    test = predictions.filter(pl.col("partition") == "test")
    expected = log_loss(test["any"], np.full(test.height, 0.2), labels=[0, 1])
    null = metrics["partitions"]["test"]["slices"]["labels"]["any"]["null"]
    assert null["log_loss"] == pytest.approx(expected)
    rows = {row["name"]: row for row in metrics["nulls"]["rows"]}
    assert rows["prevalence"]["roc_auc"]["value"] == 0.5
    assert rows["no bleed"]["mean_accuracy"]["value"] == pytest.approx(
        1 - test.select(LABELS).to_numpy().mean()
    )
    own = metrics["partitions"]["test"]["slices"]["weighted_log_loss"]
    assert rows["this model"]["weighted_log_loss"] == own


def make_scans(partition_of: dict[str, str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make patients of eleven slices whose middle three bleed in every other patient."""
    names = list(partition_of)
    catalog = pl.DataFrame(
        {
            "slice": [f"{name}-{k}" for name in names for k in range(11)],
            "status": "used",
            "row": range(11 * len(names)),
            "patient": np.repeat(names, 11),
            "study": "s",
            "series": "1",
            "z_mm": np.tile(np.arange(11.0) * 5 - 20, len(names)),
            "any": [int(n % 2 == 0 and 4 <= k <= 6) for n in range(len(names)) for k in range(11)],
        }
    ).with_columns(pl.lit(0).alias(label) for label in SUBTYPES)
    splits = pl.DataFrame({"patient": names, "partition": list(partition_of.values())})
    return catalog, splits


def test_position_null_learns_from_training_patients_alone() -> None:
    names = {f"a{n}": "train" for n in range(8)} | {"b0": "test", "b1": "test"}
    catalog, splits = make_scans(names)
    scores = position_scores(catalog, splits)
    by_slice = dict(scores.select("slice", "any").iter_rows())
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
    by_slice = dict(position_scores(lost, splits).select("slice", "any").iter_rows())
    assert by_slice["b0-5"] == pytest.approx(12 / 88)


def test_shares_of_the_position_come_back_from_the_file_with_the_same_scores(
    predictions: pl.DataFrame, tmp_path: Path
) -> None:
    names = {f"a{n}": "train" for n in range(8)} | {"b0": "test", "b1": "test"}
    catalog, splits = make_scans(names)
    shares = learn_position(catalog, splits)
    operating = fix_on_validation(predictions, PARAMS, "0" * 64, synthetic=True, position=shares)
    write_operating(operating, tmp_path / "operating.json")
    read = read_operating(tmp_path / "operating.json", "0" * 64).position
    assert read is not None
    told = position_scores(catalog, splits)
    scores = read.score(told["depth"].to_numpy())
    assert scores == pytest.approx(told.select(LABELS).to_numpy())
    # Eleven slices fill ten of the twelve parts and the last; no place is the overall share.
    assert read.by_place.count(None) == 1
    assert read.score(np.array([np.nan]))[0, -1] == pytest.approx(12 / 88)


def scored_scans() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Make predictions that say 0.3 to everything, their catalog and split."""
    names = {f"a{n:02}": ("train", "val", "test")[n % 3] for n in range(24)}
    catalog, splits = make_scans(names)
    scored = catalog.join(splits, on="patient").filter(pl.col("partition") != "train")
    scored = scored.with_columns(pl.lit(0.3).alias(name) for name in PROBABILITIES)
    full = splits.with_columns(slices=11).with_columns(pl.lit(1).alias(label) for label in LABELS)
    return scored.with_columns(study=pl.col("patient")), catalog, full


def test_position_null_stands_beside_the_model() -> None:
    scored, catalog, splits = scored_scans()
    nulls = score(scored, splits=splits, catalog=catalog)["nulls"]
    rows = {row["name"]: row for row in nulls["rows"]}
    # Twelve of 88 test slices bleed, all at the places where training patients bled.
    assert rows["position"]["roc_auc"]["value"] > 0.9
    assert rows["position"]["roc_auc_patients"]["value"] == 0.5
    assert rows["this model"]["roc_auc"]["value"] == 0.5
    without = score(scored, splits=splits)["nulls"]["rows"]
    assert "position" not in {row["name"] for row in without}


def test_depth_runs_from_the_lowest_slice_to_the_highest() -> None:
    catalog, _ = make_scans({"a": "train", "b": "test"})
    depths = slice_depths(catalog.sample(fraction=1, shuffle=True, seed=1))
    by_slice = dict(depths.select("slice", "depth").iter_rows())
    assert (by_slice["a-0"], by_slice["a-5"], by_slice["b-10"]) == (0, 0.5, 1)


def test_leak_test_fails_where_shuffled_labels_can_be_known_and_passes_where_not() -> None:
    scored, catalog, splits = scored_scans()
    moved, _ = shuffle_labels(catalog, splits, seed=3)
    ours = moved.join(splits.select("patient", "partition"), on="patient").with_columns(
        study=pl.col("patient")
    )
    rng = np.random.default_rng(0)

    def leak_test(known: float) -> dict:
        noise = pl.Series(rng.random(ours.height))
        guess = (known * pl.col("any") + (1 - known) * noise).alias("p_any")
        table = ours.with_columns(pl.lit(0.1).alias(name) for name in PROBABILITIES)
        return score(scored, splits=splits, catalog=catalog, shuffled=table.with_columns(guess))[
            "nulls"
        ]["leak_test"]

    assert leak_test(known=0)["passed"] is True
    leaked = leak_test(known=0.9)
    assert leaked["network"]["value"] > leaked["position"]["value"]
    assert leaked["passed"] is False


def test_shuffled_labels_are_another_scans_and_keep_its_heights() -> None:
    catalog, splits = make_scans({f"a{n}": "train" for n in range(8)})
    catalog = catalog.with_columns(
        status=pl.when(pl.col("slice") == "a1-0").then(pl.lit("quarantined")).otherwise("status")
    )
    splits = splits.with_columns(pl.lit(0).alias(label) for label in LABELS)
    moved, counts = shuffle_labels(catalog, splits, seed=1)
    assert moved.drop("any").equals(catalog.drop("any"))
    # Four scans bleed before and after, each in its middle, and another four than before.
    was, now = (
        table.filter(pl.col("any") == 1)["patient"].unique().sort().to_list()
        for table in (catalog, moved)
    )
    assert len(was) == len(now) == 4
    assert was != now
    heights = moved.filter(pl.col("any") == 1)["slice"].str.split("-").list.last()
    assert set(heights) <= {"4", "5", "6", "7"}
    used = moved.filter(pl.col("status") == "used")
    summed = used.group_by("patient").agg(pl.col("any").cast(pl.Int64).sum()).sort("patient")
    assert counts.select("patient", "any").equals(summed)
    assert shuffle_labels(catalog, splits, seed=1)[0].equals(moved)
    assert not shuffle_labels(catalog, splits, seed=2)[0].equals(moved)


def test_a_patient_of_two_scans_gets_the_labels_of_one_other_patient() -> None:
    catalog, splits = make_scans({f"a{n}": "train" for n in range(6)})
    # Each patient's label rows say whose they are: 1 for the labels of a0, and so on.
    marked = catalog.with_columns(
        any=pl.col("patient").str.slice(1).cast(pl.Int64),
        study=pl.when(pl.col("slice").str.ends_with("-10")).then(pl.lit("t")).otherwise("study"),
    )
    splits = splits.with_columns(pl.lit(0).alias(label) for label in LABELS)
    moved, _ = shuffle_labels(marked, splits, seed=4)
    givers = moved.group_by("patient").agg(pl.col("any").unique()).sort("patient")
    assert givers["any"].list.len().to_list() == [1] * 6
    whose = givers["any"].list.first().to_list()
    assert sorted(whose) == list(range(6))
    assert all(giver != own for own, giver in enumerate(whose))


def test_thresholds_take_calibrated_probabilities_and_all_else_the_networks_own(
    predictions: pl.DataFrame,
) -> None:
    # Logits three times too large, so that a temperature has something to do.
    logits = [3 * (pl.col(name) / (1 - pl.col(name))).log() for name in PROBABILITIES]
    bold = predictions.with_columns(
        (1 / (1 + (-logit).exp())).alias(name)
        for name, logit in zip(PROBABILITIES, logits, strict=True)
    )
    params = EvaluateParams(bootstrap=0, calibration="temperature")
    operating = fix_on_validation(bold, params, "0" * 64, synthetic=True)
    slices = evaluate(bold, operating, params, 1)["partitions"]["test"]["slices"]
    test = bold.filter(pl.col("partition") == "test").sort("slice")
    own = slices["labels"]["any"]
    assert own["log_loss"]["value"] == pytest.approx(log_loss(test["any"], test["p_any"]))
    calibrated = operating.calibration.transform(test.select(PROBABILITIES).to_numpy())[:, -1]
    assert abs(log_loss(test["any"], calibrated) - own["log_loss"]["value"]) > 0.01
    point = own["points"]["balanced"]
    flagged = calibrated >= point["threshold"]
    assert point["confusion"]["tp"] == (flagged & (test["any"].to_numpy() == 1)).sum()


def test_files_that_tell_of_no_study_are_scored_by_their_series() -> None:
    catalog, _ = make_scans({"a": "val", "b": "test"})
    untold = catalog.with_columns(study=pl.lit(None, pl.String), series=pl.col("patient") + "-1")
    assert slice_depths(untold)["study"].unique().sort().to_list() == ["a-1", "b-1"]


def test_results_list_every_figure_and_are_marked_where_synthetic(metrics: dict) -> None:
    table = results_table(metrics, synthetic=True)
    own = metrics["partitions"]["test"]["patients"]["labels"]["any"]
    row = table.row(
        by_predicate=(pl.col("level") == "patients")
        & (pl.col("label") == "any")
        & (pl.col("figure") == "specificity")
        & (pl.col("operating_point") == "rule-in"),
        named=True,
    )
    assert row["value"] == own["points"]["rule-in"]["specificity"]["value"]
    assert row["positives"] == own["positives"]
    listed = table.filter(figure="sensitivity").select("level", "label", "operating_point")
    assert set(listed.iter_rows()) == set(product(LEVELS, LABELS, POINTS))
    assert table["data"].str.contains("SYNTHETIC").all()
    assert set(table.filter(pl.col("value").is_null())["why"].is_not_null()) == {True}
    real = results_table(metrics, synthetic=False)
    assert not real["data"].str.contains("SYNTHETIC").any()
    latex = render_latex(metrics, synthetic=True)
    assert "Synthetic data" in latex
    assert "Synthetic" not in render_latex(metrics, synthetic=False)
    for level, label in product(LEVELS, LABELS):
        assert f"\n{label}, {level} & " in latex
    auc = metrics["partitions"]["test"]["slices"]["labels"]["any"]["roc_auc"]
    assert f"{auc['value']:.3f} ({auc['low']:.3f}--{auc['high']:.3f})" in latex
    told = f"({auc['low']:.3f}--{auc['high']:.3f})$^\\dagger$"
    assert (told in latex) == ("note" in auc)


def test_nulls_stand_beside_the_figures_in_both_tables() -> None:
    scored, catalog, splits = scored_scans()
    metrics = score(scored, splits=splits, catalog=catalog)
    table = results_table(metrics, synthetic=True)

    def beside(level: str, label: str, figure: str, point: str | None = None) -> tuple[float, ...]:
        at = pl.col("operating_point").eq_missing(pl.lit(point))
        chosen = table.filter(at, level=level, label=label, figure=figure)
        return chosen.select("null", "position").row(0)

    # Twelve of 88 test slices bleed; in every training scan the same ones as in test scans. Of
    # every patient there is a bleed.
    truth = scored.filter(partition="test")["any"].to_numpy()
    share = truth.mean()
    wrong = beside("slices", "any", "accuracy")[0]
    assert wrong == beside("slices", "any", "accuracy", "balanced")[0] == pytest.approx(1 - share)
    assert beside("slices", "any", "average_precision")[0] == pytest.approx(share)
    assert beside("slices", "any", "brier")[0] == pytest.approx(np.var(truth))
    assert beside("slices", "any", "log_loss")[0] == pytest.approx(
        log_loss(truth, np.full(len(truth), metrics["prevalence"]["any"]))
    )
    area = {row["name"]: row for row in metrics["nulls"]["rows"]}["position"]["roc_auc"]["value"]
    assert beside("slices", "any", "roc_auc") == (0.5, area)
    assert beside("slices", "any", "sensitivity", "balanced") == (None, None)
    latex = render_latex(metrics, synthetic=True)
    assert f"the position in the scan alone {area:.3f} by slices" in latex
    row = next(line for line in latex.splitlines() if line.startswith("any, slices"))
    assert row.endswith(f"& {share:.3f} \\\\")


def test_order_of_rows_does_not_change_a_byte(
    predictions: pl.DataFrame, metrics: dict, tmp_path: Path
) -> None:
    shuffled = score(predictions.sample(fraction=1, shuffle=True, seed=9))
    write_metrics(metrics, tmp_path / "a.json")
    write_metrics(shuffled, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == metrics


def test_patients_of_the_fit_are_refused_before_anything_is_scored(
    predictions: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    operating = fix_on_validation(predictions, PARAMS, "0" * 64, synthetic=True)
    seen = predictions.filter(pl.col("partition") == "val").head(30)
    leaked = pl.concat([predictions, seen.with_columns(partition=pl.lit("test"))])
    for module, name in (("score", "score_level"), ("reliability", "measure_reliability")):
        monkeypatch.setattr(f"hemtrace.evaluate.{module}.{name}", pytest.fail)
    with pytest.raises(HemtraceError, match="are among those on whom calibration"):
        evaluate(leaked, operating, PARAMS, 1)


def test_figures_that_rest_on_few_patients_are_noted_in_json_and_csv(metrics: dict) -> None:
    test = metrics["partitions"]["test"]
    auc = test["slices"]["labels"]["any"]["roc_auc"]
    bearers = test["slices"]["labels"]["any"]["positive_patients"]
    assert auc["low"] is not None
    assert auc["why"] is None
    assert f"rests on {bearers} patients" in auc["note"]
    table = results_table(metrics, synthetic=True)
    noted = table.filter(pl.col("note").is_not_null())
    assert noted["low"].is_not_null().all()
    assert not noted.filter(level="slices", label="any", figure="roc_auc").is_empty()


def test_clip_and_rules_stand_beside_the_figures(metrics: dict) -> None:
    assert metrics["rules"]["clip"] == PARAMS.clip
    assert "1e-06" in metrics["rules"]["weighted_log_loss"]
    assert "80%" in metrics["rules"]["points"]["rule-out"]


@pytest.mark.parametrize("column", ["p_any", "patient", "subdural"])
def test_missing_column_is_a_sentence(predictions: pl.DataFrame, column: str) -> None:
    with pytest.raises(HemtraceError, match=column):
        score(predictions.drop(column))


def test_empty_partition_is_a_sentence(predictions: pl.DataFrame) -> None:
    with pytest.raises(HemtraceError, match="'val'"):
        score(predictions.filter(pl.col("partition") == "test"))


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_what_is_no_probability_is_a_sentence(predictions: pl.DataFrame, value: float) -> None:
    wrong = predictions.with_columns(
        p_any=pl.when(pl.int_range(pl.len()) == 7).then(value).otherwise("p_any")
    )
    with pytest.raises(HemtraceError, match=r"1 slices .* first ID_000000007"):
        score(wrong)


def test_every_figure_is_drawn_even_where_a_label_is_undefined(
    predictions: pl.DataFrame, metrics: dict
) -> None:
    assert tuple(draw_figures(predictions, metrics)) == FIGURES


def test_roc_table_encloses_the_area(predictions: pl.DataFrame, metrics: dict) -> None:
    table = roc_table(predictions, synthetic=True)
    assert set(table["label"]) == set(LABELS) - {"epidural"}
    for label in SUBTYPES[1:]:
        curve = table.filter(pl.col("label") == label)
        area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
        auc = metrics["partitions"]["test"]["slices"]["labels"][label]["roc_auc"]["value"]
        assert area == pytest.approx(auc, abs=1e-4)


def test_long_curves_are_thinned_without_losing_area() -> None:
    many = make_predictions(seed=3, slices=30_000)
    table = roc_table(many, synthetic=False)
    assert table.group_by("label").len()["len"].max() <= 401
    test = many.filter(pl.col("partition") == "test")
    curve = table.filter(pl.col("label") == "any")
    area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
    assert area == pytest.approx(roc_auc_score(test["any"], test["p_any"]), abs=1e-3)


def test_training_table_leaves_out_the_time() -> None:
    history = pl.DataFrame({"epoch": [1, 2], "val_loss": [0.12345678, 0.1], "seconds": [3.0, 4.0]})
    assert training_table(history, synthetic=False).to_dict(as_series=False) == {
        "epoch": [1, 2],
        "val_loss": [0.123457, 0.1],
        "data": ["patients", "patients"],
    }


def test_tables_of_the_plots_are_marked_where_synthetic(predictions: pl.DataFrame) -> None:
    history = pl.DataFrame({"epoch": [1], "val_loss": [0.1]})
    for synthetic in (True, False):
        for table in (
            roc_table(predictions, synthetic=synthetic),
            training_table(history, synthetic=synthetic),
        ):
            assert table["data"].unique().to_list() == [SYNTHETIC if synthetic else "patients"]
