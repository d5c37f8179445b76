"""A comparison of two runs -> a table in the terminal, a page, CSV or JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.scored import UNITS
from hemtrace.metrics import FEW_BEARERS
from hemtrace.report.cells import MARK, Table, number
from hemtrace.report.small_page import render_small_page, show_item
from hemtrace.writing import write_whole

_NAMES = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "weighted_log_loss": "weighted log loss",
}
_DATA = {
    True: "SYNTHETIC, not clinical performance",
    False: "patients",
    None: "not known whether synthetic: no model lies beside the predictions",
}
_WHYS = ("first_why", "second_why", "why", "delong_why")
_SOURCE = "hemtrace compare"


def tabulate(result: Mapping[str, Any]) -> pl.DataFrame:
    """Put the figures into a table, a row each."""
    rows = [
        {
            **{key: row[key] for key in ("level", "label", "figure", "n", "positives")},
            "first": row["first"],
            "second": row["second"],
            "difference": row["difference"]["value"],
            "low": row["difference"]["low"],
            "high": row["difference"]["high"],
            "p": row["difference"]["p"],
            "p_delong": row["delong"]["p"],
            "first_why": row["first_why"],
            "second_why": row["second_why"],
            "why": row["difference"]["why"],
            "delong_why": row["delong"]["why"],
            "data": _DATA[result["synthetic"]],
        }
        for row in result["figures"]
    ]
    numbers = ("first", "second", "difference", "low", "high", "p", "p_delong")
    return pl.DataFrame(
        rows,
        schema_overrides=dict.fromkeys(numbers, pl.Float64) | dict.fromkeys(_WHYS, pl.String),
        infer_schema_length=None,
    )


def print_comparison(result: Mapping[str, Any]) -> str:
    """Lay the comparison out for a terminal."""
    shown = ("level", "label", "figure", "first", "second", "difference", "low", "high", "p")
    lines = []
    if result["synthetic"] is not False:
        lines.append(f"{_DATA[result['synthetic']]}.")
    lines.append(
        f"First: {result['first']}, second: {result['second']}; slices: {result['slices']:,}, "
        f"patients: {result['patients']:,}. Difference: {result['rules']['difference']}."
    )
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=200,
        float_precision=4,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
    ):
        # Without a figure a cell stays empty; the reasons stand below.
        lines.append(str(tabulate(result).select(*shown, "p_delong")).replace("null", "    "))
        lines += _list_reasons(result)
        if result["points"]:
            lines += ["Patients at the operating points (exact McNemar):"]
            rows = [{**row, "why": row["why"] or ""} for row in result["points"]]
            lines.append(str(pl.DataFrame(rows, infer_schema_length=None)).replace("null", "    "))
        else:
            lines.append(f"Operating points are not compared: {result['points_why']}.")
        if result["parameters"]:
            lines += ["Parameters that differ:", str(pl.DataFrame(result["parameters"]))]
        elif result["parameters_why"]:
            lines.append(f"Parameters are not compared: {result['parameters_why']}.")
    return "\n".join(lines)


def _list_reasons(result: Mapping[str, Any]) -> list[str]:
    """Say what DeLong's p is, and of which figures something is missing."""
    told = _group_reasons(result["figures"])
    return [f"p_delong, of the ROC AUC alone: {result['rules']['delong']}.", *told]


