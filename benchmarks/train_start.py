"""From the command to the end of the first step: B4 inflated, 112 px, with its MLflow record."""

import os
import sys
import tempfile
import time
from pathlib import Path

from common import Figure, report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import make_products
from test_train_job import make_job, start
from train_processes import make_raw

from hemtrace.params import DEFAULT_WINDOWS, View

VIEW = View(windows=DEFAULT_WINDOWS, size=112, crop="none", pixel_mm=1.0)
IMPORTS = (
    "import time; t = time.perf_counter(); import hemtrace.train.job; "
    "print(time.perf_counter() - t)"
)


def main() -> None:
    """Measure, and report."""
    imports = float(os.popen(f'{sys.executable} -c "{IMPORTS}"').read())
    seconds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "products").mkdir()
        products = make_products(make_raw(folder / "raw"), folder / "products", "npy", VIEW)
        os.chdir(folder)  # where MLflow's database is made
        for k in range(3):
            # A checkpoint follows each step: the first tells that the first step is done.
            job = make_job(
                products, folder / str(k), architecture="tf_efficientnet_b4", weights="inflate",
                batch_size=32, ema=0,
            ).model_copy(update={"view": VIEW, "record": True})  # fmt: skip
            started = time.perf_counter()
            process = start(job, folder / str(k))
            while not job.checkpoint.is_file():
                if process.poll() is not None:
                    raise SystemExit((folder / str(k) / "stderr").read_text())
                time.sleep(0.01)
            seconds.append(time.perf_counter() - started)
            process.kill()
            process.wait()
    report(
        "train_start",
        [
            Figure("to the first step, first time", seconds[0], "s", at_most=15),
            Figure("to the first step, best of three", min(seconds), "s", at_most=15),
            Figure("of it imports", imports, "s"),
        ],
        "One thread; the step and writing its checkpoint are part of it.",
    )


if __name__ == "__main__":
    main()
