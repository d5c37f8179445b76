"""The smallest phantom through every stage, as a user runs it: Snakemake, DVC, a second clone."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import urllib.request
from base64 import urlsafe_b64encode
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import small_head, write_labels, write_slice
from playwright.sync_api import sync_playwright

from hemtrace.presets import set_parameters

ROOT = Path(__file__).parents[1]
STAGES = ["phantom", "ingest", "split", "train", "evaluate", "compare", "explain", "report"]

pytestmark = pytest.mark.slow


def run(folder, *command, check=True):
    """Run a command in a project folder; returns its output, both streams in one."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def clone(folder):
    """The working tree as it stands, in a repository of its own, with the smoke preset."""
    listed = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").split("\n")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not name.startswith(("reports/", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    run(folder, "hemtrace", "use", "smoke")
    run(folder, "git", "init", "--quiet")
    commit(folder, "the project")
    return folder


def commit(folder, message):
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", message)


def stages_run(output):
    """The DVC stages that ran, in order."""
    return re.findall(r"Running stage '(\w+)'", output)


def set_param(folder, setting):
    """Change one parameter in the file."""
    set_parameters([setting], folder)


@pytest.fixture(scope="module")
def by_snakemake(tmp_path_factory):
    folder = clone(tmp_path_factory.mktemp("snakemake") / "main")
    output = run(folder, "snakemake", "--cores", "all")
    (folder / "output.txt").write_text(output)
    return folder


@pytest.fixture(scope="module")
def by_dvc(tmp_path_factory):
    folder = clone(tmp_path_factory.mktemp("dvc") / "main")
    assert stages_run(run(folder, "dvc", "repro")) == STAGES
    return folder


def test_every_stage_leaves_its_products(by_snakemake):
    for name in (
        "data/catalog.parquet",
        "data/splits.parquet",
        "models/model.safetensors",
        "models/history.parquet",
        "data/predictions.parquet",
        "reports/metrics.json",
        "data/shuffled/predictions.parquet",
        "data/regions.parquet",
        "models/operating.json",
        "reports/study.json",
        "reports/robustness.json",
        "reports/familiarity.json",
        "reports/localisation.json",
        "reports/results.tex",
        "reports/model_card.md",
        "reports/index.html",
    ):
        assert (by_snakemake / name).stat().st_size > 0, name


def test_counts_add_up_from_files_to_report(by_snakemake):
    flow = json.loads((by_snakemake / "data/ingest.json").read_text())
    files = len(list((by_snakemake / "data/raw/stage_2_train").iterdir()))
    assert flow["files"] == files == flow["used"] + sum(flow["quarantined"].values())
    splits = pl.read_parquet(by_snakemake / "data/splits.parquet")
    assert splits["slices"].sum() == flow["used"]
    predictions = pl.read_parquet(by_snakemake / "data/predictions.parquet")
    held_out = splits.filter(pl.col("partition") != "train")
    assert predictions.height == held_out["slices"].sum()


@pytest.mark.parametrize(
    "name",
    ["index.html", "checklists.html", "provenance.html", "ingestion.html", "model_card.md",
     "results.tex"],
)  # fmt: skip
def test_every_page_and_table_says_that_the_data_are_synthetic(by_snakemake, name):
    assert "synthetic data" in (by_snakemake / "reports" / name).read_text().lower()


