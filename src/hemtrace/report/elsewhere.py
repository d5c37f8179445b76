"""What the frozen model did on other hospitals' scans, as far as results are at hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from hemtrace.report.cells import NO_INTERVAL, UNDEFINED, Link, Table, marked_cell

COMMAND = "hemtrace external FOLDER --labels FILE"
AGAIN = "snakemake --cores all reports/index.html"
_FIGURES = ("roc_auc", "sensitivity", "specificity")

Rows = Sequence[Mapping[str, Any]]


def split_rows(rows: Rows) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Part what external tests found from what is amiss with their files.

    Parameters
    ----------
    rows
        As `external.results.find_results` gives them.

    Returns
    -------
    The rows with figures, and a sentence for each file that has none.
    """
    sound = [row for row in rows if row["problem"] is None]
    return sound, [row["problem"] for row in rows if row["problem"] is not None]


def external_table(rows: Rows) -> Table:
    """Show each data set and level: counts, AUC, and rates at the frozen default point."""
    sound, _ = split_rows(rows)
    whys = {
        f"{row['name']}, {row['level']}": row["why"] or row["roc_auc"]["why"]
        for row in sound
        if row["why"] or row["roc_auc"]["value"] is None
    }
    lacking = " ".join(f"{name}: {why}." for name, why in whys.items())
    point = next((row["point"] for row in sound if row["point"]), None)
    at = f"Rates of any bleed at the frozen point {point}. " if point else ""
    return Table(
        (
            "Data set and level",
            "Page",
            "Patients",
            "Scored",
            "Positive",
            "AUC",
            "Sensitivity",
            "Specificity",
        ),
        [
            (
                f"{row['name']}, {row['level']}"
                + ("\nSYNTHETIC MODEL OR DATA" if row["synthetic"] else ""),
                Link("its page", f"../external/{row['name']}/index.html"),
                f"{row['patients']:,}",
                f"{row['n']:,}",
                UNDEFINED if row["positives"] is None else f"{row['positives']:,}",
                *(marked_cell(row[figure]) for figure in _FIGURES),
            )
            for row in sound
        ],
        note=f"{at}Nothing was fitted or chosen there. {lacking} {NO_INTERVAL}".replace("  ", " "),
    )


def tell_external(rows: Rows) -> str:
    """Say what external tests are at hand, or that there is none and how to make one."""
    sound, problems = split_rows(rows)
    names = list(dict.fromkeys(row["name"] for row in sound))
    told = [
        f"The frozen model was tested on {_count(names)}: {', '.join(names)}."
        if names
        else f"Not done, because {_why(problems)}"
    ]
    told += problems
    told.append(
        f"{'Another' if names else 'A'} labelled folder is tested by {COMMAND}, which writes a "
        f"page of its own; {AGAIN} then makes this page anew."
    )
    return " ".join(told)


def _count(names: Sequence[str]) -> str:
    return "another data set" if len(names) == 1 else f"{len(names)} other data sets"


def _why(problems: Sequence[str]) -> str:
    if problems:
        return "no result at hand is of this model."
    return "this run was given no other hospital's labelled scans."
