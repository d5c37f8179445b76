"""The external test: a frozen model on another folder, guarded against its own patients."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from conftest import make_products, small_head, write_labels, write_slice
from held import SPEC
from playwright.sync_api import sync_playwright
from scipy.special import expit, logit
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    roc_auc_score,
)
from typer.testing import CliRunner

from hemtrace.cli import app
from hemtrace.dicom import PUBLIC_SALT, pseudonym
from hemtrace.dicom.guard import GuardedReader
from hemtrace.engine import open_engine
from hemtrace.errors import HemtraceError
from hemtrace.evaluate.calibrate import digest_patients
from hemtrace.evaluate.operating import read_operating, write_operating
from hemtrace.evaluate.position import learn_position
from hemtrace.evaluate.predictions import predict_partitions
from hemtrace.evaluate.scored import scored_partition
from hemtrace.evaluate.thresholds import fix_operating
from hemtrace.external.account import tell_result, tell_synthetic
from hemtrace.external.labels import read_plain_labels
from hemtrace.external.read import UsedPictures, choose_pictures, make_predictions, read_folder
from hemtrace.external.results import find_results, summarise
from hemtrace.external.run import evaluate_external
from hemtrace.external.score import compare_with_internal, score_external
from hemtrace.familiar import Familiar
from hemtrace.familiar.score import fit_shape
from hemtrace.familiar.stored import write as write_familiar
from hemtrace.inference import predict_probabilities
from hemtrace.labels import ANY, LABELS
from hemtrace.model import create_net, save_model
from hemtrace.params import EvaluateParams
from hemtrace.predict import predict_folder
from hemtrace.predict.run import predict_studies
from hemtrace.predict.study import StudyPrediction
from hemtrace.provenance import data_digest, file_digest

PARAMS = EvaluateParams(bootstrap=60)
PREDICT = "hemtrace.external.run.run_slices"
CQ500_HEAD = [f"R{k}:{f}" for k in (1, 2, 3) for f in ("ICH", "IPH", "IVH", "SDH", "EDH", "SAH")]


@pytest.fixture(scope="module")
def project(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves: data and a tiny, untrained model with its operating points."""
    root = tmp_path_factory.mktemp("project")
    (root / "data").mkdir()
    make_products(raw, root / "data", "npy", SPEC.view)
    catalog = pl.read_parquet(root / "data/catalog.parquet")
    splits = pl.read_parquet(root / "data/splits.parquet")
    spec = SPEC.model_copy(update={"data_digest": data_digest(catalog, splits)})
    net = create_net(spec).eval()
    model = root / "models/model.safetensors"
    save_model(model, net, spec)
    predictions = predict_partitions(net, spec, catalog, splits, root / "data")
    predictions.write_parquet(root / "data/predictions.parquet")
    validation = scored_partition(predictions, "val")
    operating = fix_operating(validation, "temperature", file_digest(model), True)
    operating = operating.model_copy(update={"position": learn_position(catalog, splits)})
    write_operating(operating, root / "models/operating.json")
    return root


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another hospital: 8 patients of 3 slices, every other with a bleed; and a file that is none.

    `study.csv`, `patient.csv` and `slice.csv` (the RSNA layout) say the same; `reads.csv` is that
    of CQ500.
    """
    root = tmp_path_factory.mktemp("elsewhere")
    labels, reads = {}, []
    for patient in range(8):
        bleed = int(patient % 2 == 0)
        for z in range(3):
            name = f"ID_{0xE0000 + patient * 3 + z:09x}"
            write_slice(
                root / f"images/CQ500CT{patient} CQ500CT{patient}/CT 5mm/{name}.dcm",
                small_head(5000 + patient * 3 + z),
                PatientID=f"Doe^{patient}",
                StudyInstanceUID=f"1.2.3.{patient}",
                SeriesInstanceUID=f"1.2.3.{patient}.1",
                SOPInstanceUID=f"1.2.3.{patient}.1.{z}",
                ImagePositionPatient=[-125.0, -125.0, 5.0 * z],
            )
            labels[name] = [0, 0, 0, 0, bleed * (z > 0), bleed * (z > 0)]
        votes = [[bleed, 0, 0, bleed, 0, 0], [bleed, 0, 0, bleed, 0, 0], [0, 0, 0, 0, 0, 0]]
        reads.append(f"CQ500-CT-{patient},B1," + ",".join(str(v) for row in votes for v in row))
    (root / "images/notes.txt").write_text("no dicom")
    write_labels(root / "slice.csv", labels)
    for unit, prefix in (("study", "1.2.3."), ("patient", "Doe^")):
        rows = [f"{prefix}{k},{int(k % 2 == 0)}" for k in range(8)]
        (root / f"{unit}.csv").write_text(f"{unit},any\n" + "\n".join(rows) + "\n")
    head = "name,Category," + ",".join(CQ500_HEAD)
    (root / "reads.csv").write_text("\n".join([head, *reads, "CQ500-CT-77,B2" + ",0" * 18]) + "\n")
    return root


def evaluate(project: Path, elsewhere: Path, out: Path, file: str, reader: str, **more) -> dict:
    given = {"params": PARAMS, "seed": 1, "salt": PUBLIC_SALT, "data": project / "data"}
    folder = more.pop("folder", elsewhere / "images")
    model = more.pop("model", project / "models/model.safetensors")
    return evaluate_external(folder, elsewhere / file, reader, model, out, **{**given, **more})


@pytest.fixture(scope="module")
def by_slice(project, elsewhere, tmp_path_factory) -> SimpleNamespace:
    out = tmp_path_factory.mktemp("out") / "hospital"
    before = (project / "models/operating.json").read_bytes()
    result = evaluate(project, elsewhere, out, "slice.csv", "rsna")
    return SimpleNamespace(result=result, out=out, before=before)


def test_every_file_is_counted_and_the_reasons_add_up(by_slice):
    flow = by_slice.result["flow"]
    assert flow["files"] == flow["pictures"] == 25
    assert flow["used"] == 24
    assert flow["quarantined"] == {"not-dicom": 1}
    assert flow["used"] + sum(flow["quarantined"].values()) == flow["pictures"]
    assert pl.read_parquet(by_slice.out / "files.parquet").height == 25


def test_probabilities_are_those_of_predict(by_slice, project, elsewhere):
    ours = pl.read_parquet(by_slice.out / "predictions.parquet")
    theirs, _ = predict_folder(elsewhere / "images", project / "models/model.safetensors")
    both = ours.join(theirs, on="slice", suffix="_theirs")
    assert both.height == ours.height == 24
    for label in LABELS:
        assert np.allclose(both[f"p_{label}"], both[f"{label}_theirs"], atol=1e-6)


@pytest.mark.parametrize("files_a_shard", [5000, 7])
def test_neighbours_are_those_of_predict_over_shards_too(
    project, elsewhere, tmp_path, monkeypatch, files_a_shard
):
    monkeypatch.setattr("hemtrace.external.read._FILES_A_SHARD", files_a_shard)
    network = SPEC.network.model_copy(update={"context": "neighbours"})
    spec = SPEC.model_copy(update={"network": network})
    net, shards = create_net(spec).eval(), tmp_path / "shards"
    labels = read_plain_labels(elsewhere / "study.csv", PUBLIC_SALT)
    pictures = read_folder(elsewhere / "images", spec.view, PUBLIC_SALT, shards)
    used = UsedPictures(choose_pictures(pictures, labels, PUBLIC_SALT), shards, True)
    ours = make_predictions(used, predict_probabilities(net, used, quiet=True))
    save_model(tmp_path / "model.safetensors", net, spec)
    theirs, _ = predict_folder(elsewhere / "images", tmp_path / "model.safetensors")
    both = ours.join(theirs, on="slice", suffix="_theirs")
    assert both.height == 24
    assert np.allclose(both["p_subdural"], both["subdural_theirs"], atol=1e-6)


def test_figures_equal_scikit_learn_on_calibrated_probabilities(by_slice, project):
    table = pl.read_parquet(by_slice.out / "predictions.parquet")
    operating = read_operating(
        project / "models/operating.json", file_digest(project / "models/model.safetensors")
    )
    p = operating.calibration.transform(table.select("^p_.*$").to_numpy())[:, ANY]
    truth = table["any"].to_numpy()
    own = by_slice.result["levels"]["slices"]["labels"]["any"]
    assert own["positives"] == truth.sum() == 8
    assert own["roc_auc"]["value"] == pytest.approx(roc_auc_score(truth, p))
    assert own["average_precision"]["value"] == pytest.approx(average_precision_score(truth, p))
    assert own["brier"]["value"] == pytest.approx(brier_score_loss(truth, p))
    highest = (
        table.with_columns(p=p).group_by("patient").agg(pl.col("p").max(), pl.col("any").max())
    )
    patients = by_slice.result["levels"]["patients"]
    assert patients["n"] == 8
    area = roc_auc_score(highest["any"], highest["p"])
    assert patients["labels"]["any"]["roc_auc"]["value"] == pytest.approx(area)
    for point, rates in patients["labels"]["any"]["points"].items():
        threshold = operating.points["patients"][point]["any"].threshold
        assert rates["threshold"] == threshold
        if threshold is not None:
            found = highest.filter(pl.col("any") == 1)["p"] >= threshold
            assert rates["sensitivity"]["value"] == pytest.approx(found.mean())


def at_levels(table: pl.DataFrame, p: np.ndarray) -> dict[str, pl.DataFrame]:
    """Truth and calibrated probability of each label: of slices, and the highest of many."""
    slices = table.with_columns(pl.DataFrame(p, schema=[f"p_{label}" for label in LABELS]))
    columns = pl.col(*LABELS, *(f"p_{label}" for label in LABELS)).max()
    return {
        "slices": slices,
        "studies": slices.group_by("patient", "study", maintain_order=True).agg(columns),
        "patients": slices.group_by("patient", maintain_order=True).agg(columns),
    }


def test_every_figure_is_that_of_scikit_learn_and_statsmodels(by_slice, project):
    """The tables of the page, from `predictions.parquet` alone, at all levels and points."""
    table = pl.read_parquet(by_slice.out / "predictions.parquet")
    operating = read_operating(
        project / "models/operating.json", file_digest(project / "models/model.safetensors")
    )
    assert operating.score_rule == "highest"
    raw = table.select("^p_.*$").to_numpy()
    assert operating.calibration.method == "temperature"
    divisors = [operating.calibration.labels[label].temperature or 1.0 for label in LABELS]
    tables = at_levels(table, expit(logit(raw) / divisors))
    told = 0
    for level, found in by_slice.result["levels"].items():
        of_level = tables[level]
        assert found["n"] == of_level.height
        for label in ("subdural", "any"):
            own = found["labels"][label]
            truth = of_level[label].to_numpy()
            p = of_level[f"p_{label}"].to_numpy()
            assert own["prevalence"] == pytest.approx(truth.mean())
            assert own["log_loss"]["value"] == pytest.approx(log_loss(truth, p))
            assert own["brier"]["value"] == pytest.approx(np.mean((truth - p) ** 2))
            assert own["observed_expected"]["value"] == pytest.approx(truth.sum() / p.sum())
            shift = sm.GLM(
                truth, np.ones(len(truth)), family=sm.families.Binomial(), offset=logit(p)
            ).fit()
            assert own["in_the_large"]["value"] == pytest.approx(shift.params[0], abs=1e-6)
            if own["slope"]["value"] is not None:
                line = sm.Logit(truth, sm.add_constant(logit(p))).fit(disp=0)
                assert own["slope"]["value"] == pytest.approx(line.params[1], rel=1e-4)
            for point, rates in own["points"].items():
                threshold = operating.points[level][point][label].threshold
                if threshold is None:
                    assert rates["why"]
                    continue
                flagged = p >= threshold
                tn, fp, fn, tp = confusion_matrix(truth, flagged, labels=[0, 1]).ravel()
                assert rates["confusion"] == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
                for name, above, below in (
                    ("sensitivity", tp, tp + fn),
                    ("specificity", tn, tn + fp),
                    ("positive_predictive_value", tp, tp + fp),
                    ("negative_predictive_value", tn, tn + fn),
                ):
                    value = rates[name]["value"]
                    assert value == (pytest.approx(above / below) if below else None)
                    told += 1
    assert told >= 12


def test_intervals_are_those_of_a_loop_over_whole_patients(by_slice):
    """Percentiles of scikit-learn's figures on the same draws, a replicate after the other."""
    table = pl.read_parquet(by_slice.out / "predictions.parquet").sort("slice")
    patients, truth = table["patient"].to_numpy(), table["any"].to_numpy()
    p = table["p_any"].to_numpy()  # temperature keeps the order, hence the areas
    names = np.unique(patients)
    drawn = np.random.default_rng(1).multinomial(8, np.full(8, 1 / 8), size=PARAMS.bootstrap)
    areas, precisions = [], []
    for counts in drawn:
        rows = np.concatenate(
            [
                np.tile(np.flatnonzero(patients == name), k)
                for name, k in zip(names, counts, strict=True)
            ]
        )
        if 0 < truth[rows].sum() < len(rows):
            areas.append(roc_auc_score(truth[rows], p[rows]))
            precisions.append(average_precision_score(truth[rows], p[rows]))
    own = by_slice.result["levels"]["slices"]["labels"]["any"]
    for name, values in (("roc_auc", areas), ("average_precision", precisions)):
        bounds = own[name]["low"], own[name]["high"]
        assert bounds == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def drawn_predictions(seed: int, partitions: dict[str, int]) -> pl.DataFrame:
    """Two slices a patient, a third of the patients with a bleed; by partition how many."""
    chance = np.random.default_rng(seed)
    count = sum(partitions.values())
    bleeds = np.repeat(np.arange(count) % 3 == 0, 2)
    table = {
        "slice": [f"{seed}s{k:03d}" for k in range(2 * count)],
        "patient": [f"{seed}p{k // 2:03d}" for k in range(2 * count)],
        "study": [f"{seed}p{k // 2:03d}" for k in range(2 * count)],
        "partition": np.repeat(list(partitions), [2 * size for size in partitions.values()]),
    }
    p = 1 / (1 + np.exp(-chance.normal(0.5 * bleeds, 1, (6, 2 * count))))
    table |= {f"p_{label}": p[k] for k, label in enumerate(LABELS)}
    table |= {label: bleeds.astype(np.uint8) for label in LABELS}
    return pl.DataFrame(table)


