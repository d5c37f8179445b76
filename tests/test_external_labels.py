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
    set_contrast_aside,
    take_majority,
)
from hemtrace.external.csv_table import read_text_table
from hemtrace.external.labels import read_plain_labels, read_rsna_labels
from hemtrace.external.match import list_keys, match_labels, tell_examples, tell_unmatched
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


def test_names_of_columns_match_whatever_their_capitals_and_blanks(tmp_path):
    plain = write(tmp_path / "p.csv", "study,subdural,any\na,1,1\nb,0,0\n")
    loose = write(tmp_path / "l.csv", '\ufeff Study , SubDural," ANY "\na,1,1\nb,0,0\n')
    expected = read_plain_labels(plain, PUBLIC_SALT)
    found = read_plain_labels(loose, PUBLIC_SALT)
    assert found.scored == expected.scored == ("subdural", "any")
    assert found.table.equals(expected.table)
    assert found.keys.sort("unit").equals(expected.keys.sort("unit"))


@pytest.mark.parametrize("head", ["study,Any,any", "study, any,any"])
def test_columns_that_become_one_are_refused(tmp_path, head):
    with pytest.raises(HemtraceError, match="two columns any"):
        read_plain_labels(write(tmp_path / "l.csv", f"{head}\na,1,1\n"), PUBLIC_SALT)


def test_ids_without_counterpart_are_shown_with_three_of_each_side(tmp_path):
    ids = [f"1.2.{k}" for k in range(5)]
    text = "study,any\n" + "".join(f"{name},1\n" for name in ids)
    labels = read_plain_labels(write(tmp_path / "l.csv", text), PUBLIC_SALT)
    rows = pictures([f"Doe/{k}.dcm" for k in range(4)], ["Doe"] * 4)
    units = match_labels(rows, labels, list_keys(rows, "study"))
    told = tell_examples(labels, rows.with_columns(unit=units))
    assert "1.2.0 (line 2), 1.2.1 (line 3), 1.2.2 (line 4)." in told
    assert "1.2.3" not in told
    assert sum(name in told for name in rows["study"]) == 3
    assert "StudyInstanceUID as it stands in the header" in told
    assert "Doe" not in told
    matched = rows[:1].with_columns(unit=pl.lit(0, pl.Int32))
    assert tell_examples(labels, matched).startswith("Ids of the label file that no file bears")
    assert "Files without a label" not in tell_examples(labels, matched)


@pytest.mark.parametrize("column", ["patient", "file", "slice", "study"])
def test_an_id_that_may_be_a_persons_is_shown_by_its_shape_alone(tmp_path, column):
    csv = write(tmp_path / "l.csv", f"{column},any\nDoe^Jane 07,1\n")
    labels = read_plain_labels(csv, PUBLIC_SALT)
    assert labels.examples == ["AAA^AAAA 99 (line 2)"]
    numbers = read_plain_labels(write(tmp_path / "n.csv", f"{column},any\n19700101,1\n"), b"")
    assert numbers.examples == ["99999999 (line 2)"]


def test_all_that_match_need_no_examples(tmp_path):
    labels = read_plain_labels(write(tmp_path / "l.csv", "patient,any\nDoe,1\n"), PUBLIC_SALT)
    rows = pictures(["a.dcm"], ["Doe"])
    units = match_labels(rows, labels, list_keys(rows, "patient"))
    assert tell_examples(labels, rows.with_columns(unit=units)) == ""


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
    with pytest.raises(HemtraceError, match=r"R2:EDH.* and 11 more"):
        read_cq500_labels(csv, PUBLIC_SALT)
    names = ["CQ500-CT-1", "CQ500CT01"]
    twice = reads_csv(tmp_path / "twice.csv", np.zeros((2, 3, 6), dtype=bool), names)
    with pytest.raises(HemtraceError, match="same scan: CQ500-CT-1, CQ500CT01"):
        read_cq500_labels(twice, PUBLIC_SALT)


