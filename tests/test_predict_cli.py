"""`hemtrace predict` as a user meets it."""

import json
import zipfile

import numpy as np
import polars as pl
import pydicom
import pytest
from PIL import Image
from predicting import BrightEngine, make_operating, make_scan, save_lively_model, write_scan
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

from hemtrace.cli import app
from hemtrace.dicom_results.identity import RESEARCH_MARK
from hemtrace.evaluate.operating import write_operating
from hemtrace.labels import LABELS
from hemtrace.predict import predict_folder
from hemtrace.predict.paths import Archive
from hemtrace.provenance import file_digest

runner = CliRunner()
NAME = "Doe^Jane"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network with operating points."""
    path = save_lively_model(tmp_path_factory.mktemp("model") / "model.safetensors")
    write_operating(make_operating(sha256=file_digest(path)), path.parent / "operating.json")
    return path


@pytest.fixture
def bright(monkeypatch):
    """Put the engine whose answers are known in the place of any model's."""
    monkeypatch.setattr("hemtrace.commands.predict_run.open_engine", lambda *_: BrightEngine())
    monkeypatch.setattr("hemtrace.commands.predict_run.find_operating", lambda *_: make_operating())


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """An ill and a healthy study, and a text file; left as they are."""
    files = make_scan(clots=(9, 10), PatientName=NAME, PatientID="HOSPITAL-4711")
    files |= make_scan(name="well", uid="1.2.4", seed=90) | {"readme.txt": b"no dicom"}
    return write_scan(tmp_path_factory.mktemp("scans"), files)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """No test finds the models of a finished run, which lie in the folder it would run in."""
    monkeypatch.chdir(tmp_path)


