"""`app.workers` with workers that run: quiet, resume, stop, weights."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import AsyncJobs, State, UsageError, Worker, events
from asyncjobs.client.workers import WorkerInfo
from asyncjobs.model.control import WorkerState
from asyncjobs.store.control import OrderKind
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    NewApp,
    Stage,
    counts,
    events_of,
    eventually,
    listens,
    register,
    until,
    working,
)

pytestmark = pytest.mark.anyio


async def only(app: AsyncJobs) -> WorkerInfo:
    (worker,) = await app.workers.list()
    return worker


async def has_state(app: AsyncJobs, state: WorkerState) -> None:
    async def check() -> bool:
        worker = await only(app)
        return worker.state is state and worker.ordered is None

    await eventually(check)


async def test_a_worker_is_listed(app: AsyncJobs, stage: Stage) -> None:
    gate = register(app, jobs.gated)
    async with working(app, name="w1", queues={"default": 2, "mail": 3}, concurrency=7):
        await gate.enqueue("g")
        await stage.noted(("started", "g"))
        worker = await only(app)
        stage.open("g")
    assert (worker.name, worker.queues) == ("w1", {"default": 2, "mail": 3})
    assert (worker.concurrency, worker.running) == (7, 1)
    assert (worker.state, worker.ordered) == (WorkerState.RUNNING, None)
    assert worker.since is not None
    assert worker.since < worker.ends
    assert worker.pid
    assert worker.host


async def test_a_quiet_worker_finishes_and_takes_nothing(app: AsyncJobs, stage: Stage) -> None:
    quiet = events_of(app, events.WorkerQuiet)
    resumed = events_of(app, events.WorkerResumed)
    gate = register(app, jobs.gated)
    echo = register(app, jobs.echo)
    # Its heartbeats are rare, so it hears of orders by the signal.
    async with working(app, name="w1", lease=60) as worker:
        await listens(app)
        runs = await gate.enqueue("g")
        await stage.noted(("started", "g"))
        assert [each.name for each in await app.workers.quiet("w1")] == ["w1"]
        await until(lambda: bool(quiet))
        waits = await echo.enqueue(1)
        stage.open("g")
        assert await runs.result(LIMIT_S) == "g"
        await has_state(app, WorkerState.QUIET)
        assert await waits.status() is State.READY
        assert worker.unready() is not None
        await app.workers.resume("w1")
        assert await waits.result(LIMIT_S) == 1
        await has_state(app, WorkerState.RUNNING)
        assert len(quiet) == len(resumed) == 1
        # Neither a heartbeat later nor a lost lease makes it follow an old order.
        worker._shift._beats.hasten()  # type: ignore[union-attr]  # it runs
        assert await (await echo.enqueue(2)).result(LIMIT_S) == 2
    assert resumed == [events.WorkerResumed("w1")]


async def test_a_worker_is_stopped(app: AsyncJobs, stage: Stage) -> None:
    gate = register(app, jobs.gated)
    async with app:
        worker = Worker(app, name="w1", grace=LIMIT_S, lease=60)
        running = asyncio.create_task(worker.run())
        handle = await gate.enqueue("g")
        await stage.noted(("started", "g"))
        await listens(app)
        await app.workers.stop((await only(app)).lease)
        await until(lambda: worker.unready() is not None)
        stage.open("g")
        report = await running
        assert (report.taken, report.released) == (1, 0)
        assert await handle.result(LIMIT_S) == "g"
        assert await app.workers.list() == []


async def test_a_worker_that_ends_is_not_resumed(app: AsyncJobs, stage: Stage) -> None:
    resumed = events_of(app, events.WorkerResumed)
    quiet = events_of(app, events.WorkerQuiet)
    gate = register(app, jobs.gated)
    async with app:
        worker = Worker(app, name="w1", grace=LIMIT_S, lease=1)
        running = asyncio.create_task(worker.run())
        await gate.enqueue("g")
        await stage.noted(("started", "g"))
        await app.workers.stop("w1")
        await until(lambda: bool(quiet))
        shift = worker._shift
        assert shift is not None
        # Its second order about its state.
        before = shift._orders._followed[OrderKind.STATE]
        await app.workers.resume("w1")
        await until(lambda: shift._orders._followed[OrderKind.STATE] > before)
        stage.open("g")
        await running
    assert (resumed, len(quiet)) == ([], 1)


async def test_a_lost_signal_does_not_lose_the_order(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = events_of(app, events.WorkerQuiet)
    async with working(app, name="w1", lease=1):
        monkeypatch.setattr(
            "asyncjobs.worker.lease.cancels.CancelListener._listen",
            lambda self: asyncio.sleep(LIMIT_S),
        )
        await app.workers.quiet("w1")
        await until(lambda: bool(quiet))


async def test_weights_change(app: AsyncJobs) -> None:
    async with working(app, name="w1", queues=["a", "b"], lease=60):
        await listens(app, "a")
        assert (await app.workers.weights("w1", {"a": 3})).queues == {"a": 1, "b": 1}

        async def check() -> bool:
            return (await only(app)).queues == {"a": 3, "b": 1}

        await eventually(check)
        with pytest.raises(UsageError, match="does not serve the queue 'c'; it serves a, b"):
            await app.workers.weights("w1", {"c": 3})
        with pytest.raises(UsageError, match="must be a whole number"):
            await app.workers.weights("w1", {"a": 0})


async def test_names_of_workers(new_app: NewApp, kind: str) -> None:
    app = new_app()
    async with app, Worker(app, name="twin"), Worker(app, name="twin"), Worker(app, name="one"):
        first, second = (each for each in await app.workers.list() if each.name == "twin")
        with pytest.raises(UsageError, match="'twin' stands for 2 workers: give the lease"):
            await app.workers.quiet("twin")
        with pytest.raises(UsageError, match="no live worker 'onee'; did you mean 'one'"):
            await app.workers.quiet("one", "onee")
        with pytest.raises(UsageError, match="no live worker"):
            await app.workers.quiet(first.lease[:5])
        assert [each.lease for each in await app.workers.find(first.lease, first.lease)] == [
            first.lease
        ]
        assert [each.state for each in await app.workers.list()] == [WorkerState.RUNNING] * 3
        assert second.lease != first.lease


async def test_each_order_is_followed_once(app: AsyncJobs) -> None:
    resumed = events_of(app, events.WorkerResumed)
    async with working(app, name="w1", lease=1) as worker:
        await listens(app)
        await app.workers.resume("w1")
        await until(lambda: bool(resumed))
        shift = worker._shift
        assert shift is not None
        for _ in range(3):
            before = shift.session.confirmed_s
            shift._beats.hasten()
            await until(lambda before=before: shift.session.confirmed_s > before)  # type: ignore[misc]
    assert len(resumed) == 1


async def test_an_order_of_a_later_release_is_ignored(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "asyncjobs.worker")
    echo = register(app, jobs.echo)
    async with working(app, name="w1", lease=60):
        await listens(app)
        entries = (await only(app)).entries
        for kind, value in ((OrderKind.STATE, "dancing"), (OrderKind.WEIGHTS, "no json")):
            await app.backend.control.workers.order(entries, kind, value)
        await until(lambda: "other weights" in caplog.text)
        assert "an order is unknown to this release, and is ignored: dancing" in caplog.text
        assert await (await echo.enqueue(1)).result(LIMIT_S) == 1
        assert (await counts(app)).workers == 1
