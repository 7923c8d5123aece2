"""`app.queues` with workers that run: pausing, resuming, draining, purging."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from asyncjobs import (
    AsyncJobs,
    DrainTimeout,
    JobCancelled,
    MissingCapability,
    State,
    UsageError,
    Worker,
    events,
)
from asyncjobs.client.draining import Drained
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    NewApp,
    Stage,
    counts,
    events_of,
    eventually,
    is_settled,
    register,
    until,
    working,
)

pytestmark = pytest.mark.anyio

JOBS = 10_000


async def test_a_pause_stops_all_workers_and_loses_nothing(
    new_app: NewApp, kind: str, stage: Stage
) -> None:
    apps = [new_app() for _ in range(1 if kind == "memory" else 4)]
    jobs_of = [register(app, jobs.note, result_ttl=0) for app in apps]
    started = [events_of(app, events.JobStarted) for app in apps]
    async with AsyncExitStack() as stack:
        for app in apps:
            await stack.enter_async_context(app)
        first, note = apps[0], jobs_of[0]
        handles = await first.enqueue_many([note.bind(number) for number in range(JOBS)])
        numbers = {handle.ref: number for number, handle in enumerate(handles)}
        for app in apps:
            worker = Worker(app, queues=["default"], concurrency=20)
            await stack.enter_async_context(worker)
        await until(lambda: bool(stage.notes))
        assert await first.queues.pause("default", reason="a test")
        at_pause = await counts(first)
        # What was taken before ends. Nothing else is taken, however often the workers look.
        await eventually(lambda: _has_stopped(first))
        later = await counts(first)
        assert sum(later.ready) == sum(at_pause.ready) == JOBS - len(stage.notes) > 0
        (found,) = await first.queues.paused()
        assert (found.queue, found.function, found.reason) == ("default", None, "a test")
        assert await first.queues.resume("default")
        await eventually(lambda: is_settled(first))
    assert sorted(stage.notes) == list(range(JOBS))
    # Each exchange hands out jobs in order, so each worker has started them in order.
    for seen in started:
        order = [numbers[event.ref] for event in seen]
        assert order == sorted(order)


async def _has_stopped(app: AsyncJobs) -> bool:
    return (await counts(app)).running == 0


async def test_a_paused_function_waits_while_others_run(app: AsyncJobs, stage: Stage) -> None:
    heard = events_of(app, events.QueuePaused)
    resumed = events_of(app, events.QueueResumed)
    slow = register(app, jobs.echo, name="slow", aliases=["older"])
    fast = register(app, jobs.echo, name="fast")
    async with working(app):
        assert await app.queues.pause("default", slow, by="me")
        assert [found.function for found in await app.queues.paused("default")] == ["older", "slow"]
        waits = await slow.enqueue(1)
        await (await fast.enqueue()).result(LIMIT_S)
        assert await waits.status() is State.READY
        assert await app.queues.resume("default", slow)
        assert await waits.result(LIMIT_S) == 1
        assert not await app.queues.resume("default", slow)
    assert heard == [events.QueuePaused("default", "slow", "me", None)]
    assert resumed == [events.QueueResumed("default", "slow")]


async def test_a_burst_ends_beside_a_paused_queue(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with app:
        await job.enqueue()
        await app.queues.pause("default")
        await Worker(app, queues=["default"]).run(burst=True)
        assert sum((await counts(app)).ready) == 1


async def test_a_drain_waits_until_nothing_is_left(app: AsyncJobs, stage: Stage) -> None:
    gate = register(app, jobs.gated)
    looks: list[Drained] = []
    async with working(app):
        await gate.enqueue("g")
        await stage.noted(("started", "g"))
        drain = asyncio.create_task(app.queues.drain("default", on_progress=looks.append))
        await until(lambda: bool(looks))
        stage.open("g")
        found = await drain
    assert looks[0] == Drained("default", 0, 1, 0, 1)
    assert (found.ready, found.running) == (0, 0)


async def test_a_drain_that_pauses_leaves_nothing_running(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with working(app):
        await app.enqueue_many([job.bind() for _ in range(50)])
        await app.queues.drain("default", pause=True)
        await job.enqueue()
        (found,) = await app.queues.paused()
        assert found.reason == "drained"
        left = await counts(app)
        assert (sum(left.ready), left.running) == (1, 0)


async def test_a_drain_names_what_it_does_not_wait_for(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with app:
        await job.options(delay=3600).enqueue()
        assert (await app.queues.drain("default")).scheduled == 1
        with pytest.raises(DrainTimeout, match="1 scheduled; it has no live worker"):
            await app.queues.drain("default", scheduled=True, timeout=0)


@pytest.mark.parametrize("function", [None, "echo"])
async def test_a_drain_of_paused_jobs_would_never_end(app: AsyncJobs, function: str | None) -> None:
    job = register(app, jobs.echo)
    async with app:
        await job.enqueue()
        await app.queues.pause("default", function)
        with pytest.raises(UsageError, match="1 ready jobs that nobody may take"):
            await app.queues.drain("default", timeout=LIMIT_S)


async def test_a_purge_cancels_what_waits(app: AsyncJobs, stage: Stage) -> None:
    heard = events_of(app, events.QueuePurged)
    gate = register(app, jobs.gated)
    echo = register(app, jobs.echo)
    looks: list[int] = []
    async with app:
        waiting = await echo.enqueue()
        later = await echo.options(delay=3600).enqueue()
        other = await gate.enqueue("g")
        assert await app.queues.purge("default", function=echo, dry_run=True) == 2
        assert await app.queues.purge("default", states=[State.SCHEDULED]) == 1
        assert await app.queues.purge("default", function=echo, on_progress=looks.append) == 1
        assert looks[-1] == 1
        for handle in (waiting, later):
            with pytest.raises(JobCancelled):
                await handle.result(LIMIT_S)
        assert await other.status() is State.READY
        with pytest.raises(UsageError, match="cannot be purged"):
            await app.queues.purge("default", states=[State.RUNNING])
    assert heard == [
        events.QueuePurged("default", None, 1),
        events.QueuePurged("default", "echo", 1),
    ]


async def test_a_reason_has_a_limit(app: AsyncJobs) -> None:
    async with app:
        with pytest.raises(UsageError, match="1,000 characters"):
            await app.queues.pause("default", reason="x" * 1001)


async def test_a_store_that_cannot(app: AsyncJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    async with app:
        without = app.backend.capabilities.__class__(True, True, True)
        monkeypatch.setattr(type(app.backend), "capabilities", without)
        with pytest.raises(MissingCapability, match=r"app\.queues\.pause needs"):
            await app.queues.pause("default")
