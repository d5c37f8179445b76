"""Numbers of the study: the flow, the sides of the split, leaks, and what the sample can tell."""

from hemtrace.study.flow import flow_numbers
from hemtrace.study.leakage import leakage_table
from hemtrace.study.near import NearRule
from hemtrace.study.partitions import count_co_occurrence, count_partitions, describe_scans
from hemtrace.study.sample_size import sample_size_note

__all__ = [
    "NearRule",
    "count_co_occurrence",
    "count_partitions",
    "describe_scans",
    "flow_numbers",
    "leakage_table",
    "sample_size_note",
]
