"""evaluate: what operating points were to reach, and what became of it."""

from typing import Any

from hemtrace.evaluate.aims import add_aims

AIMS = {"sensitivity": 0.95, "specificity": 0.95}


def make_point(threshold: float | None, here: tuple[float, float], there: Any) -> dict[str, Any]:
    """Make a point with (sensitivity, specificity) on these rows, and on validation."""
    names = ("sensitivity", "specificity")
    return {name: {"value": value} for name, value in zip(names, here, strict=True)} | {
        "threshold": threshold,
        "validation": dict(zip(names, there, strict=True)),
    }


def test_a_rule_in_point_below_the_balanced_one_says_so() -> None:
    points = {
        "rule-out": make_point(0.02, (0.96, 0.4), (0.96, 0.5)),
        "rule-in": make_point(0.265, (0.7, 0.96), (0.75, 0.95)),
        "balanced": make_point(0.320, (0.67, 0.99), (0.74, 0.99)),
    }
    found = add_aims(points, AIMS)
    assert found["rule-in"]["note"] == (
        "rule-in has a lower threshold (0.265) than balanced (0.320), so that it flags more, not "
        "less: on validation balanced has a specificity of 0.99, rule-in of 0.95."
    )
    assert found["rule-out"]["note"] is None
    assert found["balanced"]["note"] is None
    assert found["balanced"]["aim"]["at_least"] is None


def test_a_point_that_misses_its_aim_on_these_rows_says_so() -> None:
    points = {"rule-out": make_point(0.3, (0.77, 1.0), (1.0, 1.0))}
    assert add_aims(points, AIMS)["rule-out"]["note"] == (
        "rule-out misses its aim here: a sensitivity of 0.77, where validation gave 1.00 and 0.95 "
        "was wanted."
    )


def test_points_without_threshold_or_in_order_have_no_note() -> None:
    points = {
        "rule-out": make_point(None, (1.0, 1.0), (None, None)),
        "rule-in": make_point(0.5, (0.5, 0.99), (0.5, 0.97)),
    }
    points["rule-out"]["sensitivity"]["value"] = None
    found = add_aims(points, AIMS)
    assert [own["note"] for own in found.values()] == [None, None]
    assert add_aims(None, AIMS) is None
