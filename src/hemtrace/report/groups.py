"""Tables on who fails: subgroups, and pictures that were changed."""

from typing import Any

from hemtrace.report.cells import NO_INTERVAL, Table, explain, marked_cell, number


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
        note="HU beyond a window's ends stay there: the stored pictures hold no more. "
        f"{NO_INTERVAL}",
    )


def tell_sample(found: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Say which slices were changed, and how they differ from all, as other figures count them."""
    whole = metrics["partitions"]["test"]["slices"]
    auc = number(found["unperturbed"]["auc"]["value"])
    every = number(whole["labels"]["any"]["roc_auc"]["value"])
    return (
        f"{found['slices']:,} of the {whole['n']:,} test slices, {found['positives']:,} of them "
        f"with a bleed, of {found['patients']:,} patients sampled at random: unchanged, their AUC "
        f"is {auc}, that of all {every}."
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