def test_interval_of_the_drop_is_of_two_independent_loops_over_patients():
    internal = drawn_predictions(1, {"val": 30, "test": 45})
    external = drawn_predictions(2, {"external": 60})
    operating = fix_operating(scored_partition(internal, "val"), "temperature", "0" * 64, True)
    found = compare_with_internal(external, internal, operating, "slice", ["any"], 80, 7)
    drop = found["levels"]["slices"]["any"]["drop"]
    areas = []
    for table, partition, seed in ((internal, "test", 8), (external, "external", 7)):
        rows = table.filter(partition=partition)
        owners, truth, p = (rows[name].to_numpy() for name in ("patient", "any", "p_any"))
        names = np.unique(owners)
        size = len(names)
        drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=80)
        weights = drawn[:, np.searchsorted(names, owners)]
        areas.append([roc_auc_score(truth, p, sample_weight=weight) for weight in weights])
    assert (drop["low"], drop["high"]) == pytest.approx(
        tuple(np.percentile(np.subtract(*areas), [2.5, 97.5]))
    )
    assert drop["note"].startswith("rests on 15 patients: ")  # of the 45, those who bleed


def test_thresholds_come_from_the_model_and_are_left_as_they_were(by_slice, project):
    assert (project / "models/operating.json").read_bytes() == by_slice.before
    frozen = json.loads(by_slice.before)["points"]["slices"]
    for label, own in by_slice.result["levels"]["slices"]["labels"].items():
        for point, rates in own["points"].items():
            assert rates["threshold"] == frozen[point][label]["threshold"]


