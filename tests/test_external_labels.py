"""Labels of a second data set: plain CSV, CQ500's reads, and how well its readers agree."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as judge_fleiss

from hemtrace.dicom import PUBLIC_SALT, pseudonym
from hemtrace.errors import HemtraceError
from hemtrace.external.agreement import cohen_kappa, fleiss_kappa, score_agreement
from hemtrace.external.cq500 import (
    FINDINGS,
    READERS,
    list_scan_keys,
    read_cq500_labels,
    scan_name,
    take_majority,
)
from hemtrace.external.labels import (
    list_keys,
    match_labels,
    read_plain_labels,
    read_rsna_labels,
    read_text_table,
    tell_unmatched,
)
from hemtrace.labels import ANY, LABELS
from hemtrace.metrics import Resamples, resample_patients


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def pictures(files: list[str], patients: list[str], **columns: list[str]) -> pl.DataFrame:
    """Rows as `make_pictures` gives them, with the columns that matching looks at."""
    count = len(files)
    table = {
        "slice": [f"s{k}" for k in range(count)],
        "file": files,
        "frame": pl.Series([None] * count, dtype=pl.Int32),
        "row": list(range(count)),
        "patient": [pseudonym(name, PUBLIC_SALT) for name in patients],
    }
    for name in ("study", "series", "instance"):
        values = columns.get(name, [f"{name}{k}" for k in range(count)])
        table[name] = [pseudonym(value, PUBLIC_SALT) for value in values]
    return pl.DataFrame(table)


def reads_csv(path: Path, seen: np.ndarray, names: list[str]) -> Path:
    """CQ500's table of (scans, 3, 6) reads, its other columns among them."""
    columns = {"name": names, "Category": ["B1"] * len(names)}
    for k, reader in enumerate(READERS):
        for label, finding in FINDINGS.items():
            columns[f"{reader}:{finding}"] = seen[:, k, LABELS.index(label)].astype(int).tolist()
        columns[f"{reader}:Fracture"] = [0] * len(names)
    pl.DataFrame(columns).write_csv(path)
    return path


# plain CSV


def test_ids_of_a_header_match_by_their_hash_and_are_told_by_line(tmp_path):
    csv = write(tmp_path / "l.csv", "patient,any,subdural\nDoe^Jane,1,1\nRoe,0,0\nNobody,0,0\n")
    labels = read_plain_labels(csv, PUBLIC_SALT)
    rows = pictures(["a.dcm", "b.dcm", "c.dcm"], ["Roe", "Doe^Jane", "Stranger"])
    units = match_labels(rows, labels, list_keys(rows, labels.level))
    assert units.to_list() == [1, 0, None]
    told = tell_unmatched(labels, units)
    assert told["units_without_picture"] == 1
    assert told["units_without_picture_first"] == ["line 4"]
    assert labels.scored == ("subdural", "any")
    assert "Nobody" not in repr(labels)


def test_an_id_in_utf8_matches_a_header_that_is_read_as_latin1(tmp_path):
    csv = write(tmp_path / "l.csv", "patient,any\nMüller,1\n")
    labels = read_plain_labels(csv, PUBLIC_SALT)
    for spelling in ("Müller", "Müller".encode().decode("latin-1")):
        rows = pictures(["a.dcm"], [spelling])
        assert match_labels(rows, labels, list_keys(rows, "patient")).to_list() == [0]


@pytest.mark.parametrize("name", ["x/one.dcm", "one.dcm", "one", "1.2.3"])
def test_a_slice_is_named_by_path_file_or_instance(tmp_path, name):
    labels = read_plain_labels(write(tmp_path / "l.csv", f"slice,any\n{name},1\n"), PUBLIC_SALT)
    rows = pictures(["x/one.dcm", "x/two.dcm"], ["p", "p"], instance=["1.2.3", "1.2.4"])
    assert match_labels(rows, labels, list_keys(rows, "slice")).to_list() == [0, None]


