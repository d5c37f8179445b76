"""evaluate: where the model is no better than what sees no picture."""

from typing import Any

from test_evaluate import make_predictions, score

from hemtrace.evaluate.baselines import find_no_better
from hemtrace.evaluate.scored import LEVELS
from hemtrace.labels import LABELS

GOOD = {
    "roc_auc": 0.9,
    "average_precision": 0.8,
    "log_loss": 0.1,
    "brier": 0.01,
    "accuracy": 0.99,
    "weighted_log_loss": 0.1,
    "mean_accuracy": 0.99,
    "exact_match": 0.99,
}
NULL = {"roc_auc": 0.5, "average_precision": 0.04, "log_loss": 0.161, "accuracy": 0.96}
OVERALL = {"weighted_log_loss": 0.25, "mean_accuracy": 0.94, "exact_match": 0.83}


def make_level(**changed: dict[str, float | None]) -> dict[str, Any]:
    """Make a level that beats all its nulls but for what is changed, by label."""

    def tell(label: str) -> dict[str, Any]:
        return {key: {"value": value} for key, value in (GOOD | changed.get(label, {})).items()}

    labels = {label: tell(label) | {"null": NULL, "prevalence": 0.04} for label in LABELS}
    return tell("all labels") | {"null": OVERALL, "labels": labels}


def test_figures_below_their_null_are_listed_and_told() -> None:
    slices = make_level(
        subdural={"log_loss": 0.175, "brier": 0.045},
        epidural={"accuracy": 0.96, "roc_auc": None},
    )
    found = find_no_better({level: make_level() for level in LEVELS} | {"slices": slices})
    assert [(row["level"], row["label"], row["figure"]) for row in found["figures"]] == [
        ("slices", "epidural", "accuracy"),
        ("slices", "subdural", "log_loss"),
        ("slices", "subdural", "brier"),
    ]
    assert found["sentences"] == {
        "slices": "No better than the baseline, which sees no picture: epidural (accuracy 0.960 "
        "against 0.960); subdural (log loss 0.175 against 0.161, Brier score 0.045 against 0.038)."
    }


def test_a_model_that_ranks_the_wrong_way_round_is_told_at_every_level() -> None:
    table = make_predictions()
    turned = table.with_columns((1 - table[f"p_{label}"]).alias(f"p_{label}") for label in LABELS)
    found = score(turned)["no_better"]
    assert set(found["sentences"]) == set(LEVELS)
    assert ("slices", "any", "roc_auc") in {
        (row["level"], row["label"], row["figure"]) for row in found["figures"]
    }
