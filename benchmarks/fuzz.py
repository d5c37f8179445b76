"""Send mutated files of every encoding through the reader of ingest: `fuzz.py [FILES] [FIRST]`.

Prints what became of them; fails on the first that ends otherwise than as slices or reasons.
"""

import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from common import Figure, report
from fuzzing import make_seeds, mutate

from hemtrace.dicom import REASONS, Slice
from hemtrace.dicom.guard import GuardedReader


def main(files: int = 10_000, first: int = 0) -> None:
    """Fuzz, and print the outcomes."""
    seeds = make_seeds()
    outcomes: Counter[str] = Counter()
    slowest = (0.0, "")
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        GuardedReader(Path(folder), b"x" * 16, seconds=10, memory_gb=1) as reader,
    ):
        path = Path(folder) / "a.dcm"
        for number in range(first, first + files):
            done, content = mutate(number, seeds)
            path.write_bytes(content)
            begun = time.perf_counter()
            found = list(reader.read("a.dcm"))
            slowest = max(slowest, (time.perf_counter() - begun, f"{number} ({done})"))
            if not found or any(r for r in found if not _is_known(r)):
                raise SystemExit(f"file {number} ({done}) ended as {found}")
            outcomes.update("read" if isinstance(one, Slice) else one.reason for one in found)
        restarts = reader.restarts
    taken = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    report(
        "fuzz",
        [
            Figure("mutated files", files, ""),
            Figure("encodings", len(seeds), ""),
            Figure("child ended and started again", restarts, "times"),
            Figure("slowest file", slowest[0], "s", at_most=10),
            Figure("memory, parent", peak, "MB"),
            Figure("memory, child", child, "MB"),
            Figure("seconds a file", taken / files, "s"),
            *(Figure(f"ended as {what}", count, "") for what, count in outcomes.most_common()),
        ],
        f"Slowest: {slowest[1]}.",
    )


def _is_known(found: object) -> bool:
    return isinstance(found, Slice) or getattr(found, "reason", None) in REASONS


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
