"""The record of each training: written to a journal on this disk, sent from there to MLflow.

The only package that imports mlflow, which a training itself does not do before its end: sending is
the work of a process of its own. No name of a user or a machine, no absolute path and nothing of a
patient goes into a record.
"""

from hemtrace.tracking.fetch import TrainingRecord, fetch_record
from hemtrace.tracking.origin import ELSEWHERE
from hemtrace.tracking.send import name_store, send_records
from hemtrace.tracking.tracker import NoTracker, Tracker, add_evaluation

__all__ = [
    "ELSEWHERE",
    "NoTracker",
    "Tracker",
    "TrainingRecord",
    "add_evaluation",
    "fetch_record",
    "name_store",
    "send_records",
]
