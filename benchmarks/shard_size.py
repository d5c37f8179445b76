"""What starting a shard's job costs, and what share of the decoding that is at RSNA scale.

The same few files are ingested by Snakemake in few and in many shards; the difference is starting.
"""

import tempfile
from pathlib import Path

from common import Figure, report, time_rounds
from decode import copy_slices, hemtrace_pictures
from make_tree import make_tree
from scale import ROOT, run

from hemtrace.params import DEFAULT_WINDOWS, View, load_params
from hemtrace.presets import use_preset

FILES = 752_803
FEW, MANY = 2, 42
CORES = 2


def time_shards(tree: Path, project: Path) -> dict[int, float]:
    """Seconds of making so many shards, nothing else; the better of two."""
    run(["git", "clone", "--quiet", str(ROOT), str(project)], ROOT)
    seconds = {}
    for shards in (FEW, MANY):
        settings = [f"ingest.raw={tree}", "ingest.size=32", f"ingest.shards={shards}"]
        run(["hemtrace", "use", "rsna-paper", *settings], project)
        options = ["--cores", str(CORES), "--force", "--quiet", "all"]
        run(["snakemake", "data/files.parquet", *options], project)
        targets = [f"data/shards/{shard:04d}.parquet" for shard in range(shards)]
        seconds[shards] = min(run(["snakemake", *targets, *options], project) for _ in range(2))
    return seconds


def main() -> None:
    """Measure, and report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_tree(folder / "tree", 2 * MANY)
        seconds = time_shards(folder / "tree", folder / "project")
        start = CORES * (seconds[MANY] - seconds[FEW]) / (MANY - FEW)
        use_preset("rsna-paper", [], folder / "project")
        params = load_params(folder / "project/params.yaml").ingest
        (folder / "head").mkdir()
        names = copy_slices(folder / "head")
        view = View(windows=DEFAULT_WINDOWS, size=params.size, crop="none", pixel_mm=1.0)
        speed = time_rounds({"all": lambda: len(hemtrace_pictures(folder / "head", names, view))})
    decoding = FILES / speed["all"]
    share = params.shards * start / decoding
    report(
        "shard_size",
        [
            Figure("starting a shard's job", start, "s of a core"),
            Figure(f"decoding at {params.size} px, page cache", speed["all"], "slices/s"),
            Figure(f"starting {params.shards} jobs, of the decoding", share, "share", at_most=0.1),
            Figure("most shards below a tenth", decoding * 0.1 / start, "shards"),
        ],
    )


if __name__ == "__main__":
    main()
