import os
import zipfile

import numpy as np
import polars as pl
import pytest
from conftest import make_dataset, small_head, write_labels, write_slice
from transcode import LOSSLESS, multi_frame, to_bytes

from hemtrace.dicom import PUBLIC_SALT, slice_key
from hemtrace.dicom.guard import GuardedReader
from hemtrace.errors import HemtraceError
from hemtrace.ingest.catalog import CATALOG_CONTRACT, build_catalog
from hemtrace.ingest.flow import count_flow, write_flow
from hemtrace.ingest.labels_csv import load_labels, no_labels, read_labels
from hemtrace.ingest.listing import list_files
from hemtrace.ingest.series import find_missing
from hemtrace.labels import LABELS
from hemtrace.params import DEFAULT_WINDOWS, View
from hemtrace.shards import ROW_SCHEMA, make_pictures
from hemtrace.writing import write_table

BLEED = [0, 0, 0, 0, 1, 1]
CLEAR = [0] * 6
VIEW = View(windows=DEFAULT_WINDOWS, size=32, crop="none", pixel_mm=2)


def shard_rows(*rows):
    """Rows of readable heads, unless they say otherwise."""
    base = {"shard": 0, "patient": "p", "study": "s", "series": "r", "rows": 8, "columns": 8}
    full = [
        base | {"slice": row["file"], "row": number, "pixel_blake3": f"h{number}"} | row
        for number, row in enumerate(rows)
    ]
    return pl.DataFrame(full, schema=ROW_SCHEMA)


def listed(rows):
    return rows.select("file").unique()


def catalog_of(*rows, labels=None, series="one"):
    table = shard_rows(*rows)
    return build_catalog(listed(table), table, labels, series)


def reasons(catalog):
    return dict(catalog.select("file", "reason").iter_rows())


def read_rows(folder, files):
    with GuardedReader(folder, PUBLIC_SALT) as reader:
        pictures = make_pictures(reader.read, files, VIEW, PUBLIC_SALT)
        return pl.DataFrame([row for row, _ in pictures], schema=ROW_SCHEMA)


# Listing


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


def test_a_folder_of_two_names_is_listed_by_the_same_on_every_disk(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x.dcm").write_bytes(b"x")
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abc":
        (folder / name).symlink_to(tmp_path / "elsewhere")
    scandir, found = os.scandir, []
    for turned in (False, True):
        monkeypatch.setattr(
            "os.scandir", lambda path, turned=turned: sorted(
                scandir(path), key=lambda entry: entry.name, reverse=turned
            )
        )  # fmt: skip
        found.append(list_files(folder, 1)["file"].to_list())
    assert found[0] == found[1]
    assert len(found[0]) == 1


# Labels


def test_repeated_label_rows_that_agree_are_kept_once_and_counted(tmp_path):
    csv = write_labels(tmp_path / "l.csv", {"a": BLEED, "b": CLEAR})
    lines = csv.read_text().splitlines()
    csv.write_text("\n".join(lines + lines[1:7]) + "\n")
    labels = read_labels(csv)
    assert labels.csv_rows == 18
    assert labels.duplicated_rows == 6
    assert labels.table["conflict"].to_list() == [False, False]
    assert labels.table.select(LABELS).rows() == [tuple(BLEED), tuple(CLEAR)]


def test_labels_that_disagree_and_contradict_are_told_apart(tmp_path):
    csv = write_labels(tmp_path / "l.csv", {"twice": CLEAR, "union": CLEAR, "part": CLEAR})
    text = csv.read_text().replace("union_any,0", "union_any,1").replace("part_epidural,0\n", "")
    csv.write_text(text + "twice_any,1\n")
    labels = read_labels(csv)
    assert (labels.disagreeing, labels.contradicting, labels.duplicated_rows) == (1, 1, 0)
    conflicts = dict(labels.table.select("image", "conflict").iter_rows())
    assert conflicts == {"twice": True, "union": True, "part": False}
    assert labels.table.filter(pl.col("image") == "part")["epidural"].to_list() == [None]


def test_labels_are_the_same_after_a_round_trip(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"a": BLEED, "b": CLEAR}))
    for one in (labels, no_labels()):
        one.write(tmp_path / "labels.parquet")
        back = load_labels(tmp_path / "labels.parquet")
        assert back.table.equals(one.table)
        assert (back.csv_rows, back.duplicated_rows) == (one.csv_rows, one.duplicated_rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,target\na,1\n", "must have the columns `ID,Label`: its first line says"),
        ("ID;Label\na_any;1\n", "another sign than a comma"),
        ("ID,Label,reader\na_any,1,x\n", "it has more; take out the others"),
        ("ID,Label\n\n\n", "has a header but no rows"),
        ("ID,Label\na_any,1,zzz\n", "a row has more than two columns"),
        ("ID,Label\na_any,1\n\nb_any,0.5\n", "line 4: Label must be 0 or 1"),
        ("ID,Label\n", "has a header but no rows"),
        ("ID,Label\na_any,1\na_stroke,0\n", "line 3: ID must end in _ and one of"),
        ("ID,Label\na_any,2\n", "line 2: Label must be 0 or 1"),
        ("ID,Label\na_any,yes\n", "line 2: Label must be 0 or 1"),
        ("ID,Label\nany,1\n", "line 2: ID must end in _ and one of"),
        ("ID,Label\n_any,1\n", "line 2: ID must end in _ and one of"),
        ("ID,Label\na_any\n", "line 2"),
    ],
)
def test_a_wrong_label_file_is_told_with_its_line(tmp_path, text, message):
    csv = tmp_path / "l.csv"
    csv.write_text(text)
    with pytest.raises(HemtraceError, match=message):
        read_labels(csv)


