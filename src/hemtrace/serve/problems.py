"""Every error of the API as problem details (RFC 9457), without a word of the request's own."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match

PROBLEM_JSON = "application/problem+json"
_LOG = logging.getLogger("hemtrace.serve")

_SENTENCES = {
    404: "There is nothing at this address. Look into /api/v1/openapi.json.",
    405: "This address does not know that method.",
}


class ProblemDetails(BaseModel):
    """RFC 9457. `type` is about:blank: the status says which kind of problem it is."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field("about:blank", description="a URI that names the kind of problem")
    title: str = Field(description="the status in words")
    status: int = Field(ge=400, le=599, description="of the HTTP answer")
    detail: str = Field(description="what is wrong and what to do, for a person")


class Problem(Exception):  # noqa: N818 - the name of RFC 9457
    """What a request is answered with instead of what it asked for."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def describe(status: int, detail: str) -> dict[str, Any]:
    """Make the members of problem details."""
    title = HTTPStatus(status).phrase
    return ProblemDetails(title=title, status=status, detail=detail).model_dump()


def answer_problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Make the answer of a problem."""
    return JSONResponse(
        describe(status, detail), status, headers=dict(headers or {}), media_type=PROBLEM_JSON
    )


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare in OpenAPI what problems an operation may answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
        for status in statuses
    }


def add_handlers(app: FastAPI) -> None:
    """Let every error that the app knows of end as problem details."""

    @app.exception_handler(Problem)
    async def known(request: Request, error: Problem) -> JSONResponse:
        return answer_problem(error.status, error.detail, error.headers)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        detail = _SENTENCES.get(error.status_code, HTTPStatus(error.status_code).phrase + ".")
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_list_methods(request))
        return answer_problem(error.status_code, detail, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = ", ".join(map(_tell_place, error.errors()[:5]))
        return answer_problem(
            422,
            f"The request is not as /api/v1/openapi.json describes it: look at {found}.",
        )


def _tell_place(fault: Mapping[str, Any]) -> str:
    """Tell where a fault lies, and what is known there; what was sent may be anything."""
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "literal_error":
        return f"{place} (known are {fault['ctx']['expected']})"
    return place


def _list_methods(request: Request) -> list[str]:
    """List what an address knows: each of its methods is a route of its own (RFC 9110, 15.5.6)."""
    known: set[str] = set()
    for route in request.app.router.routes:
        matched, _ = route.matches(request.scope)
        if matched != Match.NONE:
            # The page's files have no methods of their own.
            known |= set(getattr(route, "methods", None) or ("GET", "HEAD"))
    return sorted(known)


def log_defect(error: BaseException) -> None:
    """Write where an error of hemtrace itself arose: no message, which may quote a header."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "unknown"
    if trace is not None:
        code = trace.tb_frame.f_code
        place = f"{Path(code.co_filename).name}:{trace.tb_lineno} in {code.co_name}"
    _LOG.error("defect: %s at %s", type(error).__name__, place)
