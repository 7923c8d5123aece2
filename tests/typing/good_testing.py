"""Tests of users that both type checkers accept, and the types they see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import assert_type

from asyncjobs import INJECTED, AsyncJobs, JobContext, Priority
from asyncjobs.events import JobDead
from asyncjobs.testing import (
    ANY,
    Drained,
    EnqueuedCall,
    Performed,
    Recorder,
    StageWorker,
    Subset,
    VirtualClock,
    assert_enqueued,
    drain,
    drain_sync,
    interrupt_at,
    perform,
    perform_sync,
    refute_enqueued,
    staged,
)

app = AsyncJobs("memory:")


@app.job
async def greet(name: str, *, times: int = 1, ctx: JobContext = INJECTED) -> str:
    return name * times


@app.job
def count(text: str) -> int:
    return len(text)


async def test_async(
    asyncjobs_app: AsyncJobs, recorder: Recorder, worker: StageWorker, clock: VirtualClock
) -> None:
    await greet.enqueue("a")
    calls = assert_enqueued(
        greet,
        args=["a"],
        kwargs={"times": ANY, "other": lambda value: value > 1, "more": Subset(a=1)},
        queue="default",
        at=datetime.now(UTC),
        within=timedelta(minutes=5),
        priority="high",
        count=1,
    )
    assert_type(calls, list[EnqueuedCall])
    assert_enqueued(at=None, within=3, priority=Priority.LOW)
    refute_enqueued()
    refute_enqueued(count, args=("a",))
    recorder.assert_enqueued(greet)
    assert_type(recorder.of(JobDead, greet), list[JobDead])
    done = await perform(greet, "a", times=2)
    assert_type(done, Performed[str])
    assert_type(done.value, str)
    assert_type((await perform(count, "a")).value, int)
    assert_type((await perform(count.bind("a"), attempt=2)).value, int)
    assert_type((await worker.perform(greet.options(retry=2), "a")).value, str)
    assert_type(await drain(scheduled=True, raise_dead=False, limit=3), Drained)
    assert_type(await worker.drain(concurrency=2, timeout=timedelta(seconds=3)), Drained)
    assert_type(await clock.advance(days=7, hours=1), Drained)
    assert_type(await clock.advance(timedelta(days=1)), Drained)
    assert_type(clock.leap(30), datetime)
    assert_type(clock.now(), datetime)
    with interrupt_at("rows", 3) as interruption:
        assert_type(interruption.has_happened, bool)
    async with worker:
        pass


def test_sync(worker: StageWorker, clock: VirtualClock) -> None:
    assert_type(perform_sync(greet, "a").value, str)
    assert_type(drain_sync(), Drained)
    assert_type(worker.drain_sync(timeout=3), Drained)
    assert_type(clock.advance_sync(days=1), Drained)
    with staged(app) as stage:
        assert_type(stage.app, AsyncJobs)
        assert_type(stage.worker, StageWorker)