@pytest.mark.parametrize(("encoding", "message"), [("utf-16", "UTF-16"), ("latin-1", "not UTF-8")])
def test_a_label_file_that_is_not_utf_8_is_told(tmp_path, encoding, message):
    (tmp_path / "l.csv").write_bytes("ID,Label\nä_any,1\n".encode(encoding))
    with pytest.raises(HemtraceError, match=message):
        read_labels(tmp_path / "l.csv")


def test_labels_are_read_as_spreadsheets_and_pandas_write_them(tmp_path):
    plain = read_labels(write_labels(tmp_path / "plain.csv", {"a": BLEED, "b": CLEAR}))
    text = (tmp_path / "plain.csv").read_text().replace(",0\n", ",0.0\n").replace(",1\n", ",1.0\n")
    text = text.replace("ID,Label", '\ufeff"ID","Label"').replace("a_", "some/a.dcm_")
    (tmp_path / "l.csv").write_text(text.replace("b_epidural", "\n  \n b_epidural") + "\n\n")
    found = read_labels(tmp_path / "l.csv")
    assert found.table.equals(plain.table)
    assert (found.csv_rows, found.duplicated_rows) == (12, 0)


def test_a_name_with_accents_finds_its_labels_however_they_are_written(tmp_path):
    together, apart = "caf\u00e9", "cafe\u0301"
    for file, label in ((together, apart), (apart, together)):
        labels = read_labels(write_labels(tmp_path / "l.csv", {label: BLEED}))
        catalog = catalog_of({"file": f"{file}.dcm"}, labels=labels)
        assert catalog["status"].to_list() == ["used"]


def test_error_sentences_do_not_repeat_what_the_label_file_holds(tmp_path):
    csv = tmp_path / "l.csv"
    for text in ("DOE_JANE,1\n", "ID,Label\nDOE_JANE,1\n", "ID,Label\na_any,DOE\n"):
        csv.write_text(text)
        with pytest.raises(HemtraceError) as caught:
            read_labels(csv)
        assert "DOE" not in str(caught.value).replace(str(csv), "")


# Catalog


def test_each_use_of_bad_labels_has_its_reason(tmp_path):
    csv = write_labels(tmp_path / "l.csv", {"good": BLEED, "twice": CLEAR, "union": CLEAR})
    text = csv.read_text().replace("union_any,0", "union_any,1")
    csv.write_text(text + "twice_any,1\npart_any,0\nDOE_JANE_any,0\nID_0123abcde_any,1\n")
    labels = read_labels(csv)
    bad = {"row": None, "patient": None, "pixel_blake3": None}
    catalog = catalog_of(
        *({"file": f"{name}.dcm"} for name in ("good", "twice", "union", "part", "nolabel")),
        {"file": "broken.dcm", "reason": "truncated"} | bad,
        {"file": "nobody.dcm", "patient": None},
        labels=labels,
    )
    assert reasons(catalog) == {
        "good.dcm": None,
        "twice.dcm": "conflicting-labels",
        "union.dcm": "conflicting-labels",
        "part.dcm": "incomplete-labels",
        "nolabel.dcm": "unlabelled",
        "broken.dcm": "truncated",
        "nobody.dcm": "no-patient",
    }
    flow = count_flow(catalog, labels)
    assert flow["files"] == flow["used"] + sum(flow["quarantined"].values()) == 7
    steps = [flow[step] for step in ("pictures", "readable", "ct", "head", "labelled", "used")]
    assert steps == [7, 6, 6, 6, 1, 1]
    assert flow["labels_without_file"] == 2
    # What may be a person's name is counted, not told.
    assert flow["labels_without_file_first"] == ["ID_0123abcde"]


