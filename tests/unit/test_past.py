"""`app.history`: jobs that have ended and figures, on the memory store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from asyncjobs import AsyncJobs, EndedJob, NotOpen, State, UsageError
from asyncjobs.errors import StoreError
from asyncjobs.model.clock import now_ms
from asyncjobs.model.demand import Demand
from asyncjobs.model.figures import MINUTE_MS, Figures
from asyncjobs.model.job import NewJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.seam import EnqueueBatch

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(anyio_backend: str) -> AsyncIterator[AsyncJobs]:
    app = AsyncJobs("memory:")
    async with app:
        yield app


async def end(app: AsyncJobs, queue: str, name: str, error: str = "") -> None:
    """Let a job run for 250 ms, and end."""
    store = app.backend
    await store.enqueue(EnqueueBatch(f"{queue}/{name}", [NewJob(queue, name, 2, b"{}")]))
    lease = await store.lease(LeaseSpec(f"lease-{name}", "ada", (queue,), 60_000))
    (job,) = (await lease.exchange(1, [], {queue: Demand(1)})).jobs
    began_ms = job.ready_ms
    job = job._replace(ready_ms=began_ms - 40)
    run = ("send", 2, began_ms - 45, began_ms, 7.0, 7.25)
    settlement = Settlement.succeeded(job, run=run)
    if error:
        settlement = Settlement.dead(job, b"{}\n{}").telling((*run, error))
    await lease.exchange(2, [settlement], {})


def names(jobs: list[EndedJob]) -> list[str]:
    return [job.ref.id for job in jobs]


async def test_jobs_with_all_that_is_known(app: AsyncJobs) -> None:
    await end(app, "work", "a", "OSError: no host")
    (job,) = await app.history.jobs()
    assert (job.state, job.name, job.attempt, job.worker) == (State.DEAD, "send", 2, "ada")
    assert (job.ran_s, job.error) == (0.25, "OSError: no host")
    assert job.began_at is not None
    assert job.ready_at is not None
    assert job.began_at - job.ready_at == timedelta(milliseconds=40)
    assert job.ended_at <= datetime.now(UTC)


async def test_a_job_that_never_ran(app: AsyncJobs) -> None:
    await app.backend.enqueue(EnqueueBatch("t", [new := NewJob("work", "a", 2, b"{}")]))
    await app.backend.cancel([new.ref], None, 0)
    (job,) = await app.history.jobs(state="cancelled")
    assert (job.worker, job.began_at, job.ran_s, job.error) == (None, None, None, "")


async def test_filters(app: AsyncJobs) -> None:
    await end(app, "work", "a")
    await end(app, "mail", "b", "OSError: no host")
    await end(app, "work", "c")
    past = app.history
    assert sorted(names(await past.jobs())) == ["a", "b", "c"]
    assert len(await past.jobs(limit=2)) == 2
    assert names(await past.jobs(queue="work")) == ["c", "a"]
    assert names(await past.jobs(queue=["mail", "never"], newer_than=60)) == ["b"]
    assert names(await past.jobs(state=[State.DEAD, "discarded"])) == ["b"]
    assert names(await past.jobs(error="NO HOST")) == ["b"]
    assert names(await past.jobs(function="pay")) == []


async def test_figures(app: AsyncJobs) -> None:
    assert await app.history.functions() == []
    begin_ms = now_ms() // MINUTE_MS * MINUTE_MS
    await end(app, "work", "a")
    before = Figures("work", "send", begin_ms - 10 * MINUTE_MS, 3, 1, {}, {20: 3})
    await app.backend.add_figures([before, before._replace(at_ms=begin_ms)])
    (send,) = await app.history.functions()
    assert (send.queue, send.name, send.attempts, send.failed) == ("work", "send", 6, 2)
    assert send.queued is None
    assert send.ran is not None
    assert send.ran.p50 == send.ran.p99
    rows = await app.history.functions(step=timedelta(minutes=5))
    assert [row.attempts for row in rows] == [3, 3]
    assert rows[0].since < rows[1].since
    assert await app.history.functions(queue="other") == []
    assert await app.history.functions(function="pay", newer_than=86_400 * 7) == []


async def test_a_queue_that_cannot_be_read(app: AsyncJobs) -> None:
    await end(app, "work", "a")
    assert isinstance(app.backend, MemoryBackend)
    app.backend.break_queue("work", StoreError("planted"))
    for question in (app.history.jobs, app.history.functions):
        with pytest.raises(StoreError, match="planted"):
            await question()


async def test_wrong_questions(app: AsyncJobs) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        await app.history.jobs(limit=0)
    for state in ("running", "late"):
        with pytest.raises(UsageError, match=f"no job ends as '{state}'"):
            await app.history.jobs(state=state)
    with pytest.raises(UsageError, match="from a minute to 30 days"):
        await app.history.functions(newer_than=1)
    with pytest.raises(UsageError, match="at least a minute"):
        await app.history.functions(step=1)
    with pytest.raises(NotOpen):
        await AsyncJobs("memory:").history.jobs()
