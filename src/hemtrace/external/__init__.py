"""A frozen model on a second, labelled data set: nothing is fitted, nothing is chosen."""

from hemtrace.external.account import tell_result
from hemtrace.external.results import find_results
from hemtrace.external.run import READERS, evaluate_external

__all__ = ["READERS", "evaluate_external", "find_results", "tell_result"]