def test_a_file_that_was_lost_or_came_from_nowhere_stops_the_run():
    rows = shard_rows({"file": "a"}, {"file": "b"})
    with pytest.raises(HemtraceError, match="3 files were listed, 2 stand in the shards: 1 are"):
        build_catalog(pl.DataFrame({"file": ["a", "b", "c"]}), rows, None)
    with pytest.raises(HemtraceError, match="0 are missing and 1 were not listed"):
        build_catalog(pl.DataFrame({"file": ["a"]}), rows, None)


def test_counts_that_do_not_add_up_stop_the_run():
    catalog = catalog_of({"file": "a"}, {"file": "b"})
    with pytest.raises(HemtraceError, match="do not add up: 1 pictures in the shards, and 2"):
        count_flow(catalog.with_columns(row=pl.Series([0, None], dtype=pl.Int32)), None)


def test_the_catalog_is_held_to_its_contract():
    catalog = catalog_of({"file": "a"}, {"file": "b"})
    for wrong in (
        catalog.with_columns(reason=pl.lit("bad-luck"), status=pl.lit("quarantined")),
        catalog.with_columns(status=pl.lit("quarantined")),
        catalog.with_columns(slice=pl.lit("one")),
        catalog.with_columns(any=pl.lit(2, pl.UInt8)),
        catalog.drop("z_mm"),
        catalog.with_columns(more=pl.lit(1)),
    ):
        with pytest.raises(Exception, match=r"(?i)schema|column|unique|isin|field|dataframe"):
            CATALOG_CONTRACT.validate(wrong)


def test_without_a_label_file_readable_heads_are_used_unlabelled():
    catalog = catalog_of({"file": "A/IM1"}, {"file": "B/IM1"})
    assert catalog["status"].to_list() == ["used", "used"]
    assert catalog["any"].to_list() == [None, None]
    assert count_flow(catalog, None)["used"] == 2


def test_labels_go_by_name_so_two_files_of_one_name_are_refused(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"IM1": CLEAR}))
    for folder in ("A", "B"):
        write_slice(tmp_path / "images" / folder / "IM1.dcm", small_head(1))
    rows = read_rows(tmp_path / "images", ["A/IM1.dcm", "B/IM1.dcm"])
    with pytest.raises(HemtraceError, match="2 readable files have a labelled name that"):
        build_catalog(listed(rows), rows, labels)


def test_files_of_one_name_that_no_label_names_do_not_stop_the_run(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"b": CLEAR}))
    catalog = catalog_of({"file": "A/x.dcm"}, {"file": "B/x.dcm"}, {"file": "b.dcm"}, labels=labels)
    assert reasons(catalog) == {"A/x.dcm": "unlabelled", "B/x.dcm": "unlabelled", "b.dcm": None}


def test_a_name_with_a_percent_sign_finds_its_labels(tmp_path):
    names = ["50%.dcm", "a%20b.dcm", "M\tn.dcm"]
    for number, name in enumerate(names):
        write_slice(tmp_path / "images" / name, small_head(number), SOPInstanceUID=f"1.{number}",
                    ImagePositionPatient=[0, 0, 5 * number])  # fmt: skip
    labels = read_labels(write_labels(tmp_path / "l.csv", {"50%": CLEAR, "a%20b": BLEED}))
    files = list_files(tmp_path / "images", 1)
    catalog = build_catalog(files, read_rows(tmp_path / "images", files["file"].to_list()), labels)
    assert reasons(catalog) == {"50%25.dcm": None, "a%2520b.dcm": None, "M%09n.dcm": "unlabelled"}
    assert count_flow(catalog, labels)["labels_without_file"] == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ID_0123abcde.dcm", "ID_0123abcde.json"),
        ("ID_0123abcde.dcm", "ID_0123abcde.DCM"),
        ("ID_0123abcde.dcm", "ID_0123abcde"),
        ("A/ID_0123abcde.dcm", "B/ID_0123abcde.dcm"),
        ("ID_0123abcde.dcm", "again/ID_0123abcde.dcm"),
    ],
)
def test_files_of_one_rsna_name_have_keys_of_their_own(tmp_path, one, other):
    write_slice(tmp_path / one, small_head(1))
    write_slice(tmp_path / other, small_head(2), ImagePositionPatient=[0, 0, 35])
    files = list_files(tmp_path, 1)
    catalog = build_catalog(files, read_rows(tmp_path, files["file"].to_list()), None)
    assert catalog["slice"].n_unique() == catalog.height == 2
    assert catalog["next"].drop_nulls().is_in(catalog["slice"].implode()).all()