def test_every_exported_figure_says_that_the_data_are_synthetic(by_snakemake):
    reports, data = by_snakemake / "reports", by_snakemake / "data"
    found = {kind: sorted(reports.rglob(f"*.{kind}")) for kind in ("csv", "tex", "json")}
    assert {path.name for path in found["csv"]} >= {"results.csv", "roc.csv", "training.csv"}
    for path in found["csv"]:
        assert pl.read_csv(path)["data"].str.contains("SYNTHETIC").all(), path.name
    for path in found["tex"]:
        assert "synthetic data" in path.read_text().lower(), path.name
    for path in found["json"]:
        assert json.loads(path.read_text())["synthetic_data"] is True, path.name
    for name in ("predictions", "regions", "volumes"):
        mark = pl.read_parquet_metadata(data / f"{name}.parquet").get("synthetic")
        assert mark == "true", name


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    "name", ["index.html", "checklists.html", "provenance.html", "ingestion.html"]
)
def test_pages_are_whole_in_a_browser(by_snakemake, browser, name, width):
    """No error, no missing picture, nothing cut off, every link leads somewhere."""
    reports = by_snakemake / "reports"
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto((reports / name).as_uri())
    assert complaints == []
    seen = page.evaluate(BROWSER_FACTS)
    assert seen["wide"] <= width
    assert seen["missing"] == []
    assert seen["unnamed"] == 0
    assert seen["headings"][0] == 1
    assert seen["headings"].count(1) == 1
    steps = zip(seen["headings"], seen["headings"][1:], strict=False)
    assert all(after <= before + 1 for before, after in steps)
    for link in seen["links"]:
        target, _, part = link.partition("#")
        if target.startswith("https://"):
            continue
        if target.startswith("data:"):  # what lies beside the page, for one that was mailed alone
            with urllib.request.urlopen(link) as embedded:
                assert len(embedded.read()) > 100
            continue
        file = reports / (target or name)
        assert file.is_file(), link
        assert not part or f'id="{part}"' in file.read_text(), link
    page.set_viewport_size({"width": 794, "height": 1123})  # A4 at 96 pixels an inch
    for media in ("screen", "print"):
        page.emulate_media(media=media)
        assert page.evaluate("document.documentElement.scrollWidth") <= 794, media
    page.close()


# What a page is like once it is drawn: width, pictures, texts for screen readers, headings, links.
BROWSER_FACTS = """() => ({
    wide: document.documentElement.scrollWidth,
    missing: [...document.images].filter(i => !i.naturalWidth).map(i => i.alt),
    unnamed: [...document.images].filter(i => !i.alt.trim()).length
        + [...document.querySelectorAll('table')].filter(t => !t.ariaLabel
            && !t.getAttribute('aria-labelledby') && !t.caption).length,
    headings: [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1]),
    links: [...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href')),
})"""


def test_the_report_says_that_the_data_are_synthetic(by_snakemake):
    page = (by_snakemake / "reports/index.html").read_text()
    title = re.search(r"<title>(.*?)</title>", page, re.DOTALL).group(1)
    assert "synthetic" in title.lower()


def test_running_again_does_nothing(by_snakemake):
    assert "Nothing to be done" in run(by_snakemake, "snakemake", "--cores", "all")


def test_a_report_parameter_reruns_the_report_alone(by_snakemake):
    dry = run(by_snakemake, "snakemake", "--cores", "all", "-n", "--config", "report={title: X}")
    jobs = re.search(r"Job stats:\n.*?\n\n", dry, re.DOTALL).group(0)
    assert sorted(re.findall(r"^(\w+) +1$", jobs, re.MULTILINE)) == ["all", "report"], jobs


def test_a_training_that_cannot_begin_leaves_the_earlier_one(by_snakemake):
    """Snakemake removes the outputs of a job when it begins."""
    for setting, sentence in (
        ("device: cuda", "torch sees no GPU"),
        ("optimizer: adamm", "timm knows no 'adamm'"),
    ):
        config = f"train={{architecture: tf_efficientnet_lite0, epochs: 1, {setting}}}"
        output = run(by_snakemake, "snakemake", "--cores", "all", "--config", config, check=False)
        assert sentence in output
        assert "Traceback" not in output
        assert (by_snakemake / "models/runs/fold0_seed2019/model.safetensors").is_file()
    assert "Nothing to be done" in run(by_snakemake, "snakemake", "--cores", "all")


def test_snakemakes_own_report_is_made(by_snakemake):
    run(by_snakemake, "snakemake", "--report", "provenance.html")
    assert (by_snakemake / "provenance.html").stat().st_size > 10_000


def test_no_name_of_machine_user_or_patient_in_mlflow_and_pages(by_snakemake):
    database = sqlite3.connect(by_snakemake / "mlflow.db")
    dump = "\n".join(database.iterdump())
    patients = pl.read_parquet(by_snakemake / "data/splits.parquet")["patient"].to_list()
    page = (by_snakemake / "reports/index.html").read_text()
    page += (by_snakemake / "reports/model_card.md").read_text()
    for patient in patients:
        assert patient not in dump
        assert patient not in page
    assert str(by_snakemake) not in dump
    assert str(by_snakemake) not in page