def test_a_name_that_two_files_share_is_refused_unless_told_apart_by_path(tmp_path):
    rows = pictures(["x/one.dcm", "y/one.dcm"], ["p", "q"])
    labels = read_plain_labels(write(tmp_path / "l.csv", "file,any\none.dcm,1\n"), PUBLIC_SALT)
    with pytest.raises(HemtraceError, match="2 readable files have a labelled name"):
        match_labels(rows, labels, list_keys(rows, "slice"))
    paths = read_plain_labels(write(tmp_path / "p.csv", "file,any\nx/one.dcm,1\n"), PUBLIC_SALT)
    assert match_labels(rows, paths, list_keys(rows, "slice")).to_list() == [0, None]


def test_any_is_the_union_only_where_all_subtypes_are_there(tmp_path):
    head = "study,epidural,intraparenchymal,intraventricular,subarachnoid,subdural\n"
    whole = read_plain_labels(write(tmp_path / "w.csv", head + "a,0,0,0,1,0\nb,0,0,0,0,0\n"), b"")
    assert whole.scored == LABELS
    assert whole.table["any"].to_list() == [1, 0]
    some = read_plain_labels(write(tmp_path / "s.csv", "study,subdural\na,1\n"), b"")
    assert some.scored == ("subdural",)
    assert some.table["any"].to_list() == [None]


