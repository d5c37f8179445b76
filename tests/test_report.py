"""report: what a reader finds on the page, and what must never stand on it."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hemtrace.errors import HemtraceError
from hemtrace.evaluate import (
    PROBABILITIES,
    evaluate,
    fix_on_validation,
    score_runs,
    write_metrics,
)
from hemtrace.evaluate.subgroups import gather_facts, measure_subgroups
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.model import ModelSpec, create_net, save_model
from hemtrace.params import (
    DEFAULT_WINDOWS,
    EvaluateParams,
    NetworkParams,
    Params,
    ReportParams,
)
from hemtrace.provenance import data_digest, file_digest
from hemtrace.report import ReportInputs, ReportPages, build_report
from hemtrace.report.evidence import WANTED_FIGURES
from hemtrace.study import (
    count_co_occurrence,
    count_partitions,
    describe_scans,
    flow_numbers,
    leakage_table,
)

# The smallest PNG, one pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
# Columns of the catalog that nobody filled in.
UNTOLD = (
    "thickness_mm", "spacing_mm", "spacing_across_mm", "tilt_deg", "intercept", "slope", "encoding",
    "bits_stored", "signed", "repaired", "lossy", "manufacturer", "kernel", "rows", "columns",
    "gap_mm",
)  # fmt: skip
PARTITION_OF = {0: "train", 1: "train", 2: "val", 3: "test"}


NOTHING = {"value": None, "low": None, "high": None, "why": "too few"}
FIGURES = dict.fromkeys(("auc", "difference", "sensitivity", "specificity"), NOTHING)
ROBUSTNESS = {
    "patients": 1,
    "slices": 4,
    "positives": 0,
    "threshold": None,
    "unperturbed": {**FIGURES, "change": 0.0},
    "rows": [
        {
            "kind": "noise", "title": "noise", "unit": "HU", "strength": 5.0, "strength_mm": None,
            **FIGURES, "change": 0.1,
        }
    ],
}  # fmt: skip
LOCALISATION = {
    "labels": None,
    "cells": [8, 8],
    "gallery_rules": dict.fromkeys(("bleeds", "clear", "subtypes", "worst"), "By lot."),
    "planted": {"why": "there are no masks"},
    "volumes": {"why": "there are no masks"},
    "regions": {"says": "Regions of maps"},
}


def make_catalog() -> pl.DataFrame:
    """Sixty files of twelve patients: three truncated, one unlabelled, no epidural bleeds."""
    rng = np.random.default_rng(0)
    patient = np.arange(60) % 12
    reason = [None] * 60
    for place in (5, 17, 40):
        reason[place] = "truncated"
    reason[23] = "unlabelled"
    truth = (rng.random((60, 5)) < 0.4) & (patient < 8)[:, None]
    truth[:, 0] = False
    truth = np.c_[truth, truth.any(axis=1)].astype(np.uint8)
    return pl.DataFrame(
        {
            "slice": [f"ID_{k:09x}" for k in range(60)],
            "file": [f"ID_{k:09x}.dcm" for k in range(60)],
            "status": ["used" if why is None else "quarantined" for why in reason],
            "reason": pl.Series(reason, dtype=pl.String),
            "patient": [f"ID_fee1{k:04x}" for k in patient],
            "row": [None if why == "truncated" else k for k, why in enumerate(reason)],
            "study": [f"study{k}" for k in patient],
            "series": [f"series{k}" for k in patient],
            "instance": [f"instance{k}" for k in range(60)],
            "z_mm": [5.0 * (k // 12) for k in range(60)],
            "pixel_blake3": [f"pixels{k}" for k in range(60)],
            "image_blake3": [f"image{k}" for k in range(60)],
            **{name: [None] * 60 for name in UNTOLD},
        }
    ).hstack(pl.DataFrame(truth, schema=list(LABELS)))


def make_inputs(folder: Path, synthetic: bool = True) -> ReportInputs:
    folder.mkdir(parents=True, exist_ok=True)
    catalog = make_catalog()
    used = catalog.filter(pl.col("status") == "used")
    splits = (
        used.group_by("patient")
        .agg(pl.len().alias("slices"), pl.col(LABELS).cast(pl.Int64).sum())
        .sort("patient")
        .with_columns(partition=pl.Series([PARTITION_OF[k % 4] for k in range(12)]))
        .with_columns(fold=pl.when(pl.col("partition") == "val").then(0))
    )
    scored = used.join(splits.select("patient", "partition"), on="patient").filter(
        pl.col("partition") != "train"
    )
    rng = np.random.default_rng(1)
    guess = scored.select(LABELS).to_numpy() * 0.4 + rng.random((scored.height, 6)) / 2
    predictions = (
        scored.select("slice", "patient", "study", "partition", *LABELS)
        .with_columns(depth=pl.lit(0.5))
        .hstack(pl.DataFrame(guess, schema=list(PROBABILITIES)))
    )
    spec = ModelSpec(
        network=NetworkParams(architecture="tf_efficientnet_lite0"),
        weights="Random, drawn from the seed <&>.",
        windows=DEFAULT_WINDOWS,
        size=64,
        synthetic=synthetic,
        seed=7,
        train={"epochs": 2, "batch_size": 32},
        git_commit="0123abc",
        data_digest=data_digest(catalog, splits),
    )
    inputs = ReportInputs(
        catalog=folder / "catalog.parquet",
        flow=folder / "ingest.json",
        splits=folder / "splits.parquet",
        study=folder / "study.json",
        robustness=folder / "robustness.json",
        comparison=folder / "comparison.json",
        model=folder / "model.safetensors",
        history=folder / "history.parquet",
        metrics=folder / "metrics.json",
        localisation=folder / "localisation.json",
        figures=tuple(folder / f"{name}.png" for name in WANTED_FIGURES),
    )
    catalog.write_parquet(inputs.catalog)
    splits.write_parquet(inputs.splits)
    history = {"fold": [0, 0], "seed": [7, 7], "epoch": [1, 2], "val_loss": [0.2, 0.1]}
    pl.DataFrame(history).write_parquet(inputs.history)
    save_model(inputs.model, create_net(spec), spec)
    params = EvaluateParams(bootstrap=30)
    operating = fix_on_validation(predictions, params, "0" * 64, synthetic=synthetic)
    metrics = evaluate(predictions, operating, params, 7, splits)
    metrics["runs"] = score_runs({"fold0_seed7": predictions}, params.clip)
    facts = gather_facts(predictions, catalog, None)
    metrics["subgroups"] = measure_subgroups(facts, 0.5, replicates=30)
    write_metrics(metrics, inputs.metrics)
    study = {
        "flow": flow_numbers(catalog, splits),
        "partitions": count_partitions(catalog, splits),
        "co_occurrence": count_co_occurrence(catalog, splits),
        "scans": describe_scans(catalog, splits),
        "leakage": leakage_table(catalog, splits),
    }
    write_metrics(study, inputs.study)
    inputs.robustness.write_text(json.dumps(ROBUSTNESS))
    write_metrics({"systems": [], "slices": 0, "patients": 0}, inputs.comparison)
    inputs.flow.write_text(
        json.dumps(
            {
                "files": 60,
                "pictures": 60,
                "readable": 57,
                "ct": 57,
                "head": 57,
                "labelled": 56,
                "used": 56,
                "quarantined": {"truncated": 3, "unlabelled": 1},
                "repaired_12_bit": 2,
                "label_rows": 360,
                "label_rows_duplicated": 12,
                "labels_without_file": 1,
            }
        )
    )
    inputs.localisation.write_text(json.dumps(LOCALISATION))
    for path in inputs.figures:
        path.write_bytes(PIXEL)
    return inputs


class Page(HTMLParser):
    """Title, text, tables, links and loaded resources of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.title = self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.table = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        if given.get("id"):
            self.ids.append(given["id"])
            if given["id"].startswith("table-"):
                self.table = given["id"].removeprefix("table-")
                self.tables[self.table] = []
        if tag == "a":
            self.links.append(given["href"])
        elif "src" in given or "href" in given:
            self.loads.append(given.get("src") or given["href"])
        if tag == "tr":
            self.tables[self.table].append([])
        if tag in ("th", "td"):
            self.tables[self.table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        if "title" in self.open:
            self.title += data
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[self.table][-1][-1] += data

    def row(self, table: str, name: str) -> list[str]:
        return next(row for row in self.tables[table] if row[0] == name)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> ReportInputs:
    return make_inputs(tmp_path_factory.mktemp("products"))


@pytest.fixture(autouse=True, scope="module")
def _fixed_commit() -> Iterator[None]:
    """Hold the commit, which a colleague may change between two reports of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hemtrace.report.evidence.git_commit", lambda: "4567def")
        yield


def write(inputs: ReportInputs, folder: Path, params: ReportParams | None = None) -> list[str]:
    """Write all pages: those of the report, the model card, the checklists and provenance."""
    names = ("index.html", "model_card.md", "checklists.html", "provenance.html")
    page, card, checklists, provenance = (folder / name for name in names)
    pages = ReportPages(page=page, card=card, checklists=checklists, provenance=provenance)
    build_report(inputs, Params(report=params or ReportParams()), pages)
    return [(folder / name).read_text() for name in names]


@pytest.fixture(scope="module")
def written(inputs: ReportInputs) -> list[str]:
    return write(inputs, inputs.catalog.parent / "reports")


@pytest.fixture(scope="module")
def page(written: list[str]) -> Page:
    return Page(written[0])


def test_title_banner_card_and_foot_say_synthetic(page: Page, written: list[str]) -> None:
    assert page.title.startswith("SYNTHETIC DATA")
    assert "not clinical performance" in page.title
    assert page.text.count("SYNTHETIC DATA") >= 3
    assert "SYNTHETIC DATA" in written[1]
    assert "not a medical device" in page.text
    assert "not a medical device" in written[1]


def test_real_data_are_not_called_synthetic(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, synthetic=False)
    *pages, provenance = write(inputs, tmp_path)
    assert "SYNTHETIC DATA" not in provenance  # the parameters of the phantom stand on it
    for text in pages:
        assert "synthetic" not in re.sub(r"<style>.*</style>", "", text, flags=re.S).lower()
        assert "not a medical device" in text


def test_page_loads_nothing_from_elsewhere(page: Page, written: list[str]) -> None:
    assert page.loads
    assert all(load.startswith("data:image/") for load in page.loads)
    assert "script" not in page.tags
    assert "@import" not in written[0]
    assert not re.search(r"url\(\s*['\"]?(?!data:)", written[0])


def test_links_and_ids_fit_and_every_tag_is_closed(page: Page) -> None:
    assert len(set(page.ids)) == len(page.ids)
    beside = {"provenance.html", "checklists.html", "ingestion.html", "results.csv"}
    inside = [link for link in page.links if link not in beside]
    assert beside <= set(page.links)
    assert all(link.startswith("#") and link[1:] in page.ids for link in inside)
    assert page.open == []


def test_every_figure_is_embedded_whole(page: Page) -> None:
    embedded = [base64.b64decode(load.split(",", 1)[1]) for load in page.loads]
    assert embedded.count(PIXEL) == len(WANTED_FIGURES)
    # the flow, and which labels come together
    assert sum(picture.lstrip().startswith(b"<?xml") for picture in embedded) == 2


def test_no_patient_stands_on_page_or_card(written: list[str]) -> None:
    for text in written:
        assert "fee1" not in text


def test_counts_of_files_add_up_on_the_page(page: Page) -> None:
    assert page.row("flow", "files")[1] == "60"
    assert page.row("flow", "pictures")[1] == "60"
    assert page.row("flow", "readable")[1] == "57"
    assert page.row("flow", "labelled")[1] == "56"
    assert page.row("flow", "used")[1] == "56"
    assert page.row("flow", "quarantined: truncated")[1] == "3"
    assert "56 used + 4 quarantined = 60 pictures" in page.text
    slices = [int(page.row("split", name)[4]) for name in ("train", "val", "test")]
    assert sum(slices) == 56
    assert [int(page.row("split", name)[1]) for name in ("train", "val", "test")] == [6, 3, 3]


def test_quarantined_files_stand_with_key_and_reason(page: Page) -> None:
    rows = page.tables["quarantine"][1:]
    assert [row[0] for row in rows] == [f"ID_{k:09x}" for k in (5, 17, 40, 23)]
    assert rows[0][1] == "the file ends before its pixels do"


def test_quarantine_list_is_cut_and_says_so(inputs: ReportInputs, tmp_path: Path) -> None:
    short = Page(write(inputs, tmp_path, ReportParams(quarantine_rows=2))[0])
    assert len(short.tables["quarantine"]) == 3
    assert "2 of 4 quarantined files" in short.text


def test_figures_on_the_page_are_those_of_the_metrics(page: Page, inputs: ReportInputs) -> None:
    metrics = json.loads(inputs.metrics.read_text())
    test = metrics["partitions"]["test"]["slices"]
    for label in SUBTYPES[1:]:
        own, row = test["labels"][label], page.row("labels", label)
        assert row[2].startswith(f"{own['roc_auc']['value']:.3f}")
        assert f"null {own['null']['log_loss']:.3f}" in row[4]
    _, value, null, _ = page.row("levels", "weighted log loss")
    assert f"{test['weighted_log_loss']['value']:.3f}" in value
    assert f"{test['null']['weighted_log_loss']:.3f}" in null


def test_undefined_figures_are_called_so(page: Page) -> None:
    assert page.row("labels", "epidural")[2].startswith("not estimable")
    assert "Not estimable for epidural: no positive slice." in page.text
    assert "nan" not in page.text.lower().split()
    assert "None" not in [cell for table in page.tables.values() for row in table for cell in row]


def test_missing_masks_are_said(page: Page) -> None:
    assert "Not scored" in page.text


def test_provenance_names_what_can_be_checked(page: Page, inputs: ReportInputs) -> None:
    assert page.row("provenance", "model trained by commit")[1] == "0123abc"
    assert page.row("provenance", "SHA-256 of metrics.json")[1] == file_digest(inputs.metrics)
    assert page.row("provenance", "data digest that the model was trained on")[1] == "the same"


def test_text_from_products_is_escaped(written: list[str]) -> None:
    assert "seed &lt;&amp;&gt;." in written[0]


def test_model_card_has_the_sections_of_mitchell_2019(written: list[str]) -> None:
    headings = re.findall(r"^## (.+)$", written[1], flags=re.M)
    assert [name.split()[0] for name in headings] == [
        "Model",
        "Intended",
        "Factors",
        "Metrics",
        "Training",
        "Quantitative",
        "Ethical",
        "Caveats",
        "Provenance",
    ]
    widths = [line.count("|") for line in written[1].splitlines() if line.startswith("|")]
    assert len(widths) > 30
    assert min(widths) >= 3


def test_same_products_give_the_same_bytes(
    inputs: ReportInputs, written: list[str], tmp_path: Path
) -> None:
    # All but the page on provenance, which tells times.
    assert write(inputs, tmp_path)[:3] == written[:3]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("files", 61, "files of the catalog 60"),
        ("used", 55, "do not add up"),
        ("readable", 58, "past the step readable 58, those by the reasons 57"),
        ("labelled", 57, "past the step labelled 57, those by the reasons 56"),
        ("quarantined", {"truncated": 3}, "used and quarantined 59"),
    ],
)
def test_counts_that_do_not_add_up_stop_the_report(
    inputs: ReportInputs, tmp_path: Path, field: str, value: object, words: str
) -> None:
    flow = json.loads(inputs.flow.read_text())
    changed = tmp_path / "ingest.json"
    changed.write_text(json.dumps(flow | {field: value}))
    with pytest.raises(HemtraceError, match=words):
        write(replace(inputs, flow=changed), tmp_path)
    assert not (tmp_path / "index.html").exists()


def test_figures_of_another_run_stop_the_report(inputs: ReportInputs, tmp_path: Path) -> None:
    metrics = json.loads(inputs.metrics.read_text())
    metrics["partitions"]["test"]["slices"]["n"] += 1
    changed = tmp_path / "metrics.json"
    changed.write_text(json.dumps(metrics))
    with pytest.raises(HemtraceError, match="slices scored in test"):
        write(replace(inputs, metrics=changed), tmp_path)


def test_missing_figure_is_a_sentence(inputs: ReportInputs, tmp_path: Path) -> None:
    fewer = replace(inputs, figures=inputs.figures[1:])
    with pytest.raises(HemtraceError, match=f"lacks the figures {WANTED_FIGURES[0]}"):
        write(fewer, tmp_path)
