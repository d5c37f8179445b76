"""What external tests have found, for the report: one row a data set and level."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from hemtrace.metrics import Estimate

_RATES = ("sensitivity", "specificity")
_NOT_ASKED = "the label file does not say who bleeds"


class _Figure(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    value: float | None
    low: float | None
    high: float | None
    why: str | None
    note: str | None = None


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    level: str
    label: str
    n: int
    patients: int
    positives: int | None
    positive_patients: int | None
    point: str | None
    roc_auc: _Figure
    sensitivity: _Figure
    specificity: _Figure
    why: str | None


class _Found(BaseModel):
    """What of external.json is read again; the rest of it is for the page."""

    model_config = ConfigDict(frozen=True)

    name: str
    model_sha256: str
    synthetic: bool
    summary: list[_Row]


def summarise(levels: Mapping[str, Any], point: str | None) -> list[dict[str, Any]]:
    """Take the figures of any bleed out of what `score_external` gives.

    Parameters
    ----------
    levels
        As scored.
    point
        The operating point that an answer uses unless told otherwise; None: there are no points.

    Returns
    -------
    By level: level, label, n, patients, positives, positive_patients, point, and as estimates
    roc_auc, sensitivity and specificity; `why` says why positives or point are None.
    """
    rows = []
    for level, found in levels.items():
        own = found["labels"].get("any")
        why = _NOT_ASKED if own is None else own["points_why"]
        nothing = Estimate(None, why=why).as_dict()
        rates = (own["points"].get(point) if own else None) or dict.fromkeys(_RATES, nothing)
        rows.append(
            {
                "level": level,
                "label": "any",
                "n": found["n"],
                "patients": found["patients"],
                "positives": own["positives"] if own else None,
                "positive_patients": own["positive_patients"] if own else None,
                "point": point,
                "roc_auc": own["roc_auc"] if own else nothing,
                **{name: rates[name] for name in _RATES},
                "why": why,
            }
        )
    return rows


def find_results(root: Path, model_sha256: str) -> list[dict[str, Any]]:
    """Find what external tests have found of a model.

    Parameters
    ----------
    root
        A project's folder, with `external/NAME/external.json`, or that folder `external` itself.
    model_sha256
        Of the model file.

    Returns
    -------
    Rows of plain values, sorted by name: `name`, `synthetic`, `model_sha256`, what `summarise`
    gives, and `problem`, which is None. A file that is damaged, or of another model, is a row with
    `name`, `problem` (a sentence) and None for all else, so that it can be shown rather than
    missed.
    """
    paths = {*root.glob("external/*/external.json"), *root.glob("*/external.json")}
    rows: list[dict[str, Any]] = []
    for path in sorted(paths, key=lambda path: (path.parent.name, path.as_posix())):
        rows += _read_result(path, path.relative_to(root).as_posix(), model_sha256)
    return rows


def _read_result(path: Path, shown: str, model_sha256: str) -> list[dict[str, Any]]:
    empty: dict[str, Any] = dict.fromkeys(("synthetic", "model_sha256", *_Row.model_fields))
    empty["name"] = path.parent.name
    again = "run `hemtrace external` on it again."
    try:
        found = _Found.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return [{**empty, "problem": f"{shown} is damaged or of another version: {again}"}]
    if found.model_sha256 != model_sha256:
        told = f"the model {found.model_sha256[:12]}, not of {model_sha256[:12]}"
        return [{**empty, "problem": f"{shown} is of {told}: {again}"}]
    of_all = {"synthetic": found.synthetic, "model_sha256": found.model_sha256}
    of_all |= {"name": path.parent.name, "problem": None}
    return [{**row.model_dump(exclude_unset=True), **of_all} for row in found.summary]
