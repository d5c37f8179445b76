"""Predictions -> scores, figures, and the tables that DVC plots."""

from hemtrace.evaluate.combine import combine_predictions, score_runs
from hemtrace.evaluate.products import (
    FIGURES,
    draw_figures,
    mean_history,
    roc_table,
    training_table,
    write_metrics,
)
from hemtrace.evaluate.score import evaluate
from hemtrace.evaluate.scored import PROBABILITIES, check_predictions

__all__ = [
    "FIGURES",
    "PROBABILITIES",
    "check_predictions",
    "combine_predictions",
    "draw_figures",
    "evaluate",
    "mean_history",
    "roc_table",
    "score_runs",
    "training_table",
    "write_metrics",
]
