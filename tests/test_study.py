"""Numbers of the study: what adds up, what leaks, what the sample can tell."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from hemtrace.errors import HemtraceError
from hemtrace.figures.study import (
    CoOccurrence,
    FlowSide,
    FlowStep,
    co_occurrence_matrices,
    flow_diagram,
)
from hemtrace.figures.style import draw_bytes
from hemtrace.ingest.catalog import CATALOG_CONTRACT
from hemtrace.labels import LABELS
from hemtrace.params import PhantomParams, Window
from hemtrace.phantom.plan import plan_patients
from hemtrace.phantom.scanner import scan_patient
from hemtrace.study import (
    NearRule,
    count_co_occurrence,
    count_partitions,
    describe_scans,
    flow_numbers,
    leakage_table,
    sample_size_note,
)
from hemtrace.study.near import describe_picture
from hemtrace.study.partitions import name_sides, order_sides
from hemtrace.study.sample_size import _placements
from hemtrace.study.widths import (
    auc_width,
    design_effect,
    exact_interval,
    exact_width,
    patients_needed,
)
from hemtrace.window import Square, preprocess

BRAIN = Window(name="brain", center_hu=40, width_hu=80)
NO_LABEL = [0] * 6


def make_catalog(rows: list[dict[str, object]]) -> pl.DataFrame:
    """A full catalog: what a row does not say gets a value of its own, or null."""
    table = []
    for number, row in enumerate(rows):
        labels = row.pop("labels", NO_LABEL)
        patient = row.get("patient", f"p{number}")
        table.append(
            {
                "slice": f"s{number:03d}",
                "file": f"f{number:03d}.dcm",
                "status": "quarantined" if row.get("reason") else "used",
                "patient": patient,
                "study": f"study of {patient}",
                "series": f"series of {patient}",
                "instance": f"i{number}",
                "pixel_blake3": f"pixels {number}",
                "image_blake3": f"image {number}",
                "encoding": "explicit-little",
                "shard": 0,
                "row": number,
                "duplicates": False,
                **dict(zip(LABELS, labels, strict=True)),
                **row,
            }
        )
    schema = {name: column.dtype.type for name, column in CATALOG_CONTRACT.columns.items()}
    return pl.DataFrame(table, schema=schema)


def make_splits(partitions: dict[str, str], catalog: pl.DataFrame) -> pl.DataFrame:
    """Patient -> `train`, `val`, `test`, `dropped`, or `fold 1` and so on."""
    used = catalog.filter(pl.col("status") == "used")
    rows = []
    for patient, side in partitions.items():
        fold = int(side[5:]) if side.startswith("fold") else 0 if side == "val" else None
        name = side
        if side.startswith("fold"):
            name = "val" if fold == 0 else "train"
        count = used.filter(pl.col("patient") == patient).height
        rows.append({"patient": patient, "partition": name, "fold": fold, "slices": count})
    return pl.DataFrame(
        rows,
        schema={"patient": str, "partition": str, "fold": pl.Int32, "slices": pl.UInt32},
    ).sort("patient")


def ten_rows() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ten slices of four patients, and two quarantined pictures, worked out by hand below."""
    subdural, epidural = [0, 0, 0, 0, 1, 1], [1, 0, 0, 0, 0, 1]
    both = [1, 0, 0, 0, 1, 1]
    labels = [subdural, both, NO_LABEL, NO_LABEL, NO_LABEL, NO_LABEL, epidural, NO_LABEL]
    labels += [NO_LABEL, subdural]
    owners = ["a", "a", "a", "b", "b", "c", "c", "c", "d", "d"]
    rows: list[dict[str, object]] = [
        {"patient": owner, "labels": label, "spacing_mm": 0.4 + 0.01 * number}
        for number, (owner, label) in enumerate(zip(owners, labels, strict=True))
    ]
    rows += [{"reason": "truncated", "row": None}, {"reason": "unlabelled", "patient": "d"}]
    catalog = make_catalog(rows)
    return catalog, make_splits({"a": "train", "b": "train", "c": "val", "d": "test"}, catalog)


def test_partitions_of_ten_rows_are_those_counted_by_hand() -> None:
    train, val, test, whole = count_partitions(*ten_rows())
    assert [side["name"] for side in (train, val, test, whole)] == ["train", "val", "test", "all"]
    assert (train["patients"], train["studies"], train["slices"]) == (2, 2, 5)
    assert train["labels"]["any"]["slices"] == 2
    assert train["labels"]["any"]["patients"] == 1
    assert train["labels"]["any"]["slice_share"] == 2 / 5
    assert train["labels"]["any"]["patient_share"] == 1 / 2
    assert train["labels"]["any"]["negatives_per_positive"] == 3 / 2
    assert val["labels"]["subdural"]["negatives_per_positive"] is None
    assert whole["labels"]["subdural"]["slices"] == 3
    assert whole["slices"] == train["slices"] + val["slices"] + test["slices"] == 10


