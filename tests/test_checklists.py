"""checklists and model card: nothing is called answered, or reads as clinical, that is not."""

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from ruamel.yaml import YAML

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams
from hemtrace.phantom.scanner import VISIBLE_MM2
from hemtrace.report import checklists
from hemtrace.report.cells import FOOTNOTE, Headline, Table
from hemtrace.report.checklist_context import ChecklistContext, checklist_context
from hemtrace.report.checklists import (
    ANSWERED,
    AUTHORS,
    CHECKLISTS,
    NOT_APPLICABLE,
    STATES,
    checklist_tables,
    fill_checklists,
    render_checklists,
)
from hemtrace.report.render import SYNTHETIC, make_environment, read_sections, resource

ANCHORS = {
    name: name.capitalize()
    for name in (
        *("summary", "results", "levels", "subtypes", "nulls", "calibration", "operating"),
        *(
            "decision",
            "subgroups",
            "robustness",
            "errors",
            "where",
            "localisation",
            "study",
            "flow",
        ),
        *("split", "leakage", "training", "systems", "external", "rules", "limits", "provenance"),
    )
}
# As published: letters stand for sub-items.
PARTS = {
    "tripod": {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3},
    "stard": {15: 4, 16: 3, 17: 2, 26: 2, 40: 2},
}


def name_items(last: int, parts: Mapping[int, int]) -> list[str]:
    return [
        f"{item}{letter}"
        for item in range(1, last + 1)
        for letter in ("abcdefg"[: parts[item]] if item in parts else [""])
    ]


CLAIM = name_items(44, {})
TRIPOD = name_items(27, PARTS["tripod"])
STARD = name_items(40, PARTS["stard"])


def make_spec(synthetic: bool, **changes: Any) -> ModelSpec:
    return ModelSpec(
        network=NetworkParams(architecture="tf_efficientnet_lite0", **changes.pop("network", {})),
        weights="Random, drawn from the seed.",
        windows=DEFAULT_WINDOWS,
        size=64,
        synthetic=synthetic,
        seed=7,
        data_digest="d" * 64,
        **({"git_commit": "0123abc", "train": {"epochs": 2, "batch_size": 32}} | changes),
    )


def make_level(auc: float | None) -> dict[str, Any]:
    figure = {"value": auc, "low": auc and auc - 0.05, "high": auc and auc + 0.05, "why": None}
    absent = {"value": None, "low": None, "high": None, "why": "no positive slice"}
    points = {"balanced": {"sensitivity": figure, "specificity": figure}}
    scores = {"roc_auc": figure, "average_precision": figure, "points": points}
    labels = dict.fromkeys(LABELS, scores) | {"epidural": scores | {"roc_auc": absent}}
    return {"labels": labels, "weighted_log_loss": figure}


METRICS = {
    "partitions": {"test": {"slices": make_level(0.91), "patients": make_level(None)}},
    "default_point": "balanced",
    "rules": {
        "interval": "95 %, percentile bootstrap of whole patients",
        "score": "a patient's score is the highest",
        "calibration": "the logits are divided by one number",
        "points": {"rule-out": "", "rule-in": "", "balanced": ""},
        "bootstrap": 1000,
    },
}


def make_context(synthetic: bool, **changes: Any) -> ChecklistContext:
    counts = {"patients": 0, "positive_patients": 0, "slices": 0, "any": 0}
    names = changes.pop("partitions", ["train", "val", "test"])
    rows = [
        counts | {"partition": name, "patients": 1000 + place, "positive_patients": 400}
        for place, name in enumerate(names)
    ]
    given: dict[str, Any] = {
        "title": "Bleeds <on> CT",
        "spec": make_spec(synthetic),
        "metrics": METRICS,
        "flow": {"files": 60, "pictures": 60, "used": 56, "quarantined": {"truncated": 4}},
        "split": pl.DataFrame(rows),
        "localisation": {"labels": None, "cells": [8, 8]},
        "comparison": {"systems": []},
        "external": (),
        "anchors": ANCHORS,
    }
    return checklist_context(**(given | changes))


