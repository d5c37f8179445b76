"""Runs that are killed, starved or robbed of a file: the next run ends with the same bytes.

Judged against an undisturbed run of the smallest phantom, up to the catalog.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time

import psutil
import pytest
from test_pipeline import clone, run

pytestmark = pytest.mark.slow

SHARDS = ["0000", "0001", "0002"]
# The shards by name: Snakemake does not miss a product from which all else has been made.
TARGETS = ["data/catalog.parquet", *(f"data/shards/{shard}.npy" for shard in SHARDS)]
SNAKEMAKE = ["snakemake", "--cores", "all", *TARGETS]
ONE_BY_ONE = ["snakemake", "--cores", "1", *TARGETS]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = clone(tmp_path_factory.mktemp("undisturbed") / "main")
    run(folder, "hemtrace", "use", "smoke", f"ingest.shards={len(SHARDS)}", "ingest.pixel_mm=3.5")
    run(folder, *SNAKEMAKE)
    return folder


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(undisturbed, tmp_path / "main", symlinks=True)


@pytest.fixture
def listed(finished):
    """A copy in which no shard has been made."""
    shutil.rmtree(finished / "data/shards")
    for name in ("catalog.parquet", "ingest.json"):
        (finished / "data" / name).unlink()
    return finished


@pytest.fixture
def unlisted(listed):
    """A copy in which ingest has done nothing."""
    for name in ("files", "labels"):
        (listed / f"data/{name}.parquet").unlink()
    return listed


def products(folder):
    """All that ingest left, parts too: bytes by name."""
    paths = [*(folder / "data/shards").iterdir(), *(folder / "data").iterdir()]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def shards_made(output):
    return re.findall(r"Reading and windowing shard (\d{4})", output)


def start(folder, **environment):
    """Begin a run as the head of a process group of its own; its output goes to a file."""
    with (folder / "killed.txt").open("w") as out:
        return subprocess.Popen(
            ONE_BY_ONE,
            cwd=folder,
            env=os.environ | environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for_second_shard(folder):
    """Wait until a shard is finished and the job of the next one is at work; return that job."""
    scripts = str(folder.resolve() / ".snakemake/scripts")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(shards_made((folder / "killed.txt").read_text())) > 1:
            for process in psutil.process_iter(["cmdline"]):
                command = process.info["cmdline"] or []
                if len(command) == 2 and command[1].startswith(scripts):
                    return process
        time.sleep(0.02)
    raise AssertionError((folder / "killed.txt").read_text())


def test_after_kill_9_of_all_the_next_run_makes_what_is_left(undisturbed, listed):
    snakemake = start(listed)
    wait_for_second_shard(listed)
    os.killpg(snakemake.pid, signal.SIGKILL)
    snakemake.wait()
    assert any((listed / ".snakemake/locks").iterdir())
    finish_after_kill(listed)
    assert products(listed) == products(undisturbed)


# Python runs this before anything else. A file comes to its name by Path.replace: there the whole
# process group is killed, before (what was written is then cut in half) or after.
KILL_AT = """
import fnmatch, os, pathlib, signal

