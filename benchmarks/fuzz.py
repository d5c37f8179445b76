"""Send folders of mutated files through ingest, up to the catalog: `fuzz.py [FILES] [FIRST]`.

Every encoding, absurd decimal strings, zips. Fails where a file has no row, a row breaks the
catalog's contract, or a file takes longer or more memory than it may; prints what became of them.
"""

import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from common import Figure, report
from fuzzing import SALT, ingest_folder, make_seeds, write_mutants

from hemtrace.dicom import Rejected, Slice
from hemtrace.dicom.guard import GuardedReader

AT_ONCE = 500
READ_SECONDS, READ_MEMORY_GB = 10, 1
# Of the child above what it may take: the interpreter and its libraries.
_BASE_MB = 200


class _Clock:
    """A reader that remembers its slowest file."""

    def __init__(self, reader: GuardedReader, told: dict[str, str]) -> None:
        self._reader, self._told = reader, told
        self.slowest = (0.0, "")

    def read(self, name: str) -> Iterable[Slice | Rejected]:
        begun = time.perf_counter()
        found = list(self._reader.read(name))
        done = self._told.get(name, "in a zip")
        self.slowest = max(self.slowest, (time.perf_counter() - begun, f"{name} ({done})"))
        return found


def main(files: int = 10_000, first: int = 0) -> None:
    """Fuzz, and print the outcomes."""
    seeds = make_seeds()
    outcomes: Counter[str] = Counter()
    slowest, restarts, listed = (0.0, ""), 0, 0
    started = time.perf_counter()
    for start in range(first, first + files, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, first + files))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "images"
            folder.mkdir()
            told = write_mutants(folder, numbers, seeds)
            with GuardedReader(folder, SALT, READ_SECONDS, READ_MEMORY_GB) as reader:
                clock = _Clock(reader, told)
                catalog = ingest_folder(folder, clock.read, Path(name))
            slowest, restarts = max(slowest, clock.slowest), restarts + reader.restarts
            listed += catalog["file"].n_unique()
            outcomes.update(reason or "used" for reason in catalog["reason"])
    taken = time.perf_counter() - started
    # A child begins with what its parent held: an upper bound of its own.
    parent, child = (
        resource.getrusage(who).ru_maxrss * 1024 / 1e6
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    most_mb = READ_MEMORY_GB * 2**30 / 1e6 + _BASE_MB
    report(
        "fuzz",
        [
            Figure("mutated files", files, ""),
            Figure("encodings", len(seeds), ""),
            Figure("files in catalogs, members of zips too", listed, ""),
            Figure("child ended and started again", restarts, "times"),
            Figure("slowest file", slowest[0], "s", at_most=READ_SECONDS),
            Figure("seconds a file", taken / files, "s", at_most=0.1),
            Figure("memory, parent", parent, "MB", at_most=600),
            Figure("memory, child", child, "MB", at_most=most_mb),
            *(Figure(f"ended as {what}", count, "") for what, count in outcomes.most_common()),
        ],
        f"Slowest: {slowest[1]}.",
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
