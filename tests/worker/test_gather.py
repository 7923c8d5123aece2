"""`ctx.gather`: a job that waits for other jobs gives its slot away meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobContext, JobFailed, State, UsageError, Worker
from asyncjobs.worker.engine import away
from asyncjobs.worker.engine.away import Away
from tests.worker import gathering_jobs as jobs
from tests.worker.kit import (
    LIMIT_S,
    Stage,
    counts,
    ended,
    processor_of,
    register,
    until,
    working,
)

pytestmark = [pytest.mark.anyio]

MEMORY = pytest.mark.parametrize("kind", ["memory"], indirect=True)


def register_all(app: AsyncJobs, stage: Stage, function: Any, **options: Any) -> Any:
    stage.again = register(app, jobs.child, retry=False)
    return register(app, function, **options)


async def test_children_of_a_parent_have_its_only_slot(app: AsyncJobs, stage: Stage) -> None:
    parent = register_all(app, stage, jobs.parent)
    stage.open("child 3", "child 1", "child 2", "after")
    async with working(app, concurrency=1):
        handle = await parent.enqueue([3, 1, 2])
        assert await handle.result(LIMIT_S) == [6, 2, 4]


async def test_jobs_may_wait_for_each_other_as_deep_as_they_like(
    app: AsyncJobs, stage: Stage
) -> None:
    stage.again = register(app, jobs.tower)
    async with working(app, concurrency=1):
        assert await (await stage.again.enqueue(5)).result(LIMIT_S) == 5


@MEMORY
async def test_who_comes_back_waits_for_a_slot_before_new_jobs(
    app: AsyncJobs, stage: Stage
) -> None:
    parent = register_all(app, stage, jobs.parent)
    child = stage.again
    assert child is not None
    async with working(app, concurrency=1) as worker:
        handle = await parent.enqueue([1])
        await stage.noted(("child", 1))
        # While its child runs, there is no slot for a third job.
        waits = await child.enqueue(7)
        stage.open("child 1")
        # The child has ended: now the slot is its parent's, or that of the job that waits.
        await until(lambda: stage.count("after") > 0 or stage.count(("child", 7)) > 0)
        if stage.count(("child", 7)):
            # It was taken while the parent was away. The parent waits for its end.
            assert stage.count("after") == 0
            stage.open("child 7")
            await stage.noted("after")
        assert len(processor_of(worker).running) == 1
        stage.open("after", "child 7")
        assert await handle.result(LIMIT_S) == [2]
        assert await waits.result(LIMIT_S) == 14


async def test_errors_are_raised_or_returned(app: AsyncJobs, stage: Stage) -> None:
    parent = register_all(app, stage, jobs.parent, retry=False)
    patient = register(app, jobs.patient)
    stage.open("child -1", "child 1", "child 2", "after")
    async with working(app, concurrency=2):
        failed = await parent.enqueue([1, -1])
        with pytest.raises(JobFailed, match=r"JobFailed: .*below 0: -1"):
            await failed.result(LIMIT_S)
        found = await patient.enqueue([1, -1, 2])
        assert await found.result(LIMIT_S) == ["2", "JobFailed", "4"]


@MEMORY
async def test_a_time_out(app: AsyncJobs, stage: Stage) -> None:
    hasty = register_all(app, stage, jobs.hasty)
    async with working(app, concurrency=1):
        assert await (await hasty.enqueue()).result(LIMIT_S) == "ResultTimeout"
        stage.open("child 1")


async def test_a_stop_gives_the_parent_back_at_once(app: AsyncJobs, stage: Stage) -> None:
    parent = register_all(app, stage, jobs.parent)
    async with app:
        async with working(app, concurrency=2, grace=3600) as worker:
            handle = await parent.enqueue([1, 2])
            await stage.noted(("child", 1))
            worker.stop()
            # Long before the grace is over, and while its children run.
            await stage.noted("back")
            stage.open("child 1", "child 2", "after")
        assert stage.count("after") == 0
        assert (await handle.info()).attempt == 1
        # The next run finds the children, and makes none again.
        async with working(app, concurrency=1):
            assert await handle.result(LIMIT_S) == [2, 4]
    assert stage.count(("child", 1)) == 1


async def test_a_parent_is_cancelled_while_it_waits(app: AsyncJobs, stage: Stage) -> None:
    parent = register_all(app, stage, jobs.parent)
    async with working(app, concurrency=1) as worker:
        handle = await parent.enqueue([1])
        await stage.noted(("child", 1))
        assert await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)
        assert stage.notes[-1] == "back"
        # Its child goes on: it is a job of its own.
        assert await app.handle(f"{handle.id}:1", queue="default").status() is State.RUNNING
        running = processor_of(worker).running
        assert running.away.count() == 0
        stage.open("child 1")
        await ended(app, f"{handle.id}:1", State.SUCCEEDED)


@MEMORY
async def test_the_time_out_of_the_parent_runs_all_the_while(app: AsyncJobs, stage: Stage) -> None:
    parent = register_all(app, stage, jobs.parent, timeout=0.1, retry=False)
    async with working(app, concurrency=1):
        handle = await parent.enqueue([1])
        with pytest.raises(JobFailed, match=r"longer than its 0\.1 s"):
            await handle.result(LIMIT_S)
        stage.open("child 1")


@MEMORY
async def test_a_lost_lease_ends_the_wait(app: AsyncJobs, stage: Stage) -> None:
    parent = register_all(app, stage, jobs.parent)
    async with working(app, concurrency=1) as worker:
        await parent.enqueue([1])
        await stage.noted(("child", 1))
        processor = processor_of(worker)
        processor.note_lost(processor.session.spec, ["default"])
        await stage.noted("back")
        assert processor.running.away.count() == 0


async def test_a_burst_waits_for_those_that_are_away(app: AsyncJobs, stage: Stage) -> None:
    parent = register_all(app, stage, jobs.parent)
    stage.open("child 1", "child 2", "after")
    async with app:
        handle = await parent.enqueue([1, 2])
        await Worker(app, concurrency=1).run(burst=True)
        assert await handle.result(LIMIT_S) == [2, 4]
        assert sum((await counts(app)).ready) == 0


@MEMORY
async def test_two_waits_at_once_count_once(app: AsyncJobs, stage: Stage) -> None:
    job = register_all(app, stage, jobs.twice_at_once)
    stage.open("child 1", "child 2")
    async with working(app, concurrency=1) as worker:
        assert await (await job.enqueue()).result(LIMIT_S) == [[2], [4]]
        assert processor_of(worker).running.away.count() == 0


@MEMORY
async def test_no_warning_is_written(
    app: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    parent = register_all(app, stage, jobs.parent)
    stage.open("child 1", "after")
    async with working(app, concurrency=1):
        await (await parent.enqueue([1])).result(LIMIT_S)
    assert "holds a slot" not in caplog.text


def test_the_number_of_those_that_are_away_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away, "AWAY_AT_LEAST", 2)
    attempts: list[Any] = [object() for _ in range(12)]
    waiting = Away(1, lambda attempt: True, lambda: len(attempts))
    assert [waiting.go(attempt) for attempt in attempts] == [True] * 10 + [False] * 2
    assert waiting.count() == 10
    waiting.forget(attempts[0])
    assert waiting.go(attempts[11])


async def test_who_comes_back_waits_until_an_attempt_has_ended() -> None:
    running: list[Any] = ["parent", "child"]
    waiting = Away(1, running.__contains__, running.__len__)
    assert waiting.go(running[0])
    assert waiting.count() == 1
    back = asyncio.create_task(waiting.come_back(running[0]))
    await asyncio.sleep(0)
    # Its slot is spoken for from now on, so that no job is taken in its place.
    assert waiting.count() == 0
    waiting.admit()
    await asyncio.sleep(0)
    assert not back.done()
    running.remove("child")
    waiting.admit()
    await back


async def test_the_first_one_comes_back_first() -> None:
    running: list[Any] = ["one", "two", "child"]
    waiting = Away(2, running.__contains__, running.__len__)
    assert waiting.go("one")  # type: ignore[arg-type]
    assert waiting.go("two")  # type: ignore[arg-type]
    running += ["more"]
    one = asyncio.create_task(waiting.come_back("one"))  # type: ignore[arg-type]
    two = asyncio.create_task(waiting.come_back("two"))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    running.remove("child")
    waiting.admit()
    await one
    assert not two.done()
    running.remove("more")
    waiting.admit()
    await two


def test_who_was_let_go_is_not_counted() -> None:
    running: list[Any] = ["one"]
    waiting = Away(1, running.__contains__, running.__len__)
    assert waiting.go(running[0])
    running.clear()
    waiting.admit()
    assert waiting.count() == 0


@pytest.mark.parametrize("given", [3, "handles", [3], [None]])
async def test_what_are_no_handles(given: Any) -> None:
    with pytest.raises(UsageError, match="handle"):
        await JobContext.local("f").gather(given)


async def test_a_plain_call_waits_in_place(new_app_in_memory: AsyncJobs, stage: Stage) -> None:
    app = new_app_in_memory
    stage.again = register(app, jobs.child)
    stage.open("child 1")
    async with working(app):
        assert await JobContext.local("f").gather([await stage.again.enqueue(1)]) == [2]
        assert await JobContext.local("f").gather([]) == []


@pytest.fixture
def new_app_in_memory() -> AsyncJobs:
    return AsyncJobs("memory:")
