import polars as pl
import pytest
from conftest import write_labels

from hemtrace.errors import HemtraceError
from hemtrace.ingest import build_catalog, count_flow, list_files, read_labels
from hemtrace.shards import ROW_SCHEMA

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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,target\na,1\n", "must have the columns `ID,Label`"),
        ("ID,Label\n", "has a header but no rows"),
        ("ID,Label\na_any,1\na_stroke,0\n", "line 3: 'stroke' must be one of"),
        ("ID,Label\na_any,2\n", "line 2: '2' must be 0 or 1"),
        ("ID,Label\na_any,yes\n", "line 2: 'yes' must be 0 or 1"),
        ("ID,Label\nany,1\n", "line 2: None must be one of"),
        ("ID,Label\na_any\n", "line 2"),
    ],
)
def test_a_wrong_label_file_is_told_with_its_line(tmp_path, text, message):
    csv = tmp_path / "l.csv"
    csv.write_text(text)
    with pytest.raises(HemtraceError, match=message):
        read_labels(csv)


def test_two_files_of_one_slice_name_are_refused(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"a": CLEAR}))
    rows = shard_rows(
        {"file": "x/a.dcm", "slice": "a", "row": 0}, {"file": "y/a.dcm", "slice": "a", "row": 1}
    )
    with pytest.raises(HemtraceError, match=r"2 files share their slice name .* first a;"):
        build_catalog(rows, labels)
