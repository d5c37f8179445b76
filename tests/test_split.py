import numpy as np
import polars as pl
import pytest
from conftest import catalog_rows

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.params import SplitParams
from hemtrace.split import DROPPED, check_leakage, partition_of_fold, split_patients

PARAMS = SplitParams(val_share=0.2, test_share=0.2)


def many_patients(count=100):
    """Two slices a patient; the first 10 with epidural, the next 30 with subdural."""
    patients = [f"p{i // 2:03d}" for i in range(2 * count)]
    epidural = [int(i < 20) for i in range(2 * count)]
    subdural = [int(20 <= i < 80) for i in range(2 * count)]
    either = [a + b for a, b in zip(epidural, subdural, strict=True)]
    return catalog_rows(patient=patients, epidural=epidural, subdural=subdural, any=either)


def test_every_patient_stands_in_one_partition():
    splits = split_patients(many_patients(), PARAMS, 7)
    assert splits["patient"].is_unique().all()
    assert splits.height == 100
    assert splits["slices"].sum() == 200


def test_the_rarest_label_is_spread_by_the_shares():
    splits = split_patients(many_patients(), PARAMS, 7)
    counts = splits.filter(pl.col("epidural") > 0)["partition"].value_counts()
    assert dict(counts.iter_rows()) == {"train": 6, "val": 2, "test": 2}
    counts = splits.filter(pl.col("subdural") > 0)["partition"].value_counts()
    assert dict(counts.iter_rows()) == {"train": 18, "val": 6, "test": 6}
    counts = splits["partition"].value_counts()
    assert dict(counts.iter_rows()) == {"train": 60, "val": 20, "test": 20}