def test_nulls_stand_beside_the_figures(by_slice):
    own = by_slice.result["levels"]["slices"]["labels"]["any"]
    truth = pl.read_parquet(by_slice.out / "predictions.parquet")["any"].to_numpy()
    constant = np.full(len(truth), truth.mean())
    expected = {
        "roc_auc": roc_auc_score(truth, constant),
        "average_precision": average_precision_score(truth, constant),
        "brier": brier_score_loss(truth, constant),
        "log_loss": log_loss(truth, constant),
        "accuracy": np.mean(truth == 0),
    }
    assert own["null"] == pytest.approx(expected)
    table = pl.read_csv(by_slice.out / "results.csv").filter(level="slices", label="any")
    for figure, value in expected.items():
        row = table.filter(pl.col("point").fill_null("") == "", figure=figure).row(0, named=True)
        assert row["null"] == pytest.approx(value)
        assert row["value"] == pytest.approx(own[figure]["value"])
    page = (by_slice.out / "index.html").read_text().split('id="table-areas_slices"')[1]
    assert f"null {expected['accuracy']:.3f}" in page.split("</table>")[0]
    # Of a label that nobody has, nothing is said that is not defined.
    epidural = by_slice.result["levels"]["slices"]["labels"]["epidural"]["null"]
    assert epidural["accuracy"] == 1
    assert "roc_auc" not in epidural


