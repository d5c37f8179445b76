"""Of what use the model is: by decision, at other prevalences, and for the order of reading."""

from typing import Any

from hemtrace.evaluate.operating import POINTS
from hemtrace.report.cells import NO_INTERVAL, Table, marked_cell


def tell_usefulness(metrics: dict[str, Any]) -> str:
    """Say at which probabilities the model is of more use than acting on all or on nobody."""
    told = []
    for level, found in metrics["benefit"]["decision"].items():
        if found["why"] is not None:
            continue
        spans = " and ".join(
            f"{low:.0%}" if low == high else f"{low:.0%} to {high:.0%}"
            for low, high in found["useful"]
        )
        told.append(f"for {level} at {spans}" if spans else f"for {level} nowhere")
    if not told:
        return ""
    return (
        f"It does so {'; '.join(told)}, intervals left aside; elsewhere it is no better than "
        "acting on all, or on nobody."
    )


def prevalence_table(metrics: dict[str, Any], level: str) -> Table:
    """Show the predictive values at other prevalences, of slices or of patients."""
    tables = metrics["benefit"]["predictive_values"][level]
    points = list(POINTS)
    rows = [
        (
            f"{row['prevalence']:.1%}",
            f"{row['prevalence']:.2f}\n{1 - row['prevalence']:.2f}",
            *(
                marked_cell(tables[point][k][value], 2)
                for point in points
                for value in ("ppv", "npv")
            ),
        )
        for k, row in enumerate(tables[points[0]])
    ]
    whose = "14.3 % is the RSNA set's share of slices" + (
        "" if level == "slices" else ", not of patients"
    )
    return Table(
        (
            f"{level.capitalize()} with\na bleed",
            "PPV, NPV\nwithout a test",
            *(f"{value},\n{point}" for point in points for value in ("PPV", "NPV")),
        ),
        rows,
        note="Without a test: who flags all is right about those with a bleed, and below that, who "
        "clears all about those without; a high NPV where bleeds are rare says little. "
        f"By Bayes' theorem from the test {level}' sensitivity and specificity, taken to be "
        f"the same elsewhere. Where none of the test {level} was flagged in vain the positive "
        "value is 1 at any prevalence: its interval says what the specificity leaves open. "
        f"({whose}.)",
    )


def workload_table(metrics: dict[str, Any]) -> Table:
    """Show how much of the list must be read until bleeds are found."""
    curve = metrics["benefit"]["workload"]
    rows = [
        (
            f"share of the list to read until {float(share):.0%} of the bleeds are found",
            marked_cell(own),
        )
        for share, own in curve["to_read"].items()
    ]
    rows.append(
        ("mean place of a bleed in the list (0.5 in any order)", marked_cell(curve["position"]))
    )
    return Table(
        ("Reading the likeliest study first", "Share of the list"),
        rows,
        note=f"{curve['n']:,} test studies, {curve['positives']:,} with a bleed. The place of a "
        "study: those before it, and half of those with its score (itself included), of all. "
        f"{NO_INTERVAL}",
    )
