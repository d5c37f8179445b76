"""What all addresses of the API share: their parameters, and how they are registered."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi import Path as PathParameter

from hemtrace.serve.guards import API, CSRF_HEADER
from hemtrace.serve.jobs import Job
from hemtrace.serve.problems import Problem, problem_responses
from hemtrace.serve.service import Service

router = APIRouter(prefix=API)

# What any address may answer: a wrong host, no token, another site's page, too many at once.
ALWAYS = (400, 401, 403, 503)
StudyId = Annotated[str, PathParameter(description="as POST gave it")]
Number = Annotated[int, PathParameter(ge=0, le=10**6)]
PointName = Annotated[
    Literal["rule-out", "rule-in", "balanced"] | None,
    Query(description="operating point; the model's default where it is not given"),
]
# Those of labels.LABELS and of the points of evaluate.operating; a test holds them together.
Label = Literal[
    "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any"
]


def need_header(
    x_hemtrace: Annotated[
        Literal["1"], Header(alias=CSRF_HEADER, description="keeps other sites' pages out")
    ],
) -> None:
    """Declare what `guards.Admission` has asked for already."""


def get(path: str, content: str | None = None, *problems: int, **given: Any) -> Callable[..., Any]:
    """Register a handler for GET, and for HEAD, which OpenAPI need not tell of.

    Parameters
    ----------
    path
        Below the API's root.
    content
        Type of what is answered; None: JSON.
    problems
        Statuses that it may answer with, beyond those of any address.
    given
        For the router.
    """
    responses = problem_responses(*ALWAYS, *problems)
    if content is not None:
        kind = _SHAPES.get(content, BINARY)
        responses[200] = {"content": {content: {"schema": kind}}, "description": "OK"}
        given["response_class"] = _Raw

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        router.add_api_route(path, handler, methods=["GET"], responses=responses, **given)
        router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False, **given)
        return handler

    return register


class _Raw(Response):
    """Of a type that the handler itself sets."""

    media_type = None


BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
_TEXT: dict[str, Any] = {"type": "string"}
_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["progress", "slice", "done", "failed"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_SHAPES = {"text/csv": _TEXT, "text/html": _TEXT, "text/event-stream": _EVENT}


def find_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def find_done(service: Service, study_id: str) -> Job:
    """Find a study that is done."""
    job = service.jobs.find(study_id)
    if job.state == "failed":
        raise Problem(409, "The prediction of this study has failed. Send it again.")
    if job.state != "done" or job.result is None:
        raise Problem(409, "The study is not done yet. Follow its events, and ask again.")
    return job