def test_two_clones_give_the_same_bytes_and_metrics(by_snakemake, by_dvc):
    names = ["data/splits.parquet", "data/catalog.parquet", "reports/metrics.json"]
    names += [f"data/shards/{path.name}" for path in (by_dvc / "data/shards").iterdir()]
    for name in names:
        assert (by_snakemake / name).read_bytes() == (by_dvc / name).read_bytes(), name


def test_a_second_clone_syncs_and_reruns_nothing(by_dvc):
    commit(by_dvc, "results")
    run(by_dvc, "dvc", "push")
    second = by_dvc.parent / "second"
    run(by_dvc.parent, "git", "clone", "--quiet", str(by_dvc), str(second))
    run(second, "make", "sync", f"VENV={ROOT / '.venv'}", "--assume-old=env")
    assert stages_run(run(second, "dvc", "repro")) == []
    assert "Nothing to be done" in run(second, "snakemake", "--cores", "all")
    metrics = "reports/metrics.json"
    assert (second / metrics).read_bytes() == (by_dvc / metrics).read_bytes()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("report.title=Another", ["report"]),
        ("evaluate.sensitivity=0.8", ["evaluate", "compare", "explain", "report"]),
    ],
)
def test_a_changed_parameter_reruns_what_depends_on_it(by_dvc, setting, expected):
    set_param(by_dvc, setting)
    for module in (by_dvc / "src/hemtrace").rglob("*.py"):
        module.touch()  # as after a checkout: the time alone must start nothing upstream
    output = run(by_dvc, "dvc", "repro")
    assert stages_run(output) == expected
    assert "Making the synthetic head CT" not in output
    assert "Training" not in output
    commit(by_dvc, setting)


def test_dvc_shows_metrics_plots_and_changed_params(by_dvc):
    set_param(by_dvc, "explain.positives=3")
    assert "explain.positives" in run(by_dvc, "dvc", "params", "diff")
    run(by_dvc, "git", "checkout", "--quiet", "--", "params.yaml")
    assert "roc_auc" in run(by_dvc, "dvc", "metrics", "show")
    run(by_dvc, "dvc", "plots", "show")
    assert (by_dvc / "dvc_plots/index.html").is_file()


def test_a_dvc_experiment_runs_with_a_set_parameter(by_dvc):
    output = run(by_dvc, "dvc", "exp", "run", "-S", "report.title=Experiment")
    assert stages_run(output) == ["report"]


def rules_run(output):
    """The Snakemake rules that a run, and one that went on after it, had jobs of."""
    tables = re.findall(r"Job stats:\n.*?\n\n", output, re.DOTALL)
    return sorted(
        set(re.findall(r"^(\w+) +\d+$", "\n".join(tables), re.MULTILINE)) - {"all", "total"}
    )


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def spoil(path):
    path.write_text("{}")


def leave_half(path):
    """Note it down as Snakemake does for what a job is writing, and a kill leaves there."""
    root = path.parents[path.parts[::-1].index("data")]
    name = urlsafe_b64encode(path.relative_to(root).as_posix().encode()).decode()
    (root / ".snakemake/incomplete" / name).write_text("{}")


def rot(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "names", "rules"),
    [
        (Path.unlink, ["shards/0001.npy"], ["ingest_shard"]),
        (cut, ["shards/0000.npy"], ["ingest_shard"]),
        (leave_half, ["shards/0000.npy", "shards/0000.parquet"], ["ingest_shard"]),
        (cut, ["catalog.parquet"], ["ingest_catalog"]),
        (spoil, ["ingest.json"], ["ingest_catalog"]),
        (Path.unlink, ["files.parquet", "labels.parquet"], ["ingest_labels", "ingest_list"]),
        (Path.unlink, ["splits.parquet", "predictions.parquet"], ["evaluate_predict", "split"]),
        (rot, ["shards/0001.npy"], ["ingest_shard"]),
    ],
)
def test_what_is_lost_is_made_again_and_nothing_else(by_snakemake, damage, names, rules):
    """After a complete run, by the plain command; only rot needs `verify` to be seen."""
    paths = [by_snakemake / "data" / name for name in names]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        damage(path)
    if damage is rot:
        output = run(by_snakemake, "hemtrace", "verify", "--repair", check=False)
        assert "`snakemake --cores all` makes what is missing" in output
    output = run(by_snakemake, "snakemake", "--cores", "all")
    assert rules_run(output) == rules, output
    assert [path.read_bytes() for path in paths] == before
    assert "Nothing to be done" in run(by_snakemake, "snakemake", "--cores", "all")