def call(*args, code=0):
    result = runner.invoke(app, ["predict", *map(str, args)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_studies_stand_on_the_screen_and_bad_files_with_their_reason(bright, scans):
    result = call(scans)
    assert "bleed" in result.stdout
    assert "no-bleed" in result.stdout
    assert result.stdout.index("subdural") < result.stdout.index("no-bleed")  # the urgent first
    assert "Research use only" in result.output
    assert "SYNTHETIC" in result.output
    assert "readme.txt: not-dicom" in result.stderr
    assert "40 slices in 2 studies: 1 bleed, 1 no-bleed" in result.stderr
    assert NAME not in result.output
    assert "HOSPITAL" not in result.output


def test_the_table_of_slices_has_every_file_and_says_what_predicted(bright, scans, tmp_path):
    call(scans, "--out", tmp_path / "a.csv")
    table = pl.read_csv(tmp_path / "a.csv")
    assert table.height == 41
    assert table.filter(pl.col("file") == "readme.txt")["reason"].to_list() == ["not-dicom"]
    ill = table.filter(pl.col("flag_any"))["file"].to_list()
    assert ill == ["scan/009.dcm", "scan/010.dcm"]
    for name, value in {"synthetic": True, "point": "balanced", "model_sha256": "ab" * 32}.items():
        assert table[name].unique().to_list() == [value]
    assert all("Research use only" in note for note in table["note"])
    content = (tmp_path / "a.csv").read_text()
    assert NAME not in content
    assert "HOSPITAL" not in content


@pytest.mark.parametrize(
    ("level", "height", "suffix"),
    [
        ("slices", 41, "json"),
        ("slices", 41, "parquet"),
        ("series", 2, "csv"),
        ("studies", 2, "json"),
        ("studies", 2, "parquet"),
        ("patients", 2, "csv"),
    ],
)
def test_every_level_is_written_in_every_format(bright, scans, tmp_path, level, height, suffix):
    out = tmp_path / f"a.{suffix}"
    call(scans, "--out", out, "--level", level, "--point", "rule-out")
    if suffix == "json":
        told = json.loads(out.read_text())
        assert (told["point"], told["synthetic"]) == ("rule-out", True)
        assert [one["file"] for one in told["rejected"]] == ["readme.txt"]
        rows = told["rows"]
    else:
        read = pl.read_csv if suffix == "csv" else pl.read_parquet
        rows = read(out).to_dicts()
    assert len(rows) == height
    assert "any" in rows[0]


def test_a_level_can_be_shown_on_the_screen(bright, scans):
    result = call(scans, "--level", "patients")
    assert "answered" in result.stdout


def test_a_patient_has_the_worst_of_his_studies(bright, tmp_path):
    one = make_scan(clots=(9,), PatientID="same")
    other = make_scan(name="later", uid="1.2.4", seed=90, PatientID="same")
    folder = write_scan(tmp_path / "scans", one | other)
    call(folder, "--out", tmp_path / "a.json", "--level", "patients")
    (row,) = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert (row["answer"], row["studies"], row["slices"]) == ("bleed", 2, 40)
    # A study without an answer could hold the bleed.
    for path in sorted((folder / "scan").iterdir())[4:]:
        path.unlink()
    call(folder, "--out", tmp_path / "b.json", "--level", "patients")
    (row,) = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert (row["answer"], row["answered"]) == ("no-answer", 1)


def test_overlays_are_made_of_flagged_slices_alone(bright, scans, tmp_path):
    folder = tmp_path / "maps"
    call(scans, "--heatmaps", folder)
    found = sorted(folder.rglob("*.png"))
    assert [path.name.split("-")[0] for path in found] == ["0010", "0011"]  # none of the other
    assert len({path.parent for path in found}) == 1
    with Image.open(found[0]) as image:
        assert image.info == {}  # no text beside the pixels
        shown = np.asarray(image)
    assert shown.shape[1] == 512
    colourful = (shown.max(axis=2).astype(int) - shown.min(axis=2)) > 60
    middle = colourful[shown.shape[0] // 3 : 2 * shown.shape[0] // 3]
    assert middle.any()
    names = " ".join(str(path.relative_to(folder)) for path in found)
    assert "HOSPITAL" not in names
    assert "1.2.3" not in names


def test_dicom_results_belong_to_the_patient_of_the_study(bright, scans, tmp_path):
    folder = tmp_path / "dicom"
    before = {path: path.read_bytes() for path in scans.rglob("*") if path.is_file()}
    call(scans, "--dicom", folder, "--heatmaps", tmp_path / "maps")
    assert {path: path.read_bytes() for path in scans.rglob("*") if path.is_file()} == before
    made = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    of_ill = [one for one in made if one.PatientID == "HOSPITAL-4711"]
    assert sorted(one.Modality for one in of_ill) == ["OT", "SR"]
    assert sorted(one.Modality for one in made if one not in of_ill) == ["SR"]
    (capture,) = [one for one in of_ill if one.Modality == "OT"]
    assert capture.NumberOfFrames == 2
    assert NAME not in " ".join(str(path) for path in folder.rglob("*"))
    assert RESEARCH_MARK.split(".")[0] in str(of_ill[0])


def test_a_study_without_dicom_results_is_told_and_others_go_on(bright, tmp_path):
    files = make_scan(clots=(9,)) | make_scan(name="mr", uid="1.2.5", Modality="MR")
    result = call(write_scan(tmp_path / "s", files), "--dicom", tmp_path / "dicom")
    assert "No DICOM results of the study" in result.stderr
    assert list((tmp_path / "dicom").rglob("SR.*"))


def test_files_folders_and_zips_are_read_together(bright, tmp_path):
    files = make_scan(clots=(9,))
    names = sorted(files)
    folder = write_scan(tmp_path / "half", {name: files[name] for name in names[:10]})
    with zipfile.ZipFile(tmp_path / "rest.zip", "w") as packed:
        for name in names[10:19]:
            packed.writestr(name, files[name])
        packed.writestr("inner.zip", b"PK\5\6" + bytes(18))
    (tmp_path / "last.dcm").write_bytes(files[names[19]])
    (tmp_path / "loop").symlink_to(tmp_path / "half")
    result = call(
        folder, tmp_path / "rest.zip", tmp_path / "last.dcm", tmp_path / "last.dcm",
        tmp_path / "loop", "--out", tmp_path / "a.csv",
    )  # fmt: skip
    table = pl.read_csv(tmp_path / "a.csv")
    read = table.filter(pl.col("reason").is_null())
    assert read.height == 20  # none twice
    assert table["study"].drop_nulls().n_unique() == 1
    assert "inner.zip: not-dicom" in result.stderr
    assert any(name.endswith("rest.zip/scan/012.dcm") for name in table["file"])


def test_one_file_alone_is_predicted_and_gets_no_answer(bright, tmp_path):
    (content, *_) = make_scan(clots=(0,)).values()
    (tmp_path / "one.dcm").write_bytes(content)
    result = call(tmp_path / "one.dcm")
    assert "no-answer" in result.stdout
    assert "The scan has 1 slice" in " ".join(result.stdout.split())


def test_nothing_predicted_ends_with_one_and_still_lists_all(bright, tmp_path):
    write_scan(tmp_path / "s", {"[bold]a.txt": b"none"})
    result = call(tmp_path / "s", "--out", tmp_path / "a.csv", code=1)
    assert "Nothing could be predicted." in result.stderr
    assert "[bold]a.txt" in result.stderr  # no markup
    assert pl.read_csv(tmp_path / "a.csv")["reason"].to_list() == ["not-dicom"]


def test_what_is_no_head_ct_gets_no_answer(model, tmp_path):
    mr = get_testdata_file("MR_small.dcm")
    result = call(mr, "--model", model, code=1)
    assert "not-ct" in result.stderr


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["nowhere"], "nowhere was not found"),
        (["nowhere", "lost"], "nowhere, lost were not found"),
        (["empty"], "holds no files"),
        (["scan", "--model", "scan/000.dcm"], "damaged or no safetensors file"),
        (["scan", "--model", "none.safetensors"], "was not found"),
        (["scan", "--point", "strict"], "no operating point 'strict'"),
        (["scan", "--out", "a.txt"], "must end in .csv"),
        (["scan", "--out", "old.csv"], "exists; give another name, or --overwrite"),
        (["scan", "--out", "none/a.csv"], "The folder none was not found"),
        (["scan", "--heatmaps", "scan"], "is not empty"),
        (["scan", "--dicom", "old.csv"], "is no folder"),
        (["scan", "--parametric"], "name a folder by --dicom"),
        (["scan", "--runtime", "abacus"], "no runtime 'abacus'"),
        (["scan", "--salt-file", "none"], "salt file none cannot be read"),
        (["scan", "--out", "/proc/x.csv"], "In the folder /proc nothing can be written"),
    ],
)
def test_mistakes_are_sentences(model, tmp_path, monkeypatch, args, sentence):
    monkeypatch.chdir(tmp_path)
    write_scan(tmp_path, make_scan(1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.csv").write_text("old")
    if "--model" not in args:
        args = [*args, "--model", str(model)]
    result = call(*args, code=1)
    assert sentence in " ".join(result.stderr.split())
    assert (tmp_path / "old.csv").read_text() == "old"


def test_overwrite_replaces_a_table(bright, scans, tmp_path):
    (tmp_path / "a.csv").write_text("old")
    call(scans, "--out", tmp_path / "a.csv", "--overwrite")
    assert pl.read_csv(tmp_path / "a.csv").height == 41


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_the_command_gives_the_probabilities_of_the_pipelines_path(model, scans, tmp_path, runtime):
    call(scans, "--model", model, "--runtime", runtime, "--out", tmp_path / "a.parquet")
    ours = pl.read_parquet(tmp_path / "a.parquet")
    theirs, _ = predict_folder(scans, model)
    assert ours.filter(pl.col("reason").is_null()).height == 40
    both = ours.join(theirs, on="slice", suffix="_right")
    for label in LABELS:
        np.testing.assert_allclose(
            both[f"raw_{label}"].fill_null(-1),
            both[f"{label}_right"].fill_null(-1),
            atol=1e-5 if runtime == "torch" else 1e-4,
        )


def test_a_file_that_is_gone_stops_nothing(tmp_path):
    scans = write_scan(tmp_path, make_scan(4))
    with Archive([scans]) as archive:
        (scans / "scan/003.dcm").unlink()
        (found,) = archive.read("scan/003.dcm")
        assert found.reason == "unreadable"
        assert "is gone" in found.detail
        assert archive.identify("scan/003.dcm") == {}


def test_help_names_every_option():
    text = runner.invoke(app, ["predict", "--help"], env={"COLUMNS": "200"}).output
    for option in ("--point", "--level", "--heatmaps", "--dicom", "--runtime", "--threads"):
        assert option in text