def test_the_null_of_the_position_travels_with_the_model(by_slice, project, without_operating):
    table = pl.read_parquet(by_slice.out / "predictions.parquet").sort("slice")
    shares = json.loads(by_slice.before)["position"]
    # Three slices a scan: depth 0, 1/2 and 1 lie in the first, seventh and last of twelve parts.
    places = {0.0: shares["by_place"][0], 0.5: shares["by_place"][6], 1.0: shares["by_place"][11]}
    column = LABELS.index("any")
    score = np.array([(places[d] or shares["overall"])[column] for d in table["depth"]])
    own = by_slice.result["levels"]["slices"]["labels"]["any"]
    truth = table["any"].to_numpy()
    expected = {
        "roc_auc": roc_auc_score(truth, score),
        "average_precision": average_precision_score(truth, score),
        "brier": brier_score_loss(truth, score),
        "log_loss": log_loss(truth, np.clip(score, PARAMS.clip, 1 - PARAMS.clip)),
        "accuracy": np.mean((score >= 0.5) == truth),
    }
    assert own["position"] == pytest.approx(expected)
    flat = pl.read_csv(by_slice.out / "results.csv").filter(level="slices", label="any")
    row = flat.filter(pl.col("point").fill_null("") == "", figure="roc_auc").row(0, named=True)
    assert row["position"] == pytest.approx(expected["roc_auc"])
    page = (by_slice.out / "index.html").read_text().split('id="table-areas_slices"')[1]
    assert f"position {expected['roc_auc']:.3f}" in page.split("</table>")[0]
    bare = without_operating.result["levels"]["slices"]["labels"]["any"]
    assert bare["position"] == {}
    assert bare["position_why"].startswith("no operating.json lies beside the model")


def test_an_older_operating_file_or_scans_without_z_say_why_the_position_is_unknown(project):
    operating = read_operating(
        project / "models/operating.json", file_digest(project / "models/model.safetensors")
    )
    table = drawn_predictions(0, {"external": 24}).with_columns(depth=pl.lit(None, pl.Float64))
    for frozen, told in (
        (operating, "no file tells where in its scan"),
        (operating.model_copy(update={"position": None}), "is of an older version"),
    ):
        levels = score_external(table, frozen, "slice", ["any"], 20, 0, PARAMS.clip)
        own = levels["slices"]["labels"]["any"]
        assert own["position"] == {}
        assert told in own["position_why"]


def test_drop_is_internal_less_external(by_slice, project):
    beside = by_slice.result["internal"]
    assert beside["why"] is None
    test = pl.read_parquet(project / "data/predictions.parquet").filter(partition="test")
    inner = roc_auc_score(test["any"], test["p_any"])  # temperature keeps the order
    found = beside["levels"]["slices"]["any"]
    assert found["internal"]["value"] == pytest.approx(inner)
    outer = by_slice.result["levels"]["slices"]["labels"]["any"]["roc_auc"]["value"]
    assert found["drop"]["value"] == pytest.approx(inner - outer)


def test_a_label_without_positive_is_not_estimable_and_says_why(by_slice):
    epidural = by_slice.result["levels"]["slices"]["labels"]["epidural"]
    assert epidural["roc_auc"]["value"] is None
    assert epidural["roc_auc"]["why"] == "no positive slice"
    assert (
        "Not estimable for epidural, intraparenchymal" in (by_slice.out / "index.html").read_text()
    )


def test_products_are_offline_marked_and_silent_on_persons(by_slice):
    page = (by_slice.out / "index.html").read_text()
    assert "SYNTHETIC DATA" in page.split("</title>")[0]
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    rows = pl.read_csv(by_slice.out / "results.csv")
    assert set(rows["data"]) == {"model trained on SYNTHETIC data, not clinical performance"}
    assert pl.read_parquet_metadata(by_slice.out / "predictions.parquet")["synthetic"] == "true"
    for product in ("index.html", "results.csv", "external.json"):
        text = (by_slice.out / product).read_text()
        assert "Doe" not in text
        assert "NaN" not in text
    assert [path.name for path in by_slice.out.parent.iterdir()] == ["hospital"]


def test_scans_are_called_synthetic_only_where_a_phantom_lies_with_them(by_slice, tmp_path):
    pictures = pl.DataFrame({"file": ["a.dcm"]})
    (tmp_path / "real").mkdir()
    (tmp_path / "computed").mkdir()
    (tmp_path / "computed/phantom.parquet").touch()
    of_patients = SPEC.model_copy(update={"synthetic": False})
    told = {
        (place, spec.synthetic): tell_synthetic(tmp_path / place, pictures, spec)
        for place in ("real", "computed")
        for spec in (SPEC, of_patients)
    }
    assert told["real", True]["mark"].startswith("model trained on SYNTHETIC data")
    assert told["real", True]["synthetic_banner"].startswith("MODEL TRAINED ON SYNTHETIC DATA")
    for computed in (told["computed", True], told["computed", False]):
        assert computed["mark"] == "SYNTHETIC, not clinical performance"
        assert computed["synthetic_banner"].startswith("SYNTHETIC DATA")
    assert told["real", False]["mark"] == "patients"
    assert [found["synthetic"] for found in told.values()] == [True, False, True, True]
    page = (by_slice.out / "index.html").read_text()
    assert page.count("SYNTHETIC DATA") == page.count("MODEL TRAINED ON SYNTHETIC DATA") > 2


def test_the_same_again_gives_the_same_bytes(by_slice, project, elsewhere, tmp_path):
    evaluate(project, elsewhere, tmp_path / "hospital", "slice.csv", "rsna")
    for product in ("external.json", "results.csv", "index.html"):
        assert (tmp_path / "hospital" / product).read_bytes() == (
            by_slice.out / product
        ).read_bytes()