def test_a_file_of_the_phantom_that_is_lost_is_made_again(by_snakemake):
    path = sorted((by_snakemake / "data/raw/stage_2_train").iterdir())[3]
    before = path.read_bytes()
    path.unlink()
    assert rules_run(run(by_snakemake, "snakemake", "--cores", "all")) == ["phantom"]
    assert path.read_bytes() == before
    assert "All products are sound up to the split" in run(
        by_snakemake, "hemtrace", "verify", "--raw"
    )


def test_predict_gives_the_probabilities_of_the_pipeline(by_snakemake):
    """The command reads DICOM, the pipeline shards: the same path must give the same numbers."""
    images, asked = "data/raw/stage_2_train", ("--runtime", "torch", "--out", "predicted.csv")
    run(by_snakemake, "hemtrace", "predict", images, *asked)
    predicted = pl.read_csv(by_snakemake / "predicted.csv")
    piped = pl.read_parquet(by_snakemake / "data/predictions.parquet")
    both = piped.join(predicted, on="slice")
    assert both.height == piped.height
    np.testing.assert_allclose(both["p_any"], both["raw_any"], atol=1e-5)


def test_predict_reads_a_real_head_ct(by_snakemake, ge_head):
    run(by_snakemake, "hemtrace", "predict", str(ge_head), "--out", "ge.csv")
    table = pl.read_csv(by_snakemake / "ge.csv")
    read = table.filter(pl.col("reason").is_null())
    assert read.height == 28
    assert read["any"].is_between(0, 1).all()
    assert table.filter(pl.col("reason") == "not-dicom").height == table.height - 28


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("ingest.raw=/nowhere/at/all", "/nowhere/at/all was not found; check ingest.raw"),
        ("split.test_share=0.01", "too few for the partition"),
    ],
)
def test_bad_settings_end_in_a_sentence(tmp_path, setting, sentence):
    folder = clone(tmp_path / "main")
    set_param(folder, setting)
    output = run(folder, "snakemake", "--cores", "all", check=False)
    assert sentence in output
    assert "Traceback" not in output


def test_a_training_is_made_again_from_its_record_alone(by_snakemake):
    database = sqlite3.connect(by_snakemake / "mlflow.db")
    ((run_id,),) = database.execute("SELECT run_uuid FROM runs WHERE status = 'FINISHED'")
    told = run(by_snakemake, "hemtrace", "rerun", run_id, "--into", "again")
    assert "Slices, labels and partitions are the same." in told
    assert "The model is the same, byte for byte." in told
    name = "models/runs/fold0_seed2019/model.safetensors"
    assert (by_snakemake / "again" / name).read_bytes() == (by_snakemake / name).read_bytes()
    assert "exists already" in run(
        by_snakemake, "hemtrace", "rerun", run_id, "--into", "again", check=False
    )
    assert "MLflow has no run 'nosuch'" in run(
        by_snakemake, "hemtrace", "rerun", "nosuch", check=False
    )


PRESETS = ["rsna-paper", "hemtrace-b4", "resnet", "alexnet-svm", "double-branch"]


@pytest.fixture(scope="module")
def compared(by_snakemake):
    """The presets of the paper's systems at their smallest, on the data of the first run."""
    run(by_snakemake, "hemtrace", "use", "systems", "compare.train={weights: scratch, epochs: 1}")
    run(by_snakemake, "snakemake", "--cores", "all")
    return by_snakemake


