"""`max_running`: at most so many jobs of one function run at a time in a worker."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from asyncjobs import AsyncJobs, ConfigError, RetryPolicy, State, Worker
from asyncjobs.worker.engine.attempt import Attempt, Reason
from asyncjobs.worker.engine.bounds import Bounds
from asyncjobs.worker.engine.threads import Threads
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, ended, register, until, working

pytestmark = [pytest.mark.anyio]

MEMORY = pytest.mark.parametrize("kind", ["memory"], indirect=True)


class Lost:
    """An attempt whose job is another worker's by now."""

    reason = Reason.LEASE_LOST


async def one_of_few(name: str) -> str:
    jobs.stage.note(("began", name))
    await jobs.stage.gate(name).wait()
    return name


def one_of_few_threads(name: str) -> str:
    jobs.stage.note(("began", name))
    assert jobs.thread_gates["t"].wait(LIMIT_S)
    return name


async def any_number(name: str) -> str:
    return name


def begun(stage: Stage) -> list[str]:
    return [what[1] for what in stage.notes if what[0] == "began"]


async def test_jobs_over_the_bound_stay_in_their_own_queue(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, one_of_few, max_running=2, queue="few")
    other = register(app, any_number)
    async with working(app) as worker:
        handles = [await job.enqueue(name) for name in "abcde"]
        await until(lambda: begun(stage) == ["a", "b"])
        # The worker has free slots, and has looked into its queues again for this one.
        assert await (await other.enqueue("x")).result(timeout=LIMIT_S) == "x"
        await until(lambda: worker.running == 2)
        found = await counts(app, "few")
        assert (sum(found.ready), found.running) == (3, 2)
        async with Worker(app, queues="few"):
            await until(lambda: begun(stage) == ["a", "b", "c", "d"])
            stage.open("b")
            await until(lambda: "e" in begun(stage))
            stage.open(*"acde")
            for handle, name in zip(handles, "abcde", strict=True):
                assert await handle.result(timeout=LIMIT_S) == name


async def test_in_a_mixed_queue_they_wait_in_the_worker(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, one_of_few, max_running=1)
    other = register(app, any_number)
    async with working(app) as worker:
        handles = [await job.enqueue(name) for name in "abc"]
        assert await (await other.enqueue("x")).result(timeout=LIMIT_S) == "x"
        await until(lambda: worker.running == 3)
        assert begun(stage) == ["a"]
        stage.open("a")
        await until(lambda: begun(stage) == ["a", "b"])
        stage.open("b", "c")
        for handle in handles:
            await handle.result(timeout=LIMIT_S)
    assert begun(stage) == ["a", "b", "c"]


@MEMORY
async def test_a_waiting_one_is_cancelled_expires_and_has_its_whole_time_out(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, one_of_few, max_running=1, timeout=None, retry=RetryPolicy(1))
    register(app, any_number)
    async with working(app) as worker:
        first = await job.enqueue("a")
        cancelled = await job.enqueue("b")
        late = await job.options(expires=0.05).enqueue("c")
        timed = await job.options(timeout=0.05).enqueue("d")
        await until(lambda: worker.running == 4)
        assert await cancelled.cancel()
        await ended(app, cancelled.id, State.CANCELLED)
        over_s = time.monotonic() + 0.1
        await until(lambda: time.monotonic() > over_s)  # nothing has ended by these times
        assert await late.status() is State.RUNNING
        assert await timed.status() is State.RUNNING
        stage.open("a")
        await first.result(timeout=LIMIT_S)
        await ended(app, late.id, State.DISCARDED)
        await stage.noted(("began", "d"))
        await ended(app, timed.id, State.DEAD)
    assert begun(stage) == ["a", "d"]


@MEMORY
async def test_a_stop_gives_back_those_that_wait(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, one_of_few, max_running=1)
    register(app, any_number)
    async with app:
        async with working(app, grace=0) as worker:
            handles = [await job.enqueue(name) for name in "ab"]
            await until(lambda: worker.running == 2)
        assert [await handle.status() for handle in handles] == [State.READY] * 2
    assert begun(stage) == ["a"]


@MEMORY
async def test_sync_functions_have_bounds_too(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event
) -> None:
    job = register(app, one_of_few_threads, max_running=2)
    async with working(app, threads=8):
        handles = [await job.enqueue(name) for name in "abcd"]
        await until(lambda: len(begun(stage)) == 2)
        assert sum((await counts(app)).ready) == 2
        thread_gate.set()
        for handle in handles:
            await handle.result(timeout=LIMIT_S)
    assert sorted(begun(stage)) == list("abcd")


async def test_a_thread_that_is_left_behind_keeps_its_turn() -> None:
    gate = threading.Event()
    threads = Threads(4, {})
    bounds = Bounds({"few": {"f": 1}})
    bounded = bounds.around(cast("Any", SimpleNamespace(name="f")), 1, threads)
    assert bounds.most(0, {}) == {"few": 1}
    attempt = cast("Attempt", Lost())
    await bounded.acquire(attempt)
    call = asyncio.create_task(bounded.call(attempt, lambda: gate.wait(LIMIT_S)))
    await until(lambda: threads.thread_of(attempt) is not None)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    bounded.release(attempt)
    waiting = asyncio.create_task(bounded.acquire(attempt))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert bounds.most(0, {"few": 3, "other": 2}) == {"few": 0, "other": 2}
    gate.set()
    await waiting
    bounded.release(attempt)
    assert bounds.most(0, {}) == {"few": 1}
    threads.close()


@pytest.mark.parametrize("value", [0, -1, True, "2", 1.5])
def test_a_bound_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ConfigError, match="max_running must be a whole number from 1"):
        register(AsyncJobs("memory:"), any_number, max_running=value)
