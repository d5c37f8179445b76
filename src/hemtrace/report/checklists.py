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

import polars as pl
from jinja2 import Template
from markupsafe import Markup
from ruamel.yaml import YAML

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec
from hemtrace.params import TrainParams
from hemtrace.report.cells import Table, interval, number
from hemtrace.report.render import SYNTHETIC, make_environment, resource
from hemtrace.split import DROPPED

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
class Part:
    """Counts of a partition: patients, those with a bleed, slices, and those with a bleed."""

    patients: int
    positive_patients: int
    slices: int
    positive_slices: int


@dataclass(frozen=True)
class ChecklistContext:
    """All that answers may name, ready to be printed.

    Attributes
    ----------
    synthetic, who
        Whether the data are the phantom; "synthetic patients" or "patients".
    title
        Of the report.
    architecture, weights, windows, size, crop, members, folds, has_context, classifier
        Of the model; `windows` and `crop` in words, `folds` 1 for a plain split.
    training
        The section `train` of the parameters the model was made with.
    seed, commit
        Of the training.
    files, pictures, used, quarantined, reasons
        Counts of ingest; `reasons` is the number of different ones.
    development, test
        Counts of the split; development is training and validation, or all folds.
    auc_slices, auc_patients, sensitivity, specificity, average_precision, log_loss
        Test figures of any bleed with their intervals, in words.
    not_estimable
        Labels whose test AUC is not.
    interval_rule, score_rule, calibration
        Rules of the evaluation, in words.
    points, point
        Names of the operating points; the one that sensitivity and specificity are given at.
    systems
        Systems compared, 0 for none.
    masks, cells
        Whether lesion masks scored the heat maps; cells of a heat map.
    external
        Name, patients, how to call them, and AUC of the external test, or None.
    anchors
        Id and title of each section that the report has.
    """

    synthetic: bool
    who: str
    title: str
    architecture: str
    weights: str
    windows: str
    size: int
    crop: str
    members: int
    folds: int
    has_context: bool
    classifier: str
    training: dict[str, Any]
    seed: int
    commit: str
    files: int
    pictures: int
    used: int
    quarantined: int
    reasons: int
    development: Part
    test: Part
    auc_slices: str
    auc_patients: str
    sensitivity: str
    specificity: str
    average_precision: str
    log_loss: str
    not_estimable: tuple[str, ...]
    interval_rule: str
    score_rule: str
    calibration: str
    points: tuple[str, ...]
    point: str
    systems: int
    masks: bool
    cells: str
    external: dict[str, Any] | None
    anchors: Mapping[str, str]


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


def checklist_context(
    *,
    title: str,
    spec: ModelSpec,
    metrics: Mapping[str, Any],
    flow: Mapping[str, Any],
    split: pl.DataFrame,
    localisation: Mapping[str, Any],
    comparison: Mapping[str, Any],
    external: Mapping[str, Any] | None,
    anchors: Mapping[str, str],
) -> ChecklistContext:
    """Take from a run what the answers name; the only place that knows where it lies.

    Parameters
    ----------
    title
        Of the report.
    spec, metrics, flow, localisation, comparison
        As in `Evidence`.
    split
        As in `Evidence`: a row a partition, or a fold in place of train and val.
    external
        What `external.run` gives; None where no external test was made.
    anchors
        Id and title of each section that the report shows.
    """
    slices, patients = (metrics["partitions"]["test"][level] for level in ("slices", "patients"))
    of_any, point, rules = slices["labels"]["any"], metrics["default_point"], metrics["rules"]
    return ChecklistContext(
        synthetic=spec.synthetic,
        who="synthetic patients" if spec.synthetic else "patients",
        title=title,
        architecture=spec.network.architecture,
        weights=spec.weights.rstrip("."),
        windows=", ".join(f"{w.name} {w.center_hu:g}/{w.width_hu:g} HU" for w in spec.windows),
        size=spec.size,
        crop="a square around the head" if spec.crop == "head" else "the whole slice",
        members=spec.members,
        folds=max(1, split.filter(pl.col("partition").str.starts_with("fold ")).height),
        has_context=spec.has_context,
        classifier=spec.network.classifier,
        training=TrainParams().model_dump(mode="json") | spec.train,
        seed=spec.seed,
        commit=spec.git_commit,
        **{name: flow[name] for name in ("files", "pictures", "used")},
        quarantined=sum(flow["quarantined"].values()),
        reasons=len(flow["quarantined"]),
        development=_count_part(split.filter(~pl.col("partition").is_in(["test", DROPPED]))),
        test=_count_part(split.filter(pl.col("partition") == "test")),
        auc_slices=_say(of_any["roc_auc"]),
        auc_patients=_say(patients["labels"]["any"]["roc_auc"]),
        sensitivity=_say(of_any["points"][point]["sensitivity"]),
        specificity=_say(of_any["points"][point]["specificity"]),
        average_precision=_say(of_any["average_precision"]),
        log_loss=_say(slices["weighted_log_loss"]),
        not_estimable=tuple(
            label for label in LABELS if slices["labels"][label]["roc_auc"]["value"] is None
        ),
        interval_rule=rules["interval"],
        score_rule=rules["score"],
        calibration=rules["calibration"],
        points=tuple(rules["points"]),
        point=point,
        systems=len(comparison["systems"]),
        masks=localisation["labels"] is not None,
        cells=" x ".join(map(str, localisation["cells"])),
        external=None if external is None else _read_external(external),
        anchors=dict(anchors),
    )


def _count_part(rows: pl.DataFrame) -> Part:
    columns = ("patients", "positive_patients", "slices", "any")
    return Part(*(int(rows[column].sum()) for column in columns))


def _say(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "not estimable"
    bounds = interval(estimate)
    return number(estimate["value"]) + (f" (95 % interval {bounds})" if bounds else "")


def _read_external(external: Mapping[str, Any]) -> dict[str, Any]:
    # the highest level that was scored stands last: slices, studies, patients
    labels = list(external["levels"].values())[-1]["labels"]
    return {
        "name": external["name"],
        "patients": external["flow"]["patients"],
        "who": "synthetic patients" if external["synthetic"] else "patients",
        "auc": _say(labels.get("any", {}).get("roc_auc")),
    }


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
