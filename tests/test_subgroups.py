"""Subgroups: who is in which, their figures by other means, and what is not told."""

import json
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.lesions import measure_lesions
from hemtrace.evaluate.subgroups import (
    FACTS,
    gather_facts,
    measure_subgroups,
    name_bins,
)
from hemtrace.figures.subgroups import ForestRow, Interval, subgroup_forest
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.metrics import estimate_rates, resample_patients, roc_auc

HEADER = {
    "thickness_mm": pl.Float64,
    "spacing_mm": pl.Float64,
    "tilt_deg": pl.Float64,
    "intercept": pl.Float64,
    "encoding": pl.String,
    "bits_stored": pl.Int32,
    "signed": pl.Boolean,
    "repaired": pl.Boolean,
    "lossy": pl.Boolean,
    "manufacturer": pl.String,
    "kernel": pl.String,
}


def make_data(
    patients: list[str],
    p_any: list[float],
    any_: list[int],
    header: dict[str, list[object]] | None = None,
    **more: list[object],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Predictions and catalog: what is not given is null, and a bleed is subdural."""
    count = len(patients)
    keys = [f"s{k:03d}" for k in range(count)]
    table: dict[str, object] = {
        "slice": keys,
        "patient": patients,
        "partition": ["test"] * count,
        "depth": pl.Series([None] * count, dtype=pl.Float64),
    }
    table |= {f"p_{label}": p_any for label in LABELS}
    table |= {label: pl.Series([0] * count, dtype=pl.UInt8) for label in LABELS}
    table |= {name: pl.Series(any_, dtype=pl.UInt8) for name in ("subdural", "any")}
    table |= more
    facts = dict.fromkeys(HEADER, [None] * count) | (header or {})
    catalog = pl.DataFrame({"slice": keys, **facts}, schema={"slice": pl.String, **HEADER})
    return pl.DataFrame(table), catalog


def many(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    patients = [f"p{k // 10:02d}" for k in range(200)]
    truth = ((np.arange(200) // 10 % 2 == 0) & (rng.random(200) < 0.4)).astype(int)
    score = np.clip(0.3 * truth + 0.7 * rng.random(200), 0, 1)
    header: dict[str, list[object]] = {
        "thickness_mm": [(1.0, 1.5, 3.0, 5.0)[k // 20 % 4] for k in range(200)],
        "manufacturer": [("GE", "Siemens")[k // 100] for k in range(200)],
        "lossy": [False] * 200,
    }
    return make_data(patients, score.tolist(), truth.tolist(), header)


def find(out: dict[str, list[dict[str, object]]], column: str) -> dict[object, dict[str, object]]:
    return {row["group"]: row for row in out["groups"] if row["column"] == column}


def test_ten_rows_are_those_worked_out_by_hand() -> None:
    patients = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "f"]
    scores = [0.9, 0.2, 0.6, 0.4, 0.3, 0.1, 0.7, 0.5, 0.8, 0.05]
    truth = [1, 0, 1, 0, 1, 0, 0, 0, 1, 0]
    thickness: list[object] = [5, 5, 5, 5, 5, 5, 1, 1, 1, 1.5]
    facts = gather_facts(*make_data(patients, scores, truth, {"thickness_mm": thickness}), None)
    out = measure_subgroups(facts, 0.5, replicates=50)
    groups = find(out, "thickness_mm")
    assert list(groups) == ["up to 1.5", "above 3.5"]
    thick, thin = groups["above 3.5"], groups["up to 1.5"]
    assert [thick[name] for name in ("slices", "positives", "patients")] == [6, 3, 3]
    # Positives .9 .6 .3 against negatives .2 .4 .1: eight of nine pairs in order.
    assert thick["auc"]["value"] == pytest.approx(8 / 9)
    assert thick["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert thick["specificity"]["value"] == 1
    assert [thin[name] for name in ("slices", "positives", "patients")] == [4, 1, 3]
    # .8 against .7 .5 .05; at the threshold itself a slice is flagged.
    assert thin["auc"]["value"] == 1
    assert thin["specificity"]["value"] == pytest.approx(1 / 3)
    assert out["whole"]["slices"] == 10


@pytest.mark.parametrize("column", ["thickness_mm", "manufacturer"])
def test_figures_of_a_group_are_scikit_learns_on_its_slices(column: str) -> None:
    predictions, catalog = many()
    out = measure_subgroups(gather_facts(predictions, catalog, None), 0.5, replicates=80, seed=3)
    table = predictions.join(catalog, on="slice")
    thin, thick = pl.col("thickness_mm") <= 1.5, pl.col("thickness_mm") > 3.5
    members = {
        "up to 1.5": thin,
        "1.5 to 3.5": ~thin & ~thick,
        "above 3.5": thick,
        "GE": pl.col("manufacturer") == "GE",
        "Siemens": pl.col("manufacturer") == "Siemens",
    }
    groups = find(out, column)
    assert sum(int(str(row["slices"])) for row in groups.values()) == 200
    for name, row in groups.items():
        inside = table.filter(members[str(name)])
        truth, score = inside["any"].to_numpy(), inside["p_any"].to_numpy()
        assert row["auc"]["value"] == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
        flagged = score >= 0.5
        assert row["sensitivity"]["value"] == pytest.approx(recall_score(truth, flagged))
        specificity = recall_score(truth, flagged, pos_label=0)
        assert row["specificity"]["value"] == pytest.approx(specificity)
        draws = resample_patients(inside["patient"].to_numpy(), 80, 3)
        low, high = np.nanpercentile(roc_auc(truth, score, draws), [2.5, 97.5])
        assert row["auc"]["low"] == pytest.approx(low)
        assert row["auc"]["high"] == pytest.approx(high)
    json.dumps(out, allow_nan=False)


def test_groups_of_bleeds_are_ranked_against_all_negatives() -> None:
    predictions, catalog = many()
    lesions = predictions.filter(pl.col("any") == 1).select(
        "slice",
        area_mm2=pl.Series(np.resize([25.0, 50.0, 60.0, 400.0], int(predictions["any"].sum()))),
        volume_ml=pl.lit(5.0),
    )
    out = measure_subgroups(gather_facts(predictions, catalog, lesions), 0.5, replicates=40)
    groups = find(out, "area_mm2")
    assert list(groups) == ["up to 50", "50 to 200", "200 to 1,000"]
    assert sum(int(str(row["positives"])) for row in groups.values()) == predictions["any"].sum()
    negatives = predictions.filter(pl.col("any") == 0)["p_any"].to_numpy()
    small = predictions.join(lesions.filter(pl.col("area_mm2") <= 50), on="slice")["p_any"]
    row = groups["up to 50"]
    truth = np.r_[np.ones(len(small)), np.zeros(len(negatives))]
    auc = roc_auc_score(truth, np.r_[small.to_numpy(), negatives])
    assert row["auc"]["value"] == pytest.approx(auc, abs=1e-12)
    assert row["sensitivity"]["value"] == pytest.approx((small >= 0.5).mean())
    assert row["specificity"]["why"] == "only positive slices are split"
    assert row["splits"] == "positives"
    assert row["slices"] == row["positives"] == len(small)
    # One volume everywhere is told as such, not dropped.
    assert "up to 10" not in find(out, "volume_ml")
    same = {fact["column"]: fact["value"] for fact in out["same"]}
    assert same["volume_ml"] == "1 to 10"
    assert same["subtype"] == "subdural"


def test_subtypes_overlap_and_are_counted() -> None:
    patients = ["a", "b", "c", "d", "e", "f"]
    ones: list[object] = [1, 1, 1, 0, 0, 0]
    predictions, catalog = make_data(
        patients, [0.9, 0.8, 0.7, 0.6, 0.2, 0.1], [1, 1, 1, 1, 0, 0], epidural=ones
    )
    out = measure_subgroups(gather_facts(predictions, catalog, None), 0.5, replicates=20)
    subtypes = find(out, "subtype")
    assert {name: row["positives"] for name, row in subtypes.items()} == {
        "epidural": 3,
        "subdural": 4,
    }
    assert {name: row["positives"] for name, row in find(out, "subtypes").items()} == {
        "1": 1,
        "2": 3,
    }


def test_group_of_two_patients_has_figures_without_interval_as_at_the_points() -> None:
    patients = ["a", "a", "b", "c", "d", "e"]
    header: dict[str, list[object]] = {"kernel": ["soft", "soft", "soft", None, None, None]}
    predictions, catalog = make_data(patients, [0.9, 0.1, 0.8, 0.7, 0.2, 0.1], [1, 0] * 3, header)
    out = measure_subgroups(gather_facts(predictions, catalog, None), 0.5, replicates=20)
    groups = find(out, "kernel")
    assert list(groups) == ["soft", "not told"]
    soft = groups["soft"]
    assert (soft["slices"], soft["positives"], soft["patients"]) == (3, 2, 2)
    assert soft["why"] == "2 patients, fewer than 3: no bootstrap interval"
    # Slices 0.9 and 0.8 bleed, 0.1 does not.
    assert soft["auc"] == {"value": 1.0, "low": None, "high": None, "why": "only 2 patients"}
    test = predictions.filter(pl.col("partition") == "test").sort("slice")
    truth, score, owners = (test[name].to_numpy()[:3] for name in ("any", "p_any", "patient"))
    draws = resample_patients(owners, 20, seed=0)
    at_point = estimate_rates(truth == 1, score >= 0.5, draws)["sensitivity"]
    assert soft["sensitivity"] == at_point.as_dict()
    assert groups["not told"]["auc"]["value"] is not None


def test_every_fact_is_told_grouped_or_named_as_silent() -> None:
    predictions, catalog = many()
    out = measure_subgroups(gather_facts(predictions, catalog, None), 0.5, replicates=20)
    grouped = {row["column"] for row in out["groups"]}
    untold = {row["column"]: row["why"] for row in out["untold"]}
    same = {row["column"]: row["value"] for row in out["same"]}
    assert grouped | untold.keys() | same.keys() == {fact.column for fact in FACTS}
    assert untold["kernel"] == untold["area_mm2"] == "not told by these files"
    assert same["lossy"] == "no"


def test_cut_points_include_their_upper_bound_and_drop_the_sign_of_the_tilt() -> None:
    patients = [f"p{k}" for k in range(8)]
    depth: list[object] = [0.0, 1 / 3, 0.34, 0.5, 0.7, 1.0, None, 0.9]
    tilt: list[object] = [0, 1, -5, 15, -20, 20, 0.5, 3]
    predictions, catalog = make_data(
        patients, [0.5] * 8, [1, 0] * 4, {"tilt_deg": tilt}, depth=depth
    )
    out = measure_subgroups(gather_facts(predictions, catalog, None), 0.5, replicates=0)
    assert {name: row["slices"] for name, row in find(out, "tilt_deg").items()} == {
        "up to 1": 3,
        "1 to 15": 3,
        "above 15": 2,
    }
    assert {name: row["slices"] for name, row in find(out, "depth").items()} == {
        "lower third": 2,
        "middle third": 2,
        "upper third": 3,
        "not told": 1,
    }
    assert name_bins(next(f for f in FACTS if f.column == "volume_ml")) == [
        "up to 1",
        "1 to 10",
        "10 to 30",
        "above 30",
    ]


def test_rare_names_are_one_group() -> None:
    patients = [f"p{k:02d}" for k in range(40)]
    names: list[object] = [f"kernel {min(k // 3, 11):02d}" for k in range(40)]
    predictions, catalog = make_data(patients, [0.5] * 40, [1, 0] * 20, {"kernel": names})
    out = measure_subgroups(gather_facts(predictions, catalog, None), 0.5, replicates=0)
    groups = find(out, "kernel")
    assert len(groups) == 8
    assert list(groups)[-1] == "other"
    assert sum(int(str(row["slices"])) for row in groups.values()) == 40


def test_no_positive_nan_and_no_threshold_are_said() -> None:
    patients = [f"p{k}" for k in range(6)]
    header: dict[str, list[object]] = {"kernel": ["soft", "sharp"] * 3}
    clear, catalog = make_data(patients, [0.5] * 6, [0] * 6, header)
    out = measure_subgroups(gather_facts(clear, catalog, None), 0.5, replicates=10)
    row = find(out, "kernel")["soft"]
    assert row["auc"]["why"] == row["sensitivity"]["why"] == "no positive slice"
    assert row["specificity"]["value"] == 0
    assert {fact["column"]: fact["why"] for fact in out["untold"]}["subtype"] == "no positive slice"
    holes, catalog = make_data(patients, [0.5] * 5 + [float("nan")], [0, 1] * 3, header)
    out = measure_subgroups(gather_facts(holes, catalog, None), 0.5, replicates=10)
    assert "NaN" in str(find(out, "kernel")["sharp"]["sensitivity"]["why"])
    json.dumps(out, allow_nan=False)
    out = measure_subgroups(gather_facts(clear, catalog, None), None, replicates=10)
    assert "no threshold" in str(out["whole"]["specificity"]["why"])


def test_only_test_slices_count() -> None:
    predictions, catalog = many()
    half = pl.when(pl.col("patient") < "p10").then(pl.lit("val")).otherwise(pl.lit("test"))
    facts = gather_facts(predictions.with_columns(partition=half), catalog, None)
    assert facts.height == 100
    assert facts["slice"].is_sorted()


def png(pixels: int, subtypes: tuple[int, ...] = (0,)) -> bytes:
    mask = np.zeros((16, 16), np.uint8)
    mask.ravel()[:pixels] = sum(1 << bit for bit in subtypes)
    return bytes(cv2.imencode(".png", mask)[1].tobytes())


def test_volume_and_area_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    masks = {"s0": png(10), "s1": png(30, (0, 4)), "s2": None, "s3": png(7), "s4": png(9)}
    pl.DataFrame(
        {"slice": list(masks), "patient": ["A"] * 4 + ["B"], "mask": list(masks.values())},
        schema={"slice": pl.String, "patient": pl.String, "mask": pl.Binary},
    ).write_parquet(tmp_path / "phantom.parquet")
    # The catalog names its patients otherwise; of s3 not even the header could be read.
    catalog = pl.DataFrame(
        {
            "slice": list(masks),
            "patient": ["x", "x", "x", None, "y"],
            "spacing_mm": [0.5, 0.5, 0.5, None, 0.5],
            "spacing_across_mm": [0.4, 0.4, 0.4, None, 0.4],
            "gap_mm": [5.0, 5.0, None, None, None],
            "thickness_mm": pl.Series([None] * 5, dtype=pl.Float64),
        }
    )
    found = measure_lesions(tmp_path / "phantom.parquet", catalog)
    # A pixel has 0.2 mm2; two overlapping subtypes count once; 47 pixels x 0.2 x 5 mm.
    assert found["slice"].to_list() == ["s0", "s1", "s3", "s4"]
    assert found["area_mm2"].to_list() == pytest.approx([2.0, 6.0, 1.4, 1.8])
    assert found["volume_ml"].to_list()[:3] == pytest.approx([0.047] * 3)
    # Neither the distance nor the thickness of y's slices is known.
    assert found["volume_ml"][3] is None


def test_damaged_mask_is_a_sentence(tmp_path: Path) -> None:
    table = pl.DataFrame({"slice": ["s0"], "patient": ["A"], "mask": [b"no picture"]})
    table.write_parquet(tmp_path / "phantom.parquet")
    with pytest.raises(HemtraceError, match="the mask of the slice s0 is no PNG"):
        measure_lesions(tmp_path / "phantom.parquet", pl.DataFrame())


def test_forest_shows_names_counts_intervals_and_reasons() -> None:
    rows = [ForestRow("subtype", name, "9 / 3", Interval(0.5, 0.25, 0.75)) for name in SUBTYPES[:2]]
    rows += [
        ForestRow("kernel", "soft", "2 / 1", Interval(None, why="2 patients: counts only")),
        ForestRow("kernel", "sharp", "8 / 4", Interval(0.6)),
    ]
    figure = subgroup_forest(rows, Interval(0.7, 0.6, 0.8), "Sensitivity", "slices", "20 / 9")
    written = [text.get_text() for text in figure.axes[0].texts]
    for word in ("0.50 (0.25 to 0.75)", "2 patients: counts only", "not estimable", "kernel"):
        assert word in written
    assert "0.60 (no interval)" in written
    assert "0.70 (0.60 to 0.80)" in written
    nothing = subgroup_forest([], Interval(None), "Sensitivity", "slices")
    assert "No fact" in nothing.axes[0].texts[0].get_text()