@pytest.mark.parametrize(
    ("file", "levels"),
    [("study.csv", {"patients", "studies"}), ("patient.csv", {"patients"})],
)
def test_labels_of_a_level_are_scored_at_no_finer_one(project, elsewhere, tmp_path, file, levels):
    result = evaluate(project, elsewhere, tmp_path / "o", file, "csv")
    assert set(result["levels"]) == levels
    labels = result["levels"]["patients"]["labels"]
    assert set(labels) == {"any"}
    assert labels["any"]["positives"] == 4
    assert len(result["labels"]["not_scored"]) == 5


@pytest.fixture(scope="module")
def by_cq500(project, elsewhere, tmp_path_factory) -> SimpleNamespace:
    out = tmp_path_factory.mktemp("cq500") / "scans"
    result = evaluate(project, elsewhere, out, "reads.csv", "cq500")
    return SimpleNamespace(result=result, out=out)


def test_cq500_takes_the_majority_and_tells_agreement_and_orphans(by_cq500):
    result = by_cq500.result
    any_bleed = result["levels"]["studies"]["labels"]["any"]
    assert (any_bleed["n"], any_bleed["positives"]) == (8, 4)
    assert result["levels"]["studies"]["labels"]["subdural"]["positives"] == 4
    assert result["labels"]["units_without_picture_first"] == ["CQ500-CT-77"]
    agreement = {row["label"]: row for row in result["agreement"]}["any"]
    assert agreement["cohen_kappa"]["R1, R2"]["value"] == 1
    assert agreement["cohen_kappa"]["R1, R3"]["value"] == 0
    page = (by_cq500.out / "index.html").read_text()
    assert "CQ500-CT-77" in page
    assert 'id="figure-agreement"' in page


def test_a_shared_patient_is_refused_before_anything_is_predicted(
    project, elsewhere, tmp_path, monkeypatch
):
    images = tmp_path / "images"
    shutil.copytree(elsewhere / "images", images)
    write_slice(images / "more.dcm", small_head(9000), PatientID="ID_00000003")
    monkeypatch.setattr(PREDICT, lambda *given, **more: pytest.fail("was predicted"))
    with pytest.raises(
        HemtraceError, match=r"no external data.* 1 patient,.*nothing was predicted"
    ):
        evaluate(project, elsewhere, tmp_path / "o", "slice.csv", "rsna", folder=images)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(
    ("column", "told"),
    [("study", "1 study"), ("series", "1 series"), ("instance", "1 SOP instance")],
)
def test_a_shared_identifier_is_refused_whoever_it_is_said_to_be(
    project, elsewhere, tmp_path, monkeypatch, column, told
):
    """Under another PatientID and with other pixels: a scan that was made anonymous again."""
    uid = "1.2.3.5" + {"study": "", "series": ".1", "instance": ".1.0"}[column]
    first = pl.int_range(pl.len()) == 0
    shared = pl.when(first).then(pl.lit(pseudonym(uid, PUBLIC_SALT))).otherwise(column)
    catalog = pl.read_parquet(project / "data/catalog.parquet").with_columns(shared.alias(column))
    monkeypatch.setattr("hemtrace.external.run.find_development", lambda *given: (catalog, ""))
    monkeypatch.setattr(PREDICT, lambda *given, **more: pytest.fail("was predicted"))
    with pytest.raises(HemtraceError, match=rf"was made: {told}\. Take"):
        evaluate(project, elsewhere, tmp_path / "o", "slice.csv", "rsna")


def test_a_validation_patient_is_refused_without_a_catalog_too(
    project, elsewhere, tmp_path, monkeypatch
):
    model = tmp_path / "model.safetensors"
    shutil.copy(project / "models/model.safetensors", model)
    frozen = json.loads((project / "models/operating.json").read_text())
    frozen["calibration"]["fitted_on"] = digest_patients([pseudonym("Doe^3", PUBLIC_SALT)])
    (tmp_path / "operating.json").write_text(json.dumps(frozen))
    monkeypatch.setattr(PREDICT, lambda *given, **more: pytest.fail("was predicted"))
    given = {"model": model, "data": tmp_path / "nothing", "unchecked": True}
    with pytest.raises(HemtraceError, match="1 of 8 patients are among those on whom"):
        evaluate(project, elsewhere, tmp_path / "o", "slice.csv", "rsna", **given)
    assert not (tmp_path / "o").exists()


