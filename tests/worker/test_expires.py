"""Jobs that are not started once it is too late."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

import pytest

from asyncjobs import AsyncJobs, JobDiscarded, RetryPolicy, State, Worker, constant, events
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.clock import new_id, now_ms
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.headers import NO_HEADERS, PastError
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import PinnedClock
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    Stage,
    counts,
    ended,
    events_of,
    eventually,
    register,
    store_raw,
    until,
    working,
)

pytestmark = pytest.mark.anyio

PAST = datetime(2020, 1, 1, tzinfo=UTC)


async def test_a_job_that_is_too_late_is_not_started(
    app: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asyncjobs.worker")
    job = register(app, jobs.note)
    discarded, started = events_of(app, events.JobExpired), events_of(app, events.JobStarted)
    async with working(app):
        late = await job.options(expires=PAST).enqueue("late")
        with pytest.raises(JobDiscarded, match="discarded: expired"):
            await late.result(LIMIT_S)
        await (await job.options(expires=3600).enqueue("early")).result(LIMIT_S)
        info = await late.info()
        found = await counts(app)
    assert stage.notes == ["early"]
    assert [(event.ref, event.attempt, event.reason) for event in discarded] == [
        (late.ref, 1, "expired")
    ]
    assert len(started) == 1
    assert (info.state, info.reason, info.errors) == (State.DISCARDED, "expired", ())
    assert (found.dead, found.running) == (0, 0)
    said = [record for record in caplog.records if "expired" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.INFO]


async def test_a_job_that_waited_too_long_for_a_worker(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note, expires=0.05)
    async with app:
        handle = await job.enqueue("late")
        expires_at = (await handle.info()).expires_at
        assert expires_at is not None
        await _until(app, expires_at)
        async with Worker(app):
            with pytest.raises(JobDiscarded, match="expired"):
                await handle.result(LIMIT_S)
    assert stage.notes == []


async def _until(app: AsyncJobs, time: datetime) -> None:
    """Until the store's clock has come to this time."""
    watcher = await app.backend.lease(LeaseSpec(new_id(), "watcher", ("default",), 60_000))

    async def is_over() -> bool:
        return from_ms((await watcher.beat()).now_ms) >= time

    await eventually(is_over)
    await watcher.leave()


async def test_a_retry_that_comes_too_late_ends_with_the_last_error(
    app: AsyncJobs, stage: Stage
) -> None:
    register(app, jobs.flaky)
    error = PastError(1, "KeyError", "the first time", "trace", 1_000, "worker-1")
    headers = NO_HEADERS.with_error(error)
    envelope = Envelope("flaky", [9], {}, enqueued_ms=1, expires_ms=2, attempt=2, headers=headers)
    async with working(app):
        id = await store_raw(app, envelope.encode())
        await ended(app, id, State.DISCARDED)
        info = await app.handle(id, "default").info()
    assert stage.notes == []
    assert (info.attempt, info.reason) == (2, "expired")
    assert info.error is not None
    assert (info.error.type, info.error.message) == ("KeyError", "the first time")


class Ahead:
    """An app on the memory store whose clock is an hour before this worker's."""

    def __init__(self) -> None:
        self.clock = PinnedClock()
        self.clock.ms = now_ms() + 3_600_000
        self.app = AsyncJobs(backend=MemoryBackend(StoreSettings(), now_ms=self.clock))

    def in_s(self, seconds: float) -> datetime:
        return from_ms(self.clock.ms + round(seconds * 1000))

    async def later(self, seconds: float) -> None:
        """Let time pass, and a worker do what is due then."""
        self.clock.ms += round(seconds * 1000)
        await Worker(self.app).run(burst=True, burst_wait=0)


async def test_a_delayed_job_expires_after_its_delay(stage: Stage) -> None:
    ahead = Ahead()
    job, end = register(ahead.app, jobs.note), ahead.in_s(30)
    async with ahead.app:
        in_time = await job.options(delay=10, expires=end).enqueue("in time")
        late = await job.options(delay=15, expires=end).enqueue("late")
        await ahead.later(10)
        assert await in_time.status() is State.SUCCEEDED
        assert await late.status() is State.SCHEDULED
        await ahead.later(20)
        assert await late.status() is State.DISCARDED
    assert stage.notes == ["in time"]


async def test_a_retry_that_is_due_after_the_expiry_is_not_started(stage: Stage) -> None:
    ahead = Ahead()
    job = register(ahead.app, jobs.flaky, retry=RetryPolicy(9, constant(20)))
    async with ahead.app:
        handle = await job.options(expires=ahead.in_s(50)).enqueue(9)
        await ahead.later(0)
        await ahead.later(20)
        await ahead.later(30)
        assert await handle.status() is State.DISCARDED
    assert stage.notes == [1, 2]


async def test_a_job_learns_when_it_expires(app: AsyncJobs) -> None:
    job = register(app, jobs.expiry)
    async with working(app):
        handle = await job.options(expires=from_ms(4_000_000_000_123)).enqueue()
        assert await handle.result(LIMIT_S) == from_ms(4_000_000_000_123).isoformat()
        assert await (await job.enqueue()).result(LIMIT_S) is None


async def test_a_sync_job_that_waits_too_long_for_a_thread(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event
) -> None:
    """Taken in time, it must not be started when the thread is free at last."""
    first = register(app, jobs.thread_gated)
    async with app:
        handle = await first.enqueue("t")
        late = await first.options(expires=0.3).enqueue("late")
        ends = (await late.info()).expires_at
        assert ends is not None
        async with Worker(app, threads=1):
            await until(lambda: stage.count(("started", "t")) == 1)
            await _until(app, ends)
            thread_gate.set()
            with pytest.raises(JobDiscarded, match="expired"):
                await late.result(LIMIT_S)
            await handle.result(LIMIT_S)
