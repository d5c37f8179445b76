"""Predictions -> what is fixed on validation, scores, figures, and the tables that DVC plots."""

from hemtrace.evaluate.combine import combine_predictions, score_runs
from hemtrace.evaluate.products import (
    FIGURES,
    draw_figures,
    draw_robustness,
    draw_subgroups,
    mean_history,
    roc_table,
    training_table,
    write_metrics,
)
from hemtrace.evaluate.results import render_latex, results_table
from hemtrace.evaluate.score import evaluate, fix_on_validation
from hemtrace.evaluate.scored import PROBABILITIES, check_predictions

__all__ = [
    "FIGURES",
    "PROBABILITIES",
    "check_predictions",
    "combine_predictions",
    "draw_figures",
    "draw_robustness",
    "draw_subgroups",
    "evaluate",
    "fix_on_validation",
    "mean_history",
    "render_latex",
    "results_table",
    "roc_table",
    "score_runs",
    "training_table",
    "write_metrics",
]
