"""Tables of what the study rests on: files, partitions, leaks, labels, scans."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from hemtrace.dicom.reasons import REASONS
from hemtrace.report.cells import ANY_FIRST, Table
from hemtrace.study.partitions import show_value

# Soft hyphens: six names as headings are wider than a page.
_BREAKABLE = [
    name.replace("intra", "intra\N{SOFT HYPHEN}")
    .replace("subar", "sub\N{SOFT HYPHEN}ar")
    .replace("subdu", "sub\N{SOFT HYPHEN}du")
    for name in ANY_FIRST
]


def flow_table(flow: dict[str, Any]) -> Table:
    """Show the counts of ingest."""
    reasons = [
        (f"quarantined: {reason}", f"{count:,}", REASONS[reason][1])
        for reason, count in sorted(flow["quarantined"].items())
    ]
    repaired = flow.get("repaired_12_bit", 0)
    rows = [
        ("files", f"{flow['files']:,}", "every file below the image folder"),
        ("pictures", f"{flow['pictures']:,}", "a multi-frame file has several"),
        ("readable", f"{flow['readable']:,}", "whose header and pixels could be read"),
        ("CT", f"{flow['ct']:,}", f"in HU; {repaired:,} of all with a repaired 12-bit fault"),
        ("head", f"{flow['head']:,}", "axial slices that show a head"),
        ("labelled", f"{flow['labelled']:,}", "with all six label rows, without contradiction"),
        ("used", f"{flow['used']:,}", "of the chosen series, none twice"),
        *reasons,
    ]
    lost = sum(flow["quarantined"].values())
    label_rows = (
        f"The label file has {flow['label_rows']:,} rows, {flow['label_rows_duplicated']:,} of "
        f"them repeated; {flow['labels_without_file']:,} labelled images have no file. "
        if "label_rows" in flow
        else ""
    )
    return Table(
        ("Step", "Number", "Meaning"),
        rows,
        text=True,
        note=f"{label_rows}Checked: {flow['used']:,} used + {lost:,} quarantined = "
        f"{flow['pictures']:,} pictures. What was read, what not, and why: reports/ingestion.html.",
    )


def quarantine_table(quarantined: pl.DataFrame, limit: int) -> Table:
    """List quarantined slices by their keys, at most `limit`."""
    shown = min(limit, quarantined.height)
    return Table(
        ("Slice", "Reason"),
        [(name, REASONS[reason][1]) for name, reason in quarantined.head(limit).iter_rows()],
        text=True,
        note=f"{shown:,} of {quarantined.height:,} quarantined files; data/catalog.parquet lists "
        "all.",
    )


def split_table(partitions: Sequence[dict[str, Any]]) -> Table:
    """Show patients, slices and labels of each partition."""
    rows = [
        (
            side["name"],
            f"{side['patients']:,}",
            f"{side['labels']['any']['patients']:,}",
            f"{side['studies']:,}",
            f"{side['slices']:,}",
            *(_with_share(side["labels"][label]) for label in ANY_FIRST),
        )
        for side in partitions
    ]
    return Table(
        ("Partition", "Patients", "with bleed", "Studies", "Slices", *_BREAKABLE),
        rows,
        note="Under each label: positive slices, and their share. Checked: no patient stands in "
        "two partitions; their slices add up to the slices used.",
    )


def _with_share(counts: dict[str, Any]) -> str:
    share = counts["slice_share"]
    return f"{counts['slices']:,}" + ("" if share is None else f"\n{share:.1%}")


def imbalance_table(partitions: Sequence[dict[str, Any]]) -> Table:
    """Show how rare each label is, in all partitions together."""
    whole = partitions[-1]
    rows = []
    for label in ANY_FIRST:
        counts = whole["labels"][label]
        ratio = counts["negatives_per_positive"]
        rows.append(
            (
                label,
                f"{counts['slices']:,}",
                "none" if ratio is None else f"{ratio:,.1f}",
                f"{counts['patients']:,}",
                "none" if not counts["patient_share"] else f"{counts['patient_share']:.1%}",
            )
        )
    return Table(
        ("Label", "Positive slices", "Negatives\nper positive", "Patients", "of all patients"),
        rows,
    )


def leakage_table(leakage: dict[str, Any]) -> Table:
    """Show what stands in more than one partition: zero, or a leak."""
    rows = [
        (
            row["what"],
            f"{row['distinct']:,}",
            f"{row['shared']:,}",
            f"{row['untold']:,}" + (f"\n{row['untold_means']}" if row["untold"] else ""),
        )
        for row in leakage["rows"]
    ]
    near = leakage["near_duplicates"]
    note = (
        "Patient, study, series, SOP instance and pixels must be zero: the run stops otherwise. "
        "Equal pictures of other pixels, as of almost blank slices, are told."
    )
    if near is not None:
        rows.append(
            (
                "near-duplicate pictures",
                f"{near['compared']:,}",
                f"{near['pairs_found']:,} pairs",
                f"{near['too_plain']:,}\ntoo plain to compare",
            )
        )
        note += f" Near-duplicates are told, not refused. Rule: {near['rule']}."
    return Table(
        ("What", "Distinct", "In two partitions", "Slices without"),
        rows,
        note=f"{note} Compared: {', '.join(leakage['sides'])}.",
    )


def near_table(leakage: dict[str, Any]) -> Table:
    """List the near-duplicates between partitions by the slices' keys."""
    near = leakage["near_duplicates"]
    pairs = near["pairs"] if near else []
    rows = [
        (
            f"{pair['slices'][0]} ({pair['sides'][0]})",
            f"{pair['slices'][1]} ({pair['sides'][1]})",
            f"{pair['correlation']:.4f}",
        )
        for pair in pairs
    ]
    return Table(("Slice", "Resembles", "Correlation"), rows or [("none", "", "")], text=True)


def scans_table(scans: dict[str, Any], sides: Sequence[str]) -> Table:
    """Show what the headers tell of the slices in each partition."""
    rows = [
        (fact["title"], *(_describe(fact["sides"][side]) for side in sides))
        for fact in scans["facts"]
    ]
    same = [f"{fact['title']}: {show_value(fact['value'])}" for fact in scans["same"]]
    untold = [fact["title"] for fact in scans["untold"]]
    note = f"The same everywhere: {'; '.join(same) or 'nothing'}."
    if untold:
        note += f" Told by no file: {', '.join(untold)}."
    return Table(("Fact", *sides), rows, text=True, note=note)


def _describe(fact: dict[str, Any]) -> str:
    untold = f"\n{fact['untold']:,} without" if fact["untold"] else ""
    if "counts" in fact:
        shown = [f"{value}: {count:,}" for value, count in fact["counts"][:4]]
        more = len(fact["counts"]) - 4
        return "; ".join(shown) + (f"; {more} more" if more > 0 else "") + untold
    if fact["quartiles"] is None:
        return "none" + untold
    low, middle, high = fact["quartiles"]
    return f"{middle:.4g} ({low:.4g} to {high:.4g})" + untold
