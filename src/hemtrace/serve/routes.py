"""Addresses of the server, and of studies from their sending to their end."""

from typing import Any

from fastapi import Depends, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from hemtrace import __version__
from hemtrace.serve import schemas
from hemtrace.serve.addresses import (
    ALWAYS,
    BINARY,
    PointName,
    StudyId,
    find_service,
    get,
    need_header,
    router,
)
from hemtrace.serve.events import stream_events
from hemtrace.serve.problems import Problem, problem_responses
from hemtrace.serve.unpack import list_contents
from hemtrace.serve.uploads import FIELD, receive_upload


@get("/health", response_model=schemas.Health)
async def health(request: Request) -> schemas.Health:
    """Say whether the server is ready. Asks for no token, and tells nothing of anyone."""
    state: Any = find_service(request).state
    return schemas.Health(state=state, version=__version__)


@get("/model", response_model=schemas.Model)
async def model(request: Request) -> schemas.Model:
    """Tell what predicts; where the server has just started, wait for it."""
    predictor = await find_service(request).wait()
    # Not before: two threads that import torch at once may each find the other's half.
    from hemtrace.serve.answers import tell_model

    return tell_model(predictor)


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
                        FIELD: {"type": "array", "minItems": 1, "items": BINARY},
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
    responses=problem_responses(*ALWAYS, 408, 413, 415, 422, 429),
    openapi_extra=_UPLOAD,
    dependencies=[Depends(need_header)],
)
async def send(request: Request) -> schemas.Accepted:
    """Send DICOM files, or zips of them, as parts named `files`; follow the events of the id."""
    service = find_service(request)
    limits = service.settings.limits
    with service.jobs.admit() as job:
        uploads = await receive_upload(request, job.folder, limits, job.take_room)
        job.contents = await run_in_threadpool(list_contents, uploads, limits)
        service.jobs.start(job)
    return schemas.Accepted(id=job.id)


@router.post(
    "/studies/sample",
    status_code=202,
    response_model=schemas.Accepted,
    responses=problem_responses(*ALWAYS, 422, 429),
    dependencies=[Depends(need_header)],
)
async def send_sample(request: Request) -> schemas.Accepted:
    """Predict the sample study, a computer-made head; of no use but to see how this works."""
    service = find_service(request)
    with service.jobs.admit() as job:
        job.sample = True
        service.jobs.start(job)
    return schemas.Accepted(id=job.id)


@get("/studies/{study_id}", None, 404, 422, response_model=schemas.Job)
def read_study(request: Request, study_id: StudyId, point: PointName = None) -> schemas.Job:
    """Tell how far a study is; when it is done, all that was predicted, at an operating point."""
    service = find_service(request)
    job = service.jobs.find(study_id)
    if job.result is None:
        return schemas.Job.early(job, service.settings.keep_minutes)
    from hemtrace.serve.answers import tell_job

    return tell_job(job, service.settings, service.ready.result(), point)


@get("/studies/{study_id}/events", "text/event-stream", 404, 422, 429)
async def follow(request: Request, study_id: StudyId) -> Response:
    """Follow a study: events `progress`, `slice`, and at the end `done` or `failed`."""
    service = find_service(request)
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


@router.delete(
    "/studies/{study_id}",
    status_code=204,
    response_class=Response,
    responses=problem_responses(*ALWAYS, 404, 422),
    dependencies=[Depends(need_header)],
)
def delete(request: Request, study_id: StudyId) -> Response:
    """Delete a study with all that was made of it, at once."""
    find_service(request).jobs.delete(study_id)
    return Response(status_code=204)