@pytest.mark.parametrize("change", [str.upper, str.lower, lambda name: f" {name} "])
def test_columns_of_reads_are_known_whatever_their_capitals_and_blanks(tmp_path, change):
    seen = np.random.default_rng(2).random((5, 3, 6)) < 0.4
    names = [f"CQ500-CT-{k}" for k in range(5)]
    csv = reads_csv(tmp_path / "reads.csv", seen, names)
    table = pl.read_csv(csv, infer_schema=False)
    # Another order, as of a table that was sorted, and 1.0 for 1, as pandas writes it.
    table = table.select(reversed(table.columns)).with_columns(pl.col("R2:ICH") + ".0")
    table.rename({name: change(name) for name in table.columns}).write_csv(csv)
    labels = read_cq500_labels(csv, PUBLIC_SALT)
    assert (labels.ratings == seen).all()
    assert labels.names == names


@pytest.mark.parametrize("value", ["2", "", "yes", "-1"])
def test_a_read_that_is_neither_0_nor_1_is_refused_with_its_line(tmp_path, value):
    seen = np.zeros((3, 3, 6), dtype=bool)
    csv = reads_csv(tmp_path / "reads.csv", seen, [f"CQ500-CT-{k}" for k in range(3)])
    table = pl.read_csv(csv, infer_schema=False).with_row_index()
    wrong = pl.when(pl.col("index") == 1).then(pl.lit(value)).otherwise("R3:SAH")
    table.with_columns(wrong.alias("R3:SAH")).drop("index").write_csv(csv)
    with pytest.raises(HemtraceError, match=r"line 3: R3:SAH must be 0 or 1 \(1 such rows\)"):
        read_cq500_labels(csv, PUBLIC_SALT)


def test_two_columns_of_one_read_are_refused(tmp_path):
    names = ["CQ500-CT-0"]
    csv = reads_csv(tmp_path / "reads.csv", np.zeros((1, 3, 6), dtype=bool), names)
    table = pl.read_csv(csv).with_columns(pl.col("R1:ICH").alias("r1: ich"))
    table.write_csv(csv)
    with pytest.raises(HemtraceError, match="2 columns R1:ICH"):
        read_cq500_labels(csv, PUBLIC_SALT)


@pytest.mark.parametrize(
    ("folder", "contrast"),
    [
        ("CT POST CONTRAST-2", True),
        ("CT 55mm Contrast", True),
        ("CT CECT THIN", True),
        ("CT C THIN", True),
        ("CT 4cc sec 150cc D3D on", True),
        ("CT ORAL IV-3", True),
        ("CT PRE CONTRAST 5MM STD", False),
        ("CT PLAIN THIN", False),
        ("CT 2.55mm", False),
        ("CT Axial 0.625 HiResVS40", False),
        ("CT HELICAL", False),
    ],
)
def test_a_series_with_contrast_is_used_only_where_its_scan_has_no_other(folder, contrast):
    rows = pl.DataFrame(
        {
            "file": [f"a/{folder}/1.dcm", "a/CT Plain/1.dcm", f"b/{folder}/1.dcm", "b/CT/2.dcm"],
            "unit": pl.Series([0, 0, 1, 1], dtype=pl.Int32),
            "reason": [None, None, None, "truncated"],
        }
    )
    expected = ["other-series" if contrast else None, None, None, "truncated"]
    assert set_contrast_aside(rows)["reason"].to_list() == expected


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
    alike = [len(set(reads)) == 1 for reads in seen[..., ANY].tolist()]
    assert row["all_agree"]["value"] == pytest.approx(np.mean(alike))
    chance = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), size=200)
    kappas = [
        cohen_kappa_score(*np.repeat(seen[:, :2, ANY], counts, axis=0).T) for counts in chance
    ]
    pair = row["cohen_kappa"]["R1, R2"]
    bounds = tuple(np.percentile(kappas, [2.5, 97.5]))
    assert (pair["low"], pair["high"]) == pytest.approx(bounds)
    assert rows == score_agreement(seen, READERS, 200, 1)


def test_kappa_of_two_scans_has_no_interval_and_of_few_a_note():
    few = np.zeros((30, 3, 6), dtype=bool)
    few[:4, :, ANY] = few[4, 0, ANY] = True
    found = score_agreement(few, READERS, 100, 1)[ANY]
    assert found["fleiss_kappa"]["note"].startswith("rests on 5 patients: ")
    assert found["cohen_kappa"]["R1, R2"]["note"].startswith("rests on 5 patients: ")
    assert found["cohen_kappa"]["R2, R3"]["why"] == "all replicates agree"
    pair = score_agreement(few[3:5], READERS, 100, 1)[ANY]["fleiss_kappa"]
    assert pair["low"] is None
    assert pair["why"] == "only 2 patients"


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
