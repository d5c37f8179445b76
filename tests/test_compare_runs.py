"""Two runs on the same slices: refused where they are not, and compared as others compare."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from held import SPEC
from scipy.stats import binomtest, norm
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as judge_mcnemar
from typer.testing import CliRunner

from hemtrace.cli import app
from hemtrace.compare.runs import (
    compare_runs,
    print_comparison,
    read_run,
    render_comparison,
    tabulate,
    write_comparison,
)
from hemtrace.errors import HemtraceError
from hemtrace.evaluate.operating import write_operating
from hemtrace.evaluate.scored import scored_partition
from hemtrace.evaluate.thresholds import fix_operating
from hemtrace.labels import ANY, LABELS
from hemtrace.model import create_net, save_model
from hemtrace.provenance import file_digest

CLIP = 1e-6


def predictions(seed: int, skill: float = 1.5) -> pl.DataFrame:
    """120 test slices of 30 patients, 60 validation slices of 15; `seed` draws the scores alone."""
    truth_chance, chance = np.random.default_rng(7), np.random.default_rng(seed)
    bleeding = np.repeat(truth_chance.random((45, 5)) < 0.35, 4, axis=0)
    subtypes = bleeding & (truth_chance.random((180, 5)) < 0.6)
    truth = np.column_stack([subtypes, subtypes.any(axis=1)])
    p = 1 / (1 + np.exp(-(skill * (truth - 0.5) + chance.normal(0, 1, truth.shape))))
    patient = np.repeat([f"p{k:02d}" for k in range(45)], 4)
    table = {
        "slice": [f"s{k:03d}" for k in range(180)],
        "patient": patient,
        "study": [f"{name}s" for name in patient],
        "partition": ["test"] * 120 + ["val"] * 60,
    }
    table |= {f"p_{label}": p[:, k] for k, label in enumerate(LABELS)}
    table |= {label: truth[:, k].astype(np.uint8) for k, label in enumerate(LABELS)}
    return pl.DataFrame(table)


def write_run(root: Path, table: pl.DataFrame, **spec: object) -> Path:
    """A run's folder, with a model and operating points fixed on its validation slices."""
    (root / "data").mkdir(parents=True)
    table.write_parquet(root / "data/predictions.parquet")
    described = SPEC.model_copy(update=spec)
    save_model(root / "models/model.safetensors", create_net(described), described)
    digest = file_digest(root / "models/model.safetensors")
    operating = fix_operating(scored_partition(table, "val"), "platt", digest, True)
    write_operating(operating, root / "models/operating.json")
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("runs")
    first = write_run(root / "first", predictions(1), train={"epochs": 4, "batch_size": 8})
    worse = predictions(2, skill=0.4)
    second = write_run(root / "second", worse, train={"epochs": 6, "batch_size": 8}, seed=3)
    return first, second


def compare(first: Path, second: Path, replicates: int = 200) -> dict:
    return compare_runs(read_run(first), read_run(second), replicates, 1, CLIP)


def pick(result: dict, level: str, label: str, figure: str) -> dict:
    found = [
        row
        for row in result["figures"]
        if (row["level"], row["label"], row["figure"]) == (level, label, figure)
    ]
    assert len(found) == 1
    return found[0]


def test_a_run_and_itself_do_not_differ(runs):
    result = compare(runs[0], runs[0])
    assert len(result["figures"]) == 3 * 6 * 3 + 1
    for row in result["figures"]:
        assert row["first"] == row["second"]
        assert row["difference"] == {"value": 0, "low": 0, "high": 0, "why": None, "p": 1}
    tested = [row["delong"] for row in result["figures"] if row["delong"]["why"] is None]
    assert len(tested) == 3 * 6
    assert {delong["p"] for delong in tested} == {1}
    assert {row["p"] for row in result["points"]} == {1}
    assert result["parameters"] == []


def test_a_shuffled_run_is_worse_and_not_by_chance(runs, tmp_path):
    table = pl.read_parquet(runs[0] / "data/predictions.parquet")
    shuffled = table.with_columns(pl.col("^p_.*$").shuffle(3))
    shuffled.write_parquet(tmp_path / "predictions.parquet")
    row = pick(compare(runs[0], tmp_path), "slices", "any", "roc_auc")
    assert row["difference"]["low"] > 0
    assert row["difference"]["p"] < 0.05


