"""The external test: a frozen model on another folder, guarded against its own patients."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from conftest import make_products, small_head, write_labels, write_slice
from held import SPEC
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from typer.testing import CliRunner

from hemtrace.cli import app
from hemtrace.dicom import PUBLIC_SALT
from hemtrace.errors import HemtraceError
from hemtrace.evaluate.operating import read_operating, write_operating
from hemtrace.evaluate.predictions import predict_partitions
from hemtrace.evaluate.scored import scored_partition
from hemtrace.evaluate.thresholds import fix_operating
from hemtrace.external import evaluate_external
from hemtrace.external.labels import read_plain_labels
from hemtrace.external.read import UsedPictures, choose_pictures, make_predictions, read_folder
from hemtrace.inference import predict_probabilities
from hemtrace.labels import ANY, LABELS
from hemtrace.model import create_net, save_model
from hemtrace.params import EvaluateParams
from hemtrace.predict import predict_folder
from hemtrace.provenance import data_digest, file_digest

PARAMS = EvaluateParams(bootstrap=60)
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


def test_thresholds_come_from_the_model_and_are_left_as_they_were(by_slice, project):
    assert (project / "models/operating.json").read_bytes() == by_slice.before
    frozen = json.loads(by_slice.before)["points"]["slices"]
    for label, own in by_slice.result["levels"]["slices"]["labels"].items():
        for point, rates in own["points"].items():
            assert rates["threshold"] == frozen[point][label]["threshold"]


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
    assert set(rows["data"]) == {"SYNTHETIC, not clinical performance"}
    assert pl.read_parquet_metadata(by_slice.out / "predictions.parquet")["synthetic"] == "true"
    for product in ("index.html", "results.csv", "external.json"):
        text = (by_slice.out / product).read_text()
        assert "Doe" not in text
        assert "NaN" not in text
    assert [path.name for path in by_slice.out.parent.iterdir()] == ["hospital"]


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


def test_cq500_takes_the_majority_and_tells_agreement_and_orphans(project, elsewhere, tmp_path):
    result = evaluate(project, elsewhere, tmp_path / "o", "reads.csv", "cq500")
    any_bleed = result["levels"]["studies"]["labels"]["any"]
    assert (any_bleed["n"], any_bleed["positives"]) == (8, 4)
    assert result["levels"]["studies"]["labels"]["subdural"]["positives"] == 4
    assert result["labels"]["units_without_picture_first"] == ["CQ500-CT-77"]
    agreement = {row["label"]: row for row in result["agreement"]}["any"]
    assert agreement["cohen_kappa"]["R1, R2"]["value"] == 1
    assert agreement["cohen_kappa"]["R1, R3"]["value"] == 0
    assert "CQ500-CT-77" in (tmp_path / "o/index.html").read_text()


def test_a_shared_patient_is_refused_before_anything_is_predicted(project, elsewhere, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(elsewhere / "images", images)
    write_slice(images / "more.dcm", small_head(9000), PatientID="ID_00000003")
    with pytest.raises(
        HemtraceError, match=r"no external data.* 1 patient,.*nothing was predicted"
    ):
        evaluate(project, elsewhere, tmp_path / "o", "slice.csv", "rsna", folder=images)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


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


def test_thresholds_that_lack_or_are_another_models_are_refused(project, elsewhere, tmp_path):
    model = tmp_path / "model.safetensors"
    shutil.copy(project / "models/model.safetensors", model)
    with pytest.raises(HemtraceError, match=r"operating points .* were not found"):
        evaluate(project, elsewhere, tmp_path / "o", "study.csv", "csv", model=model)
    text = (project / "models/operating.json").read_text()
    other = text.replace(file_digest(model), "0" * 64)
    (tmp_path / "operating.json").write_text(other)
    with pytest.raises(HemtraceError, match="belongs to the model 000000000000"):
        evaluate(project, elsewhere, tmp_path / "o", "study.csv", "csv", model=model)


def test_labels_of_nobody_here_are_told(project, elsewhere, tmp_path):
    (tmp_path / "other.csv").write_text("study,any\n9.9.9,1\n")
    with pytest.raises(HemtraceError, match=r"None of the 25 .*24 unlabelled"):
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
    assert "SYNTHETIC, not clinical performance" in done.output
    assert "scored slices: 24, patients: 8." in done.output
    assert "4 of 8 positive" in done.output
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 1
    assert "hemtrace: " in done.output
    assert "must have the columns `ID,Label`" in done.output