def replace(part, path, replace=pathlib.Path.replace):
    when, name = os.environ["KILL_AT"].split()
    is_there = fnmatch.fnmatch(pathlib.Path(path).name, name)
    if is_there and when == "before":
        os.truncate(part, part.stat().st_size // 2)
        os.killpg(0, signal.SIGKILL)
    done = replace(part, path)
    if is_there:
        os.killpg(0, signal.SIGKILL)
    return done

pathlib.Path.replace = replace
"""


def test_after_kill_9_within_each_step_the_next_run_ends_the_same(undisturbed, unlisted, tmp_path):
    """One run after the other, each killed at another place, and the last one not."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(KILL_AT)
    for moment in (
        "before labels.parquet",
        "before files.parquet",
        "before 000?.npy",
        "after 000?.npy",  # and before its rows
        "after 000?.parquet",
        "before ingest.json",
        "after ingest.json",  # and before the catalog
    ):
        # Snakemake may have made list and labels in either order.
        (unlisted / "data" / moment.split()[1]).unlink(missing_ok=True)
        killed = start(unlisted, PYTHONPATH=str(tmp_path / "site"), KILL_AT=moment)
        assert killed.wait(timeout=100) == -signal.SIGKILL, (
            moment,
            (unlisted / "killed.txt").read_text(),
        )
    assert shards_made((unlisted / "killed.txt").read_text()) == []
    run(unlisted, *SNAKEMAKE)
    assert products(unlisted) == products(undisturbed)


@pytest.mark.parametrize("seed", [20261124])
def test_after_kill_9_at_random_moments_the_next_run_ends_the_same(undisturbed, unlisted, seed):
    chance = random.Random(seed)
    moments = [round(chance.uniform(0.5, 9), 2) for _ in range(4)]
    print(f"seed {seed}: killed after {moments} s")
    for moment in moments:
        snakemake = start(unlisted)
        time.sleep(moment)
        os.killpg(snakemake.pid, signal.SIGKILL)
        snakemake.wait()
    run(unlisted, *SNAKEMAKE)
    assert products(unlisted) == products(undisturbed), moments


def test_after_kill_9_of_snakemake_alone_its_job_is_ended_too(undisturbed, listed):
    """The job is halted: it is in the midst of its work whatever the others do."""
    snakemake = start(listed)
    job = wait_for_second_shard(listed)
    job.suspend()
    output = run(listed, *SNAKEMAKE, check=False)
    assert "Directory cannot be locked" in output  # beside a living run
    assert snakemake.poll() is None
    assert job.is_running()
    snakemake.kill()
    snakemake.wait()
    assert job.is_running()
    assert "still at work" in finish_after_kill(listed)
    assert not job.is_running()
    assert products(listed) == products(undisturbed)


def finish_after_kill(folder):
    """Run again, and see that only the shards that were not finished are made."""
    finished = shards_made((folder / "killed.txt").read_text())[:1]
    output = run(folder, *SNAKEMAKE)
    assert "left the folder locked" in output
    assert sorted(finished + shards_made(output)) == SHARDS, output
    return output


def test_damaged_shards_alone_are_made_again(undisturbed, finished):
    """One rots and is found by verify, another is cut short and found by the run itself."""
    shards = finished / "data/shards"
    content = bytearray((shards / "0002.npy").read_bytes())
    content[-5] ^= 1
    (shards / "0002.npy").write_bytes(content)
    output = run(finished, "hemtrace", "verify", "--repair", check=False)
    assert "another digest" in output
    assert "deleted data/shards/0002.npy" in output
    os.truncate(shards / "0001.npy", len(content) // 2)
    output = run(finished, *SNAKEMAKE)
    assert "0001.npy is cut short" in output
    assert sorted(shards_made(output)) == ["0001", "0002"]
    assert products(finished) == products(undisturbed)
    assert "All products are sound" in run(finished, "hemtrace", "verify", "--raw")


def test_a_full_disk_leaves_no_half_shard(undisturbed, listed):
    """Stood for by a limit on the size of files, which shards of 100 kB break."""
    output = run(listed, "bash", "-c", f"ulimit -f 50; {' '.join(SNAKEMAKE)}", check=False)
    assert "is full" in output
    assert "Traceback" not in output
    shards = listed / "data/shards"
    assert not shards.is_dir() or list(shards.iterdir()) == []
    run(listed, *SNAKEMAKE)
    assert products(listed) == products(undisturbed)


def test_a_vanished_file_ends_in_a_sentence_and_its_return_ends_the_matter(undisturbed, listed):
    path = sorted((listed / "data/raw/stage_2_train").iterdir())[-1]
    path.rename(listed / "away")
    output = run(listed, *ONE_BY_ONE, "--keep-going", check=False)
    assert f"{path.name} of data/raw/stage_2_train was listed, and is gone" in output
    assert "Bring it back and run again" in output
    assert "Traceback" not in output
    (listed / "away").rename(path)
    assert shards_made(run(listed, *SNAKEMAKE)) == SHARDS[-1:]
    assert products(listed) == products(undisturbed)
