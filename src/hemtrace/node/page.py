"""The worklist as a page: no script, no form, on loopback only."""

import threading
import time
from datetime import datetime
from functools import cache
from types import TracebackType
from typing import Self

import uvicorn
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from hemtrace.errors import HemtraceError
from hemtrace.node.config import Page
from hemtrace.node.schema import Database
from hemtrace.node.worklist import list_studies, list_unfetched, read_model

STATES = {
    "receiving": "receiving",
    "complete": "waiting",
    "predicting": "at work",
    "sending": "sending results",
    "done": "done",
    "dead": "given up",
}
ANSWERS = {"bleed": "Bleed suspected", "no-bleed": "No bleed found", "no-answer": "No answer"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_START_SECONDS = 20


def make_app(database: Database, page: Page) -> Starlette:
    """Make the page of a node.

    A page of another site cannot read it by a name of its own that leads here: the host must be a
    name of loopback.
    """

    def show(request: Request) -> Response:
        return HTMLResponse(render(database, page), headers=_HEADERS)

    def style(request: Request) -> Response:
        return Response(_source("worklist.css"), media_type="text/css", headers=_HEADERS)

    hosts = ["localhost", "127.0.0.1", "[::1]", page.host]
    return Starlette(
        routes=[Route("/", show), Route("/worklist.css", style)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
    )


def render(database: Database, page: Page) -> str:
    """Render the worklist; whatever a header said is text in it."""
    studies = list_studies(database)
    return (
        _environment()
        .get_template("worklist.html.j2")
        .render(
            studies=studies,
            dead=[one for one in studies if one.is_dead],
            unfetched=list_unfetched(database),
            model=read_model(database),
            page=page,
            states=STATES,
            answers=ANSWERS,
            now=time.time(),
        )
    )


class PageServer:
    """Serves the page from a thread, until it is closed.

    Raises
    ------
    HemtraceError
        If the port cannot be had.
    """

    def __init__(self, database: Database, page: Page) -> None:
        config = uvicorn.Config(
            make_app(database, page),
            host=page.host,
            port=page.port,
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()
        give_up = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > give_up:
                raise HemtraceError(
                    f"The worklist page cannot listen on {page.host} port {page.port}."
                )
            time.sleep(0.02)

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # its way to say that the port is taken
            return

    def __enter__(self) -> Self:
        """Do nothing: it serves already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(5)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("hemtrace"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["clock"] = tell_time
    return made


def _source(name: str) -> str:
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]


def tell_time(moment: float | None) -> str:
    """Write a moment, seconds since 1970, in the local time."""
    return "" if moment is None else f"{datetime.fromtimestamp(moment):%Y-%m-%d %H:%M:%S}"
