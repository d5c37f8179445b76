"""Two runs on the same slices: which is better, by how much, and is it more than chance?"""

from hemtrace.compare.runs.run import Run, read_run
from hemtrace.compare.runs.score import compare_runs
from hemtrace.compare.runs.tell import (
    check_suffix,
    print_comparison,
    render_comparison,
    tabulate,
    write_comparison,
)

__all__ = [
    "Run",
    "check_suffix",
    "compare_runs",
    "print_comparison",
    "read_run",
    "render_comparison",
    "tabulate",
    "write_comparison",
]
