"""report: what the tables of scores say below and beside their figures."""

from typing import Any

import pytest
from test_evaluate import PARAMS, make_predictions, score

from hemtrace.report import scores


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    return score(make_predictions())


def test_the_note_names_the_levels_whose_rates_have_exact_intervals(metrics: dict) -> None:
    # Two studies a patient: patients alone stand once.
    for table in (scores.points_table(metrics), scores.operating_table(metrics)):
        assert "Of patients, of which each patient has one, sensitivity" in table.note
        assert "exact binomial (Clopper-Pearson)" in table.note
