"""report: what a reader finds on the page, and what must never stand on it."""

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from hemtrace.errors import HemtraceError
from hemtrace.evaluate import (
    PROBABILITIES,
    evaluate,
    fix_on_validation,
    render_latex,
    results_table,
    score_runs,
    write_metrics,
)
from hemtrace.evaluate.subgroups import gather_facts, measure_subgroups
from hemtrace.external.results import find_results
from hemtrace.external.results import summarise as sum_up_external
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.model import ModelSpec, create_net, save_model
from hemtrace.params import (
    DEFAULT_WINDOWS,
    EvaluateParams,
    NetworkParams,
    Params,
    PhantomParams,
    ReportParams,
)
from hemtrace.params.train import find_idle
from hemtrace.provenance import data_digest, file_digest
from hemtrace.report import ReportInputs, ReportPages, build_report
from hemtrace.report.cells import FOOTNOTE, MARK, marked_cell
from hemtrace.report.evidence import WANTED_FIGURES
from hemtrace.report.looks import count_galleries, tell_counts
from hemtrace.report.render import COVERAGE
from hemtrace.report.summary import summarise
from hemtrace.report.verdicts import (
    judge_peaks,
    judge_planted,
    judge_randomisation,
    tell_leak,
    tell_worse_than_chance,
)
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
FAMILIARITY = {
    "why": None,
    "studies": 9,
    "unlike": 2,
    "bleeding": 4,
    "unlike_bleeding": 1,
    "threshold": 2.2,
    "farthest": 2.5,
    "drawn": None,
}
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
    "randomisation": {"why": "there are no flagged test slices"},
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


def make_inputs(folder: Path, synthetic: bool = True, replicates: int = 30) -> ReportInputs:
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
        familiarity=folder / "familiarity.json",
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
    predictions.write_parquet(folder / "predictions.parquet")
    params = EvaluateParams(bootstrap=replicates)
    operating = fix_on_validation(predictions, params, "0" * 64, synthetic=synthetic)
    metrics = evaluate(predictions, operating, params, 7, splits)
    metrics["runs"] = score_runs({"fold0_seed7": predictions}, params.clip)
    facts = gather_facts(predictions, catalog, None)
    metrics["subgroups"] = measure_subgroups(facts, 0.5, replicates=replicates)
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
    inputs.familiarity.write_text(json.dumps(FAMILIARITY))
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
        self.saves: dict[str, str] = {}
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
            if given.get("download"):
                self.saves[given["download"]] = given["href"]
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


def write_with(inputs: ReportInputs, folder: Path, factor: float) -> list[str]:
    """Write the pages of a run whose phantom has lesions of so many times the real volume."""
    pages = ReportPages(*(folder / name for name in "pctm"))
    params = Params(phantom=PhantomParams(lesion_volume_factor=factor))
    build_report(inputs, params, pages)
    return [pages.page.read_text(), pages.card.read_text()]


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
        bare = re.sub(r"<style>.*</style>", "", text, flags=re.S).lower()
        # the name of a check, whatever the data
        assert "synthetic" not in bare.replace("synthetic lesion insertion", "")
        assert "not a medical device" in text


