"""Tables on who fails: subgroups, and pictures that were changed."""

from typing import Any

from hemtrace.report.cells import NO_INTERVAL, Table, explain, marked_cell


def subgroups_table(found: dict[str, Any]) -> Table:
    """Show `any` in every group of test slices."""
    rows, figures = [], {}
    for group in [{"fact": "all test slices", "group": "", **found["whole"]}, *found["groups"]]:
        name = f"{group['fact']}\n{group['group']}".strip()
        figures[name.replace("\n", " ")] = group["auc"]
        rows.append(
            (
                name,
                f"{group['slices']:,}",
                f"{group['positives']:,}",
                f"{group['patients']:,}",
                *(marked_cell(group[figure], 2) for figure in ("auc", "sensitivity")),
                # Where positives alone are split there is nothing to be specific about.
                "" if group.get("splits") == "positives" else marked_cell(group["specificity"], 2),
            )
        )
    told = [f"{fact['fact']} ({fact['why']})" for fact in found["untold"]]
    told += [f"{fact['fact']} ({fact['why']}: {fact['value']})" for fact in found["same"]]
    rest = f" No groups by: {'; '.join(told)}." if told else ""
    return Table(
        ("Group", "Slices", "Positive", "Patients", "AUC", "Sensitivity", "Specificity"),
        rows,
        note=f"Groups of bleeds are positive slices alone, ranked against all negatives. "
        f"{explain(figures)}{rest}",
    )


def robustness_table(found: dict[str, Any]) -> Table:
    """Show what becomes of the same slices under each change."""
    rows = [("as they are", *_figures(found["unperturbed"], is_plain=True))]
    for row in found["rows"]:
        strength = f"{row['strength']:g} {row['unit']}"
        if row["strength_mm"] is not None:
            strength += f" ({row['strength_mm']:g} mm)"
        rows.append((f"{row['title']}\n{strength}", *_figures(row, is_plain=False)))
    return Table(
        (
            "Change",
            "AUC",
            "Difference",
            "Sensitivity",
            "Specificity",
            "Mean change of\nprobability",
        ),
        rows,
        note=f"The same {found['slices']:,} slices of {found['patients']:,} patients, sampled "
        f"at random, each time; {found['positives']:,} positive. HU beyond a window's ends "
        f"stay there: the stored pictures hold no more. {NO_INTERVAL}",
    )


def _figures(row: dict[str, Any], *, is_plain: bool) -> list[str]:
    change = row["change"]
    return [
        marked_cell(row["auc"]),
        "" if is_plain else marked_cell(row["difference"]),
        marked_cell(row["sensitivity"], 2),
        marked_cell(row["specificity"], 2),
        "" if is_plain or change is None else f"{change:.3f}",
    ]