def test_figures_equal_scikit_learn(runs):
    result = compare(*runs)
    tables = [pl.read_parquet(run / "data/predictions.parquet") for run in runs]
    for key, table in zip(("first", "second"), tables, strict=True):
        test = table.filter(partition="test")
        truth, p = test["subdural"], test["p_subdural"]
        area = pick(result, "slices", "subdural", "roc_auc")
        assert area[key] == pytest.approx(roc_auc_score(truth, p))
        precision = pick(result, "slices", "subdural", "average_precision")
        assert precision[key] == pytest.approx(average_precision_score(truth, p))
        assert pick(result, "slices", "subdural", "log_loss")[key] == pytest.approx(
            log_loss(truth, p)
        )
        weights = [1, 1, 1, 1, 1, 2]
        losses = [log_loss(test[label], test[f"p_{label}"]) for label in LABELS]
        weighted = pick(result, "slices", "all", "weighted_log_loss")
        assert weighted[key] == pytest.approx(np.average(losses, weights=weights))
        patients = test.group_by("patient").agg(pl.col("any", "p_any").max())
        area = pick(result, "patients", "any", "roc_auc")
        assert area[key] == pytest.approx(roc_auc_score(patients["any"], patients["p_any"]))
        assert area["n"] == 30


def test_a_difference_is_first_less_second_and_turns_round(runs):
    there, back = compare(*runs), compare(*runs[::-1])
    for one, other in zip(there["figures"], back["figures"], strict=True):
        change, turned = one["difference"], other["difference"]
        assert change["value"] == pytest.approx(one["first"] - one["second"])
        assert change["value"] == pytest.approx(-turned["value"])
        assert change["low"] == pytest.approx(-turned["high"])
        assert change["p"] == pytest.approx(turned["p"])


def test_interval_and_p_are_those_of_a_loop_over_whole_patients(runs):
    """The paired bootstrap by scikit-learn, both runs on the same draws."""
    tables = [
        pl.read_parquet(run / "data/predictions.parquet").filter(partition="test") for run in runs
    ]
    patients, truth = tables[0]["patient"].to_numpy(), tables[0]["any"].to_numpy()
    scores = [table["p_any"].to_numpy() for table in tables]
    names = np.unique(patients)
    drawn = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=200)
    changes = []
    for counts in drawn:
        rows = np.concatenate(
            [
                np.tile(np.flatnonzero(patients == name), k)
                for name, k in zip(names, counts, strict=True)
            ]
        )
        areas = [roc_auc_score(truth[rows], score[rows]) for score in scores]
        changes.append(areas[0] - areas[1])
    found = pick(compare(*runs), "slices", "any", "roc_auc")["difference"]
    bounds = tuple(np.percentile(changes, [2.5, 97.5]))
    assert (found["low"], found["high"]) == pytest.approx(bounds)
    rarer = min(sum(change <= 0 for change in changes), sum(change >= 0 for change in changes))
    assert found["p"] == pytest.approx(min(1, 2 * (rarer + 1) / 201))


@pytest.mark.parametrize("level", ["slices", "studies", "patients"])
def test_delong_is_that_of_the_papers_pair_by_pair(runs, level):
    """DeLong 1988 as Obuchowski 1997 clusters it, written down with all pairs of rows."""
    tables = [read_run(run).predictions for run in runs]
    if level != "slices":
        by = ["patient", "study"] if level == "studies" else ["patient"]
        tables = [table.group_by(by).agg(pl.col("any", "p_any").max()).sort(by) for table in tables]
    truth = tables[0]["any"].to_numpy() == 1
    owners = tables[0]["patient"].to_numpy()
    names = np.unique(owners)
    areas, hits, alarms = [], [], []
    for table in tables:
        p = table["p_any"].to_numpy()
        wins = (p[truth][:, None] > p[~truth]) + 0.5 * (p[truth][:, None] == p[~truth])
        area = wins.mean()
        hit, alarm = wins.mean(axis=1) - area, wins.mean(axis=0) - area
        areas.append(area)
        hits.append([hit[owners[truth] == name].sum() / truth.sum() for name in names])
        alarms.append([alarm[owners[~truth] == name].sum() / (~truth).sum() for name in names])
    hit, alarm = (np.subtract(*pair) for pair in (hits, alarms))
    bearing, free = len(set(owners[truth])), len(set(owners[~truth]))
    variance = (
        bearing / (bearing - 1) * (hit**2).sum()
        + free / (free - 1) * (alarm**2).sum()
        + 2 * len(names) / (len(names) - 1) * (hit * alarm).sum()
    )
    z = (areas[0] - areas[1]) / variance**0.5
    found = pick(compare(*runs, 50), level, "any", "roc_auc")["delong"]
    assert found["value"] == pytest.approx(areas[0] - areas[1])
    assert found["p"] == pytest.approx(2 * norm.sf(abs(z)))