def test_lesions_that_are_enlarged_are_called_so_wherever_it_matters(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    html, card = write_with(inputs, tmp_path, 7.5)
    told = "7.5 times the volume of those measured in real scans"
    banner, short, limits = (
        html[html.index(start) :].partition(end)[0]
        for start, end in (
            ('class="banner"', "</div>"),
            ('id="summary"', "</section>"),
            ('id="limits"', "</section>"),
        )
    )
    for part in (banner, short, limits, card):
        assert told in part
        assert "easier to find" in part
    assert "harder to find" in write_with(inputs, tmp_path, 0.5)[0]
    assert "easier" not in write_with(inputs, tmp_path, 1)[0]


def test_studies_that_prediction_would_not_answer_stand_among_the_limits(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    html, card = write_with(inputs, tmp_path, 1)
    told = "Of 9 scored studies 2 (1 of the 4 with a bleed) lie farther from the training slices"
    assert told in html[html.index('id="limits"') :]
    assert told in card.partition("## Caveats")[2]


def test_volumes_of_real_lesions_are_not_spoken_of(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, synthetic=False)
    for text in write_with(inputs, tmp_path, 7.5):
        assert "times the volume" not in text
        assert "lesion_volume_factor" not in text


def test_page_loads_nothing_from_elsewhere(page: Page, written: list[str]) -> None:
    assert page.loads
    assert all(load.startswith("data:image/") for load in page.loads)
    assert "script" not in page.tags
    assert "@import" not in written[0]
    assert not re.search(r"url\(\s*['\"]?(?!data:)", written[0])


def test_links_and_ids_fit_and_every_tag_is_closed(page: Page) -> None:
    assert len(set(page.ids)) == len(page.ids)
    beside = {"provenance.html", "checklists.html", "ingestion.html"}
    inside = [link for link in page.links if link not in beside and not link.startswith("data:")]
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


def figure(
    value: float | None, low: float | None = None, high: float | None = None, **more: str
) -> dict[str, Any]:
    why = None if low is not None else "too few"
    return {"value": value, "low": low, "high": high, "why": why, **more}


def test_intervals_that_rest_on_few_patients_are_marked_once_explained(
    page: Page, inputs: ReportInputs
) -> None:
    few = figure(0.9, 0.8, 1.0, note="rests on 4 patients: too narrow")
    assert marked_cell(few) == f"0.900\n0.800\N{EN DASH}1.000{MARK}"
    assert MARK not in marked_cell(figure(0.9, 0.8, 1.0))
    assert MARK not in marked_cell(figure(0.9, note="rests on 4 patients"))
    # three test patients: whatever has an interval here rests on few
    metrics = json.loads(inputs.metrics.read_text())
    loss = metrics["partitions"]["test"]["slices"]["weighted_log_loss"]
    assert loss["note"].startswith("rests on 3 patients")
    assert MARK in page.row("levels", "weighted log loss")[1]
    marked = [name for name, rows in page.tables.items() if MARK in str(rows)]
    assert page.text.count(FOOTNOTE) == len(marked) + 1  # and once below the headline figures
    assert "flow" not in marked


def test_marked_intervals_of_the_model_card_are_explained(written: list[str]) -> None:
    tables = written[1].split("\n**")
    for table in tables:
        bears = any(MARK in line for line in table.splitlines() if line.startswith("|"))
        assert (FOOTNOTE in table) >= bears


LEAK = {
    "network": figure(0.671),
    "position": figure(0.721),
    "difference": figure(-0.05, -0.15, 0.06),
    "passed": True,
    "detectable": {
        "shift": 0.123,
        "power": 0.8,
        "patients": 40,
        "bearers": 17,
        "permutations": 100,
        "why": None,
    },
}


def test_leak_test_says_how_large_a_leak_it_would_have_found() -> None:
    told = tell_leak({"leak_test": LEAK})
    assert told.startswith("Passed, because")
    assert (
        "With 40 patients, 17 bearing a shuffled label of a bleed, a leak that lifts the AUC"
        in told
    )
    assert "no large leak was found" in told
    assert "an AUC of 0.671, the position alone 0.721 on the same labels" in told
    assert "no sign" not in told.lower()
    assert "found four times in five" in told
    unknown = LEAK["detectable"] | {"shift": None, "why": "only 3 patients"}
    told = tell_leak({"leak_test": LEAK | {"detectable": unknown}})
    assert "is not known: only 3 patients." in told
    found = LEAK | {"difference": figure(0.2, 0.1, 0.3), "passed": False}
    assert tell_leak({"leak_test": found}).startswith("Failed, because")
    none = LEAK | {"difference": figure(0.2) | {"why": "no replicates"}, "passed": None}
    told = tell_leak({"leak_test": none})
    assert told.startswith("Cannot be told, because its figure has no interval: no replicates.")


def planted(hits: dict[str, Any], flipped: float = 0.05, quadrant: float = 0.5) -> dict[str, Any]:
    kind = {
        "hits": hits,
        "quadrants": {"upper left": figure(quadrant), "lower left": figure(0.6)},
        "flipped": {"mirrored": figure(flipped), "upside down": figure(0.0)},
    }
    return {"planted": {"why": None, "chance": 0.14, "difference": kind, "map": kind}}


def test_planted_bleeds_pass_only_by_the_stated_rule() -> None:
    told = judge_planted(planted(figure(0.56, 0.36, 0.73)))
    assert told.startswith("Passed, because")
    assert "0.56 (95 % 0.36\N{EN DASH}0.73)" in told
    assert "Rule: " in told
    for case, words in (
        (planted(figure(0.2, 0.1, 0.3)), "reaches down to chance (0.14)"),
        (planted(figure(0.56, 0.36, 0.73), flipped=0.4), "at its place mirrored (0.40)"),
        (planted(figure(0.56, 0.36, 0.73), quadrant=0.1), "planted upper left"),
    ):
        told = judge_planted(case)
        assert told.startswith("Failed, because")
        assert words in told
    assert judge_planted(planted(figure(0.5))).startswith("Cannot be told, because")
    assert judge_planted({"planted": {"why": "no clear slices"}}) == "Not made: no clear slices."


def peaks(**given: tuple[int, float | None, float | None]) -> dict[str, Any]:
    """Scores of heat maps: slices, share hit and its lower bound by subtype; chance is 0.3."""
    labels = {
        name: {
            "all": {
                "n": given.get(name, (0, None, None))[0],
                "pointing": figure(*given.get(name, (0, None, None))[1:], 1.0),
                "pointing_chance": 0.3,
            }
        }
        for name in LABELS
    }
    return {"labels": labels}


def test_subtypes_whose_maps_peak_worse_than_chance_are_named_in_whole_numbers() -> None:
    found = peaks(
        subarachnoid=(39, 7 / 39, 0.0), subdural=(25, 0.28, 0.1), epidural=(20, 0.5, None)
    )
    told = judge_peaks(found)
    assert told.startswith("Failed for subarachnoid and subdural, because")
    assert "subarachnoid on 7 of 39 slices, by chance on 11.7" in told
    assert "subdural on 7 of 25 slices, by chance on 7.5" in told
    unknown = "Cannot be told for epidural, intraparenchymal and intraventricular, because"
    assert unknown in told
    limit = tell_worse_than_chance(found)
    assert limit.startswith("The maps of subarachnoid and subdural peak on the bleed less often")
    good = peaks(**dict.fromkeys(SUBTYPES, (10, 0.8, 0.6)))
    assert judge_peaks(good).startswith("Passed for epidural, ")
    assert "Failed" not in judge_peaks(good).partition("Rule:")[0]
    assert tell_worse_than_chance(good) == ""
    assert judge_peaks({"labels": None}).startswith("Not made")


def test_maps_that_are_worse_than_chance_stand_among_the_limits(
    inputs: ReportInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tell_worse_than_chance(peaks(subdural=(25, 0.28, 0.1)))
    monkeypatch.setattr("hemtrace.report.render.tell_worse_than_chance", lambda _: told)
    html, card, *_ = write(inputs, tmp_path)
    for text in (html[html.index('id="limits"') :], card.partition("## Ethical")[2]):
        assert "The maps of subdural peak on the bleed less often than by chance" in text


def test_galleries_and_random_networks_say_how_much_they_show() -> None:
    catalog = pl.DataFrame({"slice": list("abcde"), "patient": list("ppqqr")})
    chosen = {"bleeds": ["a", "b", "c"], "worst": {"missed": ["a"], "false alarm": []}}
    nested = chosen | {"subtypes": {"subdural": {"found": ["d"], "missed": ["e"]}}}
    counts = count_galleries({"gallery_slices": nested}, catalog)
    assert counts == {"bleeds": (3, 2), "worst": (1, 1), "subtypes": (2, 2)}
    check = {"why": None, "slices": 12, "patients": 11, "draws": 3}
    told = tell_counts({"randomisation": check}, counts)
    assert told["gallery_bleeds"] == "3 slices of 2 patients."
    assert told["randomisation"].startswith("Mean over 12 slices of 11 patients and 3 draws")
    assert "randomisation" not in tell_counts({"randomisation": {"why": "none"}}, counts)


@pytest.mark.parametrize(
    ("list_", "item", "section", "words"),
    [
        ("claim", "9", "training", "the whole slice"),
        ("claim", "9", "training", "by one function for every slice"),
        ("tripod-ai", "9a", "training", "nothing of the header enters it"),
        ("tripod-ai", "27a", "flow", "refused by the same code"),
        ("stard-ai", "17a", "training", "Pixels are the network's only input"),
        ("stard-ai", "17a", "results", "seen in training, calibration or the choice"),
        ("stard-ai", "23", "limits", "Age and sex are not kept"),
        ("stard-ai", "28", "limits", "share of those with a bleed is a parameter of the phantom"),
    ],
)
def test_what_a_checklist_calls_answered_stands_where_it_leads(
    written: list[str], list_: str, item: str, section: str, words: str
) -> None:
    html, _, checklists, _ = written
    row = checklists.partition(f'id="{list_}-{item}"')[2].partition("</tr>")[0]
    assert f'href="index.html#{section}"' in row
    there = html.partition(f'<section id="{section}"')[2].partition("</section>")[0]
    assert words in Page(f'<section id="{section}"{there}</section>').text


def test_sections_bear_the_terms_of_the_field(page: Page, written: list[str]) -> None:
    for title in (
        "Baselines",
        "Subgroup analysis",
        "Robustness to perturbations",
        "Decision curve and worklist analysis",
    ):
        assert f"<h2>{title}</h2>" in written[0]
    words = ("Model-parameter randomisation test", "Synthetic lesion insertion", "overfitting")
    for word in words:
        assert word in page.text
    # at first use the plain word stands beside the term
    assert page.text.index("false positives (false alarms)") < page.text.index("alse alarm") + 17


def randomised(similarity: dict[str, Any], pointing: dict[str, Any]) -> dict[str, Any]:
    steps = [
        {"name": "trained", "similarity": figure(1.0, 1.0, 1.0), "pointing": figure(0.9, 0.8, 1)},
        {"name": "classifier", "similarity": similarity, "pointing": figure(0.9, 0.8, 1.0)},
        {"name": "all", "similarity": figure(0.1, 0.0, 0.2), "pointing": pointing},
    ]
    check = {"why": None, "steps": steps, "pointing_chance": 0.35, "other_patients": 0.02}
    return {"randomisation": check}


def test_random_networks_pass_only_where_their_maps_change() -> None:
    changed, by_chance = figure(0.1, 0.0, 0.2), figure(0.3, 0.2, 0.4)
    told = judge_randomisation(randomised(changed, by_chance))
    assert told.startswith("Passed, because the maps change: with all layers random")
    told = judge_randomisation(randomised(figure(0.6, 0.4, 0.7), by_chance))
    assert told.startswith("Failed, because with the classifier random the similarity is 0.60")
    told = judge_randomisation(randomised(changed, figure(0.8, 0.6, 0.9)))
    assert told.startswith("Failed, because with all layers random the peaks hit a bleed in 0.80")
    told = judge_randomisation(randomised(figure(0.1), by_chance))
    assert told.startswith("Cannot be told, because")


def test_random_networks_that_hit_bleeds_never_pass_for_want_of_an_interval() -> None:
    changed = figure(0.1, 0.0, 0.2)
    for hits in (1.0, 0.36):
        told = judge_randomisation(randomised(changed, figure(hits)))
        assert told.startswith("Cannot be told, because with all layers random the peaks hit a")
        assert f"in {hits:.2f}, by chance in 0.35, and the hits have no interval: too few." in told
    assert judge_randomisation(randomised(changed, figure(0.0))).startswith("Passed, because")
    worse = randomised(figure(0.6, 0.4, 0.7), figure(1.0))
    assert judge_randomisation(worse).startswith("Failed, because with the classifier random")


def test_verdicts_stand_before_what_they_judge(written: list[str]) -> None:
    html = written[0]
    for verdict, item in (
        ("leak", "table-nulls"),
        ("planted", "table-planted"),
        ("peaks", "table-localisation"),
        ("randomisation", "figure-randomisation"),
    ):
        assert html.index(f'id="verdict-{verdict}"') < html.index(f'id="{item}"')


def test_first_screen_says_what_a_clinician_asks(page: Page, inputs: ReportInputs) -> None:
    metrics = json.loads(inputs.metrics.read_text())
    point = metrics["default_point"]
    for level, unit in (("patients", "synthetic patients"), ("slices", "slices")):
        own = metrics["partitions"]["test"][level]["labels"]["any"]["points"][point]
        held = own["confusion"]
        positives, negatives = held["tp"] + held["fn"], held["fp"] + held["tn"]
        words = rf"{held['tp']} of {positives} {unit} with a bleed (was|were) found[^,]*, "
        words += rf"{held['tn']} of {negatives} {unit} without one (was|were) cleared"
        assert re.search(words, page.text)


def say(tp: int, fn: int) -> str:
    """What the first screen says of patients with a bleed."""
    rate = figure(tp / (tp + fn), 0.5, 1.0)
    counts = {"tp": tp, "fn": fn, "fp": 1, "tn": 1}
    scores = {
        "sensitivity": rate,
        "specificity": figure(0.5),
        "confusion": counts,
        "threshold": 0.1,
    }
    level = {
        "n": 9,
        "labels": {"any": {"positives": 9, "points": {"p": scores}, "roc_auc": figure(None)}},
    }
    metrics = {
        "partitions": {"test": {"slices": level, "patients": level}},
        "default_point": "p",
        "sample_size": [{"positive_patients": 1, "label": "epidural"}],
    }
    told = summarise(SimpleNamespace(metrics=metrics, spec=SimpleNamespace(synthetic=False)))
    return told[0]


def test_first_sentence_counts_and_extrapolates_to_no_hundred() -> None:
    told = say(10, 3)
    assert told.startswith(
        "10 of 13 patients with a bleed were found (95 % interval 50 to 100 %), "
    )
    assert "1 of 2 patients without one was cleared. A patient is flagged where" in told
    assert "100 patients" not in told
    assert say(1, 9999).startswith("1 of 10,000 patients with a bleed was found")


def test_patients_lead_the_headline_figures(written: list[str]) -> None:
    names = re.findall(r'<p class="name">([^<]*)</p>', written[0])
    assert names[:2] == [f"{name}, any bleed, patients" for name in ("Sensitivity", "Specificity")]
    head = written[0].partition('class="cards"')[0]
    assert "Weights at the start" not in head


def test_what_warns_of_published_figures_stands_above_them(written: list[str]) -> None:
    for table in ("published", "paper"):
        html = written[0][written[0].index(f'id="table-{table}"') :]
        assert html.index("no row compares") < html.index("<table")
    assert "0.03 to 0.14" not in "".join(written)
    assert "Wang et al. 2021 (NeuroImage: Clinical 32:102785)" in written[1]


def test_without_a_bootstrap_no_sentence_speaks_of_intervals_that_are_not(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, replicates=0)
    html, card, checklists, _ = write(inputs, tmp_path)
    page = Page(html)
    untrue = re.compile(
        r"resample whole patients\.|Lines are|95 % interval\.|percentile|[Tt]he band is|with 95 %|"
        r"fewer than three patients|[Ww]ith (its|an) interval|too few patients to tell|0 replicates"
    )
    for text in (page.text, card, Page(checklists).text):
        found = [text[max(0, m.start() - 120) : m.end() + 40] for m in untrue.finditer(text)]
        # heat maps are resampled whatever evaluate.bootstrap says
        assert not [one for one in found if "eat maps" not in one], found
        assert "evaluate.bootstrap is 0" in text
    # the exact binomial interval of a share of patients that is 0 or 1 needs no bootstrap
    assert re.search(r"0\.16\N{EN DASH}1\.00", page.text)
    assert not [cell for row in page.tables["labels"] for cell in row if "\N{EN DASH}" in cell]


def test_page_mailed_alone_carries_tables_and_card(
    page: Page, written: list[str], inputs: ReportInputs
) -> None:
    saved = {
        name: base64.b64decode(address.split(",", 1)[1]).decode()
        for name, address in page.saves.items()
    }
    metrics = json.loads(inputs.metrics.read_text())
    rows = pl.read_csv(io.StringIO(saved["results.csv"]))
    assert rows.height == results_table(metrics, synthetic=True).height
    assert set(rows["data"]) == {"SYNTHETIC DATA - not clinical performance"}
    assert saved["results.tex"] == render_latex(metrics, synthetic=True)
    assert saved["model_card.md"] == written[1]
    assert "If you were sent this page alone" in page.text
    for name in ("provenance.html", "checklists.html", "ingestion.html"):
        assert f"({name})" in page.text


def make_external(name: str, level: str, auc: dict[str, Any]) -> dict[str, Any]:
    """A row as `external.results.find_results` gives it."""
    return {
        "name": name,
        "synthetic": False,
        "model_sha256": "a" * 64,
        "level": level,
        "label": "any",
        "n": 491,
        "patients": 480,
        "positives": 200,
        "positive_patients": 199,
        "point": "rule-out",
        "roc_auc": auc,
        "sensitivity": figure(0.91, 0.87, 0.95),
        "specificity": figure(0.52, 0.45, 0.58),
        "why": None,
        "problem": None,
    }


def test_external_results_of_the_model_stand_in_the_report(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    rows = (
        make_external("CQ500", "studies", figure(0.876, 0.84, 0.91)),
        {"name": "old", "problem": "external/old/external.json is of another model."},
    )
    html, card, checklists, _ = write(replace(inputs, external=rows), tmp_path)
    page = Page(html)
    row = page.row("external", "CQ500, studies")
    assert row[2:5] == ["480", "491", "200"]
    assert row[5].startswith("0.876")
    assert row[6].startswith("0.910")
    assert "../external/CQ500/index.html" in page.links
    assert "tested on another data set: CQ500." in page.text
    assert "external/old/external.json is of another model." in page.text
    assert "CQ500, studies: 0.876" in page.text  # beside the published figures
    assert "0.876" in card.partition("External test, by the frozen model")[2]
    assert "0.876 (95 % interval 0.840\N{EN DASH}0.910) by studies" in Page(checklists).text


def test_what_external_tests_write_is_what_the_report_reads(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    metrics, digest = json.loads(inputs.metrics.read_text()), file_digest(inputs.model)
    levels = metrics["partitions"]["test"]
    for level in levels.values():
        level["patients"] = level.get("patients", level["n"])
        for own in level["labels"].values():
            own["points_why"] = None
    for name, model in (("here", digest), ("old", "0" * 64)):
        found = {"name": name, "model_sha256": model, "synthetic": True}
        found["summary"] = sum_up_external(levels, "balanced")
        path = tmp_path / "external" / name / "external.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(found))
    rows = tuple(find_results(tmp_path, digest))
    page = Page(write(replace(inputs, external=rows), tmp_path)[0])
    value = levels["slices"]["labels"]["any"]["roc_auc"]["value"]
    row = page.row("external", "here, slices SYNTHETIC MODEL OR DATA")
    assert row[5].startswith(f"{value:.3f}")
    assert MARK in row[5]
    assert "../external/here/index.html" in page.links
    assert "../external/old/index.html" not in page.links
    assert "external/old/external.json is of the model 000000000000" in page.text


def test_no_external_test_is_said_with_the_command_that_makes_one(
    page: Page, written: list[str]
) -> None:
    told = "Not done, because this run was given no other hospital's labelled scans."
    for text in (page.text, written[1], Page(written[2]).text):
        assert told in text
        assert "hemtrace external FOLDER --labels FILE" in text
    assert "external" not in page.tables


def test_slices_have_their_predictive_values_at_other_prevalences(
    page: Page, inputs: ReportInputs
) -> None:
    metrics = json.loads(inputs.metrics.read_text())
    own = metrics["partitions"]["test"]["slices"]["labels"]["any"]["points"]["balanced"]
    hit, cleared = own["sensitivity"]["value"], own["specificity"]["value"]
    place = [name.split(",")[0:2] for name in page.tables["prevalence_slices"][0]]
    column = place.index(["PPV", " balanced"])
    for prevalence in (0.01, 0.1, 0.5):
        wanted = hit * prevalence / (hit * prevalence + (1 - cleared) * (1 - prevalence))
        row = page.row("prevalence_slices", f"{prevalence:.1%}")
        assert row[column].startswith(f"{wanted:.2f}")
    assert page.row("prevalence", "10.0%")


def test_published_figures_name_who_published_them(page: Page) -> None:
    for words in ("Salehinejad et al. 2021", "Abrigo et al. 2023", "Wang et al. 2021", "Nemcek"):
        assert words in page.text
    assert [row[1] for row in page.tables["published"]].count("0.97") == 1
    assert "no row compares" in page.text
    for rows in (page.tables["published"], page.tables["paper"]):
        assert all(row[3] for row in rows)


def test_every_figure_of_the_paper_leads_to_ours(page: Page) -> None:
    rows = page.tables["paper"][1:]
    assert len(rows) >= 6
    assert "were not at hand" in page.text
    for anchor in ("training", "roc", "detection", "subtypes", "confusion", "gallery_bleeds"):
        assert f"#figure-{anchor}" in page.links


def test_coverage_on_the_page_is_what_the_benchmark_found(page: Page) -> None:
    path = Path(__file__).parents[1] / "benchmarks/results/coverage.json"
    found = {one["name"]: one["value"] for one in json.loads(path.read_text())["figures"]}
    for bearers, share in COVERAGE.items():
        assert found[f"AUC, {bearers} bearing patients"] == pytest.approx(share, abs=0.006)
        assert f"{share:.0%}".replace("%", " %") in page.text
    documented = (Path(__file__).parents[1] / "docs/evaluation.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in documented.splitlines() if "| " in line]
    (bearing,) = (row[1:] for row in rows if row[0] == "bearing patients")
    for figure in ("AUC", "sensitivity"):
        (shares,) = (row[1:] for row in rows if row[0] == figure)
        for count, share in zip(bearing, shares, strict=True):
            value = found.get(f"{figure}, {count} bearing patients")
            assert share == ("none" if value is None else f"{value:.2f}")


def test_wide_tables_can_be_scrolled_by_keyboard_and_say_so(written: list[str]) -> None:
    html = written[0]
    regions = re.findall(r'<div class="scroll" ([^>]*)>', html)
    assert len(regions) > 20
    for region in regions:
        assert 'tabindex="0"' in region
        assert 'role="region"' in region
        assert re.search(r'aria-label(ledby)?="[^"]+"', region)
    for table in re.findall(r'<div class="table".*?</table>', html, flags=re.S):
        columns = table.partition("</thead>")[0].count("<th ")
        assert ('class="hint"' in table) == (columns > 3)


def test_settings_that_another_puts_out_of_force_are_not_shown() -> None:
    plain = {"loss": "log", "sampling": "natural", "branches": "one", "context": "none"}
    assert find_idle(plain) == {
        "focal_gamma",
        "positive_share",
        "branch_windows",
        "context_window",
    }
    used = {"loss": "focal", "sampling": "positives", "branches": "windows"}
    assert find_idle(used | {"context": "neighbours"}) == set()