AREA = {"value": 0.9, "low": None, "high": None, "why": None}
NOTHING = {"value": None, "low": None, "high": None, "why": "no threshold"}


def make_external(name: str, synthetic: bool = False) -> list[dict[str, Any]]:
    """Rows as `external.results.find_results` gives them, the highest level first."""
    return [
        {
            "name": name,
            "synthetic": synthetic,
            "level": level,
            "n": 900,
            "patients": 491,
            "roc_auc": AREA if level == "patients" else NOTHING,
            "problem": None,
        }
        for level in ("patients", "slices")
    ]


EXTERNAL = make_external("CQ500")
FOREIGN = {"name": "old", "problem": "external/old/external.json is of the model 1, not of 2."}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "masks": {"localisation": {"labels": {}, "cells": [7, 7]}},
    "external": {"external": make_external("CQ500", synthetic=True)},
    "systems": {"comparison": {"systems": [1, 2]}},
    "folds": {"partitions": ["fold 0", "fold 1", "test", "dropped"]},
    "no section": {"anchors": {}},
    "few sections": {"anchors": {"results": "Results", "limits": "Limits"}},
}


def all_contexts() -> list[ChecklistContext]:
    contexts = [
        make_context(synthetic, **changes)
        for synthetic in (True, False)
        for changes in CASES.values()
    ]
    busy = {"sampling": "classes", "select": "best", "epochs": 2}
    for synthetic in (True, False):
        spec = make_spec(
            synthetic,
            members=3,
            train=busy,
            crop="head",
            network={"context": "both", "classifier": "svm"},
        )
        contexts.append(make_context(synthetic, spec=spec))
    return contexts


