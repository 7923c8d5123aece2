"""A job that returns work instead of a value has failed, unless that work is done."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobFailed, ResultUnavailable, RetryPolicy, State, constant
from asyncjobs.events import JobRetryScheduled
from asyncjobs.worker.engine.unfinished import unfinished
from tests.worker.kit import LIMIT_S, events_of, register, working

pytestmark = pytest.mark.anyio


async def impl() -> str:
    return "done"


async def asyncly() -> AsyncIterator[int]:
    yield 1


def lazily() -> Iterator[int]:
    yield 1


class Query:
    """As of an ORM: it runs when it is awaited."""

    def __await__(self) -> Generator[Any, None, None]:
        yield


UNFINISHED: dict[str, tuple[Callable[[], Any], str]] = {
    "coroutine": (impl, "a coroutine that was not awaited"),
    "async generator": (asyncly, "an async generator that was not run"),
    "generator": (lazily, "a generator that was not run"),
    "awaitable": (Query, "Query.* that was not awaited"),
    "future": (concurrent.futures.Future, "Future that was not awaited"),
}


async def forgets(kind: str) -> Any:
    return UNFINISHED[kind][0]()


def forgets_in_thread(kind: str) -> Any:
    return UNFINISHED[kind][0]()


@pytest.mark.parametrize("function", [forgets, forgets_in_thread])
@pytest.mark.parametrize("what", UNFINISHED)
async def test_a_forgotten_await_is_a_failed_attempt(
    app: AsyncJobs, function: Callable[..., Any], what: str
) -> None:
    job = register(app, function, retry=RetryPolicy(2, constant(0)))
    retried = events_of(app, JobRetryScheduled)
    async with working(app):
        handle = await job.enqueue(what)
        told = f"{function.__name__} returned.*{UNFINISHED[what][1]}"
        with pytest.raises(JobFailed, match=told):
            await handle.result(LIMIT_S)
        assert await handle.status() is State.DEAD
    assert len(retried) == 1
    gc.collect()  # a coroutine that nobody has closed warns, and a warning fails the test


async def leaves_task(*, is_done: bool) -> Any:
    task = asyncio.create_task(impl() if is_done else asyncio.sleep(60))
    if is_done:
        await asyncio.wait([task])
    return task


async def test_work_that_is_over_is_no_reason_to_run_again(app: AsyncJobs) -> None:
    """Else a job that has paid, and returns the task that did it, pays twice."""
    job = register(app, leaves_task, retry=False)
    async with working(app):
        done = await job.enqueue(is_done=True)
        with pytest.raises(ResultUnavailable):
            await done.result(LIMIT_S)
        open_ = await job.enqueue(is_done=False)
        with pytest.raises(JobFailed, match="Task that was not awaited"):
            await open_.result(LIMIT_S)


class Odd(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError("no attributes")


class OddKind(metaclass=Odd):
    pass


@pytest.mark.parametrize(
    "value", ["text", 1, [1], {}, object(), iter([1]), OddKind(), impl, asyncly, Query, range(3)]
)
async def test_data_is_no_work(value: Any) -> None:
    assert unfinished(value) is None


async def test_what_has_run_to_its_end_is_no_work() -> None:
    coroutine, generator, many = impl(), lazily(), asyncly()
    await coroutine
    assert list(generator) == [1]
    assert [each async for each in many] == [1]
    assert [unfinished(each) for each in (coroutine, generator, many)] == [None] * 3
