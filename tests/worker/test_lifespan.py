"""What a worker opens once: before its first job, and closed after its last one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from asyncjobs import AsyncJobs, Depends, ResourceError, Worker
from asyncjobs.jobs import opened
from asyncjobs.jobs.context import _current
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, register, until, working

pytestmark = [pytest.mark.anyio]

MEMORY = pytest.mark.parametrize("kind", ["memory"], indirect=True)


def note(what: Any) -> None:
    jobs.stage.note(what)


async def settings() -> AsyncIterator[str]:
    note("settings opened")
    yield "settings"
    note("settings closed")


async def pool(given: str = Depends(settings, scope="worker")) -> AsyncIterator[list[str]]:
    note("pool opened")
    task = asyncio.current_task()
    yield [given]
    # A task group, for example, may only be left by the task that has entered it.
    assert asyncio.current_task() is task
    note("pool closed")


async def uses(name: str, *, given: list[str] = Depends(pool)) -> list[str]:
    note(("began", name))
    await jobs.stage.gate(name).wait()
    note(("ended", name))
    return given


OPENED = ["settings opened", "pool opened"]
CLOSED = ["pool closed", "settings closed"]


@pytest.fixture
def with_pool(app: AsyncJobs) -> AsyncJobs:
    app.lifespan(settings)
    app.lifespan(pool)
    return app


async def test_it_opens_before_the_first_job_and_closes_after_the_last(
    with_pool: AsyncJobs, stage: Stage
) -> None:
    job = register(with_pool, uses)
    async with with_pool:
        handles = [await job.enqueue(name) for name in "ab"]
        assert stage.notes == []  # an app that only enqueues opens nothing
        async with Worker(with_pool) as worker:
            assert stage.notes[:2] == OPENED
            await until(lambda: worker.running == 2)
            stage.open("a")
            await handles[0].result(timeout=LIMIT_S)
            worker.stop()
            stage.open("b")
        assert await handles[1].result(timeout=LIMIT_S) == ["settings"]
    assert stage.notes[-2:] == CLOSED
    assert stage.notes.index(("ended", "b")) < stage.notes.index("pool closed")
    assert stage.count("pool opened") == 1


@MEMORY
async def test_each_run_and_each_worker_has_its_own(with_pool: AsyncJobs, stage: Stage) -> None:
    async with with_pool:
        for _ in range(2):
            await Worker(with_pool).run(burst=True, burst_wait=0)
        async with Worker(with_pool), Worker(with_pool):
            assert stage.count("pool opened") == 4
    assert stage.count("pool closed") == 4


@MEMORY
async def test_one_that_cannot_be_opened_ends_the_start(app: AsyncJobs, stage: Stage) -> None:
    async def broken() -> AsyncIterator[None]:
        raise ConnectionRefusedError("port 5432")
        yield

    app.lifespan(settings)
    app.lifespan(broken)
    with pytest.raises(ResourceError, match=r"broken could not be opened: .*Error: port 5432"):
        async with Worker(app):
            raise AssertionError
    assert stage.notes == ["settings opened", "settings closed"]


@MEMORY
async def test_even_an_exit_in_one_is_an_error(app: AsyncJobs) -> None:
    async def leaves() -> AsyncIterator[None]:
        raise SystemExit(3)
        yield

    app.lifespan(leaves)
    with pytest.raises(ResourceError, match="leaves has raised SystemExit"):
        await Worker(app).run(burst=True)


@MEMORY
@pytest.mark.parametrize("ends", [Worker.stop, None])
async def test_a_stop_ends_the_opening(
    app: AsyncJobs, stage: Stage, ends: Callable[[Worker], None] | None
) -> None:
    async def slow() -> AsyncIterator[None]:
        note("slow")
        try:
            await stage.gate("never").wait()
            yield
        finally:
            note("left")

    app.lifespan(settings)
    app.lifespan(slow)
    worker = Worker(app)
    task = asyncio.create_task(worker.run())
    await stage.noted("slow")
    assert worker.unready() == "the worker is not registered"
    if ends is None:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        ends(worker)
        assert (await asyncio.wait_for(task, LIMIT_S)).taken == 0
    assert stage.notes == ["settings opened", "slow", "left", "settings closed"]


@MEMORY
async def test_a_slow_one_is_named_in_the_log(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow() -> AsyncIterator[None]:
        await stage.gate("slow").wait()
        yield

    monkeypatch.setattr(opened, "SLOW_S", 0.01)
    app.lifespan(slow)
    task = asyncio.create_task(Worker(app).run(burst=True, burst_wait=0))
    await until(lambda: caplog.text.count("slow is still opening after") > 1)
    stage.open("slow")
    await task


@MEMORY
async def test_one_that_fails_to_close_or_never_does_leaves_the_others(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> AsyncIterator[None]:
        yield
        raise OSError("at the end")

    async def hangs() -> AsyncIterator[None]:
        yield
        await stage.gate("never").wait()

    monkeypatch.setattr(opened, "CLOSE_S", 0.01)
    for each in (settings, fails, hangs):
        app.lifespan(each)
    await Worker(app).run(burst=True, burst_wait=0)
    assert "hangs was not closed within 0.01 s" in caplog.text
    assert "fails failed to close" in caplog.text
    assert "at the end" in caplog.text
    assert stage.notes == ["settings opened", "settings closed"]


@MEMORY
@pytest.mark.parametrize("is_anyio", [False, True])
async def test_one_that_fails_ends_the_worker_and_no_other_resource(
    app: AsyncJobs, stage: Stage, is_anyio: bool
) -> None:
    async def poll() -> None:
        await stage.gate("broken").wait()
        raise LookupError("the feed is gone")

    async def feed() -> AsyncIterator[str]:
        if is_anyio:
            async with anyio.create_task_group() as several:
                several.start_soon(poll)
                yield "feed"
        else:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(poll())
                yield "feed"

    app.lifespan(pool)
    app.lifespan(feed)
    job = register(app, uses)
    async with app:
        worker = Worker(app)
        task = asyncio.create_task(worker.run())
        await until(lambda: worker.running == 0 and worker.unready() is None)
        handle = await job.enqueue("a")
        await stage.noted(("began", "a"))
        stage.open("broken")
        await until(lambda: worker.is_stopping)
        assert stage.count("pool closed") == 0
        stage.open("a")
        with pytest.raises(ResourceError, match="feed has ended by itself") as told:
            await asyncio.wait_for(task, LIMIT_S)
        assert await handle.result(timeout=LIMIT_S) == ["settings"]
    assert "the feed is gone" in str(getattr(told.value.__cause__, "exceptions", ""))
    assert stage.notes[-2:] == CLOSED


async def lazily() -> AsyncIterator[bool]:
    yield _current.get(None) is None


async def asks(*, alone: bool = Depends(lazily, scope="worker")) -> bool:
    return alone


@MEMORY
async def test_a_resource_keeps_nothing_of_the_job_that_asked_first(app: AsyncJobs) -> None:
    job = register(app, asks)
    async with working(app):
        assert await (await job.enqueue()).result(timeout=LIMIT_S) is True


@MEMORY
async def test_an_overridden_lifespan_is_not_opened(with_pool: AsyncJobs, stage: Stage) -> None:
    job = register(with_pool, uses)
    stage.open("x")
    with with_pool.override(pool, lambda: ["fake"]):
        async with working(with_pool):
            handle = await job.enqueue("x")
            assert await handle.result(timeout=LIMIT_S) == ["fake"]
    assert stage.count("pool opened") == 0


async def test_plain_calls_share_what_app_resources_has_opened(stage: Stage) -> None:
    app = AsyncJobs("memory:")
    app.lifespan(pool)
    job = register(app, uses)
    stage.open("x")

    async def calls() -> Any:
        return await job("x")

    async with app.resources():
        assert stage.notes == OPENED
        assert await calls() is await calls()
        # Another task, as that of a request in a web application.
        await asyncio.create_task(calls())
        assert stage.count("pool closed") == 0
    assert stage.notes[-2:] == CLOSED
    assert stage.count("pool opened") == 1
    await calls()
    assert stage.count("pool opened") == stage.count("pool closed") == 2
