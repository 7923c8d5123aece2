"""Batches with callbacks: when each of them runs, and that it runs once."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs import AsyncJobs, FlowCancelled, FlowState, JobCall, UsageError, chain
from asyncjobs.client.job_batch import JobBatch
from tests.worker.flow_jobs import FlowJobs, broken, calls
from tests.worker.kit import LIMIT_S, Stage, until, working

pytestmark = pytest.mark.anyio


@pytest.fixture
def jobs(app: AsyncJobs) -> FlowJobs:
    return FlowJobs(app)


def batch_of(app: AsyncJobs, jobs: FlowJobs, **options: Any) -> JobBatch:
    """A batch with all callbacks."""
    names = ("on_success", "on_complete", "on_first_failure")
    callbacks: dict[str, JobCall[Any]] = {name: jobs.seen.bind(name) for name in names}
    return app.batch("import", **callbacks, **options)


async def test_all_succeed(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app):
        async with batch_of(app, jobs) as batch:
            handles = await batch.add(jobs.number.bind(1), jobs.number.bind(2))
            assert [await handle.result(LIMIT_S) for handle in handles] == [1, 2]
            await batch.add(jobs.number.bind(3))
            # Nothing follows before it is closed.
            assert calls("seen") == []
        handle = batch.handle
        assert await handle.wait(LIMIT_S) is FlowState.SUCCEEDED
        assert await handle.result(LIMIT_S) == {
            "on_success": "on_success",
            "on_complete": "on_complete",
            "on_first_failure": None,
        }
        assert sorted(calls("seen")) == [("on_complete",), ("on_success",)]
        info = await handle.info()
        assert (info.nodes, info.done) == (6, 6)


async def test_the_first_failure_is_told_at_once(
    app: AsyncJobs, jobs: FlowJobs, stage: Stage
) -> None:
    broken.update((1, 2))
    async with working(app):
        batch = batch_of(app, jobs)
        await batch.add(jobs.waits.bind("g"), jobs.fragile.bind(1), jobs.fragile.bind(2))
        await until(lambda: bool(calls("seen")))
        assert calls("seen") == [("on_first_failure",)]
        handle = await batch.close()
        stage.open("g")
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        assert calls("seen") == [("on_first_failure",), ("on_complete",)]
        with pytest.raises(UsageError, match="is a batch"):
            await handle.retry()


async def test_an_empty_batch_has_succeeded(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app):
        handle = await app.batch(on_success=jobs.seen.bind("done")).close()
        assert await handle.result(LIMIT_S) == {"on_success": "done"}


async def test_jobs_and_callbacks_of_several_queues(app: AsyncJobs, jobs: FlowJobs) -> None:
    far = jobs.number.options(queue="far")
    async with working(app, queues=["default", "far"]):
        batch = app.batch(
            on_success=jobs.seen.options(queue="far").bind("far"),
            on_complete=jobs.seen.bind("near"),
        )
        await batch.add(far.bind(1), jobs.number.bind(2), chain(jobs.number.bind(3), far))
        await batch.add(*(jobs.number.bind(n) for n in range(1_500)))
        handle = await batch.close()
        assert await handle.result(LIMIT_S) == {"on_success": "far", "on_complete": "near"}
        assert sorted(calls("seen")) == [("far",), ("near",)]
        assert len(calls("number")) == 1_504


async def test_a_retry_is_not_complete(app: AsyncJobs, jobs: FlowJobs) -> None:
    broken.add(1)
    again = jobs.fragile.options(retry=5)
    async with working(app):
        batch = app.batch(on_complete=jobs.seen.bind("done"))
        await batch.add(again.bind(1))
        handle = await batch.close()
        await until(lambda: bool(calls("fragile")))
        assert calls("seen") == []
        broken.clear()
        assert await handle.result(LIMIT_S) == {"on_complete": "done"}


async def test_a_block_that_raises_cancels_the_batch(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with app:
        batch = batch_of(app, jobs)

        async def read() -> None:
            async with batch:
                await batch.add(jobs.number.bind(1))
                raise ValueError("no more rows")

        with pytest.raises(ValueError, match="no more rows"):
            await read()
        with pytest.raises(FlowCancelled):
            await batch.handle.result(LIMIT_S)
        with pytest.raises(UsageError, match="is closed"):
            await batch.add(jobs.number.bind(2))


async def test_what_a_batch_refuses(app: AsyncJobs, jobs: FlowJobs) -> None:
    with pytest.raises(UsageError, match="needs a callback"):
        app.batch("import")
    wrong: Any = jobs.seen
    with pytest.raises(UsageError, match=r"on_success=\) takes a call"):
        app.batch(on_success=wrong)
    async with app:
        with pytest.raises(UsageError, match=r"batch.add\(\) takes calls"):
            await batch_of(app, jobs).add(wrong)