def test_co_occurrence_counts_pairs_on_slices_and_in_patients() -> None:
    found = count_co_occurrence(*ten_rows())
    epidural, subdural, any_ = (LABELS.index(name) for name in ("epidural", "subdural", "any"))
    slices, patients = np.array(found["slices"]["counts"]), np.array(found["patients"]["counts"])
    assert found["slices"]["total"] == 10
    assert found["patients"]["total"] == 4
    assert slices[epidural, subdural] == slices[subdural, epidural] == 1
    assert slices[subdural, subdural] == 3
    assert slices[any_].tolist() == [2, 0, 0, 0, 3, 4]
    assert patients[epidural].tolist() == [2, 0, 0, 0, 1, 2]
    assert patients[any_, any_] == 3


def test_flow_adds_up_and_names_every_exclusion() -> None:
    flow = flow_numbers(*ten_rows())
    assert (flow["files"], flow["pictures"], flow["patients"], flow["slices"]) == (12, 12, 4, 10)
    assert [step["passed"] for step in flow["steps"]] == [11, 11, 11, 10, 10]
    told = {e["reason"]: e["count"] for step in flow["steps"] for e in step["excluded"]}
    assert told == {"truncated": 1, "unlabelled": 1}
    assert [side["positive_slices"] for side in flow["sides"]] == [2, 1, 1]
    for before, step in zip([{"passed": 12}, *flow["steps"]], flow["steps"], strict=False):
        lost = sum(excluded["count"] for excluded in step["excluded"])
        assert step["passed"] == before["passed"] - lost
    json.dumps(flow, allow_nan=False)


def test_dropped_patients_are_an_exclusion_of_their_own() -> None:
    catalog, splits = ten_rows()
    splits = splits.with_columns(
        partition=pl.when(pl.col("patient") == "b").then(pl.lit("dropped")).otherwise("partition")
    )
    flow = flow_numbers(catalog, splits)
    assert flow["steps"][-1]["excluded"][0]["count"] == 2
    assert flow["slices"] == flow["steps"][-1]["passed"] == 8


def test_catalog_and_split_of_two_runs_stop() -> None:
    catalog, splits = ten_rows()
    with pytest.raises(HemtraceError, match="do not add up"):
        flow_numbers(catalog, splits.filter(pl.col("patient") != "b"))


def test_scan_facts_tell_values_sameness_and_silence() -> None:
    facts = describe_scans(*ten_rows())
    (spacing,) = facts["facts"]
    assert spacing["column"] == "spacing_mm"
    assert spacing["sides"]["train"]["quartiles"] == pytest.approx([0.41, 0.42, 0.43])
    assert spacing["sides"]["test"]["range"] == pytest.approx([0.48, 0.49])
    assert {"column": "encoding", "title": "transfer syntax", "value": "explicit-little"} in (
        facts["same"]
    )
    assert {fact["column"] for fact in facts["untold"]} >= {"manufacturer", "thickness_mm"}
    json.dumps(facts, allow_nan=False)


def leaks(catalog: pl.DataFrame, splits: pl.DataFrame) -> dict[str, int]:
    return {row["column"]: row["shared"] for row in leakage_table(catalog, splits)["rows"]}


def test_sound_split_leaks_nothing() -> None:
    assert set(leaks(*ten_rows()).values()) == {0}


@pytest.mark.parametrize("column", ["study", "series", "instance", "pixel_blake3", "image_blake3"])
def test_planted_leak_is_found_where_it_is(column: str) -> None:
    catalog, splits = ten_rows()
    value = catalog.filter(pl.col("slice") == "s000")[column][0]
    at = pl.col("slice") == "s009"
    planted = catalog.with_columns(pl.when(at).then(pl.lit(value)).otherwise(column).alias(column))
    table = leakage_table(planted, splits)
    found = {row["column"]: row for row in table["rows"]}
    assert {name for name, row in found.items() if row["shared"]} == {column}
    assert found[column]["shared"] == 1
    assert found[column]["first"][0][0] == "s000"
    # Among the train patients alone it is no leak.
    inside = catalog.with_columns(
        pl.when(pl.col("slice") == "s003").then(pl.lit(value)).otherwise(column).alias(column)
    )
    assert leaks(inside, splits)[column] == 0


