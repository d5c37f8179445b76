"""Runs are stood for by processes that enter a folder and wait."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from hemtrace.lock import LOCK, clear_killed_run, enter_folder

ENTER = """
import sys, time
from pathlib import Path
from hemtrace.lock import enter_folder
with enter_folder(Path(sys.argv[1])) as alone:
    pass
print(alone, flush=True)
time.sleep(60)
"""


@pytest.fixture
def start():
    """Starts processes that enter a folder; tells whether each was alone there."""
    started = []

    def enter(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", ENTER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, process.stdout.readline().strip() == "True"

    yield enter
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def leave_lock(folder):
    (folder / ".snakemake/locks").mkdir(parents=True)
    (folder / ".snakemake/locks/0.input.lock").write_text("data/raw\n")


def test_a_lock_is_removed_once_its_run_was_killed_and_not_before(tmp_path, start):
    first, alone = start(tmp_path)
    assert alone
    leave_lock(tmp_path)
    second, alone = start(tmp_path)
    assert not alone
    first.kill()
    first.wait()
    assert not start(tmp_path)[1]  # the second still lives
    second.kill()
    second.wait()


def test_after_a_kill_the_folder_is_unlocked(tmp_path, start):
    first, _ = start(tmp_path)
    leave_lock(tmp_path)
    first.kill()
    first.wait()
    with enter_folder(tmp_path) as alone:
        assert alone
        assert clear_killed_run(tmp_path) == [
            "A killed run had left the folder locked; unlocked it."
        ]
    assert list((tmp_path / ".snakemake/locks").iterdir()) == []


def test_the_lock_of_another_machine_is_left(tmp_path):
    leave_lock(tmp_path)
    (tmp_path / LOCK).write_text("elsewhere\n0000-0000")
    with enter_folder(tmp_path) as alone:
        assert not alone


def test_a_lock_of_which_nothing_is_known_is_left(tmp_path):
    leave_lock(tmp_path)
    with enter_folder(tmp_path) as alone:
        assert not alone


def test_jobs_of_a_killed_run_are_ended_and_no_other_process(tmp_path):
    script = tmp_path / ".snakemake/scripts/tmpabc.ingest_shard.py"
    script.parent.mkdir(parents=True)
    script.write_text("import subprocess\nsubprocess.run(['sleep', '60'])\n")
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text("import time; time.sleep(60)")
    job = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    other = subprocess.Popen([sys.executable, str(elsewhere)])
    try:
        deadline = time.monotonic() + 20
        while not has_child(job.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        (told,) = clear_killed_run(tmp_path)
        assert told.startswith("2 processes of a killed run")
        assert not psutil.pid_exists(job.pid)
        assert other.poll() is None
    finally:
        for process in (job, other):
            process.kill()
            process.wait()


def has_child(pid):
    return bool(psutil.Process(pid).children())


def test_an_unwritable_place_of_locks_does_not_stop_a_run(tmp_path, monkeypatch):
    """A network disk without flock: the run begins, and leaves Snakemake's lock as it is."""
    from hemtrace import lock

    def refuse(*_):
        raise OSError(os.strerror(95))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with enter_folder(tmp_path) as alone:
        assert not alone
