"""The ingestion page: offline, of equal bytes, true to the catalog, and silent on persons."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import make_dataset, make_products, small_head
from pydicom.uid import RLELossless

from hemtrace.dicom import PUBLIC_SALT, Rejected, Slice
from hemtrace.dicom.guard import GuardedReader
from hemtrace.errors import HemtraceError
from hemtrace.ingest.flow import count_flow
from hemtrace.ingest.labels_csv import read_labels
from hemtrace.labels import LABELS
from hemtrace.params import DEFAULT_WINDOWS, View
from hemtrace.report.ingestion import _find, _show, build_ingestion_page

MADE_WITH = {"windows": [w.model_dump() for w in DEFAULT_WINDOWS], "crop": "head"}
VIEW = View(windows=DEFAULT_WINDOWS, size=32, crop="none", pixel_mm=1.0)


@pytest.fixture(scope="module")
def catalog(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    folder = make_products(raw, tmp_path_factory.mktemp("page"), "npy", VIEW)
    return pl.read_parquet(folder / "catalog.parquet")


def build(raw: Path, catalog: pl.DataFrame, flow: dict, page: Path, synthetic=False) -> str:
    with GuardedReader(raw / "stage_2_train", PUBLIC_SALT) as reader:
        build_ingestion_page(catalog, flow, reader.read, page, MADE_WITH, synthetic=synthetic)
    return page.read_text()


def quarantine(catalog: pl.DataFrame, **reasons: int) -> pl.DataFrame:
    """Give the first pictures reasons for which the reader leaves no pixels."""
    codes = [code.replace("_", "-") for code, count in reasons.items() for _ in range(count)]
    reason = pl.Series(codes + [None] * (catalog.height - len(codes)), dtype=pl.String)
    lost = reason.is_not_null()
    return catalog.with_columns(
        reason=reason,
        status=pl.Series(["quarantined" if gone else "used" for gone in lost]),
        row=pl.when(pl.lit(lost)).then(None).otherwise(pl.col("row")),
    )


def test_page_loads_nothing_runs_nothing_and_is_small(raw, catalog, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    html = build(raw, catalog, count_flow(catalog, None), page)
    assert "<script" not in html
    assert all(
        link.startswith(("#", "data:")) for link in re.findall(r'(?:href|src)="([^"]*)"', html)
    )
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]*>", html))
    assert page.stat().st_size < 3_000_000


def test_equal_products_give_equal_bytes(raw, catalog, tmp_path: Path) -> None:
    flow = count_flow(catalog, None)
    assert build(raw, catalog, flow, tmp_path / "a") == build(raw, catalog, flow, tmp_path / "b")


def test_banner_stands_on_synthetic_data_alone(raw, catalog, tmp_path: Path) -> None:
    flow = count_flow(catalog, None)
    assert "SYNTHETIC DATA" in build(raw, catalog, flow, tmp_path / "a", synthetic=True)
    assert "SYNTHETIC DATA" not in build(raw, catalog, flow, tmp_path / "b")


def test_no_identifier_of_a_patient_study_or_series_is_on_the_page(raw, catalog, tmp_path) -> None:
    html = build(raw, catalog, count_flow(catalog, None), tmp_path / "a")
    for column in ("patient", "study", "series", "instance"):
        assert not [known for known in catalog[column].unique() if known in html]


@pytest.mark.parametrize("step", ["pictures", "readable", "used"])
def test_counts_that_contradict_the_catalog_are_refused(raw, catalog, tmp_path, step) -> None:
    flow = count_flow(catalog, None)
    with pytest.raises(HemtraceError, match="do not add up"):
        build(raw, catalog, flow | {step: flow[step] + 1}, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_pictures_with_burned_in_names_are_not_even_read(catalog, tmp_path: Path) -> None:
    lost = {"secondary_capture": 2, "localizer": 1, "dose_report": 1, "not_ct": 1, "truncated": 2}
    changed = quarantine(catalog, **lost)
    asked: list[str] = []

    def read(file: str) -> Iterator[Slice | Rejected]:
        asked.append(file)
        yield Rejected("truncated")

    page = tmp_path / "a"
    build_ingestion_page(changed, count_flow(changed, None), read, page, {}, synthetic=False)
    files = changed["file"].to_list()
    assert not set(asked) & set(files[:5])
    assert set(asked) >= set(files[5:7])
    assert "secondary-capture" in page.read_text()


def test_page_stands_without_labels_thickness_and_quarantine(raw, catalog, tmp_path) -> None:
    assert catalog["reason"].null_count() == catalog.height
    bare = catalog.with_columns(
        *(pl.lit(None, pl.UInt8).alias(label) for label in LABELS),
        *(pl.lit(None, pl.Float64).alias(name) for name in ("thickness_mm", "gap_mm", "tilt_deg")),
    )
    html = build(raw, bare, count_flow(bare, None), tmp_path / "a")
    assert "No file was quarantined." in html
    told = re.search(r'id="table-labels".*?</table>', html, re.DOTALL).group(0)
    assert re.findall(r"<td>(.*?)</td>", told) == ["not told"] * 18  # not: no bleed


def test_parameters_and_the_commonest_detail_stand_on_the_page(raw, catalog, tmp_path) -> None:
    changed = quarantine(catalog, truncated=3)
    details = ["at 5 of 9 bytes", "at 7 of 9 bytes", "at 7 of 9 bytes"]
    details += [None] * (catalog.height - 3)
    changed = changed.with_columns(detail=pl.Series(details, dtype=pl.String))
    html = build(raw, changed, count_flow(changed, None), tmp_path / "a")
    assert "2 of them: at 7 of 9 bytes" in html
    assert "brain (40 / 80 HU), subdural (80 / 200 HU)" in html
    assert f"<td>{version('hemtrace')}</td>" in html


def test_page_stands_where_nothing_is_used(raw, catalog, tmp_path: Path) -> None:
    gone = quarantine(catalog, truncated=catalog.height)
    html = build(raw, gone, count_flow(gone, None), tmp_path / "a")
    assert f"{catalog.height:,} (100.00%)" in html


def test_flow_of_the_label_file_stands_on_the_page(raw, catalog, tmp_path: Path) -> None:
    flow = count_flow(catalog, read_labels(raw / "stage_2_train.csv"))
    flow = json.loads(json.dumps(flow)) | {"label_rows_duplicated": 4321}
    assert "4,321" in build(raw, catalog, flow, tmp_path / "a")


def test_compressed_files_show_their_own_pixels(tmp_path: Path) -> None:
    for number in range(4):
        dataset = make_dataset(small_head(number), SOPInstanceUID=f"1.2.{number}")
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    names = [f"{number}.dcm" for number in range(4)]
    with GuardedReader(tmp_path, PUBLIC_SALT) as reader:
        own = [[found.pixel_blake3 for found in reader.read(name)] for name in names]
    with GuardedReader(tmp_path, PUBLIC_SALT) as reader:
        found = [_find(reader.read, name, None) for name in names]
    assert [[one.pixel_blake3] if one else [] for one in found] == own


def test_values_that_are_no_hu_are_shown_from_darkest_to_lightest() -> None:
    stored = np.tile(np.linspace(30_000, 31_000, 100), (80, 1)).astype(np.uint16)
    shown = _show(Rejected("implausible-hu", picture=stored))
    assert shown is not None
    assert shown.shape == (128, 128)
    line = shown[64].astype(int)
    assert (line[0], line[-1]) == (0, 255)
    assert (np.diff(line) >= 0).all()
    flat = _show(Rejected("implausible-hu", picture=np.full((9, 9), 7, np.int16)))
    assert flat is not None


def test_a_slice_with_names_burned_in_and_what_has_no_pixels_are_not_shown(ge_head) -> None:
    with GuardedReader(ge_head, PUBLIC_SALT) as reader:
        found = _find(reader.read, "01.dcm", None)
    assert isinstance(found, Slice)
    assert _show(found) is not None
    assert _show(replace(found, may_show=False)) is None
    assert _show(Rejected("truncated")) is None
    assert _show(None) is None
