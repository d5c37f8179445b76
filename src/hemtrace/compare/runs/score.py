"""Two runs on the same slices: figure by figure, with intervals and p values."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from hemtrace.compare.runs.run import Run, known_labels, list_differing, require_same
from hemtrace.evaluate.calibrate import apply_unseen
from hemtrace.evaluate.operating import POINTS, flagged
from hemtrace.evaluate.scored import LEVELS_OF, UNITS, Scored, scored_partition
from hemtrace.labels import ANY, LABEL_WEIGHTS, LABELS
from hemtrace.metrics import (
    Difference,
    Estimate,
    Resamples,
    average_precision,
    compare_areas,
    difference,
    log_losses,
    mcnemar,
    resample_patients,
    roc_auc,
    why_not,
)

_NO_MARK = "nothing beside the predictions says whether they are synthetic"
_NO_DELONG = "DeLong's test is one of the ROC AUC alone"
# No replicate can tell two equal columns of scores apart: no chance is involved.
_NOTHING_CHANGED = Difference(Estimate(0.0, 0.0, 0.0), 1.0)

# Patients with a positive, and with a negative, below which DeLong's p is not given: a variance
# from so few is a guess. Of rows that are each another patient's, and of rows of which some patient
# has several, where a patient counts once however many rows are his.
_FEWEST_OF_A_CLASS = {"alone": 3, "clustered": 10}

_OF_POINT = ("first", "second", "only_first_right", "only_second_right", "p")

Figure = Callable[[np.ndarray, np.ndarray, Resamples | None], np.ndarray]


def compare_runs(
    first: Run, second: Run, replicates: int, seed: int, clip: float
) -> dict[str, Any]:
    """Compare two runs on the same test slices.

    Parameters
    ----------
    first, second
        As read.
    replicates, seed
        Of the bootstrap of whole patients, the same draws for both.
    clip
        Of the log loss.

    Returns
    -------
    `figures`: a row a level, label and figure with `first`, `second`, `difference` (first less
    second, its interval and p) and, for the AUC, `delong`; `points`: of patients at each operating
    point, where both are known; `parameters` that differ; `rules`. Whatever is None has a `why`
    beside it.

    Raises
    ------
    HemtraceError
        If the runs hold other test slices, or say otherwise who has a bleed.
    """
    require_same(first, second)
    slices = [scored_partition(run.predictions, run.partition) for run in (first, second)]
    # Operating points go by the rule of a run; ranks are compared by one rule for both.
    figures = []
    for level in LEVELS_OF[first.level]:
        pair = [one.at_level(level) for one in slices]
        resamples = resample_patients(pair[0].patients, replicates, seed)
        figures += _compare_level(pair[0], pair[1], known_labels(first), resamples, clip)
    points_why = _why_no_points(first, second)
    parameters = list_differing(first, second)
    synthetic = _join_marks(first.synthetic, second.synthetic)
    return {
        "first": first.name,
        "second": second.name,
        "first_sha256": first.sha256,
        "second_sha256": second.sha256,
        "synthetic": synthetic,
        "synthetic_why": _NO_MARK if synthetic is None else None,
        "slices": len(slices[0]),
        "patients": len(np.unique(slices[0].patients)),
        "figures": figures,
        "points": [] if points_why else _compare_points(first, second),
        "points_why": points_why,
        "parameters": parameters,
        "parameters_why": _why_no_model(first, second) if parameters is None else None,
        "rules": {
            "difference": "first less second; 95 % interval and p by the paired bootstrap of whole "
            f"patients, {replicates} replicates",
            "score": "of a study or patient the highest probability over its slices, uncalibrated",
            "delong": "DeLong's test; of slices and studies in Obuchowski's form, by which those "
            "of a patient depend on each other; no p where fewer than "
            f"{_FEWEST_OF_A_CLASS['clustered']} patients have a positive, or a negative (fewer "
            f"than {_FEWEST_OF_A_CLASS['alone']} where each patient has one row)",
            "mcnemar": "exact, on patients, each run at its own threshold",
            "log_loss": f"natural logarithm, probabilities held within [{clip:g}, 1 - {clip:g}]",
        },
    }


def _join_marks(*marks: bool | None) -> bool | None:
    return True if True in marks else None if None in marks else False


def _mean_loss(
    truth: np.ndarray, score: np.ndarray, resamples: Resamples | None, clip: float
) -> np.ndarray:
    losses = log_losses(truth, score, clip)
    if losses.ndim > 1:
        losses = losses @ LABEL_WEIGHTS
    if resamples is None:
        return np.array([losses.mean()])
    return resamples.ratio(losses, np.ones(len(losses)))


def _compare_level(
    first: Scored, second: Scored, labels: list[str], resamples: Resamples, clip: float
) -> list[dict[str, Any]]:
    unit = UNITS[first.level]
    loss: Figure = partial(_mean_loss, clip=clip)
    figures: dict[str, Figure] = {
        "roc_auc": roc_auc,
        "average_precision": average_precision,
        "log_loss": loss,
    }
    rows = []
    for label in labels:
        column = LABELS.index(label)
        truth = first.truth[:, column]
        scores = first.probability[:, column], second.probability[:, column]
        for name, figure in figures.items():
            row = _row(first.level, label, name, figure, truth, scores, resamples)
            if name == "roc_auc":
                row["delong"] = _delong(truth, *scores, first.patients, unit).as_dict()
            rows.append(row | _count_bearers(truth, first.patients))
    if first.level == "slices" and len(labels) == len(LABELS):
        scores = first.probability, second.probability
        row = _row("slices", "all", "weighted_log_loss", loss, first.truth, scores, resamples)
        rows.append(row | _count_bearers(np.any(first.truth, axis=1), first.patients))
    return [{**row, "unit": unit} for row in rows]


def _count_bearers(truth: np.ndarray, patients: np.ndarray) -> dict[str, int]:
    return {
        "patients": len(np.unique(patients)),
        "positive_patients": len(np.unique(patients[truth])),
        "negative_patients": len(np.unique(patients[~truth])),
    }


def _row(
    level: str,
    label: str,
    name: str,
    figure: Figure,
    truth: np.ndarray,
    scores: tuple[np.ndarray, np.ndarray],
    resamples: Resamples,
) -> dict[str, Any]:
    values = [float(figure(truth, score, None)[0]) for score in scores]
    whys = [_why(name, truth, score, UNITS[level]) for score in scores]
    why = whys[0] or whys[1]
    if np.array_equal(*scores) and why is None:
        found = _NOTHING_CHANGED
    else:
        ours, theirs = (figure(truth, score, resamples) for score in scores)
        found = difference(values[0], values[1], ours, theirs, why, patients=resamples.patients)
    return {
        "level": level,
        "label": label,
        "figure": name,
        "n": len(truth),
        "positives": int(truth.any(axis=1).sum() if truth.ndim > 1 else truth.sum()),
        "first": None if whys[0] else values[0],
        "first_why": whys[0],
        "second": None if whys[1] else values[1],
        "second_why": whys[1],
        "difference": found.as_dict(),
        "delong": Difference(Estimate(None, why=_NO_DELONG)).as_dict(),
    }


def _why(name: str, truth: np.ndarray, score: np.ndarray, unit: str) -> str | None:
    holes = int(np.isnan(score).sum())
    if holes:
        return f"{holes:,} of {score.size:,} scores are NaN"
    return None if name.endswith("log_loss") else why_not(truth, score, unit)


def _delong(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, patients: np.ndarray, unit: str
) -> Difference:
    if np.array_equal(first, second) and why_not(truth, first) is None:
        return _NOTHING_CHANGED
    found = compare_areas(truth, first, second, patients, unit)
    why = _why_too_few(truth, patients, unit)
    if found.estimate.value is None or why is None:
        return found
    return Difference(replace(found.estimate, low=None, high=None, why=why))


def _why_too_few(truth: np.ndarray, patients: np.ndarray, unit: str) -> str | None:
    """Say of which class too few patients have a row for DeLong's test; None if of neither."""
    is_clustered = len(np.unique(patients)) < len(patients)
    fewest = _FEWEST_OF_A_CLASS["clustered" if is_clustered else "alone"]
    few = [
        f"{count} with a {name} {unit}"
        for name, rows in (("positive", truth), ("negative", ~truth))
        if (count := len(np.unique(patients[rows]))) < fewest
    ]
    return f"fewer than {fewest} patients ({', '.join(few)})" if few else None


