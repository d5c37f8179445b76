"""One page to print or mail: who, the answer, the figures, the slices that speak for it."""

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hemtrace.labels import ANY, LABELS
from hemtrace.metrics.resample import bound_share
from hemtrace.serve import schemas
from hemtrace.serve.answers import find_series
from hemtrace.serve.jobs import Job
from hemtrace.serve.pictures import encode_marked
from hemtrace.serve.prediction import Result
from hemtrace.serve.sides import describe_sides

_HERE = Path(__file__).parent
_WORDS = {
    "bleed": "Bleed suspected",
    "no-bleed": "No bleed found",
    "no-answer": "No answer",
}
_MOST_PICTURES, _MOST_LINES = 3, 8
_WIDTH, _HEIGHT = 320, 90
_ANY = LABELS[ANY]


@lru_cache(maxsize=1)
def read_style() -> str:
    """Give the style of the page."""
    return (_HERE / "summary.css").read_text(encoding="utf-8")


def summary_policy() -> str:
    """Give the page's own policy: nothing but its style, by digest, and pictures within it."""
    digest = base64.b64encode(hashlib.sha256(read_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; sandbox allow-modals allow-popups"
    )


def make_summary(job: Job, told: schemas.Job, model: schemas.Model, map_threshold: float) -> str:
    """Make the page of a job that is done.

    Parameters
    ----------
    job
        With its result.
    told
        The API's answer at the wanted operating point.
    model
        What predicted.
    map_threshold
        Of the regions.
    """
    result: Result = job.result
    point = next((one for one in model.points if one.name == told.point), None)
    measured = ""
    if point is not None and point.sensitivity is not None and point.specificity is not None:
        who = "computer-made validation patients" if model.synthetic else "validation patients"
        found = _tell_share(point.sensitivity, point.positives)
        cleared = _tell_share(point.specificity, point.negatives)
        measured = (
            f"At the point {point.name} it found {found} studies with a bleed, and cleared "
            f"{cleared} without, of {point.patients} {who}, on which the point was chosen."
        )
    made = job.finished.strftime("%Y-%m-%d %H:%M") if job.finished else ""
    return _page().render(
        style=read_style(),
        disclaimer=schemas.DISCLAIMER,
        synthetic=model.synthetic,
        sample=job.sample,
        studies=[_show_study(one, result, point) for one in told.studies],
        point=told.point,
        rejected=_list_rejected(told.rejected),
        rejected_count=_count(len(told.rejected), "file"),
        map_percent=round(100 * map_threshold),
        model=model,
        measured=measured,
        made=made,
    )


def _tell_share(share: float, total: int) -> str:
    """Say how many of how many, and what the share can be elsewhere."""
    low, high = bound_share(share, total)
    return (
        f"{round(share * total)} of {total} (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    )


@lru_cache(maxsize=1)
def _page() -> Any:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("summary.html.j2")


def _show_study(
    study: schemas.Study, result: Result, point: schemas.Point | None
) -> dict[str, Any]:
    verdict = study.verdict
    chosen = next((one for one in study.series if one.chosen), None)
    slices = chosen.slices if chosen else []
    shown = {
        "name": ", ".join(filter(None, study.patient_name.split("=")[0].split("^"))),
        "patient_id": study.patient_id,
        "date": _write_date(study.study_date),
        "description": study.description,
        "answer": verdict.answer,
        "words": _WORDS[verdict.answer],
        "sentence": verdict.sentence,
        # Those that stop stand in the sentence already.
        "notes": [reason.sentence for reason in verdict.reasons if not reason.stops],
        "slices": len(slices),
        "rows": _list_rows(chosen) if chosen else [],
        "caveat": _tell_caveat(chosen, verdict) if chosen else "",
        "curve": _draw_curve(slices, None if point is None else point.slice_threshold),
        "pictures": [],
        "sides": "" if chosen is None else describe_sides(chosen.orientation),
        "made_of": "",
    }
    if chosen is not None:
        others = len(study.series) - 1
        shown["made_of"] = (
            f"Series: {chosen.description or 'no description'}, {_count(len(slices), 'slice')}"
            + (f"; {others} other series of the study were not used." if others else ".")
        )
        shown["pictures"] = _choose_pictures(chosen, verdict, result)
    return shown


def _tell_caveat(series: schemas.Series, verdict: schemas.Verdict) -> str:
    """Say what the figures do not, as `noteTypes` of the page does."""
    if verdict.answer == "no-answer":
        return "No answer is given: these figures decide nothing."
    alone = sum(bool(one.flagged[_ANY]) for one in series.slices)
    if verdict.answer == "bleed" or not alone:
        return ""
    return (
        f"{_count(alone, 'slice')} alone would be flagged; the study as a whole is below its "
        "threshold."
    )


def _list_rows(series: schemas.Series) -> list[dict[str, str]]:
    rows = []
    for label in (_ANY, *LABELS[:ANY]):
        probabilities = [one.probabilities[label] for one in series.slices]
        known = [p for p in probabilities if p is not None]
        flagged = [one.flagged[label] for one in series.slices]
        volume = series.volume_ml.get(label)
        rows.append(
            {
                "label": "any bleed" if label == _ANY else label,
                "probability": write_percent(max(known)) if known else "not known",
                "slices": "no threshold" if None in flagged else str(sum(map(bool, flagged))),
                "volume": f"{volume:.1f} mL" if volume else "",
            }
        )
    return rows


def _draw_curve(slices: Sequence[schemas.Slice], threshold: float | None) -> dict[str, Any]:
    step = _WIDTH / max(1, len(slices) - 1)
    points = " ".join(
        f"{place * step:.1f},{(1 - (one.probabilities[_ANY] or 0)) * _HEIGHT:.1f}"
        for place, one in enumerate(slices)
    )
    level = None if threshold is None else round((1 - threshold) * _HEIGHT, 1)
    return {"width": _WIDTH, "height": _HEIGHT, "points": points, "threshold": level}


def _choose_pictures(
    series: schemas.Series, verdict: schemas.Verdict, result: Result
) -> list[dict[str, str]]:
    """Show the surest flagged slices with outlines, in order; none where no bleed is found."""
    if verdict.answer != "bleed":
        return []
    flagged = [one for one in series.slices if any(one.flagged.values())]
    surest = sorted(flagged, key=lambda one: -(one.probabilities[_ANY] or 0))[:_MOST_PICTURES]
    found = find_series(result, series.number)
    pictures = []
    for one in sorted(surest, key=lambda one: one.place):
        own = found.slices[one.place]
        labels = [label for label in one.regions if label != _ANY] or list(one.regions)
        label = max(labels, key=lambda name: one.probabilities[name] or 0, default=None)
        outlines = [region.outline for region in one.regions[label]] if label else []
        png = encode_marked(result.pixels.read(own.file, own.frame), outlines)
        pictures.append(
            {
                "png": base64.b64encode(png).decode(),
                "caption": f"Slice {one.place + 1} of {len(series.slices)}: any bleed "
                f"{write_percent(one.probabilities[_ANY])}"
                + (f", outline of {label}" if label and outlines else ""),
            }
        )
    return pictures


def _list_rejected(rejected: Sequence[schemas.Rejected]) -> list[str]:
    counted = Counter(one.meaning for one in rejected)
    lines = [f"{_count(count, 'file')}: {meaning}" for meaning, count in counted.most_common()]
    more = len(lines) - _MOST_LINES
    return lines[:_MOST_LINES] + ([f"and {_count(more, 'other reason')}"] if more > 0 else [])


def write_percent(value: float | None) -> str:
    """Write a probability so that neither end claims more than is known."""
    if value is None:
        return "not known"
    if value < 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 < value < 1 else f"{round(100 * value)} %"


def _write_date(date: str) -> str:
    # PS3.5 6.2: YYYYMMDD.
    whole = len(date) == 8 and date.isdecimal()
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if whole else date


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
