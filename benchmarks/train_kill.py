"""One training, killed at random moments again and again: `train_kill.py [KILLS]`.

SIGKILL as soon as 0 to 0.2 s after a run's first own checkpoint, then the next run goes on; at the
end the weights must be those of an undisturbed run to the last bit.
"""

import os
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import Figure, report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import make_products
from test_train_job import VIEW, make_job, start
from train_processes import make_raw

from hemtrace.model import ModelSpec, create_net
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams, TrainParams
from hemtrace.train.checkpoint import Progress, save_checkpoint
from hemtrace.train.optim import create_optimizer

EPOCHS = 40


def kill_until_done(job, out: Path, most: int) -> tuple[int, int]:
    """Run a job, killing it: how many kills, and how many came while a checkpoint was written."""
    chance, kills, in_writing = random.Random(1), 0, 0
    status = -9
    while status:
        before = job.checkpoint.stat().st_mtime_ns if job.checkpoint.is_file() else 0
        process = start(job, out)
        while kills < most and process.poll() is None:
            if job.checkpoint.is_file() and job.checkpoint.stat().st_mtime_ns != before:
                time.sleep(chance.random() * 0.2)
                in_writing += job.checkpoint.with_name(job.checkpoint.name + ".part").exists()
                process.kill()
                kills += 1
                break
            time.sleep(0.002)
        status = process.wait()
        if status not in (0, -9):
            raise SystemExit((out / "stderr").read_text())
    return kills, in_writing


def time_checkpoint(folder: Path) -> tuple[float, float]:
    """Seconds and MB of a checkpoint of B4 after a step, with a best epoch kept."""
    network = NetworkParams(architecture="tf_efficientnet_b4")
    spec = ModelSpec(
        network=network, weights="", windows=DEFAULT_WINDOWS, size=64, synthetic=True,
        seed=1, train={}, git_commit="", data_digest="",
    )  # fmt: skip
    net = create_net(spec)
    optimizer = create_optimizer(net, TrainParams())
    net(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).sum().backward()
    optimizer.step()
    states = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
    started = time.perf_counter()
    save_checkpoint(folder / "c.pt", spec, Progress(best=net.state_dict()), states)
    return time.perf_counter() - started, (folder / "c.pt").stat().st_size / 1e6


def main(most: int = 30) -> None:
    """Kill, compare, report."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "products").mkdir()
        products = make_products(make_raw(folder / "raw"), folder / "products", "npy", VIEW)
        jobs = {out: make_job(products, folder / out, epochs=EPOCHS) for out in ("one", "killed")}
        if start(jobs["one"], folder / "one").wait():
            raise SystemExit((folder / "one/stderr").read_text())
        kills, in_writing = kill_until_done(jobs["killed"], folder / "killed", most)
        first, second = (job.model.read_bytes() for job in jobs.values())
        if first != second:
            raise SystemExit(f"after {kills} kills the model is another one")
        seconds, size = time_checkpoint(folder)
    report(
        "train_kill",
        [
            Figure("kills, then the same model byte for byte", kills, "", at_least=most),
            Figure("of them while a checkpoint was written", in_writing, ""),
            Figure("a checkpoint of B4", seconds, "s"),
            Figure("a checkpoint of B4", size, "MB"),
        ],
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
