"""Predictions -> scores, figures, and the tables that DVC plots."""

from hemtrace.evaluate.products import (
    FIGURES,
    draw_figures,
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
    "draw_figures",
    "evaluate",
    "roc_table",
    "training_table",
    "write_metrics",
]
