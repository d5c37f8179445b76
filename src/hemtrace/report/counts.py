"""Counts of the stages that must add up, or the report is not written."""

from typing import Any

import polars as pl

from hemtrace.dicom.reasons import count_steps
from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.split import DROPPED, PARTITIONS


def count_split(splits: pl.DataFrame) -> pl.DataFrame:
    """Count each partition; with several folds, each of these in place of train and val.

    Parameters
    ----------
    splits
        Product of the split, a row a patient.

    Returns
    -------
    A row a partition: partition, patients, positive_patients, slices, and positive slices a label.
    """
    folds = splits["fold"].drop_nulls().n_unique()
    if folds > 1:
        name = pl.format("fold {}", pl.col("fold"))
        splits = splits.with_columns(partition=pl.coalesce(name, "partition"))
        names = [*(f"fold {fold}" for fold in range(folds)), "test"]
    else:
        names = list(PARTITIONS)
    if DROPPED in splits["partition"]:
        names.append(DROPPED)
    counts = splits.group_by("partition").agg(
        patients=pl.len(),
        positive_patients=(pl.col("any") > 0).sum(),
        slices=pl.col("slices").sum(),
        **{label: pl.col(label).sum() for label in LABELS},
    )
    order = pl.DataFrame({"partition": names})
    return order.join(counts, on="partition", how="left", maintain_order="left")


def check_counts(
    catalog: pl.DataFrame,
    flow: dict[str, Any],
    split: pl.DataFrame,
    metrics: dict[str, Any],
    due: dict[str, int],
) -> None:
    """Prove that no file got lost between the stages.

    Parameters
    ----------
    catalog, flow
        Products of ingest.
    split
        As `count_split` gives it.
    metrics
        What `evaluate` gives.
    due
        How many slices of `val` and `test` have to be scored.

    Raises
    ------
    HemtraceError
        With both sides of the sum that does not hold.
    """
    by_partition = dict(split.select("partition", "slices").iter_rows())
    used = catalog.filter(pl.col("status") == "used").height
    sums = [
        (
            "files of the catalog",
            catalog["file"].n_unique(),
            "files counted by ingest",
            flow["files"],
        ),
        ("pictures of the catalog", catalog.height, "those counted by ingest", flow["pictures"]),
        (
            "pictures used and quarantined",
            flow["used"] + sum(flow["quarantined"].values()),
            "pictures counted by ingest",
            flow["pictures"],
        ),
        *(
            (f"pictures past the step {step}", flow[step], "those by the reasons", count)
            for step, count in count_steps(flow["pictures"], flow["quarantined"]).items()
        ),
        ("used slices of the catalog", used, "those counted by ingest", flow["used"]),
        ("slices of all partitions", sum(by_partition.values()), "used slices", used),
    ]
    for name in ("val", "test"):
        scored = metrics["partitions"][name]["slices"]["n"]
        sums.append((f"slices scored in {name}", scored, "slices of it", due[name]))
    for left, left_count, right, right_count in sums:
        if left_count != right_count:
            raise HemtraceError(
                f"The counts do not add up: {left} {left_count:,}, {right} {right_count:,}; "
                "the products stem from different runs, run the pipeline again."
            )
