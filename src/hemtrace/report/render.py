"""Evidence -> HTML and Markdown."""

import base64
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from ruamel.yaml import YAML

from hemtrace.evaluate import render_latex, results_table
from hemtrace.familiar.count import tell_unlike
from hemtrace.params import ReportParams
from hemtrace.report.benefit import tell_usefulness
from hemtrace.report.calibration import judge_calibration, tell_patient_calibration
from hemtrace.report.cells import FOOTNOTE
from hemtrace.report.elsewhere import split_rows, tell_external
from hemtrace.report.evidence import Evidence
from hemtrace.report.groups import tell_sample
from hemtrace.report.looks import tell_counts
from hemtrace.report.published import LOST_ELSEWHERE
from hemtrace.report.summary import headlines, summarise, tell_lesions
from hemtrace.report.tables import build_tables, tell_verdicts
from hemtrace.report.verdicts import tell_worse_than_chance

# Share of "95 %" intervals of an AUC that hold the truth, by the patients who bear the label:
# benchmarks/results/coverage.json.
COVERAGE = {3: 0.74, 5: 0.83, 12: 0.90, 30: 0.94}
SYNTHETIC = "SYNTHETIC DATA \N{EN DASH} not clinical performance"
_ITEM = {
    "figure": None,
    "table": None,
    "wide": False,
    "narrow": False,
    "half": False,
    "fold": False,
    "rule": None,
    "verdict": None,
    "check": "",
    "intervals": "",
}
_MIME = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "csv": "text/csv",
    "tex": "application/x-tex",
    "md": "text/markdown",
}


def render_page(evidence: Evidence, params: ReportParams) -> str:
    """Render `index.html`: one file, pictures, style and tables to keep inside, no script."""
    template = make_environment(autoescape=True).get_template("report.html.j2")
    return template.render(
        **_context(evidence, params),
        sections=_shown_sections(evidence),
        style=Markup(resource("report.css")),
        pictures={name: data_uri(*picture) for name, picture in evidence.figures.items()},
        downloads={
            name: data_uri(name.rpartition(".")[2], content.encode())
            for name, content in _make_downloads(evidence, params).items()
        },
    )


def render_card(evidence: Evidence, params: ReportParams) -> str:
    """Render `model_card.md`, after Mitchell et al., FAT* 2019, arXiv 1810.03993."""
    template = make_environment(autoescape=False).get_template("model_card.md.j2")
    return template.render(**_context(evidence, params))


def _make_downloads(evidence: Evidence, params: ReportParams) -> dict[str, str]:
    """Make what the page carries within, for who was sent nothing else."""
    metrics, synthetic = evidence.metrics, evidence.spec.synthetic
    return {
        "results.csv": results_table(metrics, synthetic=synthetic).write_csv(),
        "results.tex": render_latex(metrics, synthetic=synthetic),
        "model_card.md": render_card(evidence, params),
    }


def list_anchors(evidence: Evidence) -> dict[str, str]:
    """Name the sections that the page shows: title by id."""
    shown = {section["id"]: section["title"] for section in _shown_sections(evidence)}
    return {"summary": "In short", **shown, "rules": "Definitions", "limits": "Limits"}


def _shown_sections(evidence: Evidence) -> list[dict[str, Any]]:
    """Pick the sections that this run has, and what they say of intervals only where there are."""
    has_intervals = bool(evidence.metrics["rules"]["bootstrap"])
    told = {"external": tell_external(evidence.external)}
    below = tell_counts(evidence.localisation, evidence.galleries)
    below["calibration"] = judge_calibration(evidence.metrics["calibration"])
    below["decision"] = (
        f"{tell_patient_calibration(evidence.metrics)} {tell_usefulness(evidence.metrics)}"
    )
    below["robustness"] = tell_sample(evidence.robustness, evidence.metrics)
    shown = []
    for section in read_sections("report.yaml"):
        if section.get("compares", False) and not evidence.comparison["systems"]:
            continue
        if section["id"] == "external" and not has_external(evidence):
            section["show"] = []
        parts = [section["text"], told.get(section["id"]), has_intervals and section["intervals"]]
        section["text"] = " ".join(filter(None, parts))
        for item in section["show"]:
            if has_intervals and item["intervals"]:
                item["caption"] += f" {item['intervals']}"
            if item["figure"] in below:
                item["caption"] += f" {below[item['figure']]}"
        shown.append(section)
    return shown


def read_sections(name: str) -> list[dict[str, Any]]:
    """Read the list of sections, with every field that an item leaves out at its default."""
    sections: list[dict[str, Any]] = YAML(typ="safe").load(resource(name))
    for section in sections:
        section["show"] = [_ITEM | item for item in section["show"]]
        section.setdefault("links", [])
        section.setdefault("intervals", "")
    return sections


def _context(evidence: Evidence, params: ReportParams) -> dict[str, Any]:
    return {
        "title": params.title,
        "synthetic": evidence.spec.synthetic,
        "synthetic_banner": SYNTHETIC,
        "headlines": headlines(evidence),
        "footnote": FOOTNOTE,
        "coverage": _tell_coverage(),
        "summary": summarise(evidence),
        "lesions": tell_lesions(evidence),
        "worse_than_chance": tell_worse_than_chance(evidence.localisation),
        "lost_elsewhere": LOST_ELSEWHERE,
        "tables": build_tables(evidence, params.quarantine_rows),
        "verdicts": tell_verdicts(evidence),
        "unlike": tell_unlike(evidence.familiarity),
        "external": tell_external(evidence.external),
        "has_external": has_external(evidence),
        "evidence": evidence,
        "rules": evidence.metrics["rules"] | {"interval": tell_intervals(evidence.metrics)},
    }


def has_external(evidence: Evidence) -> bool:
    """Whether an external test by the same model is at hand."""
    return bool(split_rows(evidence.external)[0])


def _tell_coverage() -> str:
    (fewest, least), *others = COVERAGE.items()
    more = [f"{share:.0%} with {bearers}" for bearers, share in others]
    return (
        f"{least:.0%} of samples with {fewest} patients who bear the label, {', '.join(more)}"
    ).replace("%", " %")


def tell_intervals(metrics: Mapping[str, Any]) -> str:
    """Say how intervals are made; without a bootstrap, which ones there are all the same."""
    rules = metrics["rules"]
    if rules["bootstrap"]:
        return str(rules["interval"])
    return (
        "no bootstrap was asked for (evaluate.bootstrap is 0); exact binomial for a share of "
        "rows that are each another patient's; those of heat maps resample whole patients all the "
        "same"
    )


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
