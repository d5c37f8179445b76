"""The application: what it consists of, and what every request passes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from hemtrace import __version__
from hemtrace.serve import downloads, routes  # noqa: F401  they register their addresses
from hemtrace.serve.addresses import router
from hemtrace.serve.guards import API, Admission, Logged, SafeHeaders
from hemtrace.serve.problems import ProblemDetails, add_handlers
from hemtrace.serve.service import Service
from hemtrace.serve.settings import Settings

PAGE = Path(__file__).parent / "page"
_DESCRIPTION = (
    "Search for intracranial haemorrhage on head CT. Research use only: not a medical device, not "
    "for diagnosis. A study is sent, followed by its events, and read under the id that its sender "
    "was given; nobody can list studies. Errors are problem details (RFC 9457)."
)


def create_app(settings: Settings) -> FastAPI:
    """Make the application; the model is loaded when it starts.

    Raises
    ------
    HemtraceError
        If no private folder can be made.
    """

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(settings)
        service.start()
        expiry = asyncio.create_task(service.run_expiry())
        try:
            yield
        finally:
            expiry.cancel()
            with suppress(asyncio.CancelledError):
                await expiry
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="hemtrace",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=f"{API}/openapi.json",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=live,
        middleware=[
            Middleware(SafeHeaders),
            Middleware(Logged),
            Middleware(Admission, settings=settings),
        ],
    )
    app.state.settings = settings
    add_handlers(app)
    # Included as a whole they would stand as one, which knows no methods for `Allow`.
    app.router.routes.extend(router.routes)
    app.openapi = lambda: _describe(app, settings)  # type: ignore[method-assign]
    if PAGE.is_dir():
        _add_page(app)
    return app


def _add_page(app: FastAPI) -> None:
    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(PAGE / "index.html")


def _describe(app: FastAPI, settings: Settings) -> dict[str, Any]:
    if app.openapi_schema is None:
        told = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        parts = told.setdefault("components", {}).setdefault("schemas", {})
        parts["ProblemDetails"] = ProblemDetails.model_json_schema()
        if settings.token is not None:
            schemes = told["components"].setdefault("securitySchemes", {})
            schemes["token"] = {"type": "http", "scheme": "bearer"}
            told["security"] = [{"token": []}]
            told["paths"][f"{API}/health"]["get"]["security"] = []
        app.openapi_schema = told
    return app.openapi_schema
