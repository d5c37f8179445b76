"""Ingest of a tree as large as the RSNA set, and how cost grows with size: `scale.py [FILES ...]`.

Each size is a tree made for the purpose (`make_tree.py`), ingested by Snakemake in a clone of the
project, two jobs at a time. Listing, labels and the join are measured once more, each in a process
of its own, for time and memory; so is the making of one shard, of three sizes.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from common import Figure, report
from make_tree import make_tree

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.figures.style import GOOD, INK, MUTED, in_common_look, new_figure, write_figure
from hemtrace.ingest.catalog import build_catalog
from hemtrace.ingest.flow import count_flow
from hemtrace.ingest.labels_csv import load_labels, read_labels
from hemtrace.ingest.listing import list_files
from hemtrace.params import DEFAULT_WINDOWS, View
from hemtrace.shards import make_pictures, write_shard

ROOT = Path(__file__).parents[1]
SIZES = (1_000, 10_000, 100_000, 752_803)
SHARD_FILES = 15_684  # as in presets/rsna-paper.yaml: 752,803 files in 48 shards
VIEW = View(windows=DEFAULT_WINDOWS, size=32, crop="none", pixel_mm=1.0)
CURVE = ROOT / "docs/images/ingest_scale.svg"


def step_list(tree: Path, project: Path) -> None:
    """List the files."""
    list_files(tree / "stage_2_train", 48)


def step_labels(tree: Path, project: Path) -> None:
    """Read the label CSV."""
    read_labels(tree / "stage_2_train.csv")


def step_join(tree: Path, project: Path) -> None:
    """Join rows and labels, choose series, count."""
    data = project / "data"
    files = pl.read_parquet(data / "files.parquet")
    rows = pl.concat(pl.read_parquet(path) for path in sorted(data.glob("shards/????.parquet")))
    labels = load_labels(data / "labels.parquet")
    count_flow(build_catalog(files, rows, labels), labels)


def step_shard(tree: Path, project: Path, files: int) -> None:
    """Make one shard of the first files."""
    names = pl.read_parquet(project / "data/files.parquet")["file"].head(files).to_list()
    with (
        GuardedReader(tree / "stage_2_train", PUBLIC_SALT) as reader,
        tempfile.TemporaryDirectory() as name,
    ):
        pictures = make_pictures(reader.read, names, VIEW, PUBLIC_SALT, quiet=True)
        write_shard(pictures, VIEW, Path(name) / "0000.npy", Path(name) / "0000.parquet")


def measure(step: str, *args: object) -> tuple[float, float]:
    """Run a step in a process of its own: seconds, and MB at its peak."""
    started = time.perf_counter()
    command = [sys.executable, __file__, f"step_{step}", *map(str, args)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step} failed")
    return time.perf_counter() - started, float(done.stdout)


def peak_mb() -> float:
    """Read the most memory that this process held, in MB of 1e6 bytes.

    Not by getrusage: a child's ru_maxrss begins with what its parent held when it forked.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def run(command: list[str], folder: Path) -> float:
    """Run a command to its end: seconds."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - started


def ingest(tree: Path, project: Path, files: int) -> dict[str, float]:
    """Ingest a tree by Snakemake: seconds of the graph and of the whole."""
    run(["git", "clone", "--quiet", str(ROOT), str(project)], ROOT)
    settings = {
        "raw": tree,
        "size": VIEW.size,
        "crop": VIEW.crop,
        "shards": max(2, round(files / SHARD_FILES)),
    }
    arguments = [f"ingest.{name}={value}" for name, value in settings.items()]
    run(["hemtrace", "use", "rsna-paper", *arguments], project)
    target = "data/catalog.parquet"
    graph = run(["snakemake", target, "--dry-run", "--quiet", "all"], project)
    whole = run(["snakemake", target, "--cores", "2", "--quiet", "all"], project)
    counted = pl.scan_parquet(project / target).group_by("status").len().collect()
    print(f"  {files:,} files: graph {graph:.1f} s, ingest {whole:.1f} s, {counted.rows()}")
    return {"graph": graph, "whole": whole}


def measure_shards(tree: Path, project: Path, most: int) -> list[Figure]:
    """Measure the memory of a shard's job, which must not grow with the shard."""
    sizes = (most // 16, most // 4, most)
    peaks = [measure("shard", tree, project, count)[1] for count in sizes]
    figures = [
        Figure(f"shard of {count:,} files, peak memory", peak, "MB")
        for count, peak in zip(sizes, peaks, strict=True)
    ]
    growth = peaks[-1] / peaks[0]
    return [*figures, Figure("largest shard against smallest, memory", growth, "x", at_most=1.1)]


@in_common_look
def draw_curve(seconds: dict[int, float]):
    """Draw seconds against files, beside the straight line through the largest."""
    figure, (axes,) = new_figure(6.4, 3.4)
    sizes = sorted(seconds)
    start = seconds[sizes[0]]  # a thousand files cost next to nothing
    each = (seconds[sizes[-1]] - start) / sizes[-1]
    line = np.geomspace(sizes[0], sizes[-1], 50)
    axes.loglog(line, start + each * line, color=MUTED, ls="--", lw=1)
    axes.loglog(sizes, [seconds[size] for size in sizes], "o", color=GOOD)
    for size in sizes:
        text = f"{seconds[size]:,.0f} s"
        place = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
        axes.annotate(text, (size, seconds[size]), color=INK, **place)
    axes.set_xlabel("files")
    axes.set_ylabel("seconds, two cores")
    axes.set_title(f"Ingest of small files; the line: {start:.0f} s + {each * 1e3:.2f} ms a file")
    axes.grid(True)
    return figure


def bend(seconds: dict[int, float]) -> float:
    """Divide the slope of the last piece of the curve by that of all before; 1 is a line."""
    first, *_, last, largest = sorted(seconds)
    late = (seconds[largest] - seconds[last]) / (largest - last)
    return late / ((seconds[last] - seconds[first]) / (last - first))


def main(sizes: tuple[int, ...] = SIZES) -> None:
    """Measure all sizes, and report the largest."""
    seconds: dict[int, float] = {}
    largest = max(sizes)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        for files in sorted(sizes):
            tree, project = Path(name) / f"tree{files}", Path(name) / f"project{files}"
            make_tree(tree, files)
            found = ingest(tree, project, files)
            seconds[files] = found["whole"]
            figures.append(Figure(f"{files:,} files, whole", found["whole"], "s"))
            figures.append(Figure(f"{files:,} files, each", found["whole"] / files * 1e3, "ms"))
            if files != largest:
                continue
            steps = {step: measure(step, tree, project) for step in ("list", "labels", "join")}
            total = sum(took for took, _ in steps.values())
            peak = max(memory for _, memory in steps.values())
            figures.append(Figure("graph", found["graph"], "s", at_most=10))
            for step, (took, memory) in steps.items():
                figures.append(Figure(f"{step}", took, "s"))
                figures.append(Figure(f"{step}, peak memory", memory, "MB"))
            figures.append(Figure("plan and label join", total, "s", at_most=60))
            figures.append(Figure("plan and label join, peak memory", peak, "MB", at_most=2000))
            figures += measure_shards(tree, project, min(SHARD_FILES, files))
    if len(seconds) > 2:
        figures.append(Figure("cost of one more file, large against small", bend(seconds), "x"))
    if largest == SIZES[-1]:
        write_figure(draw_curve(seconds), CURVE)
    report("scale", figures, "Files of 4 kB: the cost of a file, not of its pixels.")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("step_"):
        step, tree, project, *rest = sys.argv[1:]
        globals()[step](Path(tree), Path(project), *map(int, rest))
        print(peak_mb())
    else:
        main(tuple(map(int, sys.argv[1:])) or SIZES)
