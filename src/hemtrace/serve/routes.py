"""The addresses of the API."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi import Path as PathParameter
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, StreamingResponse

from hemtrace import __version__
from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.serve import schemas
from hemtrace.serve.events import stream_events
from hemtrace.serve.guards import API, CSRF_HEADER
from hemtrace.serve.jobs import Job
from hemtrace.serve.problems import Problem, problem_responses
from hemtrace.serve.service import Service
from hemtrace.serve.unpack import list_contents
from hemtrace.serve.uploads import FIELD, receive_upload

router = APIRouter(prefix=API)

# What any address may answer: a wrong host, no token, another site's page, too many at once.
_ALWAYS = (400, 401, 403, 503)
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


def _need_header(
    x_hemtrace: Annotated[
        Literal["1"], Header(alias=CSRF_HEADER, description="keeps other sites' pages out")
    ],
) -> None:
    """Declare what `guards.Admission` has asked for already."""


def _get(path: str, content: str | None = None, *problems: int, **given: Any) -> Callable[..., Any]:
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
    responses = problem_responses(*_ALWAYS, *problems)
    if content is not None:
        kind = _SHAPES.get(content, _BINARY)
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


_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
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


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _done(service: Service, study_id: str) -> Job:
    """Find a study that is done."""
    job = service.jobs.find(study_id)
    if job.state == "failed":
        raise Problem(409, "The prediction of this study has failed. Send it again.")
    if job.state != "done" or job.result is None:
        raise Problem(409, "The study is not done yet. Follow its events, and ask again.")
    return job


@_get("/health", response_model=schemas.Health)
async def health(request: Request) -> schemas.Health:
    """Say whether the server is ready. Asks for no token, and tells nothing of anyone."""
    state: Any = _service(request).state
    return schemas.Health(state=state, version=__version__)


@_get("/model", response_model=schemas.Model)
async def model(request: Request) -> schemas.Model:
    """Tell what predicts; where the server has just started, wait for it."""
    from hemtrace.serve.answers import tell_model

    return tell_model(await _service(request).wait())


_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "additionalProperties": False,
                    "properties": {
                        FIELD: {"type": "array", "minItems": 1, "items": _BINARY},
                    },
                }
            }
        },
    }
}


@router.post(
    "/studies",
    status_code=202,
    response_model=schemas.Accepted,
    responses=problem_responses(*_ALWAYS, 408, 413, 415, 422, 429),
    openapi_extra=_UPLOAD,
    dependencies=[Depends(_need_header)],
)
async def send(request: Request) -> schemas.Accepted:
    """Send DICOM files, or zips of them, as parts named `files`; follow the events of the id."""
    service = _service(request)
    limits = service.settings.limits
    with service.jobs.admit() as job:

        def take_room(count: int) -> None:
            service.jobs.take_room(job, count)

        uploads = await receive_upload(request, job.folder, limits, take_room)
        job.contents = await run_in_threadpool(list_contents, uploads, limits)
        service.jobs.start(job)
    return schemas.Accepted(id=job.id)


@router.post(
    "/studies/sample",
    status_code=202,
    response_model=schemas.Accepted,
    responses=problem_responses(*_ALWAYS, 422, 429),
    dependencies=[Depends(_need_header)],
)
async def send_sample(request: Request) -> schemas.Accepted:
    """Predict the sample study, a computer-made head; of no use but to see how this works."""
    service = _service(request)
    with service.jobs.admit() as job:
        job.sample = True
        service.jobs.start(job)
    return schemas.Accepted(id=job.id)


@_get("/studies/{study_id}", None, 404, 422, response_model=schemas.Job)
def read_study(request: Request, study_id: StudyId, point: PointName = None) -> schemas.Job:
    """Tell how far a study is; when it is done, all that was predicted, at an operating point."""
    service = _service(request)
    job = service.jobs.find(study_id)
    if job.result is None:
        return schemas.Job.early(job, service.settings.keep_minutes)
    from hemtrace.serve.answers import tell_job

    return tell_job(job, service.settings, service.ready.result(), point)


@_get("/studies/{study_id}/events", "text/event-stream", 404, 422, 429)
async def follow(request: Request, study_id: StudyId) -> Response:
    """Follow a study: events `progress`, `slice`, and at the end `done` or `failed`."""
    service = _service(request)
    job = service.jobs.find(study_id)
    # A reverse proxy that collects events would show nothing until the end.
    headers = {"X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(media_type="text/event-stream", headers=headers)
    if service.streams >= service.settings.limits.streams:
        raise Problem(429, "Too many studies are followed at once. Try again in half a minute.")

    async def count() -> Any:
        service.streams += 1
        try:
            async for text in stream_events(job):
                yield text
        finally:
            service.streams -= 1

    return StreamingResponse(count(), media_type="text/event-stream", headers=headers)


@_get("/studies/{study_id}/previews/{number}.png", "image/png", 404, 422)
def preview(request: Request, study_id: StudyId, number: Number) -> Response:
    """Show a slice in the brain window, by its number among the events."""
    job = _service(request).jobs.find(study_id)
    if number >= job.predicted:
        raise Problem(404, "The study has no slice of that number yet.")
    return _send_file(job.folder / "previews" / f"{number}.png", "image/png")


@_get("/studies/{study_id}/series/{number}/volume.nii", "application/octet-stream", 404, 409, 422)
def volume(request: Request, study_id: StudyId, number: Number) -> Response:
    """Give the Hounsfield units of a series as NIfTI, int16, slices from the lowest."""
    from hemtrace.serve.answers import find_series
    from hemtrace.serve.pictures import write_volume

    service = _service(request)
    job = _done(service, study_id)
    series = find_series(job.result, number)
    path = job.folder / f"volume-{number}.nii"
    return _make_file(service, job, path, lambda: write_volume(series, job.result.pixels, path))


@_get(
    "/studies/{study_id}/series/{number}/heat/{label}.nii",
    "application/octet-stream",
    404,
    409,
    422,
)
def heat(request: Request, study_id: StudyId, number: Number, label: Label) -> Response:
    """Give the heat maps of a label on a series as NIfTI, uint8; 255 is the peak of each slice.

    A map is scaled to its own peak: on a slice that is not flagged it shows nothing of meaning.
    """
    from hemtrace.serve.answers import find_series, has_heat
    from hemtrace.serve.pictures import write_heat

    service = _service(request)
    job = _done(service, study_id)
    series = find_series(job.result, number)
    if not has_heat(series):
        raise Problem(404, "The series has no heat maps.")
    path = job.folder / f"heat-{number}-{label}.nii"
    place = LABELS.index(label)
    return _make_file(service, job, path, lambda: write_heat(series, place, path))


@_get("/studies/{study_id}/table.csv", "text/csv", 404, 409, 422)
def table(request: Request, study_id: StudyId, point: PointName = None) -> Response:
    """Give a row a slice, and a row a file without a prediction; no name of a patient."""
    from hemtrace.serve.answers import tell_job
    from hemtrace.serve.exports import make_table

    service = _service(request)
    job = _done(service, study_id)
    told = tell_job(job, service.settings, service.ready.result(), point)
    return PlainTextResponse(
        make_table(told), media_type="text/csv", headers=_attach("hemtrace-table.csv")
    )


@_get("/studies/{study_id}/summary.html", "text/html", 404, 409, 422)
def summary(request: Request, study_id: StudyId, point: PointName = None) -> Response:
    """Give one page to print: who, the answer, the figures, the slices that speak for it."""
    from hemtrace.serve.answers import tell_job, tell_model
    from hemtrace.serve.summary import make_summary, summary_policy

    service = _service(request)
    job = _done(service, study_id)
    predictor = service.ready.result()
    told = tell_job(job, service.settings, predictor, point)
    page = make_summary(job, told, tell_model(predictor), service.settings.map_threshold)
    return HTMLResponse(page, headers={"Content-Security-Policy": summary_policy()})


@_get("/studies/{study_id}/results.dcm.zip", "application/zip", 404, 409, 422)
def results(request: Request, study_id: StudyId, point: PointName = None) -> Response:
    """Give the results as DICOM objects: a structured report, and captures of flagged slices."""
    from hemtrace.serve.answers import choose_point
    from hemtrace.serve.exports import make_results_zip

    service = _service(request)
    job = _done(service, study_id)
    predictor = service.ready.result()
    name = choose_point(predictor.operating, point)
    path = job.folder / f"results-{name}.zip"
    try:
        return _make_file(
            service,
            job,
            path,
            lambda: make_results_zip(job, predictor, name or None, path),
            "application/zip",
            _attach("hemtrace-results.dcm.zip"),
        )
    except HemtraceError as error:
        raise Problem(409, str(error)) from None


@router.delete(
    "/studies/{study_id}",
    status_code=204,
    response_class=Response,
    responses=problem_responses(*_ALWAYS, 404, 422),
    dependencies=[Depends(_need_header)],
)
def delete(request: Request, study_id: StudyId) -> Response:
    """Delete a study with all that was made of it, at once."""
    _service(request).jobs.delete(study_id)
    return Response(status_code=204)


def _make_file(
    service: Service,
    job: Job,
    path: Path,
    make: Callable[[], None],
    kind: str = "application/octet-stream",
    headers: dict[str, str] | None = None,
) -> Response:
    """Make a file of a study where it is not made yet, and send it."""
    try:
        with job.making(path.name):
            if not path.is_file():
                make()
                service.jobs.take_room(job, path.stat().st_size)
    except OSError as error:
        if job.is_cancelled:
            raise _gone() from None
        raise Problem(503, f"The server's disk gives out ({error.strerror}).") from None
    except (AttributeError, ValueError, AssertionError):
        if job.is_cancelled:  # its pixels were wiped meanwhile
            raise _gone() from None
        raise
    return _send_file(path, kind, headers)


def _send_file(path: Path, kind: str, headers: dict[str, str] | None = None) -> Response:
    try:
        found = path.stat()
    except OSError:
        raise _gone() from None
    # Its Last-Modified and ETag are of no use where nothing may be stored.
    return FileResponse(path, media_type=kind, headers=headers, stat_result=found)


def _gone() -> Problem:
    return Problem(404, "The server has no study of this id, or no longer. Send it again.")


def _attach(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
