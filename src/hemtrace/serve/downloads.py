"""Addresses of what is made of a study when someone asks for it: pictures, stacks, exports."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import Request, Response
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.serve.addresses import (
    Label,
    Number,
    PointName,
    StudyId,
    find_done,
    find_service,
    get,
)
from hemtrace.serve.jobs import Job
from hemtrace.serve.problems import Problem


@get("/studies/{study_id}/previews/{number}.png", "image/png", 404, 422)
def preview(request: Request, study_id: StudyId, number: Number) -> Response:
    """Show a slice in the brain window, by its number among the events."""
    job = find_service(request).jobs.find(study_id)
    if number >= job.predicted:
        raise Problem(404, "The study has no slice of that number yet.")
    return _send_file(job.folder / "previews" / f"{number}.png", "image/png")


@get("/studies/{study_id}/series/{number}/volume.nii", "application/octet-stream", 404, 409, 422)
def volume(request: Request, study_id: StudyId, number: Number) -> Response:
    """Give the Hounsfield units of a series as NIfTI, int16, slices from the lowest."""
    from hemtrace.serve.answers import find_series
    from hemtrace.serve.pictures import write_volume

    service = find_service(request)
    job = find_done(service, study_id)
    series = find_series(job.result, number)
    path = job.folder / f"volume-{number}.nii"
    return _make_file(job, path, lambda: write_volume(series, job.result.pixels, path))


@get(
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

    service = find_service(request)
    job = find_done(service, study_id)
    series = find_series(job.result, number)
    if not has_heat(series):
        raise Problem(404, "The series has no heat maps.")
    path = job.folder / f"heat-{number}-{label}.nii"
    place = LABELS.index(label)
    return _make_file(job, path, lambda: write_heat(series, place, path))


@get("/studies/{study_id}/table.csv", "text/csv", 404, 409, 422)
def table(request: Request, study_id: StudyId, point: PointName = None) -> Response:
    """Give a row a slice, and a row a file without a prediction; no name of a patient."""
    from hemtrace.serve.answers import tell_job, tell_model
    from hemtrace.serve.exports import make_table

    service = find_service(request)
    job = find_done(service, study_id)
    predictor = service.ready.result()
    told = tell_job(job, service.settings, predictor, point)
    return PlainTextResponse(
        make_table(told, tell_model(predictor)),
        media_type="text/csv",
        headers=_attach("hemtrace-table.csv"),
    )


@get("/studies/{study_id}/summary.html", "text/html", 404, 409, 422)
def summary(request: Request, study_id: StudyId, point: PointName = None) -> Response:
    """Give one page to print: who, the answer, the figures, the slices that speak for it."""
    from hemtrace.serve.answers import tell_job, tell_model
    from hemtrace.serve.summary import make_summary, summary_policy

    service = find_service(request)
    job = find_done(service, study_id)
    predictor = service.ready.result()
    told = tell_job(job, service.settings, predictor, point)
    with _while_kept(job):
        page = make_summary(job, told, tell_model(predictor), service.settings.map_threshold)
    return HTMLResponse(page, headers={"Content-Security-Policy": summary_policy()})


@get("/studies/{study_id}/results.dcm.zip", "application/zip", 404, 409, 422)
def results(request: Request, study_id: StudyId, point: PointName = None) -> Response:
    """Give the results as DICOM objects: a structured report, and captures of flagged slices."""
    from hemtrace.serve.answers import choose_point
    from hemtrace.serve.exports import make_results_zip

    service = find_service(request)
    job = find_done(service, study_id)
    predictor = service.ready.result()
    name = choose_point(predictor.operating, point)
    path = job.folder / f"results-{name}.zip"
    try:
        return _make_file(
            job,
            path,
            lambda: make_results_zip(job, predictor, name or None, path),
            "application/zip",
            _attach("hemtrace-results.dcm.zip"),
        )
    except HemtraceError as error:
        raise Problem(409, str(error)) from None


def _make_file(
    job: Job,
    path: Path,
    make: Callable[[], None],
    kind: str = "application/octet-stream",
    headers: dict[str, str] | None = None,
) -> Response:
    """Make a file of a study where it is not made yet, and send it."""
    with job.making(path.name), _while_kept(job):
        if not path.is_file():
            make()
            try:
                job.take_room(path.stat().st_size)
            except Problem:
                path.unlink()
                raise
    return _send_file(path, kind, headers)


@contextmanager
def _while_kept(job: Job) -> Iterator[None]:
    """Tell that a study is gone where it is wiped while something is made of it."""
    try:
        yield
    except Problem:
        raise
    except Exception as error:
        if job.is_cancelled:
            raise _gone() from None
        if isinstance(error, OSError):
            raise Problem(503, f"The server's disk gives out ({error.strerror}).") from None
        raise


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
