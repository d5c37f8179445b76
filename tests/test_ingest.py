import polars as pl
import pytest
from conftest import small_head, write_labels, write_slice

from hemtrace.errors import HemtraceError
from hemtrace.ingest import build_catalog, count_flow, list_files, read_labels
from hemtrace.params import DEFAULT_WINDOWS
from hemtrace.report.evidence import count_labelled
from hemtrace.shards import ROW_SCHEMA, make_shard

BLEED = [0, 0, 0, 0, 1, 1]
CLEAR = [0] * 6


def shard_rows(*rows):
    base = {"shard": 0, "patient": "p", "rows": 8, "columns": 8, "spacing_mm": 1.0}
    full = [base | {"slice": row["file"][:-4]} | row for row in rows]
    return pl.DataFrame(full, schema=ROW_SCHEMA)


def test_files_are_dealt_out_in_order_and_none_is_lost(raw):
    files = list_files(raw / "stage_2_train", 5)
    assert files.height == 36
    assert files["file"].is_sorted()
    assert files["shard"].is_sorted()
    assert files["shard"].unique().to_list() == [0, 1, 2, 3, 4]


def test_more_shards_than_files_leave_some_empty(raw):
    files = list_files(raw / "stage_2_train", 50)
    assert files["shard"].max() < 50


def test_missing_and_empty_folders_are_told(tmp_path):
    with pytest.raises(HemtraceError, match="was not found"):
        list_files(tmp_path / "nowhere", 1)
    with pytest.raises(HemtraceError, match="holds no files"):
        list_files(tmp_path, 1)


def test_repeated_label_rows_that_agree_are_kept_once_and_counted(tmp_path):
    csv = write_labels(tmp_path / "l.csv", {"a": BLEED, "b": CLEAR})
    lines = csv.read_text().splitlines()
    csv.write_text("\n".join(lines + lines[1:7]) + "\n")
    labels = read_labels(csv)
    assert labels.csv_rows == 18
    assert labels.duplicated_rows == 6
    assert labels.table["conflict"].to_list() == [False, False]


def test_each_use_of_bad_labels_has_its_reason(tmp_path):
    csv = write_labels(tmp_path / "l.csv", {"good": BLEED, "twice": CLEAR, "union": CLEAR})
    text = csv.read_text().replace("union_any,0", "union_any,1")
    csv.write_text(text + "twice_any,1\npart_any,0\nghost_any,0\n")
    names = ["good", "twice", "union", "part", "nolabel"]
    rows = [{"file": f"{name}.dcm", "row": i} for i, name in enumerate(names)]
    rows.append({"file": "broken.dcm", "reason": "truncated", "patient": None})
    rows.append({"file": "nobody.dcm", "row": 5, "patient": None})
    labels = read_labels(csv)
    catalog = build_catalog(shard_rows(*rows), labels)
    reasons = dict(catalog.select("slice", "reason").iter_rows())
    assert reasons == {
        "good": None,
        "twice": "conflicting-labels",
        "union": "conflicting-labels",
        "part": "incomplete-labels",
        "nolabel": "unlabelled",
        "broken": "truncated",
        "nobody": "no-patient",
    }
    flow = count_flow(catalog, labels)
    assert flow["files"] == flow["used"] + sum(flow["quarantined"].values()) == 7
    assert flow["readable"] == 6
    assert flow["labels_without_file"] == 1
    # What the report calls labelled: used, or labelled but contradictory.
    assert count_labelled(flow) == flow["used"] + 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,target\na,1\n", "must have the columns `ID,Label`"),
        ("ID,Label\n", "has a header but no rows"),
        ("ID,Label\na_any,1\na_stroke,0\n", "line 3: ID must end in _ and one of"),
        ("ID,Label\na_any,2\n", "line 2: Label must be 0 or 1"),
        ("ID,Label\na_any,yes\n", "line 2: Label must be 0 or 1"),
        ("ID,Label\nany,1\n", "line 2: ID must end in _ and one of"),
        ("ID,Label\na_any\n", "line 2"),
    ],
)
def test_a_wrong_label_file_is_told_with_its_line(tmp_path, text, message):
    csv = tmp_path / "l.csv"
    csv.write_text(text)
    with pytest.raises(HemtraceError, match=message):
        read_labels(csv)


def test_labels_go_by_name_so_two_files_of_one_name_are_refused(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"IM1": CLEAR}))
    for folder in ("A", "B"):
        write_slice(tmp_path / "images" / folder / "IM1.dcm", small_head(1))
    files = ["A/IM1.dcm", "B/IM1.dcm"]
    _, rows = make_shard(tmp_path / "images", files, DEFAULT_WINDOWS, 32, 0)
    with pytest.raises(HemtraceError, match="2 readable files have the name of one in another"):
        build_catalog(rows, labels)


def test_a_name_that_is_a_uid_keeps_its_dots(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"1.2.840.1": CLEAR, "1.2.840.2": BLEED}))
    rows = shard_rows(
        {"file": "1.2.840.1", "slice": "a", "row": 0},
        {"file": "x/1.2.840.2.DCM", "slice": "b", "row": 1},
    )
    assert build_catalog(rows, labels)["any"].to_list() == [0, 1]


def test_a_real_head_ct_goes_through_ingest(ge_head, tmp_path):
    files = list_files(ge_head, 1)["file"].to_list()
    _, rows = make_shard(ge_head, files, DEFAULT_WINDOWS, 64, 0)
    csv = write_labels(tmp_path / "l.csv", {f"{number:02d}": CLEAR for number in range(1, 29)})
    labels = read_labels(csv)
    catalog = build_catalog(rows, labels)
    flow = count_flow(catalog, labels)
    assert (flow["used"], flow["quarantined"]) == (28, {"not-dicom": 2})
    assert catalog.filter(pl.col("status") == "used")["patient"].n_unique() == 1
    gaps = catalog["z_mm"].drop_nulls().sort().diff().drop_nulls()
    assert gaps.min() > 0


def test_error_sentences_do_not_repeat_what_the_label_file_holds(tmp_path):
    csv = tmp_path / "l.csv"
    for text in ("DOE_JANE,1\n", "ID,Label\nDOE_JANE,1\n", "ID,Label\na_any,DOE\n"):
        csv.write_text(text)
        with pytest.raises(HemtraceError) as caught:
            read_labels(csv)
        assert "DOE" not in str(caught.value).replace(str(csv), "")
