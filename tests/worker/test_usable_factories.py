"""A worker works and stops under each task factory that an application may set."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from asyncjobs import AsyncJobs, Worker
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, register, working

pytestmark = pytest.mark.anyio

Loop = asyncio.AbstractEventLoop
Body = Coroutine[Any, Any, Any]


OWN_CODE = re.compile("Worker|Upkeep|Processor|CancelListener|ResultWaits|Parking|_Decoy")
"""What coroutines of a worker are called by."""


class OwnTask(asyncio.Task[Any]):
    """A task class of the user's own."""


def lazy(loop: Loop, body: Body) -> asyncio.Task[Any]:
    """As they were written before a task could be given a context."""
    return asyncio.Task(body, loop=loop)


FACTORIES: dict[str, Any] = {"lazy": lazy}
if sys.version_info >= (3, 12):

    def eager(loop: Loop, body: Body, **settings: Any) -> asyncio.Task[Any]:
        return OwnTask(body, loop=loop, eager_start=True, **settings)

    FACTORIES["eager"] = eager
    FACTORIES["made"] = asyncio.create_eager_task_factory(OwnTask)
    FACTORIES["asyncio's"] = asyncio.eager_task_factory


@pytest.fixture(params=sorted(FACTORIES))
def factory(request: pytest.FixtureRequest) -> Any:
    return FACTORIES[request.param]


@pytest.fixture
async def under_factory(factory: Any) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    yield
    loop.set_task_factory(None)


def add(a: int, b: int) -> int:
    return a + b


@pytest.mark.usefixtures("under_factory")
async def test_jobs_run_and_a_stop_waits_for_them(app: AsyncJobs, stage: Stage) -> None:
    echo, gated, sync = (register(app, each) for each in (jobs.echo, jobs.gated, add))
    async with working(app) as worker:
        handles = [await echo.enqueue(n) for n in range(20)]
        handles += await app.enqueue_many([sync.bind(n, 1) for n in range(5)])
        last = await gated.enqueue("g")
        results = [await handle.result(LIMIT_S) for handle in handles]
        await stage.noted(("started", "g"))
        worker.stop()
        stage.open("g")
        assert await last.result(LIMIT_S) == "g"
    assert results == [*range(20), *range(1, 6)]


@pytest.mark.usefixtures("under_factory")
async def test_a_stop_gives_back_what_does_not_end(app: AsyncJobs, stage: Stage) -> None:
    gated = register(app, jobs.gated)
    async with app:
        run = asyncio.create_task((worker := Worker(app, grace=0.05)).run())
        await gated.enqueue("g")
        await stage.noted(("started", "g"))
        worker.stop()
        async with asyncio.timeout(LIMIT_S):
            report = await run
        found = await counts(app)
    assert report.released == 1
    assert ("stopped", "g") in stage.notes
    assert (found.ready[2], found.running, found.workers) == (1, 0, 0)


@pytest.mark.usefixtures("under_factory")
async def test_cancelling_run_releases(app: AsyncJobs, stage: Stage) -> None:
    gated = register(app, jobs.gated)
    async with app:
        run = asyncio.create_task(Worker(app).run())
        await gated.enqueue("g")
        await stage.noted(("started", "g"))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        found = await counts(app)
    assert (found.ready[2], found.running, found.workers) == (1, 0, 0)


@pytest.mark.usefixtures("under_factory")
async def test_a_limited_worker_ends_by_itself(app: AsyncJobs) -> None:
    echo = register(app, jobs.echo)
    async with app:
        handle = await echo.enqueue("word")
        async with asyncio.timeout(LIMIT_S):
            report = await Worker(app).run(max_jobs=1, max_memory=1 << 40)
        assert await handle.result(0) == "word"
    assert report.taken == 1


async def tasks_of_worker() -> list[str]:
    """The names of the tasks of asyncjobs that a job sees, but for the attempts."""
    running = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    return [task.get_name() for task in running if OWN_CODE.search(repr(task.get_coro()))]


@pytest.mark.usefixtures("under_factory")
async def test_a_job_sees_no_task_of_the_worker(app: AsyncJobs) -> None:
    look = register(app, tasks_of_worker)
    async with working(app):
        assert await (await look.enqueue()).result(LIMIT_S) == ["asyncjobs-decoy"]