def test_patient_in_two_partitions_is_found() -> None:
    catalog, splits = ten_rows()
    doubled = pl.concat([splits, splits[:1].with_columns(partition=pl.lit("test"))])
    found = {row["column"]: row for row in leakage_table(catalog, doubled)["rows"]}
    assert found["patient"]["shared"] == 1
    assert found["patient"]["slices"] == 3


def test_patient_of_two_folds_leaks_though_both_train() -> None:
    catalog, _ = ten_rows()
    sides = {"a": "fold 0", "b": "fold 1", "c": "fold 2", "d": "test"}
    splits = make_splits(sides, catalog)
    assert order_sides(name_sides(splits)) == ["fold 0", "fold 1", "fold 2", "test"]
    # In the training of fold 0 both b and c train.
    at = pl.col("slice").is_in(["s003", "s005"])
    same = catalog.with_columns(
        pixel_blake3=pl.when(at).then(pl.lit("x")).otherwise("pixel_blake3")
    )
    assert leaks(same, splits)["pixel_blake3"] == 1


def test_values_that_are_not_told_are_counted_not_compared() -> None:
    catalog, splits = ten_rows()
    blind = catalog.with_columns(instance=pl.lit(None, pl.String))
    row = next(r for r in leakage_table(blind, splits)["rows"] if r["column"] == "instance")
    assert (row["distinct"], row["shared"], row["untold"]) == (0, 0, 10)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """uint8 (4 patients, 8 slices, 112, 112): heads of the phantom in the brain window."""
    params = PhantomParams(patients=4, min_slices=8, max_slices=8, positive_share=0.0)
    heads = []
    for plan in plan_patients(params, 3):
        scan = scan_patient(plan, 1.0, np.random.default_rng([3, plan.index]))
        square = Square(16, 16, 480)
        heads.append([preprocess(hu, square, [BRAIN], 112)[0] for hu in scan.hu])
    return np.array(heads)


