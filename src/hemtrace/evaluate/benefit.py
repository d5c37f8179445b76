"""What the answers would change: at other prevalences, in decisions, in the order of reading."""

from collections.abc import Callable
from typing import Any

from hemtrace.evaluate.calibrate import apply_unseen
from hemtrace.evaluate.decision import decision_curve, predict_values, workload_curve
from hemtrace.evaluate.fit import fit_calibration
from hemtrace.evaluate.level import resamples_at
from hemtrace.evaluate.operating import POINTS, Operating, flagged
from hemtrace.evaluate.scored import UNITS, Scored
from hemtrace.labels import ANY
from hemtrace.metrics import Resamples


def weigh_benefit(
    validation: Scored, test: Scored, operating: Operating, draws: Resamples
) -> dict[str, Any]:
    """Compute predictive values, decision curves and the workload curve of `any` on test rows.

    Parameters
    ----------
    validation, test
        Slices with the network's probabilities.
    operating
        What was fixed on the validation slices.
    draws
        Of the test slices.

    Returns
    -------
    predictive_values: by level (`slices`, `patients`) and point, as `decision.predict_values`;
    decision: by level, as `decision.decision_curve`; workload: of studies, as
    `decision.workload_curve`. The highest of many slices' probabilities is not the probability of
    a patient: for their decision curve patients are calibrated as such, on validation patients.
    """
    rule, method = operating.score_rule, operating.calibration.method
    slices = apply_unseen(operating.calibration, test)
    levels = {level: slices.at_level(level, rule) for level in ("slices", "studies", "patients")}
    of_patients = fit_calibration(validation.at_level("patients", rule), method)
    decided = {
        "slices": slices,
        "patients": apply_unseen(of_patients, test.at_level("patients", rule)),
    }
    return {
        "predictive_values": {
            level: {
                point: predict_values(
                    levels[level].truth[:, ANY],
                    flagged(levels[level], operating.points[level], "any", point),
                    resamples_at(levels[level], draws),
                    unit=UNITS[level],
                )
                for point in POINTS
            }
            for level in decided
        },
        "decision": {level: _draw(decision_curve, one, draws) for level, one in decided.items()},
        "workload": _draw(workload_curve, levels["studies"], draws),
    }


def _draw(curve: Callable[..., dict[str, Any]], scored: Scored, draws: Resamples) -> dict[str, Any]:
    return curve(
        scored.truth[:, ANY],
        scored.probability[:, ANY],
        resamples_at(scored, draws),
        unit=UNITS[scored.level],
    )
