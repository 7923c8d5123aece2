"""Batches with callbacks: when each of them runs, and that it runs once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import AsyncJobs, FlowCancelled, FlowState, JobCall, StoreFull, UsageError, chain
from asyncjobs.client import job_batch
from asyncjobs.client.client import Client
from asyncjobs.client.job_batch import JobBatch
from asyncjobs.jobs.node_names import Names
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


async def test_tasks_that_add_at_the_same_time_open_one_batch(
    app: AsyncJobs, jobs: FlowJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job_batch.made_jobs

    async def slowly(*args: Any) -> Any:
        # Where a server is asked, other tasks have their turn.
        await asyncio.sleep(0)
        return await made(*args)

    monkeypatch.setattr(job_batch, "made_jobs", slowly)
    async with working(app):
        batch = batch_of(app, jobs)
        await asyncio.gather(*(batch.add(jobs.number.bind(n)) for n in range(5)))
        handle = await batch.close()
        assert (await handle.result(LIMIT_S))["on_success"] == "on_success"
        assert (await handle.info()).nodes == 8
        assert [node.name for node in await handle.nodes()][3:5] == ["number", "number-2"]


async def test_a_batch_that_could_not_be_opened_is_given_up(
    app: AsyncJobs, jobs: FlowJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app:
        batch = batch_of(app, jobs)
        store, stored = Client.store, 0

        async def full(client: Client, *args: Any) -> None:
            nonlocal stored
            stored += 1
            if stored == 2:
                raise StoreFull("no room")
            await store(client, *args)

        monkeypatch.setattr(Client, "store", full)
        with pytest.raises(StoreFull):
            await batch.add(jobs.number.bind(1))
        with pytest.raises(UsageError, match="is closed; open another one"):
            await batch.add(jobs.number.bind(1))
        assert await batch.handle.status() is FlowState.CANCELLED
        states = {node.name: node.state.value for node in await batch.handle.nodes()}
        assert states == {"on_success": "cancelled"}


async def test_the_names_of_ten_thousand_jobs_are_looked_for_once() -> None:
    names = Names(["page-3"])
    given = [names.give("page") for _ in range(20_000)]
    # A look from the first one for each would take minutes.
    assert given[:3] == ["page", "page-2", "page-4"]
    assert given[-1] == "page-20001"


async def test_what_a_batch_refuses(app: AsyncJobs, jobs: FlowJobs) -> None:
    with pytest.raises(UsageError, match="needs a callback"):
        app.batch("import")
    wrong: Any = jobs.seen
    with pytest.raises(UsageError, match=r"on_success=\) takes a call"):
        app.batch(on_success=wrong)
    async with app:
        with pytest.raises(UsageError, match=r"batch.add\(\) takes calls"):
            await batch_of(app, jobs).add(wrong)