def copies(picture: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The same picture moved by a pixel, with noise of 5 HU, as JPEG, and all three."""

    def add_noise(grey: np.ndarray) -> np.ndarray:
        noisy = np.rint(grey + rng.normal(0, 5 * 255 / 80, grey.shape)).clip(0, 255)
        return np.where((grey > 0) & (grey < 255), noisy, grey).astype(np.uint8)

    def encode(grey: np.ndarray) -> np.ndarray:
        coded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))

    moved = np.roll(picture, (1, -1), axis=(0, 1))
    return {
        "moved": moved,
        "noisy": add_noise(picture),
        "encoded": encode(picture),
        "all": encode(add_noise(moved)),
    }


def as_shard(
    pictures: list[np.ndarray], owners: list[str], sides: dict[str, str], folder: Path
) -> tuple[pl.DataFrame, pl.DataFrame]:
    np.save(folder / "0000.npy", np.stack(pictures)[:, None])
    catalog = make_catalog([{"patient": owner} for owner in owners])
    return catalog, make_splits(sides, catalog)


def test_slices_of_different_patients_are_no_near_duplicates(
    pictures: np.ndarray, tmp_path: Path
) -> None:
    owners = [f"p{patient}" for patient in range(4) for _ in range(8)]
    sides = {"p0": "train", "p1": "val", "p2": "test", "p3": "test"}
    catalog, splits = as_shard(list(pictures.reshape(-1, 112, 112)), owners, sides, tmp_path)
    near = leakage_table(catalog, splits, tmp_path)["near_duplicates"]
    assert near["pairs"] == []
    assert near["pairs_found"] == near["slices"] == 0
    assert near["compared"] >= 20
    assert near["compared"] + near["too_plain"] == 32


@pytest.mark.parametrize("kind", ["moved", "noisy", "encoded", "all"])
def test_near_copies_across_the_split_are_found(
    pictures: np.ndarray, tmp_path: Path, kind: str
) -> None:
    # The middle of the scan, which has brain on it, copied into another partition.
    rng = np.random.default_rng(0)
    originals = list(pictures[0, 2:6])
    planted = [copies(picture, rng)[kind] for picture in originals]
    owners = ["a"] * 4 + ["b"] * 4 + ["c"] * 8
    every = [*originals, *planted, *pictures[1]]
    sides = {"a": "train", "b": "test", "c": "val"}
    catalog, splits = as_shard(every, owners, sides, tmp_path)
    near = leakage_table(catalog, splits, tmp_path)["near_duplicates"]
    found = {tuple(pair["slices"]) for pair in near["pairs"]}
    assert found == {(f"s{k:03d}", f"s{k + 4:03d}") for k in range(4)}
    assert {tuple(pair["sides"]) for pair in near["pairs"]} == {("train", "test")}
    assert near["patients"] == 2
    # On one side of the split the same copies are none.
    inside = make_splits({"a": "train", "b": "train", "c": "test"}, catalog)
    assert leakage_table(catalog, inside, tmp_path)["near_duplicates"]["pairs"] == []


def test_search_finds_what_comparing_all_pairs_finds(pictures: np.ndarray, tmp_path: Path) -> None:
    owners = [f"p{patient}" for patient in range(4) for _ in range(8)]
    sides = {"p0": "train", "p1": "val", "p2": "test", "p3": "test"}
    every = pictures.reshape(-1, 112, 112)
    catalog, splits = as_shard(list(every), owners, sides, tmp_path)
    rule = replace(NearRule(), correlation=0.4, grey_share=0.0, twins=32)
    near = leakage_table(catalog, splits, tmp_path, rule=rule)["near_duplicates"]
    small = np.array([describe_picture(picture) for picture in every])
    side = np.array([sides[owner] for owner in owners])
    likeness = np.corrcoef(small)
    across = np.triu(side[:, None] != side[None, :]) & (likeness >= 0.4)
    assert near["pairs_found"] == int(across.sum()) > 0


def test_blank_and_saturated_pictures_are_not_compared(tmp_path: Path) -> None:
    disk = cv2.circle(np.zeros((64, 64), np.uint8), (32, 32), 20, 255, -1)
    every = [np.zeros((64, 64), np.uint8), disk] * 2
    catalog, splits = as_shard(every, ["a", "a", "b", "b"], {"a": "train", "b": "test"}, tmp_path)
    near = leakage_table(catalog, splits, tmp_path)["near_duplicates"]
    assert (near["compared"], near["too_plain"], near["pairs"]) == (0, 4, [])


@pytest.mark.parametrize(("found", "total"), [(0, 5), (5, 5), (3, 7), (18, 20), (150, 155)])
def test_exact_interval_is_scipys_and_statsmodels(found: int, total: int) -> None:
    judge = binomtest(found, total).proportion_ci(0.95, method="exact")
    assert exact_interval(found, total) == pytest.approx((judge.low, judge.high), abs=1e-12)
    other = proportion_confint(found, total, 0.05, method="beta")
    assert exact_interval(found, total) == pytest.approx(other, abs=1e-9)


def test_auc_width_is_hanley_and_mcneils_worked_out_by_hand() -> None:
    # Q1 = .9/1.1 = .8181818, Q2 = 1.62/1.9 = .8526316; variance = (.09 + 49 x .0081818
    # + 49 x .0426316) / 2500 = .00103195; standard error .0321239; both bounds lie within 0..1.
    assert auc_width(0.9, 50, 50) == pytest.approx(2 * 1.959964 * 0.0321239, abs=1e-5)
    assert auc_width(1.0, 50, 50) == 0


@pytest.mark.parametrize("wanted", [0.05, 0.1, 0.3])
def test_patients_needed_are_the_first_that_fit(wanted: float) -> None:
    def width(count: int) -> float:
        return exact_width(round(0.9 * count), count)

    judge = next(count for count in range(1, 5000) if width(count) <= wanted)
    assert patients_needed(width, wanted) == judge
    assert patients_needed(lambda count: 1.0, wanted) is None


def test_design_effect_is_that_of_statsmodels_clustered_variance() -> None:
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    values = (rng.random(len(clusters)) < rng.random(12)[clusters]).astype(float)
    fit = sm.OLS(values, np.ones(len(values)))
    clustered = fit.fit(cov_type="cluster", cov_kwds={"groups": clusters}).bse[0] ** 2
    plain = fit.fit(cov_type="HC0").bse[0] ** 2
    effect, why = design_effect(values, clusters)
    assert why is None
    assert clustered / plain > 1
    assert effect == pytest.approx(clustered / plain, rel=1e-9)


def test_design_effect_says_why_not() -> None:
    flags = np.array([0.0, 1.0, 1.0, 0.0])
    assert design_effect(flags, np.array(["a", "a", "b", "b"]))[1] == "fewer than 3 patients"
    alike = design_effect(np.ones(4), np.array(["a", "b", "c", "d"]))
    assert alike == (None, "all slices have the same answer")
    holes = design_effect(np.array([0, np.nan, 1]), np.array(["a", "b", "c"]))
    assert holes == (None, "NaN among the predictions")


def test_mean_placement_is_the_auc() -> None:
    rng = np.random.default_rng(2)
    truth, score = rng.random(80) < 0.3, rng.integers(0, 9, 80) / 9
    above, below = _placements(truth, score)
    auc = roc_auc_score(truth, score)
    assert above.mean() == pytest.approx(auc, abs=1e-12)
    assert below.mean() == pytest.approx(auc, abs=1e-12)


def test_note_gives_the_widths_of_the_patients_at_hand() -> None:
    rng = np.random.default_rng(3)
    patients = np.repeat([f"p{k:02d}" for k in range(20)], 6)
    truth = np.zeros((120, 6), dtype=bool)
    truth[:42:2, 5] = truth[:18:2, 0] = True  # seven patients with a bleed, three epidural
    probability = np.clip(truth * 0.4 + rng.random((120, 6)) * 0.6, 0, 1)
    thresholds = dict.fromkeys(LABELS, 0.5) | {"subdural": None}
    rows = sample_size_note(truth, probability, patients, thresholds)
    assert [row["label"] for row in rows] == list(LABELS)
    epidural, bleed = rows[0], rows[5]
    assert (epidural["positive_patients"], epidural["negative_patients"]) == (3, 17)
    assert epidural["positive_slices"] == 9
    judge = binomtest(3, 3).proportion_ci(method="exact")
    assert epidural["sensitivity"]["narrowest"] == pytest.approx(judge.high - judge.low)
    assert bleed["sensitivity"]["widest"] == pytest.approx(exact_width(3, 7))
    assert bleed["sensitivity"]["needed_all_found"] == 36  # 1 - 0.025 ** (1 / 36) = 0.0974
    assert bleed["auc"]["at_planned"] == pytest.approx(auc_width(0.95, 7, 13))
    assert "3 positive test patients" in epidural["sentence"]
    assert f"at least {judge.high - judge.low:.2f} wide" in epidural["sentence"]
    flagged = (probability[truth[:, 5], 5] >= 0.5).astype(float)
    effect, _ = design_effect(flagged, patients[truth[:, 5]])
    assert effect is not None
    assert bleed["sensitivity"]["effective_slices"] == pytest.approx(len(flagged) / effect)
    subdural = rows[4]
    assert subdural["positive_patients"] == 0
    assert subdural["sensitivity"]["why"] == "no positive patient"
    assert subdural["sensitivity"]["narrowest"] is None
    json.dumps(rows, allow_nan=False)


def test_note_survives_nan_one_class_and_one_patient() -> None:
    truth = np.ones((4, 6), dtype=bool)
    holes = np.full((4, 6), np.nan)
    rows = sample_size_note(truth, holes, np.array(["a"] * 4), dict.fromkeys(LABELS, 0.5))
    assert rows[0]["sensitivity"]["slice_why"] == "NaN among the predictions"
    assert rows[0]["auc"]["why"] == "no negative patient"
    assert rows[0]["auc"]["slice_why"] == "one class only"
    assert "1 positive test patient " in rows[0]["sentence"]
    json.dumps(rows, allow_nan=False)


def written(figure: object) -> str:
    axes = figure.axes  # type: ignore[attr-defined]
    return "\n".join(text.get_text() for panel in axes for text in panel.texts)


def test_flow_diagram_shows_every_reason_and_partition() -> None:
    many = [(f"reason {k}", 10 + k) for k in range(15)]
    steps = [FlowStep("files", 1000), FlowStep("readable", 900, many), FlowStep("used", 900)]
    figure = flow_diagram(steps, [FlowSide(name, ["5 patients"]) for name in "abcdef"])
    text = written(figure)
    for word in ("n = 1,000", "Excluded: n = 255", "24 reason 14", *"abcdef"):
        assert word in text
    assert draw_bytes(figure) == draw_bytes(
        flow_diagram(steps, [FlowSide(name, ["5 patients"]) for name in "abcdef"])
    )


def test_co_occurrence_figure_has_the_numbers_in_its_cells() -> None:
    counts = np.zeros((6, 6), int)
    counts[0, 0], counts[0, 5], counts[5, 0], counts[5, 5] = 1234, 1234, 1234, 4936
    figure = co_occurrence_matrices([CoOccurrence("slices", 9999, counts)], LABELS)
    assert "1,234\n25%" in written(figure)
    empty = co_occurrence_matrices([CoOccurrence("slices", 9, np.zeros((6, 6), int))], LABELS)
    assert "No label" in written(empty)
