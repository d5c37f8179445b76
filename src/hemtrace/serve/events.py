"""What happens to a study, told while it happens: server-sent events."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from hemtrace.serve.jobs import Job

# As often a second as anyone sees a difference; a reverse proxy cuts silent connections.
_PAUSE, _SILENCE = 0.04, 15.0


async def stream_events(job: Job) -> AsyncIterator[str]:
    """Tell all that has happened to a job, and then what happens, until it is over.

    Events are `progress` (files, read, predicted, mapped, maps), `slice` (number, any, preview),
    and at the end `done` (id) or `failed` (problem details).
    """
    sent, progress = 0, None
    spoken = time.monotonic()
    while True:
        job.seen = time.monotonic()
        # Asked before its events: none can come after.
        over = job.is_over
        news = job.events[sent:]
        sent += len(news)
        lines = [_write("slice", data) for _, data in news]
        if (now := job.progress()) != progress:
            progress = now
            lines.append(_write("progress", now))
        if over:
            yield "".join([*lines, _tell_end(job)])
            return
        if lines:
            yield "".join(lines)
            spoken = time.monotonic()
        elif time.monotonic() - spoken > _SILENCE:
            yield ": still at work\n\n"
            spoken = time.monotonic()
        await asyncio.sleep(_PAUSE)


def _tell_end(job: Job) -> str:
    if job.is_cancelled:
        return _write(
            "failed", {"title": "Gone", "status": 410, "detail": "The study was deleted."}
        )
    if job.problem is not None:
        return _write("failed", job.problem)
    return _write("done", {"id": job.id})


def _write(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n"
