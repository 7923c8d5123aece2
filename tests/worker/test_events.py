"""What listeners hear, in which order and with what in it."""

from __future__ import annotations

import pytest

from asyncjobs import AsyncJobs, JobRef, RetryPolicy, Worker, constant, events
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, events_of, register, store_raw, working

pytestmark = pytest.mark.anyio


def kinds(found: list[events.Event]) -> list[str]:
    return [type(event).__name__ for event in found]


async def test_a_life_with_a_retry(app: AsyncJobs, stage: Stage) -> None:
    heard = events_of(app, events.Event)
    job = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    async with app, Worker(app, name="w1", queues=["default"], concurrency=3):
        handle = await job.enqueue(1)
        await handle.result(LIMIT_S)
    # The job may start before the one who has enqueued it has the store's answer.
    heard.sort(key=lambda event: not isinstance(event, (events.WorkerStarted, events.JobEnqueued)))
    assert kinds(heard) == [
        "WorkerStarted",
        "JobEnqueued",
        "JobStarted",
        "JobRetryScheduled",
        "JobsPromoted",
        "JobStarted",
        "JobSucceeded",
        "WorkerQuiet",
        "WorkerStopped",
    ]
    started, enqueued, first, retry, promoted, second, succeeded, _, stopped = heard
    assert started == events.WorkerStarted("w1", ("default",), 3)
    assert enqueued == events.JobEnqueued(handle.ref, "flaky", is_new=True)
    assert isinstance(first, events.JobStarted)
    assert (first.ref, first.name, first.attempt) == (handle.ref, "flaky", 1)
    assert isinstance(retry, events.JobRetryScheduled)
    assert (retry.attempt, retry.delay_s, str(retry.error)) == (1, 0, "attempt 1")
    assert promoted == events.JobsPromoted(1, "default")
    assert isinstance(second, events.JobStarted)
    assert second.attempt == 2
    assert isinstance(succeeded, events.JobSucceeded)
    assert succeeded.attempt == 2
    assert 0 <= succeeded.duration_s < LIMIT_S
    assert stopped == events.WorkerStopped("w1", 0)


async def test_a_start_that_nobody_listens_to_is_no_event(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(events.JobStarted, "__init__", lambda *fields: made.append(fields))
    heard = events_of(app, events.AttemptEnded)
    job = register(app, jobs.echo)
    async with working(app):
        await (await job.enqueue(1)).result(LIMIT_S)
    assert kinds(heard) == ["JobSucceeded"]
    assert made == []


async def test_each_end_has_its_event(app: AsyncJobs, stage: Stage) -> None:
    heard = events_of(app, events.JobEvent)
    fails = register(app, jobs.fails, retry=False)
    discards = register(app, jobs.discards)
    snoozes = register(app, jobs.snoozes)
    async with app:
        dead = await fails.enqueue("final words")
        discarded = await discards.enqueue()
        snoozed = await snoozes.enqueue(1)
        unreadable = await store_raw(app, b"no envelope")
        await Worker(app, concurrency=1).run(burst=True, burst_wait=5)

    def of(id: str) -> list[events.Event]:
        mine = [event for event in heard if event.ref == JobRef("default", id)]
        return [event for event in mine if not isinstance(event, events.JobEnqueued)]

    assert kinds(of(dead.id)) == ["JobStarted", "JobDead"]
    end = of(dead.id)[1]
    assert isinstance(end, events.JobDead)
    assert (end.reason, str(end.error)) == ("exhausted", "final words")
    assert kinds(of(discarded.id)) == ["JobStarted", "JobDiscarded"]
    end = of(discarded.id)[1]
    assert isinstance(end, events.JobDiscarded)
    assert end.reason == "nothing to do"
    assert kinds(of(snoozed.id)) == ["JobStarted", "JobSnoozed", "JobStarted", "JobSucceeded"]
    assert kinds(of(unreadable)) == ["JobDead"]
    end = of(unreadable)[0]
    assert isinstance(end, events.JobDead)
    assert end.reason == "unreadable"


async def test_cancel_and_release(app: AsyncJobs, stage: Stage) -> None:
    heard = events_of(app, events.JobEvent)
    job = register(app, jobs.gated)
    async with app:
        async with Worker(app, grace=0, lease=1):
            cancelled, released = await job.enqueue("c"), await job.enqueue("r")
            await stage.noted(("started", "r"))
            await cancelled.cancel()
            await stage.noted(("stopped", "c"))
        assert (await counts(app)).ready[2] == 1
    ends = {event.ref.id: type(event).__name__ for event in heard}
    assert ends == {cancelled.id: "JobCancelled", released.id: "JobReleased"}


async def test_a_listener_that_raises_disturbs_no_job(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    def listener(event: events.Event) -> None:
        raise jobs.Broken("in a listener")

    app.on(events.Event, listener)
    job = register(app, jobs.echo)
    async with working(app):
        assert await (await job.enqueue(1)).result(LIMIT_S) == 1
    assert "in a listener" in caplog.text


async def test_on_as_a_decorator(app: AsyncJobs, stage: Stage) -> None:
    heard: list[events.JobSucceeded] = []

    @app.on(events.JobSucceeded)
    def listener(event: events.JobSucceeded) -> None:
        heard.append(event)

    job = register(app, jobs.echo)
    async with working(app):
        await (await job.enqueue(1)).result(LIMIT_S)
    assert callable(listener)
    assert [event.name for event in heard] == ["echo"]


async def test_workers_tell_their_queues(app: AsyncJobs) -> None:
    heard = events_of(app, events.Event)
    async with app, Worker(app, queues=["mail", "default"]):
        pass
    assert kinds(heard) == ["WorkerStarted", "WorkerQuiet", "WorkerStopped"]
    for event in heard:
        assert isinstance(event, events.WorkerStarted | events.WorkerQuiet | events.WorkerStopped)
        assert sorted(event.queues) == ["default", "mail"]
