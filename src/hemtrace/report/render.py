"""Evidence -> HTML and Markdown."""

import base64
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from ruamel.yaml import YAML

from hemtrace.params import ReportParams
from hemtrace.report.evidence import Evidence
from hemtrace.report.summary import summarise
from hemtrace.report.tables import build_tables, headlines

SYNTHETIC = "SYNTHETIC DATA \N{EN DASH} not clinical performance"
_ITEM = {
    "figure": None,
    "table": None,
    "wide": False,
    "narrow": False,
    "half": False,
    "fold": False,
    "rule": None,
}
_MIME = {"svg": "image/svg+xml", "png": "image/png"}


def render_page(evidence: Evidence, params: ReportParams) -> str:
    """Render `index.html`: one file, pictures and style inside, no script."""
    template = make_environment(autoescape=True).get_template("report.html.j2")
    return template.render(
        **_context(evidence, params),
        sections=_shown_sections(evidence),
        style=Markup(resource("report.css")),
        pictures={name: data_uri(*picture) for name, picture in evidence.figures.items()},
    )


def render_card(evidence: Evidence, params: ReportParams) -> str:
    """Render `model_card.md`, after Mitchell et al., FAT* 2019, arXiv 1810.03993."""
    template = make_environment(autoescape=False).get_template("model_card.md.j2")
    return template.render(**_context(evidence, params))


def list_anchors(evidence: Evidence) -> dict[str, str]:
    """Name the sections that the page shows: title by id."""
    shown = {section["id"]: section["title"] for section in _shown_sections(evidence)}
    return {"summary": "In short", **shown, "rules": "Definitions", "limits": "Limits"}


def _shown_sections(evidence: Evidence) -> list[dict[str, Any]]:
    return [
        section
        for section in read_sections("report.yaml")
        if evidence.comparison["systems"] or not section.get("compares", False)
    ]


def read_sections(name: str) -> list[dict[str, Any]]:
    """Read the list of sections, with every field that an item leaves out at its default."""
    sections: list[dict[str, Any]] = YAML(typ="safe").load(resource(name))
    for section in sections:
        section["show"] = [_ITEM | item for item in section["show"]]
        section.setdefault("links", [])
    return sections


def _context(evidence: Evidence, params: ReportParams) -> dict[str, Any]:
    return {
        "title": params.title,
        "synthetic": evidence.spec.synthetic,
        "synthetic_banner": SYNTHETIC,
        "headlines": headlines(evidence),
        "summary": summarise(evidence),
        "tables": build_tables(evidence, params.quarantine_rows),
        "evidence": evidence,
        "rules": evidence.metrics["rules"],
    }


def make_environment(*, autoescape: bool) -> Environment:
    return Environment(
        loader=PackageLoader("hemtrace"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def resource(name: str) -> str:
    return (files("hemtrace") / "templates" / name).read_text(encoding="utf-8")


def data_uri(suffix: str, content: bytes) -> str:
    return f"data:{_MIME[suffix]};base64,{base64.b64encode(content).decode()}"
