"""The server as a program: an address, a log without identifiers, an end that leaves nothing."""

import logging
import socket
import sys
import warnings
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from hemtrace.errors import HemtraceError
from hemtrace.serve.app import create_app
from hemtrace.serve.settings import Settings, is_loopback
from hemtrace.serve.store import Store

# A study that is still being sent, or followed, is not waited for longer.
_GRACE_SECONDS = 3
_IDLE_SECONDS = 15


def run_server(settings: Settings, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until the process is told to stop.

    Parameters
    ----------
    settings
        Of the server.
    host, port
        To listen on; port 0: any that is free.
    tell
        Shows a sentence to whoever started it.

    Raises
    ------
    HemtraceError
        If the model file is missing or damaged, the port is taken, or no private folder can be
        made.
    """
    if not settings.model.is_file():
        raise HemtraceError(
            f"The model {settings.model} was not found; make one by a run of the pipeline, or name "
            "another by --model."
        )
    Store(settings.folder).close()  # refused in a sentence here, before anything is loaded
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/"
    _write_logs()
    app = create_app(settings)
    sentences = [f"hemtrace serves at {address} (research use only); the model is loading."]
    if not is_loopback(host):
        sentences.append(
            "Other machines reach it. It speaks plain HTTP: put a reverse proxy with TLS before "
            "it, as docs/serving.md shows."
        )
    server = _Server(app, lambda: tell("\n".join(sentences)))
    with listening:
        server.run(sockets=[listening])
    service = getattr(app.state, "service", None)
    if service is None:
        raise HemtraceError("The server could not start; the lines above say why.")
    if service.state == "failed":
        raise service.ready.exception()


class _Server(uvicorn.Server):
    """Tells when it listens, and stops where the model cannot be loaded."""

    def __init__(self, app: FastAPI, told: Callable[[], Any]) -> None:
        limits = app.state.settings.limits
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=limits.connections + 1,  # uvicorn refuses the one that reaches it
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                lifespan="on",
                ws="none",
            )
        )
        self._app, self._told = app, told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._told()

    async def on_tick(self, counter: int) -> bool:
        return self._app.state.service.state == "failed" or await super().on_tick(counter)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=256)
    except OSError as error:
        raise HemtraceError(
            f"The server cannot listen on {host}, port {port} ({error.strerror or error}); choose "
            "another by --port, or end what listens there."
        ) from None


def _write_logs() -> None:
    """Write a line a request to stderr, and nothing that a library says of a file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for name, level in (("hemtrace", logging.INFO), ("uvicorn", logging.ERROR)):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level)
    warnings.simplefilter("ignore")
