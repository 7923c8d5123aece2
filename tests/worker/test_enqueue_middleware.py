"""Middleware around enqueues, on each store: what it sees, changes and refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from asyncjobs import (
    Abort,
    Aborted,
    AsyncJobs,
    ConfigError,
    EnqueueCall,
    EnqueueMiddleware,
    JobFunction,
    JobHandle,
    JobRegistry,
    Priority,
    RegistrationError,
    Send,
    Unique,
    UniqueConflict,
    UsageError,
)
from asyncjobs.client import convoy
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, counts, register, working

pytestmark = pytest.mark.anyio

seen: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


async def pays(amount: int, to: str = "you") -> str:
    return f"{amount} to {to}"


async def orders(amount: int) -> str | None:
    """A job that enqueues another one."""
    assert jobs.stage.again is not None
    try:
        await jobs.stage.again.enqueue(amount)
    except Aborted as error:
        return error.reason
    return None


def noting(name: str) -> EnqueueMiddleware:
    async def middleware(call: EnqueueCall, send: Send) -> JobHandle[Any]:
        seen.append(f"{name} in")
        handle = await send()
        seen.append(f"{name} out")
        return handle

    return middleware


async def refuses_large(call: EnqueueCall, send: Send) -> JobHandle[Any]:
    if call.args[0] > 100:
        raise Abort(f"{call.args[0]} is too much")
    return await send()


async def waiting(app: AsyncJobs) -> int:
    return sum((await counts(app)).ready)


async def test_each_enqueue_passes_app_registry_and_function_and_no_other_one(
    app: AsyncJobs,
) -> None:
    job, other = register(app, pays), register(app, jobs.echo)
    job.enqueue_middleware(noting("function"))
    app.enqueue_middleware(noting("app"))
    async with app:
        handle = await job.enqueue(1)
        assert seen == ["app in", "function in", "function out", "app out"]
        assert handle.disposition == "new"
        assert await waiting(app) == 1
        seen.clear()
        await other.enqueue(1)
        assert seen == ["app in", "app out"]


async def test_it_sees_the_call_and_sends_a_changed_one(app: AsyncJobs) -> None:
    job = register(app, pays)

    @job.enqueue_middleware
    async def changes(call: EnqueueCall, send: Send) -> JobHandle[Any]:
        seen.append((call.name, call.args, {**call.kwargs}, call.options.priority))
        return await send(call.replace(args=[2], kwargs={"to": "me"}, priority="high", id="one"))

    async with working(app):
        handle = await job.options(priority="low").enqueue(1, to="you")
        assert await handle.result(LIMIT_S) == "2 to me"
        assert handle.id == "one"
    assert seen == [(job.name, (1,), {"to": "you"}, Priority.LOW)]


async def test_an_abort_stores_nothing_and_tells_the_caller_why(app: AsyncJobs) -> None:
    job = register(app, pays)
    app.enqueue_middleware(refuses_large)
    async with app:
        with pytest.raises(Aborted, match=f"{job.name}: .* 101 is too much") as caught:
            await job.enqueue(101)
        assert caught.value.reason == "101 is too much"
        assert await waiting(app) == 0
        await job.enqueue(100)
        assert await waiting(app) == 1


async def test_a_refused_enqueue_does_not_discard_the_job_that_makes_it(
    app: AsyncJobs, stage: jobs.Stage
) -> None:
    stage.again, job = register(app, pays), register(app, orders)
    stage.again.enqueue_middleware(refuses_large)
    async with working(app):
        assert await (await job.enqueue(7)).result(LIMIT_S) is None
        assert await (await job.enqueue(101)).result(LIMIT_S) == "101 is too much"


async def test_a_thread_passes_it_on_the_loop_of_the_store(app: AsyncJobs, kind: str) -> None:
    job = register(app, pays)

    @job.enqueue_middleware
    async def looks(call: EnqueueCall, send: Send) -> JobHandle[Any]:
        seen.append(threading.current_thread())
        await asyncio.sleep(0)
        return await send(call.replace(kwargs={"to": "me"}))

    job.enqueue_middleware(refuses_large)
    async with working(app):
        handle = await asyncio.to_thread(job.enqueue_sync, 1)
        assert await handle.result(LIMIT_S) == "1 to me"
        assert seen == [threading.current_thread()]
        with pytest.raises(Aborted, match="101 is too much"):
            await asyncio.to_thread(job.enqueue_sync, 101)


# -- many calls ------------------------------------------------------------------------------------


async def test_many_calls_pass_it_each_and_travel_together(app: AsyncJobs) -> None:
    job, other = register(app, pays), register(app, jobs.echo)
    job.enqueue_middleware(noting("function"))
    async with working(app):
        calls = [job.bind(1), other.bind("x"), job.bind(2)]
        handles = await app.enqueue_many(calls)
        assert [await handle.result(LIMIT_S) for handle in handles] == ["1 to you", "x", "2 to you"]
    # All of them come to `send()` before one is stored.
    assert seen == ["function in"] * 2 + ["function out"] * 2


async def test_of_many_calls_only_the_refused_ones_are_not_stored(app: AsyncJobs) -> None:
    job = register(app, pays)
    app.enqueue_middleware(refuses_large)
    async with app:
        with pytest.raises(Aborted, match=r"2 of these 4 calls; 2 are stored") as caught:
            await app.enqueue_many([job.bind(amount) for amount in (1, 101, 2, 102)])
        assert caught.value.reason == "101 is too much"
        first, second, third, fourth = caught.value.handles
        assert (second, fourth) == (None, None)
        assert first is not None
        assert third is not None
        assert await waiting(app) == 2
        assert (await first.info()).args == [1]


async def test_an_error_of_one_middleware_stores_none_of_the_calls(app: AsyncJobs) -> None:
    job = register(app, pays)

    @job.enqueue_middleware
    async def breaks(call: EnqueueCall, send: Send) -> JobHandle[Any]:
        if call.args[0] == 2:
            raise LookupError("from a middleware")
        return await send()

    async with app:
        with pytest.raises(LookupError, match="from a middleware"):
            await app.enqueue_many([job.bind(amount) for amount in (1, 2, 3)])
        assert await waiting(app) == 0


async def test_calls_whose_middleware_wait_for_each_other_are_stored(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convoy, "PATIENCE_S", 0.01)
    job, lock = register(app, pays), asyncio.Lock()

    @job.enqueue_middleware
    async def one_by_one(call: EnqueueCall, send: Send) -> JobHandle[Any]:
        async with lock:
            return await send()

    async with app:
        handles = await app.enqueue_many([job.bind(amount) for amount in (1, 2, 3)])
        assert [(await handle.info()).args for handle in handles] == [[1], [2], [3]]


async def test_more_calls_than_a_step_keep_their_order(app: AsyncJobs) -> None:
    job = register(app, pays)
    job.enqueue_middleware(noting("function"))
    async with app:
        handles = await app.enqueue_many([job.bind(amount) for amount in range(1_003)])
        assert await waiting(app) == 1_003
        assert (await handles[1_002].info()).args == [1_002]
    assert len(seen) == 2 * 1_003


async def test_a_conflict_of_one_call_reaches_its_middleware(app: AsyncJobs) -> None:
    job = register(app, pays, unique=Unique(on_conflict="raise"))

    @job.enqueue_middleware
    async def forgives(call: EnqueueCall, send: Send) -> JobHandle[Any]:
        try:
            return await send()
        except UniqueConflict as conflict:
            seen.append(conflict.holder)
            if call.args[0] == 1:
                return app.handle(conflict.holder)
            raise

    async with app:
        first = await job.enqueue(1)
        (handle,) = await app.enqueue_many([job.bind(1)])
        assert handle.ref == first.ref
        second = await job.enqueue(2)
        with pytest.raises(UniqueConflict, match="1 of these 2 calls; 1 are stored"):
            await app.enqueue_many([job.bind(2), job.bind(3)])
    assert seen == [str(first.ref), str(second.ref)]


async def test_a_cancelled_call_for_many_ends_its_middleware(app: AsyncJobs) -> None:
    job, begun = register(app, pays), asyncio.Event()

    @job.enqueue_middleware
    async def waits(call: EnqueueCall, send: Send) -> JobHandle[Any]:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("ended")
        return await send()

    async with app:
        task = asyncio.create_task(app.enqueue_many([job.bind(1), job.bind(2)]))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["ended"] * 2
        assert await waiting(app) == 0


# -- what it must not do ---------------------------------------------------------------------------


async def twice(call: EnqueueCall, send: Send) -> JobHandle[Any]:
    await send()
    return await send()


async def returns_nothing(call: EnqueueCall, send: Send) -> Any:
    return None


async def returns_a_number(call: EnqueueCall, send: Send) -> Any:
    await send()
    return 3


async def aborts_late(call: EnqueueCall, send: Send) -> JobHandle[Any]:
    await send()
    raise Abort("too late")


async def sends_a_number(call: EnqueueCall, send: Send) -> JobHandle[Any]:
    return await send(3)  # type: ignore[arg-type]


async def wants_what_there_is_not(call: EnqueueCall, send: Send) -> JobHandle[Any]:
    return await send(call.replace(queue="no such name!"))


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("middleware", "kind_of_error", "why", "stored"),
    [
        (twice, UsageError, r"send\(\) twice", 1),
        (returns_nothing, UsageError, r"returned None, not the handle .* raise Abort", 0),
        (returns_a_number, UsageError, "returned 3, not the handle", 1),
        (aborts_late, UsageError, r"Abort after send\(\), and the job \S+ is stored", 1),
        (sends_a_number, UsageError, r"call\.replace\(\.\.\.\), not 3", 0),
        (wants_what_there_is_not, ConfigError, "queue", 0),
    ],
    ids=["twice", "nothing", "a number", "late", "sends a number", "no such queue"],
)
async def test_what_a_middleware_does_wrong_is_told(
    app: AsyncJobs,
    middleware: Callable[..., Any],
    kind_of_error: type[Exception],
    why: str,
    stored: int,
) -> None:
    job = register(app, pays)
    job.enqueue_middleware(middleware)
    async with app:
        with pytest.raises(kind_of_error, match=why):
            await job.enqueue(1)
        assert await waiting(app) == stored


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
async def test_one_that_forgets_to_return_the_handle_has_stored_the_job(app: AsyncJobs) -> None:
    job = register(app, pays)

    @job.enqueue_middleware
    async def forgets(call: EnqueueCall, send: Send) -> None:
        await send()

    async with working(app):
        assert await (await job.enqueue(1)).result(LIMIT_S) == "1 to you"


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
async def test_one_that_is_added_later_holds_from_then_on(app: AsyncJobs) -> None:
    registry = JobRegistry()
    app.include(registry)
    job: JobFunction[..., str] = registry.job(pays)
    variant = job.options(priority="low")
    async with app:
        await job.enqueue(101)
        await variant.enqueue(101)
        registry.enqueue_middleware(refuses_large)
        for each in (job, variant):
            with pytest.raises(Aborted):
                await each.enqueue(101)
        assert await waiting(app) == 2


def plain(call: EnqueueCall, send: Send) -> Any: ...


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
def test_what_cannot_be_one_is_refused_at_once(app: AsyncJobs) -> None:
    with pytest.raises(RegistrationError, match=r"must be async def f\(call, send\)"):
        app.enqueue_middleware(plain)  # type: ignore[arg-type]
    assert app.hooks.enqueue_chain() == ()


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
def test_a_call_shows_no_arguments_in_logs(app: AsyncJobs) -> None:
    call = EnqueueCall(register(app, pays), (1,), {"to": "my secret"})
    assert "secret" not in repr(call)
    with pytest.raises(TypeError):
        call.kwargs["to"] = "me"  # type: ignore[index]
