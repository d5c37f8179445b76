import sys
from pathlib import Path

import pytest

from hemtrace import job as job_module
from hemtrace.errors import HemtraceError
from hemtrace.job import drop_strangers, job


@pytest.fixture(autouse=True)
def in_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()


def test_output_goes_to_the_log_and_to_the_terminal(capsys):
    with job("logs/a.log"):
        print("on its way")
        print("progress", file=sys.stderr)
    shown = capsys.readouterr().err
    assert Path("logs/a.log").read_text() == shown == "on its way\nprogress\n"


def test_an_error_for_the_user_ends_in_its_sentence(capsys):
    with pytest.raises(SystemExit) as caught, job("logs/a.log"):
        raise HemtraceError("The folder x was not found.")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "hemtrace: The folder x was not found.\n"
    assert job_module.FAILURE.read_text() == "hemtrace: The folder x was not found.\n"


def test_a_defect_keeps_its_traceback_and_leaves_no_sentence():
    with pytest.raises(ZeroDivisionError), job("logs/a.log"):
        print(1 / 0)
    assert not job_module.FAILURE.exists()


def test_what_other_parameters_left_is_removed(tmp_path, capsys):
    for name in ("fold0_seed1", "fold1_seed1"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.parquet").touch()
    drop_strangers(tmp_path, ["fold0_seed1"])
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["fold0_seed1", "fold0_seed1.parquet"]
    assert "removed" in capsys.readouterr().out
    drop_strangers(tmp_path / "none", [])


def test_what_took_long_to_make_is_moved_and_not_removed(tmp_path, capsys):
    for _ in range(2):  # the second in the place of the first
        (tmp_path / "runs/fold1_seed1").mkdir(parents=True)
        (tmp_path / "runs/fold1_seed1/model").touch()
        drop_strangers(tmp_path / "runs", ["fold0_seed1"], kept=tmp_path / "unused")
        assert list((tmp_path / "runs").iterdir()) == []
        assert (tmp_path / "unused/fold1_seed1/model").exists()
    assert "moved" in capsys.readouterr().out


def test_an_interruption_is_no_traceback(capsys):
    with pytest.raises(SystemExit) as caught, job("logs/a.log"):
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err == "hemtrace: interrupted; run again to go on.\n"
