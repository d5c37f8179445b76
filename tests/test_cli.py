from typer.testing import CliRunner

from hemtrace.cli import app

runner = CliRunner()


def test_help_names_the_commands_and_what_this_is_not():
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for text in ("use", "check", "predict", "not a medical device"):
        assert text in result.output


def test_an_error_is_a_sentence_without_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 1
    assert result.output.startswith("hemtrace: params.yaml was not found")
    assert "Traceback" not in result.output


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
