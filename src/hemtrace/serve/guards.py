"""What every request meets first: a log line without identifiers, safe headers, who may ask."""

import hashlib
import hmac
import logging
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hemtrace.serve.problems import answer_problem, log_defect
from hemtrace.serve.settings import Settings

API = "/api/v1"
CSRF_HEADER = "X-Hemtrace"
# What a probe may ask without a token: it tells nothing of anyone.
_OPEN = (f"{API}/health",)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_LOG = logging.getLogger("hemtrace.serve")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_API_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_FEATURES = (
    "accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "microphone",
    "midi", "payment", "publickey-credentials-get", "usb", "xr-spatial-tracking",
)  # fmt: skip
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _FEATURES),
}


class Logged:
    """Writes a line a request: method, route, status, time. No query, name or id is in it.

    An error of hemtrace itself ends here, as problem details; uvicorn would log its message.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            pass
        except Exception as error:
            log_defect(error)
            if not status:
                detail = "The server met an error of its own. Try again; if it stays, report it."
                await answer_problem(500, detail)(scope, receive, watch)
        finally:
            took = 1000 * (time.perf_counter() - started)
            route = _name_route(scope)
            method = scope["method"] if scope["method"].isalpha() else "?"
            _LOG.info("%s %s %d %.0f ms", method[:10], route, status, took)


def _name_route(scope: Scope) -> str:
    """Name what was asked for by its pattern; a path that none matches may hold anything."""
    route: Any = scope.get("route")
    named = getattr(route, "path_format", None) or getattr(route, "path", None)
    # A mount of files has no pattern of its own; where it stands says enough.
    return named or ("(file of the page)" if scope.get("root_path") else "(no route)")


class SafeHeaders:
    """Adds the headers that keep a browser from doing more than it should."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_api = scope["path"].startswith("/api/")

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                policy = _API_POLICY if is_api else PAGE_POLICY
                headers.setdefault("Content-Security-Policy", policy)
                headers.setdefault("Cache-Control", "no-store" if is_api else "no-cache")
            await send(message)

        await self._app(scope, receive, add)


class Admission:
    """Refuses what comes by another name, without the token, or from another site's page."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = {_bare_name(host) for host in settings.hosts}
        self._token = None if settings.token is None else _digest(settings.token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._judge(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, detail = refusal
        headers = {"WWW-Authenticate": 'Bearer realm="hemtrace"'} if status == 401 else None
        await answer_problem(status, detail, headers)(scope, receive, send)

    def _judge(self, scope: Scope) -> tuple[int, str] | None:
        headers, path = Headers(scope=scope), scope["path"]
        if self._hosts and _bare_name(headers.get("host", "")) not in self._hosts:
            return 400, (
                "This server does not go by that name. Start it with --allowed-host and the name "
                "in your browser's address line."
            )
        if not path.startswith("/api/"):
            return None
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return 403, "A page of another site asked for this. Open this server's own page."
        if path not in _OPEN and not self._knows(headers.get("authorization", "")):
            return 401, "This server asks for its token: send it as Authorization: Bearer TOKEN."
        if scope["method"] in _SAFE_METHODS:
            return None
        if headers.get(CSRF_HEADER) != "1":
            return 403, f"Send the header {CSRF_HEADER}: 1, which no other site's page can send."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
            return 403, "A page of another site asked for this. Open this server's own page."
        return None

    def _knows(self, authorization: str) -> bool:
        if self._token is None:
            return True
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(_digest(token), self._token)


def _bare_name(host: str) -> str:
    """Take the port off a host header: `[::1]:80` is `[::1]`."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].rstrip(".").lower()


def _digest(token: str) -> bytes:
    # Of equal length, so that comparing tells nothing of the token's.
    return hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