class Page(HTMLParser):
    """Ids, links and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag in ("script", "link", "img", "iframe"):
            self.loads.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("place", "items"), enumerate([CLAIM, TRIPOD, STARD]), ids=("claim", "tripod", "stard")
)
def test_no_item_is_missing_or_doubled(place: int, items: list[str]) -> None:
    rows = fill_checklists(make_context(True))[place].rows
    assert [row.item for row in rows] == items
    assert len(items) == (44, 52, 48)[place]


def test_topics_are_told_apart_and_short() -> None:
    for one in fill_checklists(make_context(False)):
        pairs = [(row.section, row.topic) for row in one.rows]
        assert len(set(pairs)) == len(pairs)
        assert max(len(row.topic) for row in one.rows) < 60


@pytest.mark.parametrize("context", all_contexts())
def test_every_answer_renders_whatever_the_run(context: ChecklistContext) -> None:
    for one in fill_checklists(context):
        assert sum(one.counts.values()) == len(one.rows)
        for row in one.rows:
            assert row.state in STATES
            assert row.text.endswith(".")
            assert not re.search(r"[{}<>]|None|nan\b|  | [.,;]|\.\.|True|False", row.text), row.text
            for _, address in row.links:
                page, _, anchor = address.partition("#")
                assert page != "index.html" or anchor in context.anchors


def test_every_form_of_every_answer_renders_for_phantom_and_real() -> None:
    answers = checklists._load("answers")
    for context in all_contexts():
        values = {name: getattr(context, name) for name in context.__dataclass_fields__}
        for name, forms in answers.items():
            for form in forms:
                checklists._find_state(form, name)
                if "external.name" in str(form) and context.external is None:
                    continue
                for text in (form.get("when", ""), *form.values()):
                    checklists._compile(str(text)).render(values)


def test_no_answer_is_left_over_and_every_form_can_be_reached() -> None:
    answers = checklists._load("answers")
    named = {row["answer"] for name in CHECKLISTS for row in checklists._load(name)["rows"]}
    assert named == set(answers)
    for name, forms in answers.items():
        # after a form that always holds no other would ever be taken
        for form in forms[:-1]:
            assert "when" in form or form.get("see"), name


def test_what_answers_point_to_exists() -> None:
    pages = {"ingestion.html": {section["id"] for section in read_sections("ingestion.yaml")}}
    pages["provenance.html"] = set(re.findall(r'id="([a-z]+)"', resource("provenance.html.j2")))
    assert {place.partition("#")[0] for place in checklists._PLACES} == {*pages, "model_card.md"}
    for name, forms in checklists._load("answers").items():
        for form in forms:
            for target in checklists._as_list(form.get("see", [])):
                page, _, anchor = target.partition("#")
                assert target in ANCHORS or target in checklists._PLACES, (name, target)
                assert page not in pages or anchor in pages[page], (name, target)


def test_section_that_the_report_lacks_is_never_called_an_answer() -> None:
    whole = make_context(True)
    for lost in ANCHORS:
        fewer = {name: title for name, title in ANCHORS.items() if name != lost}
        for one in fill_checklists(replace(whole, anchors=fewer)):
            for row in one.rows:
                assert f"index.html#{lost}" not in [address for _, address in row.links]
                assert row.state != ANSWERED or row.links


def state_of(context: ChecklistContext, item: str, place: int = 0) -> str:
    return next(row.state for row in fill_checklists(context)[place].rows if row.item == item)


def test_external_test_is_answered_only_where_there_is_one() -> None:
    assert state_of(make_context(False), "33") == AUTHORS
    tested = make_context(False, external=EXTERNAL)
    assert state_of(tested, "33") == ANSWERED
    text = next(row.text for row in fill_checklists(tested)[0].rows if row.item == "33")
    assert text.startswith("CQ500, 491 patients, ")
    assert text.endswith("AUC of any bleed 0.900 by patients.")
    # the same fact, so the same state as item 33 of CLAIM
    assert state_of(make_context(False), "29", 2) == AUTHORS
    assert state_of(make_context(False, external=EXTERNAL), "29", 2) == AUTHORS


def answer_of(context: ChecklistContext, item: str, place: int = 0) -> str:
    return next(row.text for row in fill_checklists(context)[place].rows if row.item == item)


def test_external_test_not_done_says_why_and_how_to_do_it() -> None:
    for external, why in (
        ((), "Not done, because this run was given no other hospital's labelled scans."),
        ([FOREIGN], f"because no result at hand is of this model. {FOREIGN['problem']}"),
    ):
        context = make_context(False, external=external)
        assert state_of(context, "33") == AUTHORS
        for item, place in (("33", 0), ("29", 2)):
            assert why in answer_of(context, item, place)
            assert "hemtrace external FOLDER --labels FILE" in answer_of(context, item, place)


def test_several_external_sets_are_all_named_at_their_highest_level() -> None:
    mixed = [*make_external("CQ500"), *make_external("phantom", synthetic=True), FOREIGN]
    text = answer_of(make_context(False, external=mixed), "33")
    assert text.startswith("CQ500 and phantom, 982 patients and synthetic patients, ")
    assert text.endswith("0.900 by patients and 0.900 by patients.")


def test_intervals_that_were_not_asked_for_answer_no_item() -> None:
    metrics = copy.deepcopy(METRICS)
    assert state_of(make_context(True), "29") == ANSWERED
    metrics["rules"]["bootstrap"] = 0
    bare = make_context(True, metrics=metrics)
    assert state_of(bare, "29") == AUTHORS
    for one in fill_checklists(bare):
        assert not [row.text for row in one.rows if "each with its interval" in row.text]


def test_robustness_left_out_of_a_run_is_left_to_the_authors() -> None:
    anchors = {name: title for name, title in ANCHORS.items() if name != "robustness"}
    assert state_of(make_context(True), "30") == ANSWERED
    assert state_of(make_context(True, anchors=anchors), "30") == AUTHORS


@pytest.mark.parametrize("item", ["44", "1", "2", "3", "4"])
def test_what_only_authors_know_is_never_answered(item: str) -> None:
    for context in all_contexts():
        assert state_of(context, item) == AUTHORS


@pytest.mark.parametrize(("place", "item"), [(1, "17"), (1, "5b"), (2, "6"), (2, "12")])
def test_questions_about_people_do_not_apply_to_the_phantom(place: int, item: str) -> None:
    assert state_of(make_context(True), item, place) == NOT_APPLICABLE
    assert state_of(make_context(False), item, place) == AUTHORS


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_synthetic_runs_never_read_as_clinical(changes: Mapping[str, Any]) -> None:
    html = render_checklists(make_context(True, **changes))
    assert html.index(SYNTHETIC) < html.index("<body>")
    assert html.count(SYNTHETIC) >= 3
    for one in fill_checklists(make_context(True, **changes)):
        for row in one.rows:
            # every count of patients says that they are synthetic
            assert not re.search(r"\d\)? (patients|people|participants)", row.text), row.text
            assert not re.search(r"clinical (performance|accuracy|use)", row.text), row.text


def test_real_runs_bear_no_synthetic_mark() -> None:
    html = render_checklists(make_context(False))
    assert "SYNTHETIC" not in html
    assert "synthetic" not in html.lower()


def test_what_does_not_apply_leads_nowhere() -> None:
    # who links to data has answered
    for context in all_contexts():
        for one in fill_checklists(context):
            assert not [row.item for row in one.rows if row.state == NOT_APPLICABLE and row.links]


@pytest.mark.parametrize(("place", "item"), [(0, "36"), (1, "20b"), (2, "25")])
def test_characteristics_of_computed_heads_are_answered(place: int, item: str) -> None:
    assert state_of(make_context(True), item, place) == ANSWERED
    assert state_of(make_context(False), item, place) == AUTHORS


@pytest.mark.parametrize(("place", "item"), [(0, "38"), (2, "31")])
def test_accuracy_is_told_by_patients_too(place: int, item: str) -> None:
    metrics = copy.deepcopy(METRICS)
    metrics["partitions"]["test"]["patients"] = make_level(0.77)
    text = answer_of(make_context(True, metrics=metrics), item, place)
    assert "sensitivity 0.910" in text
    of_patients = text.partition("by synthetic patients ")[2]
    assert of_patients.startswith("sensitivity 0.770 (95 %")
    assert "specificity 0.770" in of_patients


def test_answers_hold_the_figures_of_the_run() -> None:
    rows = {row.item: row for row in fill_checklists(make_context(True))[0].rows}
    assert "0.910 (95 % interval 0.860\N{EN DASH}0.960)" in rows["38"].text
    assert "Not estimable: epidural" in rows["38"].text
    assert "not estimable by synthetic patients" in rows["37"].text
    assert "2,001 for development" in rows["19"].text
    assert "1,002 for the test" in rows["19"].text
    assert "in training and validation" in rows["19"].text
    folds = fill_checklists(make_context(True, partitions=["fold 0", "fold 1", "test", "dropped"]))
    assert "in 2 folds" in next(row.text for row in folds[0].rows if row.item == "19")


def test_page_stands_alone_counts_right_and_links_within_itself() -> None:
    context = make_context(True)
    html = render_checklists(context)
    page = Page(html)
    assert not page.loads
    assert len(set(page.ids)) == len(page.ids)
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
    table = checklist_tables(fill_checklists(context))["checklists"]
    for one, row in zip(fill_checklists(context), table.rows, strict=True):
        assert [int(cell) for cell in row[1:4]] == list(one.counts.values())
        assert int(row[4]) == sum(one.counts.values())
    assert html.count('class="state"') == 44 + 52 + 48


def test_text_from_the_run_is_escaped_once() -> None:
    html = render_checklists(make_context(True, spec=make_spec(True, git_commit="<&>")))
    assert "&lt;&amp;&gt;" in html
    assert "<&>" not in html


def test_same_run_gives_the_same_bytes() -> None:
    assert render_checklists(make_context(True)) == render_checklists(make_context(True))


def test_unknown_answer_and_answer_without_evidence_are_sentences() -> None:
    row = {"item": "1", "section": "s", "topic": "t", "answer": "nobody"}
    with pytest.raises(HemtraceError, match="nobody"):
        checklists._answer(row, {}, make_context(True))
    with pytest.raises(HemtraceError, match="needs one of"):
        checklists._answer(row, {"nobody": [{"says": "Yes."}]}, make_context(True))


CARD_TABLES = ("flow", "split", "labels", "operating", "provenance")
RULES = {"weighted_log_loss": "a mean", "interval": "95 %", "null": "no bleed", "bootstrap": 9}
NEW_RULES = {"score": "the highest", "calibration": "none", "points": {"rule-in": "the lowest"}}


def make_card(synthetic: bool, names: tuple[str, ...] = CARD_TABLES, **rules: Any) -> str:
    tables = {name: Table(("A", "B\nC"), [(name, "1|2\n0.1")], note="Note.") for name in names}
    return (
        make_environment(autoescape=False)
        .get_template("model_card.md.j2")
        .render(
            title="Bleeds",
            synthetic=synthetic,
            synthetic_banner=SYNTHETIC,
            headlines=[Headline("AUC", "0.9", "0.8-1", "60 slices")],
            tables=tables | {"subgroups": Table(("A",), [])},
            footnote=FOOTNOTE,
            verdicts=dict.fromkeys(
                ("leak", "planted", "peaks", "randomisation"), "Passed, because."
            ),
            lesions="Large lesions." if synthetic else "",
            worse_than_chance="",
            lost_elsewhere="Lost",
            unlike="None is unlike.",
            external="Not done, because.",
            evidence=SimpleNamespace(spec=make_spec(synthetic)),
            rules=RULES | rules,
        )
    )


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize("rules", [{}, NEW_RULES, {"threshold": "the highest"}])
def test_card_renders_with_what_there_is(synthetic: bool, rules: dict[str, Any]) -> None:
    card = make_card(synthetic, **rules)
    assert "\n\n\n" not in card
    assert all(card.count(f"| {name} | 1/2; 0.1 |") == 1 for name in CARD_TABLES)
    assert "Any bleed, by what is known" not in card  # a table without rows
    assert "Test on scans of another hospital" in card
    assert "Lost. Not done, because." in card
    assert card.count("Passed, because.") == 4
    assert ("rule-in, the lowest." in card) is ("points" in rules)


def test_card_begins_with_front_matter_that_hubs_read() -> None:
    for synthetic in (True, False):
        _, front, body = make_card(synthetic).split("---\n", maxsplit=2)
        fields = YAML(typ="safe").load(front)
        assert fields["license"] == "apache-2.0"
        assert ("synthetic-data" in fields["tags"]) is synthetic
        assert (SYNTHETIC in fields["model_name"]) is synthetic
        assert body.lstrip().startswith("# Model card: Bleeds")


def test_card_states_the_rule_by_which_the_phantom_calls_a_slice_positive() -> None:
    assert f"at least {VISIBLE_MM2:g} mm2" in make_card(True)
    assert "mm2" not in make_card(False)


def test_every_table_and_figure_of_a_synthetic_card_is_marked() -> None:
    lines = make_card(True).splitlines()
    captions = [line for line in lines if line.startswith("**")]
    assert len(captions) == len(CARD_TABLES)
    assert all(line.endswith("(SYNTHETIC DATA).**") for line in captions)
    assert "- AUC, synthetic data: 0.9 (95 % interval 0.8-1); 60 slices." in lines
    # the name of a check, whatever the data
    assert "synthetic" not in make_card(False).lower().replace("synthetic lesion insertion", "")