def test_every_preset_runs_to_the_end_and_stands_in_the_comparison(compared):
    found = json.loads((compared / "reports/comparison.json").read_text())
    assert [system["name"] for system in found["systems"]] == ["this run", *PRESETS]
    metrics = json.loads((compared / "reports/evaluation.json").read_text())
    own = metrics["partitions"]["test"]["slices"]["labels"]["any"]["roc_auc"]
    assert found["systems"][0]["roc_auc_any"] == own
    for system in found["systems"]:
        assert 0 <= system["roc_auc_any"]["value"] <= 1
        assert system["parameters"] > 1e6
        assert system["macs"] > 1e6
        assert ("roc_auc_difference" in system) == (system["name"] != "this run")
    by_name = {system["name"]: system for system in found["systems"]}
    assert by_name["hemtrace-b4"]["context"] == "both"
    assert by_name["alexnet-svm"]["classifier"] == by_name["double-branch"]["classifier"] == "svm"
    assert by_name["double-branch"]["branches"] == "windows"
    page = (compared / "reports/index.html").read_text()
    assert "Systems compared" in page
    assert all(name in page for name in PRESETS)


@pytest.mark.parametrize("name", ["hemtrace-b4", "alexnet-svm", "double-branch"])
def test_a_model_of_each_preset_predicts_what_the_pipeline_did(compared, name):
    """With slice context, a fitted classifier and branches: by DICOM as by shards."""
    model = f"models/compare/{name}/model.safetensors"
    images = "data/raw/stage_2_train"
    asked = ("--model", model, "--runtime", "torch", "--out", f"{name}.csv")
    run(compared, "hemtrace", "predict", images, *asked)
    predicted = pl.read_csv(compared / f"{name}.csv")
    piped = pl.read_parquet(compared / f"data/compare/{name}.parquet")
    both = piped.join(predicted, on="slice")
    assert both.height == piped.height
    np.testing.assert_allclose(both["p_any"], both["raw_any"], atol=1e-5)


def test_folds_and_seeds_become_an_ensemble_with_its_spread(by_dvc):
    """By DVC, so that what it re-runs is shown too."""
    set_param(by_dvc, "split.folds=2")
    set_param(by_dvc, "train.seeds=2")
    ran = stages_run(run(by_dvc, "dvc", "repro"))
    assert ran == ["split", "train", "evaluate", "compare", "explain", "report"]
    runs = sorted(path.name for path in (by_dvc / "models/runs").iterdir())
    assert runs == [f"fold{fold}_seed{seed}" for fold in (0, 1) for seed in (2019, 2020)]
    splits = pl.read_parquet(by_dvc / "data/splits.parquet")
    predictions = pl.read_parquet(by_dvc / "data/predictions.parquet")
    assert predictions["slice"].is_unique().all()
    assert predictions.height == splits["slices"].sum()  # every slice: out of fold, or of the test
    parts = [pl.read_parquet(by_dvc / f"data/predictions/{name}.parquet") for name in runs]
    mean = np.mean([part.filter(pl.col("partition") == "test")["p_any"] for part in parts], axis=0)
    test = predictions.filter(pl.col("partition") == "test")
    np.testing.assert_allclose(test["p_any"], mean)
    metrics = json.loads((by_dvc / "reports/evaluation.json").read_text())
    assert [row["run"] for row in metrics["runs"]] == runs
    assert "mean of the 2 seeds of fold 0" in (by_dvc / "reports/index.html").read_text()
    (by_dvc / "some").mkdir()
    for path in sorted((by_dvc / "data/raw/stage_2_train").iterdir())[:3]:
        shutil.copy(path, by_dvc / "some")
    assert "any" in run(by_dvc, "hemtrace", "predict", "some")


PERSON = {
    "PatientID": "HOSPITAL-4711",
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19570312",
    "StudyInstanceUID": "1.2.826.0.1.4711",
    "SeriesInstanceUID": "1.2.826.0.2.4711",
    "AccessionNumber": "ACC-998877",
    "StudyDescription": "Fall from ladder",
    "InstitutionName": "St. Elsewhere",
    "ImageComments": "seen by Dr. Noname",
}
FILE_NAME = "Doe_Jane"
# Where names of files must stand, and nothing else of a person: the catalog, and what makes it.
NAMED = ("data/catalog.parquet", "data/files.parquet", "data/labels.parquet", "data/shards")


