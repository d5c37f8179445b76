"""The pages that reviewers read: the report, its checklists and provenance, and the model card."""

from dataclasses import dataclass
from pathlib import Path

from hemtrace.params import Params, ReportParams
from hemtrace.report.checklist_context import checklist_context
from hemtrace.report.checklists import render_checklists
from hemtrace.report.evidence import Evidence, ReportInputs, gather_evidence
from hemtrace.report.made_from import gather_provenance
from hemtrace.report.provenance import render_provenance
from hemtrace.report.render import list_anchors, render_card, render_page
from hemtrace.writing import write_whole

__all__ = ["ReportInputs", "ReportPages", "build_report"]


@dataclass(frozen=True)
class ReportPages:
    """Where the pages go.

    Attributes
    ----------
    page, checklists, provenance
        HTML, each one file that needs nothing else; they link to each other as neighbours.
    card
        Markdown.
    """

    page: Path
    checklists: Path
    provenance: Path
    card: Path


def build_report(inputs: ReportInputs, params: Params, pages: ReportPages) -> None:
    """Write `index.html`, `checklists.html`, `provenance.html` and `model_card.md`.

    Parameters
    ----------
    inputs
        The products of the stages before.
    params
        Of the whole run: `report` shapes the pages, all are listed under provenance.
    pages
        Where they go.

    Raises
    ------
    HemtraceError
        If a figure is missing, or counts of the stages contradict each other.
    """
    evidence = gather_evidence(inputs, params.phantom)
    provenance = gather_provenance(inputs.root, evidence.spec, params)
    shape = params.report
    for path, text in (
        (pages.page, render_page(evidence, shape)),
        (pages.checklists, _render_checklists(evidence, shape)),
        (pages.provenance, render_provenance(provenance, shape.title)),
        (pages.card, render_card(evidence, shape)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as part:
            part.write_text(text, encoding="utf-8")


def _render_checklists(evidence: Evidence, params: ReportParams) -> str:
    context = checklist_context(
        title=params.title,
        spec=evidence.spec,
        metrics=evidence.metrics,
        flow=evidence.flow,
        split=evidence.split,
        localisation=evidence.localisation,
        comparison=evidence.comparison,
        external=evidence.external,
        anchors=list_anchors(evidence),
    )
    return render_checklists(context)