def test_the_rsna_sets_names_stay_and_no_other_does():
    assert slice_key("ID_0123abcde.dcm", None, PUBLIC_SALT) == "ID_0123abcde"
    assert slice_key("ID_0123abcde.dcm", 2, PUBLIC_SALT) == "ID_0123abcde#2"
    for name in ("DOE_JANE.dcm", "x/ID_0123abcde.dcm", "ID_0123abcde", "ID_0123abcdef.dcm"):
        key = slice_key(name, None, PUBLIC_SALT)
        assert key.startswith("S")
        assert not any(part in key for part in ("DOE", "ID_"))


def test_a_name_that_is_a_uid_keeps_its_dots(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"1.2.840.1": CLEAR, "1.2.840.2": BLEED}))
    catalog = catalog_of({"file": "1.2.840.1"}, {"file": "x/1.2.840.2.DCM"}, labels=labels)
    assert catalog["any"].to_list() == [0, 1]


def test_frames_are_labelled_by_name_and_number(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"a#1": CLEAR, "a#2": BLEED}))
    rows = [{"file": "a.dcm", "frame": n, "slice": f"S#{n}"} for n in (1, 2, 3)]
    catalog = catalog_of(*rows, labels=labels)
    assert catalog["any"].to_list() == [0, 1, None]
    assert catalog["reason"].to_list() == [None, None, "unlabelled"]
    flow = count_flow(catalog, labels)
    assert (flow["files"], flow["pictures"]) == (1, 3)


def test_equal_pixels_in_two_patients_are_marked_and_counted(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"a": CLEAR, "b": BLEED, "c": CLEAR}))
    catalog = catalog_of(
        {"file": "a", "patient": "p1", "pixel_blake3": "same"},
        {"file": "b", "patient": "p2", "pixel_blake3": "same"},
        {"file": "c", "patient": "p3"},
        labels=labels,
    )
    assert catalog["duplicates"].to_list() == [True, True, False]
    flow = count_flow(catalog, labels)
    assert (flow["shared_pixels"], flow["shared_pixels_contradicting"]) == (1, 1)


def test_blank_pictures_are_no_duplicates():
    rows = [{"file": name, "patient": name, "pixel_blake3": None} for name in "ab"]
    assert not catalog_of(*rows)["duplicates"].any()


def test_nothing_to_use_is_told(tmp_path):
    catalog = catalog_of({"file": "a", "reason": "not-dicom", "row": None})
    with pytest.raises(HemtraceError, match=r"None of the 1 pictures can be used: 1 not-dicom"):
        write_flow(count_flow(catalog, None), tmp_path / "flow.json")
    write_table(catalog, tmp_path / "catalog.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.parquet"]


def test_names_that_never_match_are_told(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"x": BLEED, "y": CLEAR}))
    flow = count_flow(catalog_of({"file": "a"}, {"file": "b"}, labels=labels), labels)
    with pytest.raises(HemtraceError, match="No file has the name of one of the 2 images"):
        write_flow(flow, tmp_path / "flow.json")


# Series


def scan(positions, series="r", start=0, **facts):
    return [
        {"file": f"{series}{start + i}", "series": series, "z_mm": float(z), "instance": f"{z}"}
        | facts
        for i, z in enumerate(positions)
    ]


def places(catalog):
    return {
        row["file"]: (row["index"], row["previous"], row["next"])
        for row in catalog.iter_rows(named=True)
    }


def test_slices_are_ordered_along_the_scan_and_know_their_neighbours():
    found = places(catalog_of(*scan([10, 0, 5])))
    assert found == {"r1": (0, None, "r2"), "r2": (1, "r1", "r0"), "r0": (2, "r2", None)}