def _why_no_model(first: Run, second: Run) -> str:
    lacking = [run.name for run in (first, second) if run.spec is None]
    return f"no model lies beside the predictions of {' and '.join(dict.fromkeys(lacking))}"


def _why_no_points(first: Run, second: Run) -> str | None:
    if first.spec is None or second.spec is None:
        return _why_no_model(first, second)
    lacking = [run.name for run in (first, second) if run.operating is None]
    if lacking:
        return f"no operating.json lies beside the model of {' and '.join(dict.fromkeys(lacking))}"
    return None if "any" in known_labels(first) else "the labels do not say who bleeds"


def _compare_points(first: Run, second: Run) -> list[dict[str, Any]]:
    """Compare who is found, and who is cleared, of patients at each run's own thresholds."""
    truth = scored_partition(first.predictions, first.partition).by_patient().truth[:, ANY]
    rows = []
    for point in POINTS:
        flags = [_flag_patients(run, point) for run in (first, second)]
        whys = [
            f"{run.name} has no threshold there, or scores that are NaN" if flag is None else None
            for run, flag in zip((first, second), flags, strict=True)
        ]
        for rate, of in (("sensitivity", truth), ("specificity", ~truth)):
            nobody = None if of.any() else f"no {'positive' if of is truth else 'negative'} patient"
            row: dict[str, Any] = {"point": point, "rate": rate, "n": int(of.sum())}
            row |= dict.fromkeys(_OF_POINT)
            row["why"] = nobody or whys[0] or whys[1]
            right = [None if flag is None else flag[of] == truth[of] for flag in flags]
            for name, one in zip(("first", "second"), right, strict=True):
                row[name] = float(one.mean()) if one is not None and not nobody else None
            if right[0] is not None and right[1] is not None and not nobody:
                row["only_first_right"] = int((right[0] & ~right[1]).sum())
                row["only_second_right"] = int((right[1] & ~right[0]).sum())
                row["p"] = mcnemar(right[0], right[1])
            rows.append(row)
    return rows


def _flag_patients(run: Run, point: str) -> np.ndarray | None:
    if run.operating is None:
        return None
    slices = apply_unseen(
        run.operating.calibration, scored_partition(run.predictions, run.partition)
    )
    patients = slices.at_level("patients", run.operating.score_rule)
    return flagged(patients, run.operating.points["patients"], "any", point)