def test_mcnemar_is_that_of_statsmodels_on_flags_made_by_hand(runs):
    result = compare(*runs)
    right = []
    for run in runs:
        loaded = read_run(run)
        test = loaded.predictions
        p = loaded.operating.calibration.transform(test.select("^p_.*$").to_numpy())[:, ANY]
        patients = test.with_columns(p=p).group_by("patient").agg(pl.col("any", "p").max())
        patients = patients.sort("patient").filter(pl.col("any") == 1)
        threshold = loaded.operating.points["patients"]["balanced"]["any"].threshold
        right.append((patients["p"] >= threshold).to_numpy())
    row = next(
        row
        for row in result["points"]
        if (row["point"], row["rate"]) == ("balanced", "sensitivity")
    )
    table = [[(right[0] == a) & (right[1] == b) for b in (True, False)] for a in (True, False)]
    counts = np.array([[cell.sum() for cell in line] for line in table])
    assert row["only_first_right"] == counts[0, 1]
    assert row["p"] == pytest.approx(judge_mcnemar(counts, exact=True).pvalue)
    discordant = int(counts[0, 1] + counts[1, 0])
    assert discordant
    assert row["p"] == pytest.approx(binomtest(int(counts[0, 1]), discordant).pvalue)
    assert row["first"] == pytest.approx(right[0].mean())


def test_parameters_that_differ_are_listed_and_no_others(runs):
    assert compare(*runs)["parameters"] == [
        {"name": "seed", "first": "0", "second": "3"},
        {"name": "train.epochs", "first": "4", "second": "6"},
    ]


def test_other_test_slices_are_refused_with_counts(runs, tmp_path):
    table = pl.read_parquet(runs[0] / "data/predictions.parquet")
    table.filter(pl.col("slice") != "s003").write_parquet(tmp_path / "fewer.parquet")
    with pytest.raises(HemtraceError, match=r"120 in .*, 119 in .*, 119 in both"):
        compare(runs[0], tmp_path / "fewer.parquet")


def test_other_labels_or_patients_of_the_same_slices_are_refused(runs, tmp_path):
    table = pl.read_parquet(runs[0] / "data/predictions.parquet")
    here = pl.col("slice") == "s003"
    flipped = table.with_columns(
        epidural=pl.when(here).then(1 - pl.col("epidural")).otherwise("epidural")
    )
    flipped.write_parquet(tmp_path / "labels.parquet")
    with pytest.raises(HemtraceError, match="1 labels of the same slices differ"):
        compare(runs[0], tmp_path / "labels.parquet")
    moved = table.with_columns(patient=pl.when(here).then(pl.lit("p99")).otherwise("patient"))
    moved.write_parquet(tmp_path / "patients.parquet")
    with pytest.raises(HemtraceError, match="1 slices belong to another patient"):
        compare(runs[0], tmp_path / "patients.parquet")


def test_what_is_not_estimable_is_told_and_the_rest_goes_on(runs, tmp_path):
    table = pl.read_parquet(runs[0] / "data/predictions.parquet")
    table = table.with_columns(epidural=pl.lit(0, pl.UInt8))
    table.write_parquet(tmp_path / "first.parquet")
    holed = table.with_columns(
        p_any=pl.when(pl.col("slice") == "s003").then(np.nan).otherwise("p_any")
    )
    holed.write_parquet(tmp_path / "second.parquet")
    result = compare(tmp_path / "first.parquet", tmp_path / "second.parquet")
    none = pick(result, "slices", "epidural", "roc_auc")
    assert none["difference"]["value"] is None
    assert none["difference"]["why"] == "no positive slice"
    assert pick(result, "slices", "epidural", "log_loss")["difference"]["value"] == 0
    nan = pick(result, "patients", "any", "log_loss")
    assert nan["difference"]["why"] == "1 of 30 scores are NaN"
    assert nan["first"] is not None
    assert nan["second"] is None
    assert result["parameters"] is None
    assert result["parameters_why"].startswith("no model lies beside the predictions of ")
    assert result["points"] == []
    assert result["points_why"] == result["parameters_why"]
    assert list_bare_nulls(json.loads(json.dumps(result, allow_nan=False))) == []
    told = print_comparison(result)
    assert "null" not in told
    assert re.search(r"No difference, no positive slice: slices epidural roc_auc", told)
    assert "1 of 30 scores are NaN: patients any roc_auc" in told
    table = tabulate(result)
    for figure, why in (
        ("first", "first_why"),
        ("second", "second_why"),
        ("p_delong", "delong_why"),
    ):
        assert table.filter(pl.col(figure).is_null() & pl.col(why).is_null()).is_empty()