@pytest.fixture(scope="module")
def by_hospital(tmp_path_factory):
    """A run on a folder of files as a hospital has them, with a salt of its own."""
    raw = tmp_path_factory.mktemp("hospital")
    labels = {}
    for patient in range(12):
        header = {keyword: f"{value}.{patient}" for keyword, value in PERSON.items()}
        header["PatientBirthDate"] = PERSON["PatientBirthDate"]
        for z in range(3):
            name = f"{FILE_NAME}_{patient}_{z}"
            position = [-125.0, -125.0, 5.0 * z]
            path = raw / f"stage_2_train/{FILE_NAME} {patient}/{name}.dcm"
            pixels = small_head(3 * patient + z)
            header["SOPInstanceUID"] = f"2.25.{100 * patient + z}"
            write_slice(path, pixels, ImagePositionPatient=position, **header)
            bleed = int(patient % 2 == 0 and z > 0)
            labels[name] = [0, 0, 0, 0, bleed, bleed]
    damaged = path.read_bytes()[:-100]
    (raw / f"stage_2_train/{FILE_NAME}_damaged.dcm").write_bytes(damaged)
    write_labels(raw / "stage_2_train.csv", labels | {f"{FILE_NAME}_lost": [0] * 6})
    (raw / "salt").write_bytes(b"known to this hospital alone")
    folder = clone(tmp_path_factory.mktemp("run") / "main")
    set_param(folder, f"ingest.raw={raw}")
    set_param(folder, f"ingest.salt_file={raw / 'salt'}")
    set_param(folder, "split.test_share=0.3")
    assert stages_run(run(folder, "dvc", "repro")) == STAGES
    return folder, raw


def test_a_folder_of_real_layout_needs_no_phantom(by_hospital):
    """`ingest.raw` set: no phantom is made, raw files are not copied."""
    folder, _ = by_hospital
    assert list((folder / "data/raw").iterdir()) == []
    flow = json.loads((folder / "data/ingest.json").read_text())
    assert (flow["files"], flow["used"], flow["labels_without_file"]) == (37, 36, 1)
    assert flow["quarantined"] == {"truncated": 1}


def test_nothing_of_a_person_leaves_the_files(by_hospital):
    """Not in any product, log, record, or cache; names of files in the catalog alone."""
    texts = dict(texts_below(by_hospital[0]))
    assert {"data/catalog.parquet", "mlflow.db", "reports/ingestion.html", "dvc.lock"} <= set(texts)
    assert any(name.startswith("logs/") for name in texts)
    assert any(FILE_NAME in text for name, text in texts.items() if name.startswith(NAMED))
    for name, text in texts.items():
        found = [value for value in PERSON.values() if value in text]
        assert not found, f"{name}: {found}"
        if not name.startswith((*NAMED, ".dvc/cache")):
            assert FILE_NAME not in text, name
        assert "known to this hospital" not in text, name


def test_a_file_that_comes_into_a_nested_folder_is_seen_by_the_next_run(by_hospital):
    folder, raw = by_hospital
    assert "Nothing to be done" in run(folder, "snakemake", "--cores", "all")
    one = next((raw / f"stage_2_train/{FILE_NAME} 3").iterdir())
    held = one.read_bytes()
    one.unlink()
    one.write_bytes(held)  # the folder is newer, its files are the same
    assert rules_run(run(folder, "snakemake", "--cores", "all")) == ["ingest_list"]
    (one.parent / "note.txt").write_text("new")
    output = run(folder, "snakemake", "--cores", "all", "reports/ingestion.html")
    assert {"ingest_list", "ingest_shard", "ingest_catalog"} <= set(rules_run(output))
    flow = json.loads((folder / "data/ingest.json").read_text())
    assert flow["quarantined"] == {"not-dicom": 1, "truncated": 1}


def texts_below(folder):
    """What a run left, tables unpacked: name and text of each file."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith((".git/", "src/", "tests/")):
            continue
        content = path.read_bytes()
        text = content.decode("latin-1")
        if content.startswith(b"PAR1") and not name.endswith(".images.parquet"):
            table = pl.read_parquet(path)
            text += "\n".join(str(row) for row in table.iter_rows())
        yield name, text