def test_the_same_pixels_under_another_name_are_refused(project, elsewhere, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(elsewhere / "images", images)
    known = small_head(7)  # of the seventh slice of `raw`
    ids = {"PatientID": "new", "StudyInstanceUID": "9.1", "SeriesInstanceUID": "9.2"}
    write_slice(images / "new.dcm", known, SOPInstanceUID="9.3", **ids)
    with pytest.raises(HemtraceError, match=r"made: 1 picture by its pixels\. Take"):
        evaluate(
            project, elsewhere, tmp_path / "o", "slice.csv", "rsna", folder=images, unchecked=True
        )


def test_without_the_development_data_it_goes_on_only_if_told(project, elsewhere, tmp_path):
    nowhere = tmp_path / "nothing"
    with pytest.raises(HemtraceError, match=r"cannot be checked: .*catalog.parquet is missing"):
        evaluate(project, elsewhere, tmp_path / "o", "study.csv", "csv", data=nowhere)
    result = evaluate(
        project, elsewhere, tmp_path / "o", "study.csv", "csv", data=nowhere, unchecked=True
    )
    assert result["overlap"]["checked"] is False
    assert "could NOT be checked" in (tmp_path / "o/index.html").read_text()
    assert result["internal"]["levels"] == {}


def test_a_catalog_of_other_data_does_not_count_as_checked(project, elsewhere, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(project / "data", data)
    catalog = pl.read_parquet(data / "catalog.parquet")
    catalog.with_columns(subdural=1 - pl.col("subdural")).write_parquet(data / "catalog.parquet")
    with pytest.raises(HemtraceError, match="not those that the model was made on"):
        evaluate(project, elsewhere, tmp_path / "o", "study.csv", "csv", data=data)


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


def test_every_null_has_a_reason_beside_it(by_slice, without_operating):
    assert list_bare_nulls({"a": [{"low": None, "why": None}]}) == [".a.low"]
    for out in (by_slice.out, without_operating.out):
        assert list_bare_nulls(json.loads((out / "external.json").read_text())) == []


@pytest.fixture(scope="module")
def without_operating(project, elsewhere, tmp_path_factory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("bare")
    shutil.copy(project / "models/model.safetensors", root)
    out = root / "external/bare"
    out.parent.mkdir()
    model = root / "model.safetensors"
    result = evaluate(project, elsewhere, out, "slice.csv", "rsna", model=model)
    return SimpleNamespace(result=result, out=out, root=root)


def test_without_operating_points_ranks_are_scored_and_rates_say_the_reason(without_operating):
    table = pl.read_parquet(without_operating.out / "predictions.parquet")
    own = without_operating.result["levels"]["slices"]["labels"]["any"]
    assert own["roc_auc"]["value"] == pytest.approx(roc_auc_score(table["any"], table["p_any"]))
    assert own["points"] == {}
    page = (without_operating.out / "index.html").read_text()
    cards = page.split('<section class="cards"')[1].split("</section>")[0].split('class="card"')
    rates = [card for card in cards if "Sensitivity" in card or "Specificity" in card]
    assert len(rates) == 4
    assert all("not estimable" in card and "no operating.json" in card for card in rates)
    told = "\n".join(tell_result(without_operating.result))
    assert "No sensitivity or specificity: no operating.json lies beside the model" in told


def with_familiar(project: Path, folder: Path, sha256: str | None = None) -> Path:
    """Copy the model, and put beside it what calls everything unlike its training data."""
    shutil.copytree(project / "models", folder / "models")
    model = folder / "models/model.safetensors"
    pictures = np.random.default_rng(0).integers(0, 255, (40, 3, 32, 32), dtype=np.uint8)
    shape = fit_shape(open_engine(model, "torch").run(pictures).features)
    familiar = Familiar(shape, 1e-6, 0.9, 40, 8, 1.0, synthetic=True)
    write_familiar(familiar, sha256 or file_digest(model), True, folder / "models/familiar.npz")
    return model


def test_without_familiar_npz_nobody_knows_whom_predict_would_not_answer(by_slice):
    assert by_slice.result["familiarity"]["unlike"] is None
    told = "how many these are was not measured: the model has no familiar.npz beside it"
    assert told in "\n".join(tell_result(by_slice.result))
    assert told in (by_slice.out / "index.html").read_text().split('id="limits"')[-1]


def test_studies_that_predict_finds_unlike_the_training_data_are_counted(
    by_slice, project, elsewhere, tmp_path
):
    """The judge is `hemtrace predict` itself, on the same files with the same model."""
    shutil.copytree(project / "models", tmp_path / "models")
    model = tmp_path / "models/model.safetensors"
    engine = open_engine(model, "torch")
    names = sorted(path.relative_to(elsewhere).as_posix() for path in elsewhere.rglob("*.dcm"))
    pictures = np.random.default_rng(0).integers(0, 255, (40, 3, 32, 32), dtype=np.uint8)
    shape = fit_shape(engine.run(pictures).features)

    def predict(limit: float) -> tuple[Familiar, tuple[StudyPrediction, ...]]:
        familiar = Familiar(shape, limit, 0.9, 40, 8, limit, synthetic=True)
        with GuardedReader(elsewhere, PUBLIC_SALT) as reader:
            told = predict_studies(reader.read, names, engine, None, familiar=familiar)
        return familiar, told.studies

    _, everyone = predict(1e9)
    middles = [np.median([one.distance for one in study.chosen.slices]) for study in everyone]
    familiar, theirs = predict(float(np.median(middles)))
    refused = [
        study
        for study in theirs
        if any(reason.code == "unlike-training" for reason in study.verdict.reasons)
    ]
    assert len(refused) == 4
    write_familiar(familiar, file_digest(model), True, tmp_path / "models/familiar.npz")

    result = evaluate(project, elsewhere, tmp_path / "o", "slice.csv", "rsna", model=model)
    found = result["familiarity"]
    assert (found["studies"], found["unlike"], found["bleeding"]) == (8, 4, 4)
    truth = pl.read_parquet(tmp_path / "o/predictions.parquet")
    bleeding = set(truth.filter(pl.col("any") == 1)["study"])
    assert found["unlike_bleeding"] == sum(study.key in bleeding for study in refused)
    told = "Of 8 scored studies 4 ("
    assert told in "\n".join(tell_result(result))
    assert told in (tmp_path / "o/index.html").read_text().split('id="limits"')[-1]
    # They are scored all the same.
    assert result["levels"] == by_slice.result["levels"]


def test_a_patients_label_does_not_say_which_of_his_studies_bleeds(project, elsewhere, tmp_path):
    model = with_familiar(project, tmp_path)
    result = evaluate(project, elsewhere, tmp_path / "o", "patient.csv", "csv", model=model)
    found = result["familiarity"]
    assert (found["studies"], found["unlike"], found["bleeding"]) == (8, 8, None)
    # Of a study it does.
    result = evaluate(project, elsewhere, tmp_path / "p", "study.csv", "csv", model=model)
    assert (result["familiarity"]["bleeding"], result["familiarity"]["unlike_bleeding"]) == (4, 4)


def test_familiar_npz_of_another_model_is_refused(project, elsewhere, tmp_path):
    model = with_familiar(project, tmp_path, sha256="0" * 64)
    with pytest.raises(HemtraceError, match=r"familiar\.npz belongs to another model"):
        evaluate(project, elsewhere, tmp_path / "o", "slice.csv", "rsna", model=model)
    assert not (tmp_path / "o").exists()


def test_partly_labelled_studies_are_counted_and_warned_of(by_slice, project, elsewhere, tmp_path):
    assert by_slice.result["labels"]["studies_partly_labelled"] == 0
    assert "partly labelled" not in (by_slice.out / "index.html").read_text()
    # Of the first study the two slices with a bleed lose their labels, of the second all do.
    names = [f"ID_{0xE0000 + k:09x}" for k in (1, 2, 3, 4, 5)]
    lines = (elsewhere / "slice.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(tuple(names))]
    (tmp_path / "part.csv").write_text("".join(kept))
    result = evaluate(project, elsewhere, tmp_path / "o", str(tmp_path / "part.csv"), "rsna")
    assert result["labels"]["studies_partly_labelled"] == 1
    assert result["labels"]["slices_unlabelled_there"] == 2
    assert result["labels"]["studies_unlabelled"] == 1
    told = "Warning: partly labelled studies: 1; slices in them without labels of use: 2."
    assert told in "\n".join(tell_result(result))
    assert told in (tmp_path / "o/index.html").read_text()
    # What the sentence says of the truth.
    assert result["levels"]["patients"]["labels"]["any"]["positives"] == 3


def test_cards_of_a_single_patient_say_why_they_have_no_interval(project, elsewhere, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(next((elsewhere / "images").glob("CQ500CT0*")), folder)
    result = evaluate(project, elsewhere, tmp_path / "o", "slice.csv", "rsna", folder=folder)
    area = result["levels"]["slices"]["labels"]["any"]["roc_auc"]
    assert area["value"] is not None
    assert area["low"] is None
    cards = (tmp_path / "o/index.html").read_text().split('<section class="cards"')[1]
    assert f"no interval: {area['why']}; 2 of 3 slices positive" in cards.split("</section>")[0]
    assert "1 patients" not in cards
    assert "of 1 patient at" in cards


def test_without_a_positive_the_terminal_tells_specificity_and_one_line_of_areas(
    project, elsewhere, tmp_path
):
    text = (elsewhere / "slice.csv").read_text()
    (tmp_path / "none.csv").write_text(text.replace(",1\n", ",0\n"))
    result = evaluate(project, elsewhere, tmp_path / "o", str(tmp_path / "none.csv"), "rsna")
    told = tell_result(result)
    (areas,) = [line for line in told if "not estimable" in line]
    for unit, level in (("patient", "patients"), ("study", "studies"), ("slice", "slices")):
        assert f"no positive {unit} ({level}: epidural, " in areas
    point = result["operating"]["default_point"]
    for level, found in result["levels"].items():
        for label, own in found["labels"].items():
            rate = own["points"][point]["specificity"]
            lines = [line for line in told if line.startswith(f"{level:9} {label} ")]
            # The tiny model has no threshold of some labels.
            assert len(lines) == (rate["value"] is not None)
            for line in lines:
                assert f"specificity {rate['value']:.3f} (95 %: {rate['low']:.3f} to" in line
                assert "sensitivity" not in line
                assert f"at the frozen point {point}" in line
    assert any(line.startswith("slices    any ") for line in told)


def test_ids_without_a_file_are_shown_in_the_terminal_and_in_no_product(
    project, elsewhere, tmp_path
):
    text = (elsewhere / "study.csv").read_text() + "1.2.3.99,0\n"
    (tmp_path / "more.csv").write_text(text)
    result = evaluate(project, elsewhere, tmp_path / "o", str(tmp_path / "more.csv"), "csv")
    told = "\n".join(tell_result(result))
    assert "Of 9 ids 1 has no file, e.g. 1.2.3.99 (line 10)." in told
    assert "1.2.3.99" not in (tmp_path / "o/external.json").read_text()
    assert "1.2.3.99" not in (tmp_path / "o/index.html").read_text()


def test_cards_show_slices_beside_patients_where_slices_are_labelled(by_slice, elsewhere):
    cards = (by_slice.out / "index.html").read_text().split('<section class="cards"')[1]
    cards = cards.split("</section>")[0]
    for name in ("ROC AUC", "Sensitivity", "Specificity"):
        for unit in ("patient", "slice"):
            assert f"{name}, any bleed, by {unit}" in cards
    slices = by_slice.result["levels"]["slices"]["labels"]["any"]["roc_auc"]["value"]
    assert f"{slices:.3f}" in cards
    assert "8 of 24 slices positive" in cards


def test_few_bearers_are_told_below_the_table(by_slice):
    page = (by_slice.out / "index.html").read_text()
    area = by_slice.result["levels"]["slices"]["labels"]["any"]["roc_auc"]
    assert area["note"].startswith("rests on 4 patients: ")
    figures = page.split('id="table-areas_slices"')[1].split("</table>")[0]
    assert f"{area['low']:.3f}\N{EN DASH}{area['high']:.3f}\N{DAGGER}</small>" in figures
    # Below the tables of areas at each of the three levels, and of rates of slices: studies
    # and patients have exact intervals.
    assert page.count("\N{DAGGER} Rests on fewer than 20 patients") == 4
    cards = page.split('<section class="cards"')[1].split("</section>")[0]
    assert "rests on 4 patients; 8 of 24 slices positive" in cards
    rows = pl.read_csv(by_slice.out / "results.csv").filter(level="slices", label="any")
    assert rows.filter(figure="roc_auc")["note"].to_list() == [area["note"]]


def test_a_result_is_found_again_by_its_model(by_slice, project, without_operating, tmp_path):
    digest = file_digest(project / "models/model.safetensors")
    places = {"b": by_slice.out, "a": without_operating.out}
    for name, out in places.items():
        shutil.copytree(out, tmp_path / "external" / name)
    found = find_results(tmp_path, digest)
    assert found == find_results(tmp_path / "external", digest)
    levels = ["patients", "studies", "slices"]
    assert [(row["name"], row["level"]) for row in found] == [
        (name, level) for name in "ab" for level in levels
    ]
    for row in found:
        own = by_slice.result["levels"][row["level"]]["labels"]["any"]
        assert row["model_sha256"] == digest
        assert row["synthetic"] is True
        assert (row["n"], row["positives"]) == (own["n"], own["positives"])
        assert row["patients"] == 8
        assert row["problem"] is None
        if row["name"] == "b":
            assert row["roc_auc"] == own["roc_auc"]
            point = by_slice.result["operating"]["default_point"]
            assert row["point"] == point
            assert row["sensitivity"] == own["points"][point]["sensitivity"]
            assert row["specificity"] == own["points"][point]["specificity"]
        else:
            assert row["sensitivity"]["value"] is None
            assert "no operating.json" in row["sensitivity"]["why"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is damaged or of another version"),
        ('{"name": "c"}', "is damaged or of another version"),
        (None, "is of the model .*, not of 000000000000"),
    ],
)
def test_a_damaged_or_foreign_result_is_named(by_slice, tmp_path, text, told):
    place = tmp_path / "external/c/external.json"
    place.parent.mkdir(parents=True)
    place.write_text(text or (by_slice.out / "external.json").read_text())
    (row,) = find_results(tmp_path, "0" * 64)
    assert row["name"] == "c"
    assert row["roc_auc"] is None
    assert re.search(rf"external/c/external.json {told}", row["problem"])
    assert find_results(tmp_path / "nowhere", "0" * 64) == []


def test_a_result_without_any_says_why_it_has_no_figure():
    rows = summarise({"patients": {"n": 3, "patients": 3, "labels": {"subdural": {}}}}, "rule-in")
    assert rows[0]["roc_auc"]["why"] == rows[0]["why"] == "the label file does not say who bleeds"


def test_thresholds_of_another_model_are_refused(project, elsewhere, tmp_path):
    model = tmp_path / "model.safetensors"
    shutil.copy(project / "models/model.safetensors", model)
    text = (project / "models/operating.json").read_text()
    other = text.replace(file_digest(model), "0" * 64)
    (tmp_path / "operating.json").write_text(other)
    with pytest.raises(HemtraceError, match="belongs to the model 000000000000"):
        evaluate(project, elsewhere, tmp_path / "o", "study.csv", "csv", model=model)


def test_labels_of_nobody_here_are_told(project, elsewhere, tmp_path):
    (tmp_path / "other.csv").write_text("study,any\n9.9.9,1\n")
    with pytest.raises(
        HemtraceError, match=r"None of the 25 .*24 unlabelled.*9\.9\.9 \(line 2\).*"
    ):
        evaluate(project, elsewhere, tmp_path / "o", str(tmp_path / "other.csv"), "csv")


def test_an_unknown_reader_is_told_the_known_ones(project, elsewhere, tmp_path):
    with pytest.raises(HemtraceError, match="rsna, csv, cq500"):
        evaluate(project, elsewhere, tmp_path / "o", "study.csv", "excel")


def test_the_command_says_the_figures_and_refuses_in_a_sentence(
    project, elsewhere, tmp_path, monkeypatch
):
    monkeypatch.chdir(project)
    (project / "params.yaml").write_text("evaluate:\n  bootstrap: 20\n")
    given = ["external", str(elsewhere / "images"), "--labels", str(elsewhere / "study.csv")]
    done = CliRunner().invoke(app, [*given, "--reader", "csv", "--out", str(tmp_path / "o")])
    assert done.exit_code == 0, done.output
    assert "Model trained on SYNTHETIC data, not clinical performance: The model" in done.output
    assert "scored slices: 24, patients: 8." in done.output
    areas = [line for line in done.output.splitlines() if "ROC AUC" in line]
    assert len(areas) == 2
    for line in areas:
        assert re.search(
            r"\(95 %: 0\.\d{3} to [01]\.\d{3}, rests on 4 patients\)|no interval: ", line
        )
        assert "4 of 8 positive" in line
    assert any(line.startswith("studies") and "patients: 8" in line for line in areas)
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 1
    assert "hemtrace: " in done.output
    assert "must have the columns `ID,Label`" in done.output
    assert "first column is study is read with --reader csv." in " ".join(done.output.split())


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_whole_in_a_browser(by_cq500, width):
    """With all figures and tables: no error, nothing missing or cut off, links that lead."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": width, "height": 900})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: complaints.append(request.url))
        page.goto((by_cq500.out / "index.html").as_uri())
        asked = [text for text in complaints if not text.startswith(("file:", "data:"))]
        seen = page.evaluate(
            """() => ({
            wide: document.documentElement.scrollWidth,
            pictures: [...document.images].map(i => [i.naturalWidth, i.alt.trim()]),
            lost: [...document.querySelectorAll('a[href^="#"]')]
                .map(a => a.getAttribute('href').slice(1))
                .filter(id => !document.getElementById(id)),
            headings: [...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName),
        })"""
        )
        browser.close()
    assert asked == []
    assert seen["wide"] <= width
    assert len(seen["pictures"]) == 2
    assert all(drawn and alt for drawn, alt in seen["pictures"])
    assert seen["lost"] == []
    assert seen["headings"][0] == "H1"
    assert seen["headings"].count("H1") == 1
