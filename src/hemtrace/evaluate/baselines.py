"""Where the model is no better than what sees no picture, so that the report says it."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from hemtrace.evaluate.results import null_figures
from hemtrace.evaluate.scored import LEVELS
from hemtrace.labels import SUBTYPES

# Figure -> its name, and whether more of it is better.
_OF_LABEL = {
    "roc_auc": ("ROC AUC", True),
    "average_precision": ("average precision", True),
    "log_loss": ("log loss", False),
    "brier": ("Brier score", False),
    "accuracy": ("accuracy", True),
}
_OVERALL = {
    "weighted_log_loss": ("weighted log loss", False),
    "mean_accuracy": ("mean accuracy", True),
    "exact_match": ("all six labels right", True),
}
_ALL = "all labels"


def find_no_better(test: Mapping[str, Any]) -> dict[str, Any]:
    """List the figures of the test rows that do not beat their null.

    Parameters
    ----------
    test
        By level, as `level.score_level` gives it.

    Returns
    -------
    `figures`: dicts with level, label (`all labels` for figures over all), figure, name, value and
    null; `sentences`: by level, for levels that have such a figure. A figure that equals its null
    counts: it needs no picture.
    """
    found = [row for level in LEVELS for row in _look_at(level, test[level])]
    sentences = {
        level: f"No better than the baseline, which sees no picture: {_tell(rows)}."
        for level, rows in groupby(found, key=lambda row: str(row["level"]))
    }
    return {"figures": found, "sentences": sentences}


def _look_at(level: str, own: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    yield from _compare(level, _ALL, own, own["null"], _OVERALL)
    for label in ("any", *SUBTYPES):
        scores = own["labels"][label]
        yield from _compare(level, label, scores, null_figures(scores), _OF_LABEL)


def _compare(
    level: str,
    label: str,
    scores: Mapping[str, Any],
    nulls: Mapping[str, float | None],
    figures: Mapping[str, tuple[str, bool]],
) -> Iterable[dict[str, Any]]:
    for figure, (name, is_more_better) in figures.items():
        value, null = scores[figure]["value"], nulls[figure]
        if value is None or null is None:
            continue
        if value <= null if is_more_better else value >= null:
            yield {
                "level": level,
                "label": label,
                "figure": figure,
                "name": name,
                "value": value,
                "null": null,
            }


def _tell(rows: Iterable[Mapping[str, Any]]) -> str:
    told = []
    for label, of_label in groupby(rows, key=lambda row: row["label"]):
        figures = [
            f"{row['name']} {row['value']:.3f} against {row['null']:.3f}" for row in of_label
        ]
        told.append(f"{label} ({', '.join(figures)})")
    return "; ".join(told)