def test_the_seed_decides_and_repeats():
    first, again, other = (split_patients(many_patients(), PARAMS, seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_the_order_of_the_catalog_does_not_matter():
    catalog = many_patients()
    shuffled = catalog.sample(fraction=1.0, shuffle=True, seed=3)
    assert split_patients(catalog, PARAMS, 1).equals(split_patients(shuffled, PARAMS, 1))


def with_column(catalog, column):
    if column in catalog.columns:
        return catalog
    return catalog.with_columns(pl.Series(column, [f"{column}{k}" for k in range(catalog.height)]))


@pytest.mark.parametrize("column", ["pixel_blake3", "study", "series", "instance"])
@pytest.mark.parametrize("seed", range(5))
def test_patients_who_share_a_picture_or_an_identifier_stay_together(seed, column):
    catalog = with_column(many_patients(), column)
    hashes = catalog[column].to_list()
    hashes[10] = hashes[150] = hashes[199] = "same"
    catalog = catalog.with_columns(pl.Series(column, hashes))
    splits = split_patients(catalog, PARAMS, seed)
    of = dict(splits.select("patient", "partition").iter_rows())
    assert of["p005"] == of["p075"] == of["p099"]


@pytest.mark.parametrize("seed", range(3))
def test_patients_who_share_a_picture_can_be_dropped(seed):
    catalog = many_patients()
    hashes = catalog["pixel_blake3"].to_list()
    hashes[10] = hashes[150] = hashes[199] = "same"
    catalog = catalog.with_columns(pl.Series("pixel_blake3", hashes))
    splits = split_patients(catalog, PARAMS.model_copy(update={"shared_pixels": "drop"}), seed)
    dropped = splits.filter(pl.col("partition") == DROPPED)["patient"].to_list()
    assert dropped == ["p005", "p075", "p099"]
    assert splits.height == 100
    assert splits["slices"].sum() == catalog.height
    check_leakage(catalog, splits)


def test_dropping_changes_nothing_where_no_picture_is_shared():
    drop = PARAMS.model_copy(update={"shared_pixels": "drop"})
    catalog = many_patients()
    assert split_patients(catalog, drop, 1).equals(split_patients(catalog, PARAMS, 1))


def test_when_all_share_a_picture_none_can_be_dropped():
    catalog = many_patients().with_columns(pixel_blake3=pl.lit("same"))
    with pytest.raises(HemtraceError, match="Every patient shares a picture"):
        split_patients(catalog, PARAMS.model_copy(update={"shared_pixels": "drop"}), 1)


def test_slices_without_labels_cannot_be_split():
    catalog = many_patients().with_columns(any=pl.lit(None, pl.UInt8))
    with pytest.raises(HemtraceError, match="200 of 200 used slices have no labels"):
        split_patients(catalog, PARAMS, 1)


def test_quarantined_slices_do_not_count():
    catalog = many_patients().with_columns(
        status=pl.when(pl.col("patient") == "p001").then(pl.lit("quarantined")).otherwise("status")
    )
    assert "p001" not in split_patients(catalog, PARAMS, 1)["patient"]


def test_too_few_patients_are_told():
    catalog = catalog_rows(patient=["a", "b"])
    with pytest.raises(HemtraceError, match="2 patients are too few"):
        split_patients(catalog, PARAMS, 1)


def test_a_patient_in_two_partitions_stops_the_run():
    catalog = many_patients()
    splits = split_patients(catalog, PARAMS, 1)
    extra = splits.filter(pl.col("partition") == "train").head(1)
    extra = extra.with_columns(partition=pl.lit("test"))
    with pytest.raises(HemtraceError, match="Leak: the patient"):
        check_leakage(catalog, pl.concat([splits, extra]))


@pytest.mark.parametrize(
    ("column", "what"),
    [("pixel_blake3", "pictures"), ("study", "studies"), ("instance", "SOP instances")],
)
def test_what_stands_in_two_partitions_stops_the_run(column, what):
    catalog = with_column(many_patients(), column)
    splits = split_patients(catalog, PARAMS, 1)
    train, test = (
        splits.filter(pl.col("partition") == name)["patient"][0] for name in ("train", "test")
    )
    rows = np.flatnonzero(catalog["patient"].is_in([train, test]).to_numpy())
    hashes = catalog[column].to_list()
    hashes[rows[0]] = hashes[rows[-1]] = "same"
    leaking = catalog.with_columns(pl.Series(column, hashes))
    with pytest.raises(HemtraceError, match=f"Leak: 1 {what} stand"):
        check_leakage(leaking, splits)


def test_a_split_older_than_its_catalog_is_told():
    catalog = many_patients()
    splits = split_patients(catalog, PARAMS, 1)
    with pytest.raises(HemtraceError, match="belong to no partition"):
        check_leakage(catalog, splits.head(50))


def test_counts_of_the_split_are_those_of_the_catalog():
    catalog = many_patients()
    splits = split_patients(catalog, PARAMS, 1)
    for label in LABELS:
        assert splits[label].sum() == catalog[label].sum()


def test_a_label_of_few_patients_reaches_the_test_partition():
    """Five subtypes with two patients each: were each dealt out alone, all would go to train."""
    patients = [f"p{i:02d}" for i in range(24)]
    columns = {
        label: [int(i // 2 == place) for i in range(24)] for place, label in enumerate(LABELS[:5])
    }
    columns["any"] = [int(i < 10) for i in range(24)]
    params = SplitParams(val_share=0.25, test_share=0.25)
    for seed in range(10):
        splits = split_patients(catalog_rows(patient=patients, **columns), params, seed)
        positive = splits.filter(pl.col("any") > 0)["partition"].value_counts()
        assert min(dict(positive.iter_rows()).values()) >= 2
        assert positive.height == 3


def test_folds_validate_every_patient_but_the_test_ones_once():
    params = PARAMS.model_copy(update={"folds": 4})
    splits = split_patients(many_patients(), params, 7)
    single = split_patients(many_patients(), PARAMS, 7)
    test = splits.filter(pl.col("partition") == "test")
    assert test["patient"].equals(single.filter(pl.col("partition") == "test")["patient"])
    assert test["fold"].null_count() == test.height
    validated = []
    for fold in range(4):
        seen = partition_of_fold(splits, fold)
        val = seen.filter(pl.col("partition") == "val")
        validated += val["patient"].to_list()
        assert abs(val["epidural"].sum() - 4) <= 2  # 8 patients of two slices, in four folds
        assert seen.filter(pl.col("partition") == "test")["patient"].equals(test["patient"])
        assert set(seen["partition"]) == {"train", "val", "test"}
    rest = splits.filter(pl.col("partition") != "test")["patient"].to_list()
    assert sorted(validated) == sorted(rest)


def test_the_partition_column_is_that_of_fold_0():
    for folds in (1, 3):
        splits = split_patients(many_patients(), PARAMS.model_copy(update={"folds": folds}), 7)
        assert partition_of_fold(splits, 0).equals(splits)


def test_patients_who_share_a_picture_stay_in_one_fold():
    catalog = many_patients()
    hashes = catalog["pixel_blake3"].to_list()
    hashes[10] = hashes[150] = hashes[199] = "same"
    catalog = catalog.with_columns(pl.Series("pixel_blake3", hashes))
    for seed in range(5):
        splits = split_patients(catalog, PARAMS.model_copy(update={"folds": 5}), seed)
        of = dict(splits.select("patient", "fold").iter_rows())
        assert of["p005"] == of["p075"] == of["p099"]


def test_more_folds_than_patients_are_told():
    params = PARAMS.model_copy(update={"folds": 20})
    with pytest.raises(HemtraceError, match=r"too few for 20 folds"):
        split_patients(many_patients(12), params, 1)
