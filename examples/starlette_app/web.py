"""A small web API around one job, with Starlette alone.

    uvicorn web:web

README.md has the requests to try.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final, TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from tasks import app, count_words

from asyncjobs import (
    ConfigError,
    JobHandle,
    JobNotFound,
    ResultError,
    ResultTimeout,
    State,
    StoreError,
)
from asyncjobs.integrations import lifespan

LOOK_S: Final = 0.5
LONGEST: Final = 10_000

Counts = dict[str, int]


class Shared(TypedDict):
    """What requests find in `request.state`."""

    greeting: str


@asynccontextmanager
async def mine(web: Starlette) -> AsyncIterator[Shared]:
    """The application's own start and stop; the job store is open in both."""
    yield {"greeting": f"send a text to {web.url_path_for('enqueue')}"}


async def home(request: Request) -> JSONResponse:
    """What to do here."""
    return JSONResponse({"hello": request.state.greeting})


async def enqueue(request: Request) -> JSONResponse:
    """Enqueue the count of the text in the body."""
    raw = await request.body()
    if not 0 < len(raw) <= LONGEST:
        raise HTTPException(422, f"send a text of 1 to {LONGEST} bytes, not {len(raw)}")
    handle = await count_words.enqueue(raw.decode(errors="replace"))
    where = request.url_for("look", job_id=handle.id).path
    return JSONResponse({"id": handle.id}, 202, headers={"Location": where})


async def look(request: Request) -> JSONResponse:
    """Where the job is, and its result once it has one."""
    handle = _job(request)
    info = await handle.info()
    body: dict[str, Any] = {"id": handle.id, "state": info.state}
    if info.progress is not None:
        body["progress"] = asdict(info.progress)
    if info.state is State.SUCCEEDED:
        body["result"] = await handle.result(timeout=0)
    return JSONResponse(body)


async def events(request: Request) -> StreamingResponse:
    """Progress while the job runs, then one `end` with the result."""
    handle = _job(request)
    await handle.status()  # what is unknown is a 404, which a stream can no longer be
    return StreamingResponse(
        _follow(handle), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _follow(handle: JobHandle[Counts]) -> AsyncIterator[str]:
    """Stopped by Starlette when the client leaves; the job goes on."""
    try:
        while True:
            try:
                counts = await handle.result(timeout=LOOK_S)
            except ResultTimeout:
                progress = (await handle.info()).progress
                yield _event("progress", progress and asdict(progress))
            else:
                yield _event("end", {"state": State.SUCCEEDED, "result": counts})
                return
    except (ResultError, StoreError) as error:
        yield _event("end", {"error": type(error).__name__})


def _event(name: str, data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _job(request: Request) -> JobHandle[Counts]:
    try:
        return count_words.handle(request.path_params["job_id"])
    except ConfigError as error:  # what cannot be an id names no job
        raise JobNotFound(str(error)) from error


async def failed(request: Request, error: Exception) -> JSONResponse:
    """404 unknown or expired, 503 the store is away, 500 the job has no result to give."""
    status = 404 if isinstance(error, JobNotFound) else 500
    if isinstance(error, StoreError):
        status = 503
    return JSONResponse({"error": type(error).__name__}, status)


web = Starlette(
    routes=[
        Route("/", home),
        Route("/words", enqueue, methods=["POST"]),
        Route("/words/{job_id}", look),
        Route("/words/{job_id}/events", events),
    ],
    lifespan=lifespan(app, mine),
    exception_handlers={ResultError: failed, StoreError: failed},
)
