"""What every benchmark does: time fairly, compare with a goal, print a table, keep the figures."""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
HEAD_CT = Path(__file__).parents[2] / "shared/data/ge-head-ct"


@dataclass(frozen=True)
class Figure:
    """One measured figure; `at_least` or `at_most` is its goal."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def verdict(self) -> str:
        """Say whether the goal is met."""
        if self.at_least is None and self.at_most is None:
            return ""
        low = self.at_least is None or self.value >= self.at_least
        high = self.at_most is None or self.value <= self.at_most
        return "met" if low and high else "MISSED"

    @property
    def goal(self) -> str:
        """Show the goal."""
        if self.at_least is not None:
            return f">= {self.at_least:,g}"
        return "" if self.at_most is None else f"<= {self.at_most:,g}"


def time_rounds(calls: dict[str, Callable[[], int]], rounds: int = 5) -> dict[str, float]:
    """Time several ways of doing the same, turn by turn, so that all meet the same machine.

    Each call returns how many things it did. The result is things a second, the best round of each:
    what else runs on a machine only ever slows a round down.
    """
    best = dict.fromkeys(calls, 0.0)
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            done = call()
            best[name] = max(best[name], done / (time.perf_counter() - started))
    return best


def report(benchmark: str, figures: Sequence[Figure], note: str = "") -> None:
    """Print the figures as a table, and write them to `results/`."""
    width = max(len(figure.name) for figure in figures)
    print(f"\n{benchmark}: {os.cpu_count()} cores, {processor()}")
    for one in figures:
        value = f"{one.value:,.0f}" if one.value >= 100 else f"{one.value:,.3g}"
        print(f"  {one.name:{width}}  {value:>9} {one.unit:12} {one.goal:10} {one.verdict}")
    if note:
        print(f"  {note}")
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "processor": processor(),
        "python": platform.python_version(),
        "figures": [asdict(one) | {"verdict": one.verdict} for one in figures],
        "note": note,
    }
    (RESULTS / f"{benchmark}.json").write_text(json.dumps(kept, indent=2) + "\n")


def processor() -> str:
    """Name the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
