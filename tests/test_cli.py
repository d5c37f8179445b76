from typer.testing import CliRunner

from hemtrace.cli import app
from hemtrace.lock import enter_folder

runner = CliRunner()


def test_help_names_the_commands_and_what_this_is_not():
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for text in (
        "use",
        "check",
        "doctor",
        "verify",
        "predict",
        "serve",
        "node",
        "not a medical device",
    ):
        assert text in result.output


def test_an_error_is_a_sentence_without_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 1
    assert result.output.startswith("hemtrace: params.yaml was not found")
    assert "Traceback" not in result.output


def test_check_names_an_architecture_that_timm_does_not_know(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("train:\n  architecture: tf_efficientnet_b44\n")
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 1
    assert "train.architecture: timm knows no 'tf_efficientnet_b44'" in result.output


def test_check_asks_the_network_for_its_finest_heat_map(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(
        "ingest: {size: 96, pixel_mm: 2.5}\nexplain: {fewest_cells: 60}\n"
    )
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 1
    assert "set explain.fewest_cells to 48 at most" in result.output


def test_check_reads_the_labels_and_says_what_can_be_done_without(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(f"ingest:\n  raw: {raw}\n")
    assert runner.invoke(app, ["check"]).exit_code == 0
    (tmp_path / "params.yaml").write_text(f"ingest:\n  raw: {raw}\n  labels: null\n")
    result = runner.invoke(app, ["check"])
    assert "nothing can be trained" in result.output
    (tmp_path / "wrong.csv").write_text("ID,Label\nx_any,7\n")
    wrong = f"ingest:\n  raw: {raw}\n  labels: {tmp_path}/wrong.csv\n"
    (tmp_path / "params.yaml").write_text(wrong)
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 1
    assert "line 2: Label must be 0 or 1" in result.output


def test_verify_before_any_run_and_repair_beside_a_living_one_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("{}\n")
    result = runner.invoke(app, ["verify"])
    assert result.exit_code == 1
    assert "run the pipeline first" in result.output
    (tmp_path / "data").mkdir()
    (tmp_path / "data/files.parquet").write_text("damaged")
    with enter_folder(tmp_path):
        pass  # this process stands for the living run
    result = runner.invoke(app, ["verify", "--repair"])
    assert result.exit_code == 1
    assert "repair when it has ended" in result.output
    assert (tmp_path / "data/files.parquet").exists()


def test_predict_of_a_missing_folder_or_model_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["predict", "nowhere"])
    assert result.exit_code == 1
    assert "nowhere was not found" in result.output
    (tmp_path / "here").mkdir()
    (tmp_path / "here/a.dcm").write_text("no dicom")
    result = runner.invoke(app, ["predict", "here"])
    assert result.exit_code == 1
    assert "models/model.safetensors" in result.output