def _group_reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say, each reason once, of which figures there is no difference, or no interval and no p."""
    causes: dict[str, list[str]] = {}
    for row in rows:
        name = f"{row['level']} {row['label']} {row['figure']}"
        told = [("", row["difference"])]
        if row["figure"] == "roc_auc":
            told.append((" (DeLong)", row["delong"]))
        for test, found in told:
            if found["why"]:
                lacking = "difference" if found["value"] is None else "interval or p"
                cause = f"No {lacking}, {found['why']}"
                causes.setdefault(cause, []).append(f"{name}{test}")
    return [f"{cause}: {', '.join(names)}." for cause, names in causes.items()]


def check_suffix(path: Path) -> None:
    """Refuse a name under which a comparison cannot be written, before any work is done.

    Raises
    ------
    HemtraceError
        Naming the suffixes that are known.
    """
    if path.suffix not in _MAKERS:
        raise HemtraceError(f"{path}: the name must end in {', '.join(_MAKERS)}.")


def write_comparison(result: Mapping[str, Any], path: Path) -> None:
    """Write a comparison as `.html`, `.csv` or `.json`; raises what `check_suffix` raises."""
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        part.write_text(_MAKERS[path.suffix](result), encoding="utf-8")


def render_comparison(result: Mapping[str, Any]) -> str:
    """Render one offline page."""
    levels = dict.fromkeys(row["level"] for row in result["figures"])
    tables = {level: _figure_table(result, level) for level in levels}
    caption = (
        f"Difference: {result['rules']['difference']}. Above 0 the first run is better by AUC and "
        "average precision, below 0 by log loss."
    )
    sections = [
        {
            "id": level,
            "title": f"By {UNITS[level]}",
            "text": [],
            "show": [show_item(_SOURCE, table=level, caption=caption)],
        }
        for level in levels
    ]
    if result["points"]:
        tables["points"] = _point_table(result["points"])
        caption = f"Any bleed, by patient, at the operating points: {result['rules']['mcnemar']}."
        show = [show_item(_SOURCE, table="points", caption=caption)]
        sections.append({"id": "points", "title": "Operating points", "text": [], "show": show})
    else:
        text = [f"They are not compared: {result['points_why']}."]
        sections.append({"id": "points", "title": "Operating points", "text": text, "show": []})
    tables["parameters"] = _parameter_table(result["parameters"], result["parameters_why"])
    show = [show_item(_SOURCE, table="parameters", caption="Parameters of the models that differ.")]
    sections.append({"id": "parameters", "title": "Parameters", "text": [], "show": show})
    rules = result["rules"]
    return render_small_page(
        title="Two runs compared",
        lead=f"First: {result['first']} (predictions {result['first_sha256'][:12]}). Second: "
        f"{result['second']} ({result['second_sha256'][:12]}). Slices: {result['slices']:,}, "
        f"patients: {result['patients']:,}, the same for both.",
        synthetic=result["synthetic"] is True,
        synthetic_why="At least one of the runs rests on computed slices.",
        headlines=[],
        sections=sections,
        tables=tables,
        pictures={},
        limits=[
            "Many figures are compared: of twenty p values one lies below 0.05 by chance alone.",
            f"Score {rules['score']}.",
            f"DeLong: {rules['delong']}.",
            f"Log loss: {rules['log_loss']}.",
            *([] if result["synthetic"] is not None else [_DATA[None] + "."]),
        ],
    )


def _figure_table(result: Mapping[str, Any], level: str) -> Table:
    rows = []
    of_level = [row for row in result["figures"] if row["level"] == level]
    for row in of_level:
        change = row["difference"]
        told = change["why"] or ""
        if change["value"] is not None:
            bounds = change["low"], change["high"]
            inside = "" if None in bounds else f"\n{bounds[0]:+.4f} to {bounds[1]:+.4f}"
            inside += MARK if inside and _count_bearers(row) < FEW_BEARERS else ""
            told = f"{change['value']:+.4f}{inside}"
        delong = _told_p(row["delong"]["p"]) if row["figure"] == "roc_auc" else ""
        p = [_told_p(change["p"]), delong]
        name = f"{row['label']}, {_NAMES[row['figure']]}"
        rows.append([name, number(row["first"], 4), number(row["second"], 4), told, *p])
    columns = ["label, figure", "first", "second", "difference", "p", "p, DeLong"]
    return Table(columns, rows, note=" ".join(_group_reasons(of_level)))


def _count_bearers(row: Mapping[str, Any]) -> int:
    """Count the patients on whom a figure rests: a loss on all, a rank on the rarer class."""
    classes = row["positive_patients"], row["negative_patients"]
    return row["patients"] if row["figure"].endswith("log_loss") else min(classes)


def _told_p(p: float | None) -> str:
    return "none" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _point_table(rows: list[dict[str, Any]]) -> Table:
    columns = ("point, rate", "patients", "first", "second", "only first\nright")
    return Table(
        (*columns, "only second\nright", "p, McNemar"),
        [
            (
                f"{row['point']}, {row['rate']}",
                f"{row['n']:,}",
                number(row["first"]),
                number(row["second"]),
                _told_count(row["only_first_right"]),
                _told_count(row["only_second_right"]),
                _told_p(row["p"]),
            )
            for row in rows
        ],
        note=" ".join(
            f"{row['point']}, {row['rate']}: {row['why']}." for row in rows if row["why"]
        ),
    )


def _told_count(count: int | None) -> str:
    return "none" if count is None else f"{count:,}"


def _parameter_table(rows: list[dict[str, str]] | None, why: str | None) -> Table:
    columns = ("parameter", "first", "second")
    if rows is None:
        return Table(columns, [(f"not known: {why}", "", "")], text=True)
    told = [(row["name"], row["first"], row["second"]) for row in rows]
    return Table(columns, told or [("none differs", "", "")], text=True)


_MAKERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    ".html": render_comparison,
    ".csv": lambda found: tabulate(found).write_csv(),
    ".json": lambda found: json.dumps(found, indent=2, allow_nan=False) + "\n",
}
