"""A web API that enqueues reports and tells how they come on.

    uvicorn web:web

README.md has the requests to try.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Final

from errors import described, install
from fastapi import Depends, FastAPI, Header, Path, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field
from tasks import Report, app, make_report

from asyncjobs import JobHandle, Progress, ResultError, ResultTimeout, State, StoreUnavailable
from asyncjobs.integrations import lifespan

LOOK_S: Final = 0.5
"""How often a stream asks for progress; workers report it as often. The end comes at once."""

web = FastAPI(title="Reports", lifespan=lifespan(app))
install(web)

JOB_ID: Final = r"^[A-Za-z0-9_-]{1,64}$"


class Order(BaseModel):
    """What a client asks for."""

    customer: str = Field(min_length=1, max_length=100)
    rows: int = Field(default=50, ge=1, le=1000)


class Job(BaseModel):
    """What a client is told about its job."""

    id: str
    state: State
    attempt: int | None = None
    progress: Progress | None = None


class Finished(BaseModel):
    """The report as clients get it; a model of the API's own lets the job's change."""

    customer: str
    rows: int
    total: int


def report_job(job_id: Annotated[str, Path(pattern=JOB_ID)]) -> JobHandle[Report]:
    """The job that the URL names; only jobs of this function can be reached. Asks nobody."""
    return make_report.handle(job_id)


Handle = Annotated[JobHandle[Report], Depends(report_job)]


async def watched(handle: Handle, cancel: bool = False) -> AsyncIterator[JobHandle[Report]]:
    """A job that is there; with `cancel`, one that nobody needs when the client leaves."""
    # A stream has sent its status 200 before its first event: what is unknown is found here.
    await handle.status()
    try:
        yield handle
    finally:
        if cancel:
            await handle.cancel()  # of a job that has ended: does nothing


@web.post("/reports", status_code=202)
async def order(
    asked: Order,
    response: Response,
    key: Annotated[str | None, Header(alias="Idempotency-Key", pattern=JOB_ID)] = None,
) -> Job:
    """Enqueue a report. The same Idempotency-Key again makes no second job."""
    handle = await make_report.options(id=key).enqueue(asked.customer, asked.rows)
    response.headers["Location"] = f"/reports/{handle.id}"
    return Job(id=handle.id, state=await handle.status())


@web.get("/reports/{job_id}")
async def look(handle: Handle) -> Job:
    """Where the job is; for clients that poll."""
    info = await handle.info()
    return Job(id=handle.id, state=info.state, attempt=info.attempt, progress=info.progress)


@web.get("/reports/{job_id}/result", responses={202: {"model": Job}})
async def result(
    handle: Handle, response: Response, wait: Annotated[float, Query(ge=0, le=20)] = 0
) -> Finished | Job:
    """The report; 202 when it is not ready within `wait` seconds."""
    try:
        return Finished(**await handle.result(timeout=wait))
    except ResultTimeout:
        response.status_code = 202
        return await look(handle)


@web.delete("/reports/{job_id}")
async def cancel(handle: Handle) -> Job:
    """Take the job back, or ask its worker to stop it."""
    await handle.cancel()
    return await look(handle)


@web.get("/reports/{job_id}/events", response_class=EventSourceResponse)
async def events(
    handle: Annotated[JobHandle[Report], Depends(watched)],
) -> AsyncIterator[ServerSentEvent]:
    """Progress while the job runs, then one `end` with the result."""
    async for name, data in follow(handle):
        yield ServerSentEvent(event=name, data=data)


async def follow(handle: JobHandle[Report]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """`progress` for each new report of the job, then `end`. Runs until its reader leaves."""
    name, shown = "", None
    while name != "end":
        try:
            name, data = await news(handle)
        except ResultError as error:
            name, data = "end", described(error)
        except StoreUnavailable:
            await asyncio.sleep(LOOK_S)  # the client is still there when the store is back
            continue
        if data is not None and data != shown:
            shown = data
            yield name, data


async def news(handle: JobHandle[Report]) -> tuple[str, dict[str, Any] | None]:
    """The end of the job, at once; else its progress, after LOOK_S."""
    try:
        return "end", {"state": State.SUCCEEDED, "result": await handle.result(timeout=LOOK_S)}
    except ResultTimeout:
        progress = (await handle.info()).progress
        return "progress", None if progress is None else asdict(progress)