def list_bare_nulls(value: object, place: str = "") -> list[str]:
    """List the nulls that no reason stands beside, `x_why` for x or `why` for all."""
    if isinstance(value, list):
        return [bare for part in value for bare in list_bare_nulls(part, place)]
    if not isinstance(value, dict):
        return []
    found = []
    for key, part in value.items():
        is_why = key == "why" or key.endswith("_why")
        if part is None and not is_why and not (value.get(f"{key}_why") or value.get("why")):
            found.append(f"{place}.{key}")
        found += list_bare_nulls(part, f"{place}.{key}")
    return found


def test_every_null_has_a_reason_beside_it(runs, tmp_path):
    assert list_bare_nulls({"a": [{"p": None, "q_why": "x"}]}) == [".a.p"]
    assert list_bare_nulls(compare(*runs)) == []
    operating = runs[1] / "models/operating.json"
    bare = tmp_path / "bare"
    shutil.copytree(runs[1], bare)
    (bare / "models" / operating.name).unlink()
    result = compare(runs[0], bare)
    assert list_bare_nulls(result) == []
    assert re.fullmatch(r"no operating.json lies beside .*bare", result["points_why"])
    assert f"They are not compared: {result['points_why']}." in render_comparison(result)


def test_a_point_without_threshold_is_told_and_not_left_out(runs):
    first = read_run(runs[0])
    points = json.loads(first.operating.model_dump_json())
    points["points"]["patients"]["rule-in"]["any"] |= {"threshold": None, "why": "none"}
    lacking = replace(first, operating=type(first.operating).model_validate(points))
    result = compare_runs(first, lacking, 50, 1, CLIP)
    rows = [row for row in result["points"] if row["point"] == "rule-in"]
    assert len(rows) == 2
    for row in rows:
        assert row["first"] is not None
        assert row["second"] is row["p"] is row["only_first_right"] is None
        assert "has no threshold there" in row["why"]
    assert list_bare_nulls(result) == []
    assert "rule-in, sensitivity: " in render_comparison(result)


def test_few_bearers_are_told_below_the_table(runs, tmp_path):
    table = pl.read_parquet(runs[0] / "data/predictions.parquet")
    sick = sorted(table.filter((pl.col("any") == 1) & (pl.col("partition") == "test"))["patient"])
    few = pl.col("patient").is_in(list(dict.fromkeys(sick))[:4])
    table = table.with_columns(epidural=pl.when(few).then(pl.col("any")).otherwise(0))
    table.with_columns(epidural=pl.col("epidural").cast(pl.UInt8)).write_parquet(
        tmp_path / "a.parquet"
    )
    page = render_comparison(compare(tmp_path / "a.parquet", tmp_path / "a.parquet", 50))
    assert "\N{DAGGER} Rests on fewer than 20 patients" in page
    rows = re.findall(r"<tr>.*?</tr>", page)
    marked = [row for row in rows if "\N{DAGGER}" in row]
    assert any("epidural, ROC AUC" in row for row in marked)
    # A loss rests on all 30 patients.
    assert not any("log loss" in row for row in marked)


def bear(table: pl.DataFrame, count: int) -> pl.DataFrame:
    """Let so many test patients alone have an epidural bleed, in their first slice but one."""
    test = table.filter(partition="test")["patient"].unique().sort()
    nth = pl.int_range(pl.len()).over("patient")
    sick = pl.col("patient").is_in(test[:count].to_list()) & (nth == 1)
    return table.with_columns(epidural=sick.cast(pl.UInt8))


