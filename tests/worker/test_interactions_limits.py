"""What becomes of a limit when something else happens to its job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    Concurrency,
    Fair,
    JobContext,
    JobHandle,
    RateLimit,
    RateLimited,
    RetryPolicy,
    Snooze,
    State,
    Unique,
    Worker,
    constant,
)
from asyncjobs.events import JobRateLimited
from asyncjobs.policy.limits import Strategy
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, ended, events_of, register, working

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("stage")]

ONE = Concurrency(1, name="api")


async def acts(how: str, *, ctx: JobContext = INJECTED) -> str:
    """Ends its first attempt in this way, and returns from the second one."""
    jobs.stage.note((how, ctx.attempt))
    if jobs.stage.count((how, ctx.attempt)) == 1 and ctx.attempt == 1:
        if how == "retry":
            raise ValueError("first attempt")
        if how == "snooze":
            raise Snooze(3600)
        if how == "closes":
            raise RateLimited(after=3600)
    if how == "waits":
        await jobs.stage.gate("waits").wait()
    return how


async def is_in(handle: JobHandle[Any], state: State) -> None:
    """Wait until the job is in this state."""
    async with asyncio.timeout(LIMIT_S):
        while await handle.status() is not state:
            await asyncio.sleep(0.005)


async def permits(app: AsyncJobs, name: str = "api", key: str = "") -> int:
    """How many permits are taken."""
    return sum(info.running for info in await app.limits.look(name, key))


@asynccontextmanager
async def blocked(app: AsyncJobs, *, limit: str = "api") -> AsyncIterator[None]:
    """Somebody else has the permit meanwhile."""
    async with app.limit(limit, timeout=LIMIT_S):
        yield


async def test_a_retry_gives_the_permit_back_and_takes_another(app: AsyncJobs) -> None:
    job = register(app, acts, limits=ONE, retry=RetryPolicy(2, constant(3600)))
    async with working(app):
        handle = await job.enqueue("retry")
        await is_in(handle, State.SCHEDULED)
        # Another one runs between the attempts.
        assert await (await job.enqueue("other")).result(LIMIT_S) == "other"
        async with blocked(app):
            await app.jobs.retry([handle.ref])
            await is_in(handle, State.HELD)
            assert (await handle.info()).held_by == "limit api"
        assert await handle.result(LIMIT_S) == "retry"
        assert await permits(app) == 0


async def test_a_snooze_gives_the_permit_back(app: AsyncJobs) -> None:
    job = register(app, acts, limits=ONE)
    async with working(app):
        handle = await job.enqueue("snooze")
        await is_in(handle, State.SCHEDULED)
        assert await (await job.enqueue("other")).result(LIMIT_S) == "other"
        await app.jobs.run_now([handle.ref])
        assert await handle.result(LIMIT_S) == "snooze"


async def test_a_limited_job_holds_up_all_under_its_key(app: AsyncJobs) -> None:
    limits = Concurrency(5, by="how", name="api")
    job = register(app, acts, limits=limits)
    limited = events_of(app, JobRateLimited)
    async with working(app):
        handle = await job.enqueue("closes")
        await is_in(handle, State.SCHEDULED)
        assert (limited[0].closed, limited[0].attempt) == (("api closes",), 1)
        assert (await handle.info()).attempt == 1
        same, other = await job.enqueue("closes"), await job.enqueue("other")
        assert await other.result(LIMIT_S) == "other"
        assert await same.status() is State.HELD
        assert (await same.info()).held_by == "limit api closes"
        assert await app.limits.free("api", "closes") == 0
        assert await same.result(LIMIT_S) == "closes"


async def test_a_dead_job_passes_its_limit_again(app: AsyncJobs) -> None:
    job = register(app, jobs.fails, limits=ONE, retry=False)
    async with working(app):
        handle = await job.enqueue("broken")
        await is_in(handle, State.DEAD)
        assert await permits(app) == 0
        async with blocked(app):
            await app.jobs.retry([handle.ref])
            await is_in(handle, State.HELD)
            assert (await handle.info()).held_by == "limit api"
        await is_in(handle, State.DEAD)
        assert await permits(app) == 0


async def test_a_cancelled_job_leaves_its_lane(app: AsyncJobs) -> None:
    job = register(app, acts, limits=ONE)
    async with working(app):
        running = await job.enqueue("waits")
        await is_in(running, State.RUNNING)
        waiting, last = await job.enqueue("other"), await job.enqueue("other")
        assert await waiting.status() is State.HELD
        await waiting.cancel()
        assert await waiting.status() is State.CANCELLED
        await running.cancel()
        await is_in(running, State.CANCELLED)
        assert await last.result(LIMIT_S) == "other"
        assert await permits(app) == 0


async def test_a_job_that_expires_at_its_limit_is_discarded(app: AsyncJobs) -> None:
    job = register(app, acts, limits=ONE)
    async with working(app):
        async with blocked(app):
            handle = await job.options(expires=0.05).enqueue("other")
            assert await handle.status() is State.HELD
            await asyncio.sleep(0.06)
        await is_in(handle, State.DISCARDED)
        assert await permits(app) == 0


async def test_a_paused_queue_takes_no_permit(app: AsyncJobs) -> None:
    job = register(app, acts, limits=ONE)
    async with working(app):
        await app.queues.pause("default")
        handle = await job.enqueue("other")
        async with blocked(app):
            assert await permits(app) == 1
        assert await permits(app) == 0
        await app.queues.resume("default")
        assert await handle.result(LIMIT_S) == "other"


async def test_a_unique_job_is_asked_for_its_key_first(app: AsyncJobs) -> None:
    job = register(app, acts, limits=ONE, unique=Unique(by="how"))
    async with working(app):
        async with blocked(app):
            handle = await job.enqueue("other")
            again = await job.enqueue("other")
            assert again.ref == handle.ref
            assert await handle.status() is State.HELD
        assert await handle.result(LIMIT_S) == "other"


async def test_jobs_of_a_schedule_have_the_limits_of_their_function(app: AsyncJobs) -> None:
    job = register(app, acts, limits=[ONE, Fair(by="how")])
    async with working(app):
        await app.schedules.put("nightly", job.bind("other"), cron="0 3 * * *")
        async with blocked(app):
            handle = await app.schedules.trigger("nightly")
            await is_in(handle, State.HELD)
            assert (await handle.info()).held_by == "limit api"
        assert await handle.result(LIMIT_S) == "other"


async def test_a_worker_that_ends_gives_its_permits_back(new_app: NewApp) -> None:
    app = new_app()
    job = register(app, acts, limits=ONE)
    async with app:
        handle = await job.enqueue("waits")
        async with Worker(app, grace=0.05):
            await is_in(handle, State.RUNNING)
        assert await permits(app) == 0
        jobs.stage.open("waits")
        async with Worker(app, grace=2):
            assert await handle.result(LIMIT_S) == "waits"


async def test_a_job_that_counts_for_many_starts(app: AsyncJobs) -> None:
    """One that counts for more than the burst starts once nobody has for long enough."""
    job = register(app, acts, limits=RateLimit("600/minute", weight=3, name="mail"))
    async with working(app):
        first, second = await job.enqueue("other"), await job.enqueue("other")
        assert await first.result(LIMIT_S) == "other"
        assert await second.result(LIMIT_S) == "other"


async def test_a_job_without_room_is_cancelled(app: AsyncJobs) -> None:
    job = register(app, acts, limits=Concurrency(1, strategy="cancel_new"))
    async with working(app):
        running = await job.enqueue("waits")
        await is_in(running, State.RUNNING)
        refused = await job.enqueue("other")
        await ended(app, refused.id, State.CANCELLED)
        jobs.stage.open("waits")
        assert await running.result(LIMIT_S) == "waits"


async def test_the_newest_job_counts(app: AsyncJobs) -> None:
    job = register(app, acts, limits=Concurrency(1, strategy="cancel_running"))
    async with working(app):
        running = await job.enqueue("waits")
        await is_in(running, State.RUNNING)
        newest = await job.enqueue("other")
        await ended(app, running.id, State.CANCELLED)
        assert await newest.result(LIMIT_S) == "other"


@pytest.mark.parametrize(("strategy", "left"), [("cancel_running", 2), ("cancel_new", 0)])
async def test_of_a_burst_one_runs_though_no_worker_was_there(
    app: AsyncJobs, strategy: Strategy, left: int
) -> None:
    job = register(app, acts, limits=Concurrency(1, strategy=strategy))
    async with app:
        burst = await app.enqueue_many([job.bind("other") for _ in range(3)])
        async with Worker(app):
            assert await burst[left].result(LIMIT_S) == "other"
        states = [await handle.status() for handle in burst if handle is not burst[left]]
        assert states == [State.CANCELLED] * 2
    assert jobs.stage.count(("other", 1)) == 1