def test_a_missing_slice_is_no_neighbour():
    catalog = catalog_of(*scan([0, 5, 15, 20]))
    assert places(catalog)["r1"] == (1, "r0", None)
    assert places(catalog)["r2"] == (2, None, "r3")
    assert count_flow(catalog, None)["slices_missing"] == 1


def test_a_change_from_thin_to_thick_slices_is_no_missing_one():
    catalog = catalog_of(*scan([0, 2.5, 5, 7.5, 12.5, 17.5, 22.5]))
    assert count_flow(catalog, None)["slices_missing"] == 0


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ([5, 5, 10, 10, 5, 5], [2, 3]),  # two, one beside the other
        ([5, 10, 5, 10, 5, 10], [1, 3, 5]),  # no three like steps in a row
        ([5, 5, 5, 10, 10, 10, 5, 5, 5], [3, 4, 5]),  # lasting, but shorter on both sides
        ([5, 5, 5, 20, 5, 5, 5, 10], [3, 7]),
        ([10, 5, 5, 5], [0]),
        ([5, 10], [1]),
        ([5, 5, 5, 10, 10], [3, 4]),
        ([2.5, 2.5, 2.5, 5, 5, 5], []),  # from thin to thick
        ([5, 5, 5, 2.5, 2.5, 2.5], []),
        ([2.5, 2.5, 2.5, 5, 5, 10, 10, 5, 5, 5], [5, 6]),
        ([2.5, 2.5, 2.5, 5, 2.5, 2.5, 2.5, 5, 5, 5, 10, 5, 5, 5], [3, 10]),
        ([5.0, 4.98, 5.02, 5.0], []),
        ([5], []),
        ([], []),
    ],
)
def test_missing_slices_are_found_and_a_change_of_thickness_is_none(steps, missing):
    assert [place for place, gone in enumerate(find_missing(steps)) if gone] == missing
    positions = [sum(steps[:count]) for count in range(len(steps) + 1)]
    catalog = catalog_of(*scan(positions)).sort("z_mm")
    assert catalog["missing_next"].arg_true().to_list() == missing
    assert catalog["next"].null_count() == len(missing) + 1


def test_slices_at_one_place_hide_no_gap():
    catalog = catalog_of(*scan([0, 0, 5, 5, 10, 10, 20, 20, 25, 25]))
    assert catalog.filter(pl.col("missing_next"))["z_mm"].to_list() == [10]


UNREADABLE = {"row": None, "pixel_blake3": None, "reason": "truncated"}


def test_a_quarantined_slice_whose_place_is_known_is_not_missing():
    rows = scan([0, 5, 10, 15, 20])
    catalog = catalog_of(*rows[:2], rows[2] | UNREADABLE, *rows[3:])
    assert count_flow(catalog, None)["slices_missing"] == 0
    assert places(catalog)["r1"] == (1, "r0", None)
    assert places(catalog)["r2"] == (2, None, None)
    assert places(catalog)["r3"] == (3, None, "r4")
    gone = catalog_of(*rows[:2], rows[2] | UNREADABLE | {"z_mm": None}, *rows[3:])
    assert count_flow(gone, None)["slices_missing"] == 1


@pytest.mark.parametrize("reason", ["truncated", "localizer"])
def test_what_is_no_slice_of_the_stack_parts_no_neighbours(reason):
    rows = scan([0, 5, 10])
    # A damaged copy of a slice, and a scout whose place along its own normal says nothing.
    other = {"file": "x", "z_mm": 5.0 if reason == "truncated" else 7.0} | UNREADABLE
    catalog = catalog_of(*rows, other | {"reason": reason})
    assert places(catalog)["r1"] == (1, "r0", "r2")
    assert places(catalog)["x"] == (None, None, None)


def test_slices_without_position_are_used_and_have_no_neighbours():
    rows = [{"file": name, "z_mm": None} for name in "abc"]
    catalog = catalog_of(*rows)
    assert catalog["status"].to_list() == ["used"] * 3
    assert catalog["next"].null_count() == 3


def test_series_do_not_mix():
    catalog = catalog_of(*scan([0, 5]), *scan([0, 5], "q", patient="other"), series="all")
    assert places(catalog)["q0"] == (0, None, "q1")


