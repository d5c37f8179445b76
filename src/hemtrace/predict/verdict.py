"""The answer on a study at an operating point, in words."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.operating import Operating, Point, read_operating
from hemtrace.labels import ANY, LABELS, SUBTYPES
from hemtrace.model.spec import ModelSpec
from hemtrace.predict.refuse import LIMITS, Limits, has_number, is_uncertain, sort_reasons
from hemtrace.predict.study import (
    Answer,
    Reason,
    SeriesPrediction,
    SlicePrediction,
    StudyPrediction,
    Verdict,
)

OPERATING_NAME = "operating.json"
RESEARCH_ONLY = "Research use only."
_LEVEL = "studies"


def tell_training(spec: ModelSpec) -> str:
    """Say what a model was trained on, as the rest of a sentence."""
    if spec.synthetic:
        return "computer-made heads (the phantom), never on patients"
    return f"head CT of patients (data {spec.data_digest[:12]})"


def find_operating(model: Path, model_sha256: str) -> Operating | None:
    """Read the operating points beside a model file; None where there are none.

    Raises
    ------
    HemtraceError
        If they are damaged, or those of another model.
    """
    path = model.parent / OPERATING_NAME
    return read_operating(path, model_sha256) if path.is_file() else None


def name_point(operating: Operating | None, point: str | None) -> str:
    """Name the operating point that is meant: the given one, or the model's default.

    Raises
    ------
    HemtraceError
        If the model has none of that name, or none at all and one was asked for.
    """
    if operating is None:
        if point is not None:
            raise HemtraceError(
                f"The operating point {point!r} was asked for, but no operating.json lies beside "
                "the model; the stage evaluate makes it."
            )
        return ""
    known = operating.points[_LEVEL]
    if point is not None and point not in known:
        raise HemtraceError(
            f"The model has no operating point {point!r}; it has {', '.join(known)}."
        )
    return point or operating.default_point


def slice_thresholds(operating: Operating | None, point: str | None) -> dict[str, float | None]:
    """Give the thresholds of slices at a point by label; None where there is none."""
    if operating is None:
        return dict.fromkeys(LABELS)
    points = operating.points["slices"][name_point(operating, point)]
    return {label: points[label].threshold for label in LABELS}


def flag_slice(slice_: SlicePrediction, thresholds: dict[str, float | None]) -> dict[str, bool]:
    """Say by label whether a slice reaches the threshold; one without a threshold never does."""
    return {
        label: threshold is not None and bool(probability >= threshold)
        for (label, threshold), probability in zip(
            ((name, thresholds[name]) for name in LABELS), slice_.probabilities, strict=True
        )
    }


def judge(
    series: Sequence[SeriesPrediction],
    operating: Operating | None,
    point: str | None = None,
    reasons: Sequence[Reason] = (),
    limits: Limits = LIMITS,
) -> Verdict:
    """Judge a study by its chosen series.

    Parameters
    ----------
    series
        Of the study; none is chosen where nothing could be predicted.
    operating
        None: the probabilities are not calibrated and nothing tells a bleed from none.
    point
        Its name; None: the model's default.
    reasons
        Those of `refuse.find_reasons` and of familiarity.
    limits
        For the uncertain band.

    Raises
    ------
    HemtraceError
        If the model has no such point.
    """
    name = name_point(operating, point)
    chosen = next((one for one in series if one.chosen), None)
    slices = chosen.slices if chosen else ()
    known = None if operating is None else operating.points[_LEVEL][name][LABELS[ANY]]
    score = float(chosen.scores[ANY]) if chosen else math.nan
    found = sort_reasons([*reasons, *_judge_score(bool(slices), slices, score, known, limits)])
    threshold = None if known is None else known.threshold
    if any(reason.stops for reason in found) or threshold is None:
        answer: Answer = "no-answer"
    else:
        answer = "bleed" if score >= threshold else "no-bleed"
    thresholds = slice_thresholds(operating, name or None)
    flags = [flag_slice(one, thresholds) for one in slices]
    top = _highest(slices)
    verdict = Verdict(
        answer=answer,
        point=name,
        probability=None if math.isnan(score) else score,
        threshold=threshold,
        sensitivity=None if known is None else known.sensitivity,
        specificity=None if known is None else known.specificity,
        subtypes={label: top[label] for label in SUBTYPES},
        flagged={label: any(flag[label] for flag in flags) for label in LABELS},
        urgency=_urgency(answer, score),
        reasons=found,
        sentence="",
    )
    return replace(verdict, sentence=_say(verdict, known))


def rejudge(
    study: StudyPrediction, operating: Operating | None, point: str | None = None
) -> StudyPrediction:
    """Judge a finished study at another operating point; nothing is predicted again."""
    verdict = judge(study.series, operating, point, study.reasons)
    return replace(study, verdict=verdict)


def _judge_score(
    has_slices: bool,
    slices: Sequence[SlicePrediction],
    score: float,
    point: Point | None,
    limits: Limits,
) -> list[Reason]:
    if not has_slices:
        return []
    if point is None:
        text = "No operating points belong to this model: its probabilities are not calibrated."
        return [Reason("no-operating-points", text, True)]
    if not has_number(slices) or math.isnan(score):
        text = "The network gave no number for a slice."
        return [Reason("no-number", text, True)]
    if point.threshold is None:
        why = point.why or "the validation patients do not suffice"
        text = f"This operating point has no threshold: {why}."
        return [Reason("point-without-threshold", text, True)]
    if is_uncertain(score, point.threshold, limits):
        shown, limit = _apart(score, point.threshold)
        text = (
            f"The score {shown} is too close to the threshold {limit} to be called (odds within a "
            f"factor of {limits.uncertain_odds:g})."
        )
        return [Reason("uncertain", text, True)]
    return []


def _highest(slices: Sequence[SlicePrediction]) -> dict[str, float]:
    if not slices:
        return dict.fromkeys(LABELS, math.nan)
    highest = np.stack([one.probabilities for one in slices]).max(axis=0)
    return dict(zip(LABELS, highest.tolist(), strict=True))


def _urgency(answer: Answer, score: float) -> float:
    """Order the worklist: bleeds 0.6 to 1, unanswered studies 0.4 to 0.6, the others below."""
    known = 0.5 if math.isnan(score) else min(max(score, 0.0), 1.0)
    if answer == "bleed":
        return 0.6 + 0.4 * known
    return 0.4 + 0.2 * known if answer == "no-answer" else 0.4 * known


def _say(verdict: Verdict, point: Point | None) -> str:
    if verdict.answer == "no-answer" or verdict.probability is None or verdict.threshold is None:
        causes = "; ".join(_begin_small(one.sentence) for one in verdict.reasons if one.stops)
        return f"No answer, because {causes or 'nothing was predicted'}. {RESEARCH_ONLY}"
    score, threshold = _apart(verdict.probability, verdict.threshold)
    bleed = verdict.answer == "bleed"
    told = "Bleed suspected" if bleed else "No bleed found"
    side = "at or above" if bleed else "below"
    types = [label for label in SUBTYPES if verdict.flagged[label]] if bleed else []
    types.sort(key=lambda label: -verdict.subtypes[label])
    kinds = f" Type by slices: {', '.join(types)}." if types else ""
    return (
        f"{told}: score {score}, {side} the threshold {threshold} of the point {verdict.point}"
        f"{_say_point(point)}.{kinds} {RESEARCH_ONLY}"
    )


def _say_point(point: Point | None) -> str:
    if point is None or point.sensitivity is None or point.specificity is None:
        return ""
    found = round(point.sensitivity * point.positives)
    clear = round(point.specificity * point.negatives)
    return (
        f", which on the validation patients found {found} of {point.positives} studies with a "
        f"bleed (sensitivity {point.sensitivity:.2f}) and cleared {clear} of {point.negatives} "
        f"without (specificity {point.specificity:.2f})"
    )


def _apart(score: float, threshold: float) -> tuple[str, str]:
    """Write two numbers with as many digits, up to four, as tell them apart."""
    for digits in (2, 3, 4):
        shown, limit = f"{score:.{digits}f}", f"{threshold:.{digits}f}"
        if shown != limit:
            break
    return shown, limit


def _begin_small(sentence: str) -> str:
    text = sentence.rstrip(".")
    return text[0].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
