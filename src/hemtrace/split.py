"""Patients -> train, val (by folds) and test, stratified from the rarest label on; leaks."""

import numpy as np
import polars as pl
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.params import SplitParams

PARTITIONS: tuple[str, ...] = ("train", "val", "test")
# The partition of patients who share pictures, with `split.shared_pixels: drop`: no stage reads it.
DROPPED = "dropped"
# What must not stand in two partitions beside the patient, whatever name he has in each.
SHARED = {
    "pixel_blake3": "pictures",
    "study": "studies",
    "series": "series",
    "instance": "SOP instances",
}


def split_patients(catalog: pl.DataFrame, params: SplitParams, seed: int) -> pl.DataFrame:
    """Deal the patients out to the partitions.

    Patients who share a pixel-identical slice (the RSNA set has such), or a study, series or SOP
    instance, stay together, or are dropped by `params.shared_pixels`. The groups are stratified by
    their labels, the rarest first.

    Parameters
    ----------
    catalog
        Product of ingest; only its used rows count.
    params
        The shares.
    seed
        Fixes the order within the strata.

    Returns
    -------
    A row a patient, sorted: patient, partition (`DROPPED` for one who is dropped), fold, slices,
    and a count of slices for each label. `fold` numbers the training that a patient validates, from
    0; it is null for those who never do. `partition` is that of fold 0; `partition_of_fold` gives
    it for another. The test patients are the same whatever the number of folds.

    Raises
    ------
    HemtraceError
        If there are too few patients to fill three partitions, or the check for leaks fails.
    """
    used = catalog.filter(pl.col("status") == "used")
    unlabelled = used[LABELS[-1]].null_count()
    if unlabelled:
        raise HemtraceError(
            f"{unlabelled} of {used.height} used slices have no labels, so nothing can be trained "
            "on them; give ingest.labels in params.yaml, or use `hemtrace predict` with a model."
        )
    patients = (
        used.group_by("patient")
        .agg(pl.len().alias("slices"), pl.col(LABELS).cast(pl.Int64).sum())
        .sort("patient")
    )
    group = _group_sharers(used, patients["patient"])
    dropped = np.zeros(len(group), dtype=bool)
    if params.shared_pixels == "drop":
        dropped = (np.bincount(group) > 1)[group]
        _, group = np.unique(group[~dropped], return_inverse=True)
        patients, left_out = patients.filter(~dropped), patients.filter(dropped)
        if patients.is_empty():
            raise HemtraceError(
                "Every patient shares a picture with another; set split.shared_pixels: together."
            )
    positive = np.zeros((group.max() + 1, len(LABELS)), dtype=bool)
    np.logical_or.at(positive, group, patients.select(LABELS).to_numpy() > 0)
    splits = patients.hstack(_deal_folds(positive, params, np.random.default_rng(seed))[group])
    if dropped.any():
        left_out = left_out.with_columns(
            partition=pl.lit(DROPPED), fold=pl.lit(None, dtype=pl.Int32)
        )
        splits = pl.concat([splits, left_out]).sort("patient")
    splits = splits.select("patient", "partition", "fold", "slices", *LABELS)
    empty = set(range(params.folds)) - set(splits["fold"])
    if empty:
        raise HemtraceError(
            f"{_count_groups(patients.height, group)} are too few for {params.folds} folds; add "
            "patients or lower split.folds in params.yaml."
        )
    for name in PARTITIONS:
        if name not in splits["partition"]:
            raise HemtraceError(
                f"{_count_groups(patients.height, group)} are too few for the partition {name!r}; "
                "add patients or raise its share in the section `split` of params.yaml."
            )
    check_leakage(catalog, splits)
    return splits


def _count_groups(patients: int, group: np.ndarray) -> str:
    groups = int(group.max()) + 1
    if groups == patients:
        return f"{patients} patients"
    return f"{patients} patients in {groups} groups that share pictures or identifiers"