def test_rows_that_repeat_disagree_or_contradict_are_told_apart(tmp_path):
    text = "series,subdural,any\na,1,1\na,1,1\nb,1,1\nb,0,1\nc,1,0\nd,0,1\n"
    labels = read_plain_labels(write(tmp_path / "l.csv", text), PUBLIC_SALT)
    assert labels.table["conflict"].to_list() == [False, True, True, False]
    assert labels.facts == {"rows": 6, "duplicated_rows": 2}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,any\na,1\n", "first column must be called one of"),
        ("study,bleed\na,1\n", "none of the columns"),
        ("study,any\na,2\n", "line 2: any must be 0 or 1"),
        ("study,any\na,\n", "line 2: any must be 0 or 1"),
        ("study,any\na,1\n,0\n", "line 3: study is empty"),
        ("study,any\n", "no rows"),
        ("study,any\na,1,7\n", "not a readable CSV"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_line(tmp_path, text, told):
    with pytest.raises(HemtraceError, match=told):
        read_plain_labels(write(tmp_path / "l.csv", text), PUBLIC_SALT)


def test_rsna_labels_are_those_of_ingest(raw):
    labels = read_rsna_labels(raw / "stage_2_train.csv")
    assert labels.level == "slice"
    assert labels.table["any"].sum() == 8
    rows = pictures(["ID_000000001.dcm"], ["p"])
    unit = match_labels(rows, labels, list_keys(rows, "slice"))[0]
    assert labels.table["any"][unit] == 1


# CQ500


def test_majority_of_three_by_hand(tmp_path):
    seen = np.zeros((4, 3, 6), dtype=bool)
    seen[0, 0, ANY] = True  # one of three
    seen[1, :2, ANY] = seen[1, 1:, 3] = True  # two of three, of different readers
    seen[2, :, ANY] = True
    csv = reads_csv(tmp_path / "reads.csv", seen, [f"CQ500-CT-{k}" for k in range(4)])
    labels = read_cq500_labels(csv, PUBLIC_SALT)
    assert labels.table["any"].to_list() == [0, 1, 1, 0]
    assert labels.table["subarachnoid"].to_list() == [0, 1, 0, 0]
    assert labels.facts["any_without_subtype"] == 1
    assert (labels.ratings == seen).all()
    assert (take_majority(seen)[:, ANY] == [False, True, True, False]).all()


def test_scans_match_by_folder_zip_or_patient_id_and_not_by_a_longer_number(tmp_path):
    names = ["CQ500-CT-1", "CQ500-CT-10", "CQ500-CT-2", "CQ500-CT-3", "CQ500-CT-99"]
    csv = reads_csv(tmp_path / "reads.csv", np.zeros((5, 3, 6), dtype=bool), names)
    labels = read_cq500_labels(csv, PUBLIC_SALT)
    rows = pictures(
        [
            "qct01/CQ500CT10 CQ500CT10/Unknown Study/CT 2.55mm/CT000000.dcm",
            "qct01/CQ500CT1 CQ500CT1/Unknown Study/CT PLAIN THIN/CT000000.dcm",
            "CQ500-CT-2.zip/Unknown Study/CT 4cc/CT000000.dcm",
            "flat/a.dcm",
            "CQ500CT11 CQ500CT11/a.dcm",
        ],
        ["x", "y", "z", "CQ500CT3", "CQ500-CT-11"],
    )
    units = match_labels(rows, labels, list_scan_keys(rows))
    assert [names[unit] if unit is not None else None for unit in units] == [
        *("CQ500-CT-10", "CQ500-CT-1", "CQ500-CT-2", "CQ500-CT-3", None)
    ]
    assert tell_unmatched(labels, units)["units_without_picture_first"] == ["CQ500-CT-99"]


def test_names_are_compared_by_letters_and_numbers():
    assert scan_name("CQ500-CT-07") == scan_name("cq500ct7") == "cq500ct7"
    assert scan_name("CQ500-CT-0") == "cq500ct0"
    assert scan_name("CQ500-CT-70") == "cq500ct70"


def test_reads_that_lack_columns_or_double_a_scan_are_refused(tmp_path):
    csv = write(tmp_path / "reads.csv", "name,R1:ICH\nCQ500-CT-0,1\n")
    with pytest.raises(HemtraceError, match="R2:EDH"):
        read_cq500_labels(csv, PUBLIC_SALT)
    names = ["CQ500-CT-1", "CQ500CT01"]
    twice = reads_csv(tmp_path / "twice.csv", np.zeros((2, 3, 6), dtype=bool), names)
    with pytest.raises(HemtraceError, match="1 scans twice"):
        read_cq500_labels(twice, PUBLIC_SALT)


# agreement


@pytest.fixture
def seen() -> np.ndarray:
    chance = np.random.default_rng(5)
    truth = chance.random((60, 1, 6)) < 0.3
    flipped = chance.random((60, 3, 6)) < 0.15
    return truth ^ flipped


def everything(count: int) -> Resamples:
    return Resamples(np.ones((1, count), dtype=np.uint16), np.arange(count))


def test_kappas_equal_statsmodels_and_scikit_learn(seen):
    for column in range(6):
        ratings = seen[..., column]
        table, _ = aggregate_raters(ratings.astype(int))
        assert fleiss_kappa(ratings, everything(60))[0] == pytest.approx(judge_fleiss(table))
        ours = cohen_kappa(ratings[:, 0], ratings[:, 2], everything(60))[0]
        assert ours == pytest.approx(cohen_kappa_score(ratings[:, 0], ratings[:, 2]))


def test_a_replicate_is_the_kappa_of_the_scans_it_drew(seen):
    resamples = resample_patients(np.arange(60), 5, 1)
    for replicate, kappa in enumerate(fleiss_kappa(seen[..., 0], resamples)):
        drawn = np.repeat(seen[..., 0], resamples.drawn[replicate], axis=0)
        table, _ = aggregate_raters(drawn.astype(int))
        assert kappa == pytest.approx(judge_fleiss(table))


def test_agreement_is_told_by_label_with_intervals(seen):
    rows = score_agreement(seen, READERS, 200, 1)
    assert [row["label"] for row in rows] == list(LABELS)
    row = rows[ANY]
    assert row["fleiss_kappa"]["low"] < row["fleiss_kappa"]["value"] < row["fleiss_kappa"]["high"]
    assert set(row["cohen_kappa"]) == {"R1, R2", "R1, R3", "R2, R3"}
    majority = seen[..., ANY].sum(axis=1) >= 2
    assert row["positives"]["majority"] == majority.sum()
    assert row["positives"]["R2"] == seen[:, 1, ANY].sum()
    assert rows == score_agreement(seen, READERS, 200, 1)


def test_kappa_of_one_answer_is_not_estimable():
    row = score_agreement(np.zeros((9, 3, 6), dtype=bool), READERS, 50, 1)[0]
    assert row["fleiss_kappa"]["value"] is None
    assert "the same of all scans" in row["fleiss_kappa"]["why"]
    assert row["all_agree"]["value"] == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        ("file,any\na,1\n".encode("utf-16"), "is UTF-16"),
        (b"file;any\na;1\n", "another sign than a comma"),
        (b"file\tany\na\t1\n", "another sign than a comma"),
        (b"file,any,any\na,1,0\n", "two columns any"),
    ],
)
def test_a_csv_of_another_form_is_told_by_its_fault(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(HemtraceError, match=words):
        read_text_table(tmp_path / "labels.csv")
