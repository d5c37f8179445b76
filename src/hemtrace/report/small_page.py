"""A page of its own in the look of the report: one external test, one comparison of runs."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from hemtrace.report.render import SYNTHETIC, make_environment, resource


def show_item(source: str, **fields: Any) -> Mapping[str, Any]:
    """Make an item of a section: a table or a figure, its caption, and where its numbers stand.

    What a template asks for beyond these is None.
    """
    return defaultdict(lambda: None, source=source, **fields)


def note_few(estimate: Mapping[str, Any]) -> str:
    """Say on how few patients an interval rests, e.g. `rests on 4 patients`; or nothing."""
    # After a colon the sentence goes on with what that means.
    return str(estimate.get("note") or "").partition(":")[0]


def render_small_page(**content: Any) -> str:
    """Render a page in the look of the report.

    Parameters
    ----------
    content
        title, lead, synthetic, synthetic_why, headlines (of `cells.Headline`), sections (id, title,
        text, show), tables and pictures by the names that the sections show, limits.
    """
    template = make_environment(autoescape=True).get_template("small_page.html.j2")
    return template.render(
        synthetic_banner=SYNTHETIC, style=Markup(resource("report.css")), **content
    )