@pytest.mark.parametrize("twin", [{"instance": "0", "z_mm": 9.0}, {"instance": "x", "z_mm": 0.0}])
def test_the_same_pixels_under_one_uid_or_at_one_place_are_doubled(twin):
    catalog = catalog_of(
        *scan([0, 5], pixel_blake3="first"), {"file": "z", "pixel_blake3": "first"} | twin
    )
    assert reasons(catalog)["z"] == "doubled"
    assert reasons(catalog)["r0"] is None
    assert places(catalog)["z"] == (None, None, None)


COPY = {"instance": "i", "z_mm": 0.0, "pixel_blake3": "same"}


def test_a_labelled_slice_is_not_lost_to_an_unlabelled_copy(tmp_path):
    labels = read_labels(write_labels(tmp_path / "l.csv", {"b": CLEAR, "c": BLEED}))
    after = {"file": "c", "instance": "j", "z_mm": 5.0}
    catalog = catalog_of({"file": "a"} | COPY, {"file": "b"} | COPY, after, labels=labels)
    assert reasons(catalog) == {"a": "unlabelled", "b": None, "c": None}
    assert places(catalog) == {"a": (None, None, None), "b": (0, None, "c"), "c": (1, "b", None)}


@pytest.mark.parametrize("key", ["instance", "z_mm"])
def test_copies_whose_labels_disagree_are_both_conflicting(tmp_path, key):
    known = {"a": CLEAR, "b": BLEED, "c": BLEED, "d": BLEED}
    labels = read_labels(write_labels(tmp_path / "l.csv", known))
    copy = COPY | {key: None}
    agreeing = copy | {"pixel_blake3": "other"}
    rows = [{"file": "a"} | copy, {"file": "b"} | copy]
    rows += [{"file": "c"} | agreeing, {"file": "d"} | agreeing]
    assert reasons(catalog_of(*rows, labels=labels)) == {
        "a": "conflicting-labels",
        "b": "conflicting-labels",
        "c": None,
        "d": "doubled",
    }


def test_different_pixels_at_one_place_stay():
    catalog = catalog_of(*scan([0, 0, 5]))
    assert catalog["status"].to_list() == ["used"] * 3


THICK = {"thickness_mm": 5.0, "kernel": "soft"}
THIN = {"thickness_mm": 0.6, "kernel": "soft"}
BONE = {"thickness_mm": 5.0, "kernel": "sharp"}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (scan(range(0, 100, 5), "b", **THICK), scan(range(0, 100, 1), "a", **THIN)),
        (scan(range(0, 100, 1), "b", **THIN), scan(range(0, 100, 5), "a", **BONE)),
        (scan(range(0, 100, 5), "b"), scan(range(0, 100, 5), "a", **BONE)),
        (scan(range(0, 100, 1), "b", **THIN), scan(range(0, 40, 5), "a", **THICK)),
        (scan(range(0, 100, 5), "b"), scan(range(0, 100, 2), "a")),
        (scan(range(0, 100, 5), "a", **THICK), scan(range(0, 100, 5), "b", **THICK)),
    ],
    ids=["thick", "kernel before thickness", "unknown kernel", "coverage", "step", "name"],
)
def test_one_series_of_a_study_is_chosen_by_the_rule(better, worse):
    catalog = catalog_of(*worse, *better)
    used = catalog.filter(pl.col("status") == "used")["series"].unique().to_list()
    assert used == [better[0]["series"]]
    others = catalog.filter(pl.col("series") == worse[0]["series"])["reason"].unique()
    assert others.to_list() == ["other-series"]
    assert catalog_of(*worse, *better, series="all")["reason"].null_count() == catalog.height


def test_without_study_uid_each_series_is_a_study_of_its_own():
    rows = [*scan([0, 5], "a", study=None), *scan([0, 5, 10], "b", study=None)]
    catalog = catalog_of(*rows)
    assert catalog["status"].to_list() == ["used"] * 5
    assert count_flow(catalog, None)["studies"] == 2


def test_a_series_with_labels_comes_before_a_better_one_without(tmp_path):
    rows = [*scan([0, 5], "a", **THICK), *scan([0, 5], "b", **BONE)]
    labels = read_labels(write_labels(tmp_path / "l.csv", {"b0": CLEAR, "b1": BLEED}))
    assert reasons(catalog_of(*rows, labels=labels)) == {
        "a0": "unlabelled",
        "a1": "unlabelled",
        "b0": None,
        "b1": None,
    }


