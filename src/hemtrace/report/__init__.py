"""The page that a reviewer reads, and the model card."""

from pathlib import Path

from hemtrace.params import ReportParams
from hemtrace.report.evidence import ReportInputs, gather_evidence
from hemtrace.report.render import render_card, render_page

__all__ = ["ReportInputs", "build_report"]


def build_report(inputs: ReportInputs, params: ReportParams, page: Path, card: Path) -> None:
    """Write `index.html`, one file that needs nothing else, and `model_card.md`.

    Parameters
    ----------
    inputs
        The products of the stages before.
    params
        Headline, and how many quarantined files are listed.
    page, card
        Where the two go.

    Raises
    ------
    HemtraceError
        If a figure is missing, or counts of the stages contradict each other.
    """
    evidence = gather_evidence(inputs)
    for path, text in (
        (page, render_page(evidence, params)),
        (card, render_card(evidence, params)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