@pytest.mark.parametrize(
    ("count", "slices", "patients"), [(2, False, False), (3, False, True), (9, False, True)]
)
def test_delong_has_no_p_of_few_patients_and_says_why(runs, tmp_path, count, slices, patients):
    for name, run in zip("ab", runs, strict=True):
        table = bear(pl.read_parquet(run / "data/predictions.parquet"), count)
        table.write_parquet(tmp_path / f"{name}.parquet")
    result = compare(tmp_path / "a.parquet", tmp_path / "b.parquet", 50)
    for level, fewest, has_p in (("slices", 10, slices), ("patients", 3, patients)):
        found = pick(result, level, "epidural", "roc_auc")["delong"]
        assert found["value"] is not None
        assert (found["p"] is not None) == (found["low"] is not None) == has_p
        unit = level.removesuffix("s")
        why = f"fewer than {fewest} patients ({count} with a positive {unit})"
        assert found["why"] == (None if has_p else why)
        told = f"{why}: {level} epidural roc_auc (DeLong)"
        assert (told in print_comparison(result)) is not has_p
        assert (told in render_comparison(result)) is not has_p
        # The difference itself stands in the table.
        assert (f"No interval or p, {told}" in print_comparison(result)) is not has_p
    assert "fewer than 10 patients have a positive" in result["rules"]["delong"]


def test_delong_has_a_p_of_ten_patients(runs, tmp_path):
    for name, run in zip("ab", runs, strict=True):
        table = bear(pl.read_parquet(run / "data/predictions.parquet"), 10)
        table.write_parquet(tmp_path / f"{name}.parquet")
    result = compare(tmp_path / "a.parquet", tmp_path / "b.parquet", 50)
    assert pick(result, "slices", "epidural", "roc_auc")["delong"]["p"] is not None


def test_labels_of_studies_are_not_compared_by_slices(runs, tmp_path):
    first = read_run(runs[0])
    by_study = replace(first, level="study")
    result = compare_runs(by_study, by_study, 50, 1, CLIP)
    assert {row["level"] for row in result["figures"]} == {"studies", "patients"}
    with pytest.raises(HemtraceError, match="by study, those of"):
        compare_runs(by_study, first, 50, 1, CLIP)


@pytest.mark.parametrize("text", [None, "no parquet"])
def test_what_is_no_run_is_refused(tmp_path, text):
    path = tmp_path / "predictions.parquet"
    if text is not None:
        path.write_text(text)
    with pytest.raises(HemtraceError, match=r"no table of Parquet|neither a table"):
        read_run(path)


def test_products_hold_the_same_figures_and_the_mark(runs, tmp_path):
    result = compare(*runs)
    for suffix in ("html", "csv", "json"):
        write_comparison(result, tmp_path / f"a.{suffix}")
    page = (tmp_path / "a.html").read_text()
    assert "SYNTHETIC DATA" in page.split("</title>")[0]
    assert "<script" not in page
    assert "train.epochs" in page
    assert "runs0/first" in page
    assert str(tmp_path.parents[1]) not in page
    table = pl.read_csv(tmp_path / "a.csv")
    assert table.height == tabulate(result).height == len(result["figures"])
    assert set(table["data"]) == {"SYNTHETIC, not clinical performance"}
    assert json.loads((tmp_path / "a.json").read_text()) == result
    with pytest.raises(HemtraceError, match=r"must end in \.html"):
        write_comparison(result, tmp_path / "a.pdf")


def test_the_command_prints_a_table_and_refuses_in_a_sentence(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("evaluate:\n  bootstrap: 50\n")
    done = CliRunner().invoke(app, ["compare", *map(str, runs), "--out", "c.csv"])
    assert done.exit_code == 0, done.output
    assert "SYNTHETIC" in done.output
    assert "train.epochs" in done.output
    assert (tmp_path / "c.csv").is_file()
    done = CliRunner().invoke(app, ["compare", str(runs[0]), "nowhere"])
    assert done.exit_code == 1
    assert done.output.startswith("hemtrace: nowhere is neither")


def test_a_wrong_suffix_is_refused_before_any_work(runs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hemtrace.compare.runs.read_run", lambda path: pytest.fail("was read"))
    done = CliRunner().invoke(app, ["compare", *map(str, runs), "--out", "c.pdf"])
    assert done.exit_code == 1
    assert done.output.startswith("hemtrace: c.pdf: the name must end in .html, .csv, .json")