def check_leakage(catalog: pl.DataFrame, splits: pl.DataFrame) -> None:
    """Stop if a patient or a picture stands in two partitions, or a used slice in none.

    Raises
    ------
    HemtraceError
        Naming how many leak, and the first of them.
    """
    doubled = splits.filter(pl.col("patient").is_duplicated())
    if doubled.height:
        raise HemtraceError(
            f"Leak: the patient {doubled['patient'][0]} stands in two rows of the split "
            f"({doubled['patient'].n_unique()} such patients); split again."
        )
    used = catalog.filter(pl.col("status") == "used").join(
        splits.select("patient", "partition"), on="patient", how="left"
    )
    lost = used.filter(pl.col("partition").is_null())
    if lost.height:
        raise HemtraceError(
            f"{lost.height} used slices belong to no partition, first {lost['slice'][0]}; "
            "the split is older than the catalog: split again."
        )
    for column, what in _told_of(used).items():
        shared = (
            used.filter(pl.col(column).is_not_null())
            .group_by(column)
            .agg(pl.col("partition").n_unique().alias("partitions"), pl.col("slice").sort())
            .filter(pl.col("partitions") > 1)
        )
        if shared.height:
            twins = ", ".join(shared["slice"].sort()[0][:2])
            raise HemtraceError(
                f"Leak: {shared.height} {what} stand in two partitions, first those of the slices "
                f"{twins}; split again."
            )


def _told_of(used: pl.DataFrame) -> dict[str, str]:
    """Name what the table tells of `SHARED`: a catalog has all, by its contract."""
    return {column: what for column, what in SHARED.items() if column in used.columns}


def _group_sharers(used: pl.DataFrame, patients: pl.Series) -> np.ndarray:
    """Number the groups of patients who share something: int (patients,), in patients' order."""
    places = pl.DataFrame({"patient": patients, "place": np.arange(len(patients))})
    placed = used.join(places, on="patient")
    pairs = pl.concat(
        [
            placed.filter(pl.col(column).is_not_null())
            .group_by(column)
            .agg(pl.col("place").unique())
            .filter(pl.col("place").list.len() > 1)
            .select(first=pl.col("place").list.min(), other=pl.col("place"))
            .explode("other")
            for column in _told_of(used)
        ]
    )
    links = (np.ones(pairs.height), (pairs["first"].to_numpy(), pairs["other"].to_numpy()))
    count = len(patients)
    _, group = connected_components(coo_matrix(links, shape=(count, count)), directed=False)
    return np.asarray(group)


def _deal_folds(
    positive: np.ndarray, params: SplitParams, rng: np.random.Generator
) -> pl.DataFrame:
    """Give each group its partition and fold; folds share out all but the test groups anew."""
    train_share = 1 - params.val_share - params.test_share
    codes = _deal(positive, np.array([train_share, params.val_share, params.test_share]), rng)
    fold = np.where(codes == 1, 0, -1)
    if params.folds > 1:
        rest = codes != 2
        fold[rest] = _deal(positive[rest], np.full(params.folds, 1 / params.folds), rng)
        codes[rest] = np.where(fold[rest] == 0, 1, 0)
    return pl.DataFrame(
        {
            "partition": pl.Series([PARTITIONS[code] for code in codes], dtype=pl.String),
            "fold": pl.Series(fold, dtype=pl.Int32).set(pl.Series(fold) < 0, None),
        }
    )


def partition_of_fold(splits: pl.DataFrame, fold: int) -> pl.DataFrame:
    """Give the split as one training sees it: its own fold validates, all other folds train."""
    validates = pl.col("fold") == fold
    other = pl.when(validates.fill_null(False)).then(pl.lit("val")).otherwise(pl.lit("train"))
    is_dealt = pl.col("partition").is_in(["train", "val"])
    return splits.with_columns(partition=pl.when(is_dealt).then(other).otherwise("partition"))


def _deal(positive: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each group the number of a share by iterative stratification.

    The rarest label among the groups that are left is dealt out first, each group to the share
    that still wants most of that label, and then of groups at all (Sechidis, Tsoumakas and
    Vlahavas, On the stratification of multi-label data, ECML PKDD 2011).
    """
    # Groups without any label are a stratum too, and the last one.
    strata = np.column_stack([positive, ~positive.any(axis=1)])
    wanted = shares[:, None] * strata.sum(axis=0)
    wanted_groups = shares * len(strata)
    partition = np.full(len(strata), -1)
    while (partition < 0).any():
        left = strata[partition < 0].sum(axis=0)
        rarest = min(np.flatnonzero(left), key=lambda label: (left[label], label))
        members = np.flatnonzero((partition < 0) & strata[:, rarest])
        for member in rng.permutation(members):
            chosen = np.lexsort((wanted_groups, wanted[:, rarest]))[-1]
            partition[member] = chosen
            wanted[chosen] -= strata[member]
            wanted_groups[chosen] -= 1
    return partition
