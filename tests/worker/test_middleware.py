"""The seam around attempts: who is where, what each sees, and what it may change."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobFailed, RetryPolicy, Snooze, State, constant, events
from asyncjobs.events import AttemptInfo
from asyncjobs.jobs.middleware import CallNext, Middleware
from asyncjobs.model.settlement import Settlement
from asyncjobs.worker.engine.attempt import Attempt
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    Stage,
    ended,
    events_of,
    processor_of,
    register,
    until,
    working,
)

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("kind", ["memory"], indirect=True)]


async def hello(name: str) -> str:
    return f"hello {name}"


def hello_in_thread(name: str) -> str:
    return f"hello {name}"


async def fails_once(name: str) -> str:
    if not seen:
        raise LookupError(name)
    return name


EACH = pytest.mark.parametrize("function", [hello, hello_in_thread])
seen: list[tuple[str, Any]] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def noting(name: str) -> Middleware:
    async def middleware(attempt: AttemptInfo, call_next: CallNext) -> Any:
        seen.append((f"{name} in", attempt))
        value = await call_next()
        seen.append((f"{name} out", value))
        return value

    return middleware


@pytest.mark.parametrize("function", [hello, hello_in_thread])
async def test_each_has_its_place_and_all_see_one_attempt(
    app: AsyncJobs, function: Callable[..., Any]
) -> None:
    started, succeeded = events_of(app, events.JobStarted), events_of(app, events.JobSucceeded)
    app.middlewares.add_around(noting("outermost"))
    app.middlewares.add_around(noting("around"))
    app.middlewares.add_within(noting("within"))
    app.middlewares.add_within(noting("innermost"))
    job = register(app, function)
    async with working(app):
        handle = await job.enqueue("you")
        assert await handle.result(LIMIT_S) == "hello you"
        await until(lambda: len(seen) == 8)
    ways = ["outermost in", "around in", "within in", "innermost in"]
    ways += ["innermost out", "within out", "around out", "outermost out"]
    assert [name for name, _ in seen] == ways
    attempts = {id(value) for name, value in seen if name.endswith(" in")}
    attempts |= {id(event.info) for event in (*started, *succeeded)}
    assert len(attempts) == 1
    info = seen[0][1]
    assert (info.ref, info.name, info.number) == (handle.ref, function.__name__, 1)
    assert [value for name, value in seen[4:6]] == ["hello you"] * 2
    assert [type(value) for name, value in seen[6:]] == [Settlement] * 2
    assert seen[7][1].state is State.SUCCEEDED


@pytest.mark.parametrize("function", [hello, hello_in_thread])
async def test_what_is_within_may_change_the_value_or_leave_the_function_out(
    app: AsyncJobs, function: Callable[..., Any]
) -> None:
    async def shouts(attempt: AttemptInfo, call_next: CallNext) -> Any:
        return str(await call_next()).upper()

    async def spares(attempt: AttemptInfo, call_next: CallNext) -> Any:
        return "spared"

    job = register(app, function)
    app.middlewares.add_within(shouts)
    async with working(app, threads=1):
        assert await (await job.enqueue("you")).result(LIMIT_S) == "HELLO YOU"
        # What is added holds from the next attempt on; the thread's place is free again.
        app.middlewares.add_within(spares)
        for _ in range(2):
            assert await (await job.enqueue("you")).result(LIMIT_S) == "SPARED"


async def test_what_it_raises_is_judged_like_an_error_of_the_function(app: AsyncJobs) -> None:
    async def raises(attempt: AttemptInfo, call_next: CallNext) -> Any:
        await call_next()
        raise Snooze(600) if attempt.name == "hello" else LookupError("from a middleware")

    app.middlewares.add_within(raises)
    later, dead = register(app, hello), register(app, jobs.echo, retry=False)
    async with working(app):
        await ended(app, (await later.enqueue("you")).id, State.SCHEDULED)
        with pytest.raises(JobFailed, match="from a middleware"):
            await (await dead.enqueue("x")).result(LIMIT_S)


async def test_what_is_within_may_turn_an_error_into_a_value(app: AsyncJobs) -> None:
    async def forgives(attempt: AttemptInfo, call_next: CallNext) -> Any:
        try:
            return await call_next()
        except LookupError:
            return "forgiven"

    app.middlewares.add_within(forgives)
    job = register(app, fails_once, retry=False)
    async with working(app):
        assert await (await job.enqueue("x")).result(LIMIT_S) == "forgiven"


@pytest.mark.parametrize("function", [hello, hello_in_thread])
async def test_one_around_it_that_fails_before_the_attempt_costs_an_attempt(
    app: AsyncJobs, function: Callable[..., Any]
) -> None:
    async def broken(attempt: AttemptInfo, call_next: CallNext) -> Any:
        if attempt.number == 1:
            raise LookupError("from around it")
        return await call_next()

    app.middlewares.add_around(broken)
    job = register(app, function, retry=RetryPolicy(2, constant(0)))
    async with working(app, threads=1):
        assert await (await job.enqueue("you")).result(LIMIT_S) == "hello you"


async def test_a_job_that_is_tried_again_has_another_attempt(app: AsyncJobs) -> None:
    retries = events_of(app, events.JobRetryScheduled)
    app.middlewares.add_around(noting("around"))
    job = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        await (await job.enqueue(1)).result(LIMIT_S)
        await until(lambda: len(seen) == 4)
    first, second = (value for name, value in seen if name == "around in")
    assert first is not second
    assert (first.number, second.number) == (1, 2)
    assert [event.info for event in retries] == [first]
    assert len({first, second, first}) == 2


async def test_an_attempt_says_what_it_was_told_to_stop_for(app: AsyncJobs, stage: Stage) -> None:
    app.middlewares.add_around(noting("around"))
    job = register(app, jobs.gated)
    async with working(app):
        handle = await job.enqueue("g")
        await stage.noted(("started", "g"))
        ((_, info),) = seen
        assert info.stop_asked is None
        assert await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)
        assert info.stop_asked is not None
        assert info.stop_asked.reason == "cancel"


# -- whatever a middleware around it does, the attempt ends, and so does no worker --------------


def plain(attempt: AttemptInfo, call_next: CallNext) -> Any:
    raise LookupError("raised when called, not when awaited")


async def wants_more(attempt: AttemptInfo, call_next: CallNext, more: object) -> Any:
    """A signature that does not fit."""


async def exits(attempt: AttemptInfo, call_next: CallNext) -> Any:
    raise SystemExit(3)


async def leaves_it_out(attempt: AttemptInfo, call_next: CallNext) -> Any:
    return None


def first_time(middleware: Any) -> Middleware:
    """Only the first attempt of each job passes this middleware."""

    def chosen(attempt: AttemptInfo, call_next: CallNext) -> Any:
        if attempt.number == 1:
            return middleware(attempt, call_next)
        return call_next()

    return chosen


@EACH
@pytest.mark.parametrize(
    ("middleware", "error"),
    [
        (plain, "LookupError"),
        (wants_more, "TypeError"),
        (exits, "SystemExit"),
        (leaves_it_out, "UsageError"),
    ],
)
async def test_one_around_it_that_does_not_come_to_it_costs_an_attempt(
    app: AsyncJobs, function: Callable[..., Any], middleware: Any, error: str
) -> None:
    retries = events_of(app, events.JobRetryScheduled)
    app.middlewares.add_around(first_time(middleware))
    job = register(app, function, retry=RetryPolicy(2, constant(0)))
    async with working(app, threads=1, concurrency=1) as worker:
        assert await (await job.enqueue("you")).result(LIMIT_S) == "hello you"
        assert [type(event.error).__name__ for event in retries] == [error]
        await until(lambda: worker.running == 0)


@EACH
@pytest.mark.parametrize("fault", [LookupError, SystemExit])
async def test_one_around_it_that_fails_after_the_attempt_is_logged_and_changes_nothing(
    app: AsyncJobs,
    function: Callable[..., Any],
    fault: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def breaks(attempt: AttemptInfo, call_next: CallNext) -> Any:
        await call_next()
        raise fault("after it")

    app.middlewares.add_around(breaks)
    job = register(app, function, retry=False)
    async with working(app, threads=1, concurrency=1):
        for _ in range(2):
            assert await (await job.enqueue("you")).result(LIMIT_S) == "hello you"
        await until(lambda: len(caplog.records) >= 2)
    told = [record for record in caplog.records if "failed after its end" in record.message]
    assert [record.__dict__["job"] for record in told] == [function.__name__] * 2
    assert [record.exc_info is not None for record in told] == [True, False]
    assert not [record for record in caplog.records if record.name == "asyncio"]


@EACH
async def test_a_time_out_reaches_one_around_it_that_waits(
    app: AsyncJobs, function: Callable[..., Any]
) -> None:
    async def waits(attempt: AttemptInfo, call_next: CallNext) -> Any:
        await asyncio.sleep(60)

    app.middlewares.add_around(waits)
    job = register(app, function, retry=False, timeout=0.05)
    async with working(app):
        with pytest.raises(JobFailed, match=r"longer than its 0\.05 s"):
            await (await job.enqueue("you")).result(LIMIT_S)


@EACH
@pytest.mark.parametrize("swallows", [False, True])
async def test_a_cancel_reaches_one_around_it_that_waits(
    app: AsyncJobs, function: Callable[..., Any], swallows: bool
) -> None:
    async def waits(attempt: AttemptInfo, call_next: CallNext) -> Any:
        seen.append(("waits", attempt))
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not swallows:
                raise

    app.middlewares.add_around(waits)
    job = register(app, function)
    async with working(app):
        handle = await job.enqueue("you")
        await until(lambda: len(seen) == 1)
        assert await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)


@EACH
async def test_one_that_was_stopped_before_its_first_step_passes_no_middleware(
    app: AsyncJobs, function: Callable[..., Any]
) -> None:
    loop = asyncio.get_running_loop()
    # Even where tasks start at once, this one makes its first step a turn later.
    loop.set_task_factory(lambda loop, body, **more: asyncio.Task(body, loop=loop, **more))
    app.middlewares.add_around(noting("around"))
    job = register(app, function)
    try:
        async with working(app) as worker:
            processor = processor_of(worker)
            start = processor.runner.start

            def start_and_cancel(taken: Any) -> None:
                start(taken)
                processor.cancel([each.ref for each in taken])

            processor.runner.start = start_and_cancel  # type: ignore[method-assign]
            handle = await job.enqueue("you")
            await ended(app, handle.id, State.CANCELLED)
    finally:
        loop.set_task_factory(None)
    assert seen == []


async def test_one_around_it_cannot_run_a_job_twice(
    app: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def twice(attempt: AttemptInfo, call_next: CallNext) -> Any:
        await call_next()
        return await call_next()

    app.middlewares.add_around(twice)
    job = register(app, jobs.echo)
    async with working(app):
        assert await (await job.enqueue("x")).result(LIMIT_S) == "x"
        await until(lambda: "call_next() twice" in caplog.text)


@EACH
async def test_one_within_it_cannot_call_the_function_twice(
    app: AsyncJobs, function: Callable[..., Any]
) -> None:
    async def twice(attempt: AttemptInfo, call_next: CallNext) -> Any:
        await call_next()
        return await call_next()

    app.middlewares.add_within(twice)
    job = register(app, function, retry=False)
    async with working(app, threads=1) as worker:
        for _ in range(3):
            with pytest.raises(JobFailed, match=r"call_next\(\) twice"):
                await (await job.enqueue("you")).result(LIMIT_S)
        await until(lambda: worker.running == 0)
        free = processor_of(worker).executors.most(0)
        assert free == ({"default": 1} if function is hello_in_thread else {})


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start at once from Python 3.12 on")
async def test_an_attempt_that_is_over_does_not_get_its_task_back(app: AsyncJobs) -> None:
    gate = asyncio.Event()

    async def lingers(attempt: AttemptInfo, call_next: CallNext) -> Any:
        await call_next()
        await gate.wait()

    app.middlewares.add_around(lingers)
    job = register(app, hello)
    async with working(app) as worker:
        running = processor_of(worker).running
        attempts: list[Attempt] = []
        add = running.add

        def add_and_keep(attempt: Attempt) -> None:
            attempts.append(attempt)
            add(attempt)

        running.add = add_and_keep  # type: ignore[method-assign]
        assert await (await job.enqueue("you")).result(LIMIT_S) == "hello you"
        assert [attempt.task for attempt in attempts] == [None]
        gate.set()
