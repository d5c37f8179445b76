"""CLAIM, TRIPOD+AI and STARD-AI, filled in from the run: where each item is answered, or why not.

The items stand in `templates/checklists/<list>.yaml`, what answers them in `answers.yaml` beside
them. An answer may hold for some runs only (`when`), and one that points into the report holds only
where the report has that section: what a run does not show is never called answered.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Template
from markupsafe import Markup
from ruamel.yaml import YAML

from hemtrace.errors import HemtraceError
from hemtrace.report.cells import Table
from hemtrace.report.checklist_context import ChecklistContext
from hemtrace.report.render import SYNTHETIC, make_environment, resource

CHECKLISTS = ("claim", "tripod_ai", "stard_ai")
ANSWERED, NOT_APPLICABLE, AUTHORS = "answered", "not applicable", "for the authors"
STATES = (ANSWERED, NOT_APPLICABLE, AUTHORS)

_STATE_OF = {"says": ANSWERED, "not_applicable": NOT_APPLICABLE, "authors": AUTHORS}
_NOT_SHOWN = {"authors": "The report of this run does not show it."}
# Places beside the report, and what a link to each is called.
_PLACES = {
    "ingestion.html#flow": "Ingestion: files",
    "ingestion.html#geometry": "Ingestion: geometry",
    "ingestion.html#labels": "Ingestion: labels",
    "ingestion.html#made": "Ingestion: how it was made",
    "provenance.html#versions": "Provenance page: versions",
    "provenance.html#parameters": "Provenance page: parameters",
    "provenance.html#redo": "Provenance page: how to make it again",
    "model_card.md": "Model card",
}


@dataclass(frozen=True)
class Row:
    """An item of a list, and what the run has to say to it.

    Attributes
    ----------
    item, section, topic
        As in the list; the topic is in our words.
    state
        One of `STATES`.
    text
        The answer.
    links
        Title and address of each place that shows it.
    """

    item: str
    section: str
    topic: str
    state: str
    text: str
    links: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Checklist:
    """A list with its answers.

    Attributes
    ----------
    id, name
        Id on the page, and what the list is called.
    reference, items, certainty
        Where it was published, how it counts its items, and how sure its numbers here are.
    rows
        An answer an item, in order.
    """

    id: str
    name: str
    reference: str
    items: str
    certainty: str
    rows: tuple[Row, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many items stand in each of `STATES`."""
        states = Counter(row.state for row in self.rows)
        return {state: states[state] for state in STATES}


def fill_checklists(context: ChecklistContext) -> list[Checklist]:
    """Answer every item of every list for a run.

    Raises
    ------
    HemtraceError
        If an item names an answer that there is none of, or an answer is none.
    """
    answers = _load("answers")
    lists = []
    for name in CHECKLISTS:
        content = _load(name)
        rows = tuple(_answer(row, answers, context) for row in content["rows"])
        about = {field: content[field] for field in ("name", "reference", "items", "certainty")}
        lists.append(Checklist(id=name.replace("_", "-"), rows=rows, **about))
    return lists


@cache
def _load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(resource(f"checklists/{name}.yaml"))
    return content


def _answer(row: Mapping[str, str], answers: Mapping[str, Any], context: ChecklistContext) -> Row:
    if row["answer"] not in answers:
        raise HemtraceError(
            f"Item {row['item']} names the answer {row['answer']!r}, which answers.yaml lacks."
        )
    values = {name: getattr(context, name) for name in context.__dataclass_fields__}
    for answer in (*answers[row["answer"]], _NOT_SHOWN):
        key = _find_state(answer, row["answer"])
        see = _as_list(answer.get("see", []))
        shown = [target for target in see if _is_shown(target, context.anchors)]
        condition = _compile("{{ 1 if " + answer.get("when", "true") + " }}")
        # an answer in the report counts only where all of it is there
        if not condition.render(values) or (key == "says" and len(shown) < len(see)):
            continue
        text = _compile(" ".join(answer[key].split())).render(values)
        links = tuple(_link(target, context.anchors) for target in shown)
        place = {field: row[field] for field in ("item", "section", "topic")}
        return Row(**place, state=_STATE_OF[key], text=text, links=links)
    raise AssertionError


@cache
def _compile(text: str) -> Template:
    environment = make_environment(autoescape=False)
    environment.filters["n"] = lambda count: f"{count:,}"
    return environment.from_string(text)


def _find_state(answer: Mapping[str, Any], name: str) -> str:
    keys = [key for key in _STATE_OF if key in answer]
    if len(keys) != 1 or (keys == ["says"] and not answer.get("see")):
        raise HemtraceError(
            f"The answer {name!r} in answers.yaml needs one of {', '.join(_STATE_OF)}, and with "
            "`says` the places that show it in `see`."
        )
    return keys[0]


def _as_list(see: str | Sequence[str]) -> list[str]:
    return [see] if isinstance(see, str) else list(see)


def _is_shown(target: str, anchors: Mapping[str, str]) -> bool:
    return target in _PLACES or target in anchors


def _link(target: str, anchors: Mapping[str, str]) -> tuple[str, str]:
    if target in _PLACES:
        return _PLACES[target], target
    return anchors[target], f"index.html#{target}"


def checklist_tables(lists: Sequence[Checklist]) -> dict[str, Table]:
    """Count the states of each list, as the table `checklists` of a page."""
    rows = [
        (item.name, *(str(item.counts[state]) for state in STATES), str(len(item.rows)))
        for item in lists
    ]
    return {
        "checklists": Table(
            ("List", "Answered", "Not applicable", "For the authors", "All items"),
            rows,
        )
    }


def render_checklists(context: ChecklistContext) -> str:
    """Render `checklists.html`: one file, links into `index.html` beside it."""
    lists = fill_checklists(context)
    template = make_environment(autoescape=True).get_template("checklists.html.j2")
    return template.render(
        lists=lists,
        table=checklist_tables(lists)["checklists"],
        states=STATES,
        title=context.title,
        synthetic=context.synthetic,
        synthetic_banner=SYNTHETIC,
        style=Markup(resource("report.css")),
    )