def test_a_real_head_ct_goes_through_ingest(ge_head, tmp_path):
    files = list_files(ge_head, 1)
    rows = read_rows(ge_head, files["file"].to_list())
    csv = write_labels(tmp_path / "l.csv", {f"{number:02d}": CLEAR for number in range(1, 29)})
    labels = read_labels(csv)
    catalog = build_catalog(files, rows, labels)
    flow = count_flow(catalog, labels)
    assert (flow["used"], flow["quarantined"]) == (28, {"not-dicom": 2})
    used = catalog.filter(pl.col("status") == "used").sort("index")
    assert used["patient"].n_unique() == 1
    assert used["index"].to_list() == list(range(28))
    assert used["tilt_deg"].unique().to_list() == [18.5]
    assert used["next"].to_list()[:-1] == used["slice"].to_list()[1:]
    assert used["gap_mm"].drop_nulls().min() > 0
    assert flow["slices_missing"] == 0


def test_a_zip_a_patient_goes_through_ingest(ge_head, tmp_path):
    with zipfile.ZipFile(tmp_path / "patient.zip", "w") as packed:
        for path in sorted(ge_head.glob("0*.dcm")):
            packed.write(path, f"scan/{path.name}")
    files = list_files(tmp_path, 1)
    rows = read_rows(tmp_path, files["file"].to_list())
    plain = read_rows(ge_head, sorted(path.name for path in ge_head.glob("0*.dcm")))
    assert rows["image_blake3"].to_list() == plain["image_blake3"].to_list()
    assert count_flow(build_catalog(files, rows, None), None)["used"] == 9


# What the header of a refused file tells


def test_refused_files_can_be_counted_by_study(tmp_path):
    stored = small_head(1)
    write_slice(tmp_path / "good.dcm", stored)
    write_slice(tmp_path / "scout.dcm", stored, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_slice(tmp_path / "bright.dcm", stored, RescaleIntercept=3000)
    write_slice(tmp_path / "cut.dcm", stored, SliceThickness=5)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "cut.dcm").read_bytes()[:-900])
    packed = make_dataset(stored, BodyPartExamined="CHEST", ConvolutionKernel="BONE")
    (tmp_path / "chest.dcm").write_bytes(LOSSLESS["rle"](packed))
    frames = [make_dataset(small_head(n), ImagePositionPatient=[0, 0, 5 * n]) for n in (1, 2)]
    frames[1].RescaleIntercept = 3000
    (tmp_path / "frames.dcm").write_bytes(to_bytes(multi_frame(frames)))
    files = list_files(tmp_path, 1)
    rows = read_rows(tmp_path, files["file"].to_list())
    found = {(row["file"], row["frame"]): row for row in rows.iter_rows(named=True)}
    good = found["good.dcm", None]
    reasons = {key: row["reason"] for key, row in found.items()}
    assert reasons == {
        ("good.dcm", None): None,
        ("scout.dcm", None): "localizer",
        ("bright.dcm", None): "implausible-hu",
        ("cut.dcm", None): "truncated",
        ("chest.dcm", None): "not-head",
        ("frames.dcm", 1): None,
        ("frames.dcm", 2): "implausible-hu",
    }
    for row in found.values():
        for fact in ("patient", "study", "series", "bits_stored", "signed", "tilt_deg"):
            assert row[fact] == good[fact], (row["file"], fact)
        assert row["row"] is not None or row["pixel_blake3"] is None
    assert found["bright.dcm", None]["z_mm"] == good["z_mm"] == 30
    assert found["cut.dcm", None]["thickness_mm"] == 5
    assert found["frames.dcm", 2]["z_mm"] == 10
    chest = found["chest.dcm", None]
    assert (chest["encoding"], chest["kernel"]) == ("rle", "sharp")
    catalog = build_catalog(files, rows, None)
    counted = catalog.group_by("study").len()
    assert counted.rows() == [(good["study"], 7)]


@pytest.mark.parametrize(
    ("header", "reason", "shown"),
    [
        ({"RescaleIntercept": 3000}, "implausible-hu", True),
        ({"BodyPartExamined": "CHEST"}, "not-head", True),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "not-axial", True),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer", False),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary-capture", False),
        ({"Modality": "MR"}, "not-ct", False),
    ],
)
def test_pixels_of_refused_slices_are_kept_for_the_eye_unless_names_may_be_burned_in(
    tmp_path, header, reason, shown
):
    stored = small_head(1, 200)
    variants = [{}, {"BurnedInAnnotation": "YES"}]
    if "ImageType" not in header:
        variants.append({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]})
    for place, more in enumerate(variants):
        write_slice(tmp_path / "a.dcm", stored, **header | more)
        with GuardedReader(tmp_path, PUBLIC_SALT) as reader:
            (found,) = reader.read("a.dcm")
        assert found.reason == reason
        assert (found.picture is not None) == (shown and place == 0)
        if found.picture is not None:
            np.testing.assert_array_equal(found.picture, stored[::2, ::2])


def test_a_readable_slice_with_names_burned_in_says_so(tmp_path):
    shown = []
    for more in ({}, {"BurnedInAnnotation": "YES"}, {"ImageType": ["DERIVED", "SECONDARY"]},
                 {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}):  # fmt: skip
        for encode in (LOSSLESS["explicit-little"], LOSSLESS["rle"]):
            (tmp_path / "a.dcm").write_bytes(encode(make_dataset(small_head(1), **more)))
            with GuardedReader(tmp_path, PUBLIC_SALT) as reader:
                shown += [found.may_show for found in reader.read("a.dcm")]
    assert shown == [True, True, False, False, False, False, True, True]


# A set as CQ500 comes


def cq500_slice(z, **header):
    """A slice as CQ500 has them: signed, padded by a value that is stored as 63536."""
    stored = small_head(round(10 * z), 64) - 1024
    stored[:4] = -2000
    uid = f"1.2.{header['SeriesInstanceUID'][-1]}.{round(10 * z)}"
    dataset = make_dataset(stored, RescaleIntercept=0, SOPInstanceUID=uid, **header)
    dataset.ImagePositionPatient = [-125, -125, z]
    dataset.add_new(0x00280120, "US", 63536)
    return LOSSLESS["jpeg-lossless by gdcm"](dataset)


def test_a_set_like_cq500_goes_through_ingest_as_it_comes(tmp_path):
    """A zip a patient, several series a study, no labels."""
    series = {
        "Plain Thin": (range(0, 40, 1), {"SliceThickness": 0.625, "ConvolutionKernel": "SOFT"}),
        "CT PRE CONTRAST 5MM": (
            range(0, 40, 5),
            {"SliceThickness": 5, "ConvolutionKernel": "H31s"},
        ),
        "BONE Löhne": (range(0, 40, 5), {"SliceThickness": 5, "ConvolutionKernel": "BONE"}),
    }
    for patient in (1, 2):
        with zipfile.ZipFile(tmp_path / f"CQ500 CT{patient} Müller.zip", "w") as packed:
            for number, (name, (positions, header)) in enumerate(series.items()):
                ids = {
                    "PatientID": f"CQ500-CT-{patient}",
                    "StudyInstanceUID": f"1.{patient}",
                    "SeriesInstanceUID": f"1.{patient}.{number}",
                }
                for z in positions:
                    path = f"Unknown Study/{name}/CT{z:06d}.dcm"
                    packed.writestr(path, cq500_slice(100 * patient + z, **ids, **header))
            scout = make_dataset(
                small_head(patient),
                ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
                PatientID=f"CQ500-CT-{patient}",
                StudyInstanceUID=f"1.{patient}",
            )
            packed.writestr("Unknown Study/CT Scout/CT000000.dcm", to_bytes(scout))
    files = list_files(tmp_path, 2)
    rows = read_rows(tmp_path, files["file"].to_list())
    catalog = build_catalog(files, rows, None)
    flow = count_flow(catalog, None)
    assert (flow["files"], flow["studies"], flow["series"]) == (114, 2, 6)
    assert flow["quarantined"] == {"localizer": 2, "other-series": 96}
    assert (flow["used"], flow["series_used"], flow["slices_missing"]) == (16, 2, 0)
    used = catalog.filter(pl.col("status") == "used")
    assert used["file"].str.contains("/CT PRE CONTRAST 5MM/").all()
    assert used["encoding"].unique().to_list() == ["jpeg-lossless"]
    assert not used["repaired"].any()
    assert used.group_by("patient").agg(pl.col("gap_mm").drop_nulls().unique()).height == 2
    assert catalog["any"].null_count() == catalog.height
    assert (
        catalog.filter(pl.col("reason") == "localizer")["study"]
        .is_in(used["study"].implode())
        .all()
    )
