"""Dependencies of jobs in a worker: when they are made and ended, and what they see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    Depends,
    Discard,
    JobContext,
    JobFailed,
    RetryPolicy,
    Snooze,
    State,
    constant,
)
from asyncjobs.model.envelope import encode_call
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    Stage,
    ended,
    processor_of,
    register,
    store_raw,
    until,
    working,
)

pytestmark = [pytest.mark.anyio]

MEMORY = pytest.mark.parametrize("kind", ["memory"], indirect=True)
SOON = RetryPolicy(max_attempts=2, backoff=constant(0))


def note(what: Any) -> None:
    jobs.stage.note(what)


async def get_sum(one: int, *, other: int = 0) -> int:
    return one + other


class Db:
    """What is made for one attempt."""


async def get_name() -> str:
    return "name"


def get_session(name: str = Depends(get_name)) -> Iterator[list[str]]:
    note("session opened")
    try:
        yield [name]
    except BaseException as error:
        note(("session saw", type(error).__name__))
        raise
    finally:
        note("session closed")


async def get_db(
    session: list[str] = Depends(get_session), *, ctx: JobContext = INJECTED
) -> AsyncIterator[Db]:
    note(("db opened", session, ctx.attempt))
    db = Db()
    try:
        yield db
    except BaseException as error:
        note(("db saw", type(error).__name__))
        raise
    finally:
        await asyncio.sleep(0)
        note("db closed")


@asynccontextmanager
async def get_lock() -> AsyncIterator[str]:
    yield "lock"
    note("lock closed")


async def uses(
    what: str,
    *,
    db: Db = Depends(get_db),
    session: list[str] = Depends(get_session),
    lock: str = Depends(get_lock),
    ctx: JobContext = INJECTED,
) -> str:
    note(("runs", type(db).__name__, session, lock, ctx.attempt))
    if what == "fail":
        raise KeyError(what)
    if what == "snooze" and ctx.attempt == 1 and jobs.stage.count("db closed") == 0:
        raise Snooze(0)
    if what == "discard":
        raise Discard("no")
    if what == "wait":
        await jobs.stage.gate("g").wait()
    return what


def uses_in_thread(what: str, *, db: Db = Depends(get_db), lock: str = Depends(get_lock)) -> str:
    note(("runs", type(db).__name__, lock))
    return what


def closings(stage: Stage) -> list[Any]:
    return [what for what in stage.notes if str(what).endswith("closed")]


CLOSED = ["db closed", "session closed"]
OPENED = ["session opened", ("db opened", ["name"], 1)]
RUNS = ("runs", "Db", ["name"], "lock", 1)


async def test_they_are_made_once_and_ended_in_reverse(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, uses)
    async with working(app):
        assert await (await job.enqueue("go")).result(timeout=LIMIT_S) == "go"
    assert stage.notes == [*OPENED, RUNS, "lock closed", "db closed", "session closed"]


@MEMORY
async def test_a_sync_function_gets_them_in_its_thread(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, uses_in_thread)
    async with working(app):
        assert await (await job.enqueue("go")).result(timeout=LIMIT_S) == "go"
    assert stage.notes == [*OPENED, ("runs", "Db", "lock"), "lock closed", *CLOSED]


@MEMORY
async def test_they_see_the_error_of_each_attempt(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, uses, retry=SOON)
    async with working(app):
        with pytest.raises(JobFailed, match="'fail'"):
            await (await job.enqueue("fail")).result(timeout=LIMIT_S)
    for number in (1, 2):
        assert stage.count(("db opened", ["name"], number)) == 1
    assert stage.count(("db saw", "KeyError")) == stage.count(("session saw", "KeyError")) == 2
    assert stage.count("session closed") == 2
    assert stage.count("lock closed") == 0  # its line behind the yield is not reached


@MEMORY
@pytest.mark.parametrize("what", ["snooze", "discard"])
async def test_they_see_a_signal_of_the_job(app: AsyncJobs, stage: Stage, what: str) -> None:
    job = register(app, uses)
    async with working(app):
        handle = await job.enqueue(what)
        state = {"snooze": State.SUCCEEDED, "discard": State.DISCARDED}[what]
        await ended(app, handle.id, state)
    assert stage.count(("db saw", what.capitalize())) == 1
    assert stage.count("db closed") == stage.count("session opened")


async def test_they_are_ended_after_a_cancel(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, uses)
    async with working(app):
        handle = await job.enqueue("wait")
        await stage.noted(RUNS)
        assert await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)
    assert ("db saw", "CancelledError") in stage.notes
    assert closings(stage) == CLOSED


@MEMORY
async def test_they_are_ended_after_a_time_out(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, uses, timeout=0.02, retry=False)
    async with working(app):
        handle = await job.enqueue("wait")
        await ended(app, handle.id, State.DEAD)
    assert closings(stage) == CLOSED


@MEMORY
async def test_they_are_ended_when_the_worker_stops(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, uses)
    async with app:
        async with working(app, grace=0):
            handle = await job.enqueue("wait")
            await stage.noted(RUNS)
        assert closings(stage) == CLOSED
        assert await handle.status() is State.READY


async def get_broken() -> AsyncIterator[int]:
    if jobs.stage.count("broken tried") == 0:
        note("broken tried")
        raise LookupError("not yet")
    yield 1
    note("broken closed")


async def needs_broken(
    *, session: list[str] = Depends(get_session), broken: int = Depends(get_broken)
) -> int:
    return broken


@MEMORY
async def test_one_that_cannot_be_made_fails_the_attempt(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, needs_broken, retry=SOON)
    async with working(app):
        assert await (await job.enqueue()).result(timeout=LIMIT_S) == 1
    assert stage.notes == [
        "session opened",
        "broken tried",
        ("session saw", "LookupError"),
        "session closed",
        "session opened",
        "broken closed",
        "session closed",
    ]


class Getter:
    """An object that makes dependencies, with settings of its own."""

    def __init__(self, value: int) -> None:
        self.value = value

    async def __call__(self, *, ctx: JobContext = INJECTED) -> int:
        return self.value + ctx.attempt


async def gets(
    *,
    two: int = Depends(Getter(1)),
    three: int = Depends(partial(get_sum, 1, other=2)),
    lazy: str = Depends(lambda: get_name()),
) -> list[Any]:
    return [two, three, lazy]


async def forgets(*, lock: Any = Depends(lambda: get_session("x"))) -> None:
    raise AssertionError(lock)


@MEMORY
async def test_objects_and_lambdas_make_them_too(app: AsyncJobs) -> None:
    job = register(app, gets)
    wrong = register(app, forgets, retry=False)
    async with working(app):
        assert await (await job.enqueue()).result(timeout=LIMIT_S) == [2, 3, "name"]
        with pytest.raises(JobFailed, match="has returned a generator; give the generator fun"):
            await (await wrong.enqueue()).result(timeout=LIMIT_S)


async def get_uncommitted() -> AsyncIterator[str]:
    yield "value"
    raise ConnectionError("commit failed")


async def get_swallowing() -> AsyncIterator[str]:
    try:
        yield "value"
    except KeyError:
        note("swallowed")


async def commits(*, value: str = Depends(get_uncommitted)) -> str:
    return value


async def raises(*, value: str = Depends(get_swallowing)) -> str:
    raise KeyError(value)


@MEMORY
async def test_an_error_at_its_end_fails_the_attempt(app: AsyncJobs) -> None:
    job = register(app, commits, retry=False)
    async with working(app):
        with pytest.raises(JobFailed, match="commit failed"):
            await (await job.enqueue()).result(timeout=LIMIT_S)


@MEMORY
async def test_one_that_swallows_an_error_makes_no_success(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, raises, retry=False)
    async with working(app):
        with pytest.raises(JobFailed, match="KeyError"):
            await (await job.enqueue()).result(timeout=LIMIT_S)
    assert stage.notes == ["swallowed"]


async def without(name):  # type: ignore[no-untyped-def]
    """Not annotated: the types of stored arguments are looked at otherwise."""
    return name


@MEMORY
async def test_a_function_without_any_has_the_bare_body(app: AsyncJobs) -> None:
    job = register(app, without)
    async with working(app) as worker:
        await (await job.enqueue("x")).result(timeout=LIMIT_S)
        runner = processor_of(worker).runner
        assert runner._bodies[job] == runner._attempt


@MEMORY
async def test_a_stored_keyword_replaces_none(app: AsyncJobs, stage: Stage) -> None:
    """It may be of a job that was stored when the parameter was an argument."""
    job = register(app, tells)
    envelope = encode_call("tells", (), {"db": "mine"}, 0, None, None, None, {})
    async with working(app):
        handle = app.handle(await store_raw(app, envelope), "default")
        assert await handle.result(timeout=LIMIT_S) == "Db"
    assert job.binding.filled == {"db"}


@MEMORY
async def test_an_enqueue_takes_none(app: AsyncJobs) -> None:
    job = register(app, uses)
    async with app:
        with pytest.raises(Exception, match="'db' is filled in by the worker; leave it out"):
            await job.enqueue("go", db=Db())
        with pytest.raises(Exception, match=r"uses\(what: 'str'\): missing argument 'what'"):
            await job.enqueue()


@MEMORY
async def test_a_middleware_within_is_around_them(app: AsyncJobs, stage: Stage) -> None:
    async def middleware(attempt: Any, call_next: Any) -> Any:
        note("middleware in")
        try:
            return await call_next()
        finally:
            note("middleware out")

    app.middlewares.add_within(middleware)
    job = register(app, uses)
    async with working(app):
        await (await job.enqueue("go")).result(timeout=LIMIT_S)
    assert (stage.notes[0], stage.notes[-1]) == ("middleware in", "middleware out")


# -- once a worker --------------------------------------------------------------------------------


async def get_model() -> AsyncIterator[Db]:
    note("model opened")
    await jobs.stage.gate("model").wait()
    yield Db()
    note("model closed")


async def get_slice(model: Db = Depends(get_model, scope="worker")) -> AsyncIterator[int]:
    yield id(model)
    note("slice closed")


async def predicts(*, part: int = Depends(get_slice)) -> int:
    note("predicts")
    return part


@MEMORY
async def test_one_of_the_worker_is_made_once_and_outlives_jobs(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, predicts)
    async with working(app):
        handles = [await job.enqueue() for _ in range(5)]
        await stage.noted("model opened")
        # Cancelled while it waits for the model, which the others need all the same.
        assert await handles[0].cancel()
        await ended(app, handles[0].id, State.CANCELLED)
        stage.open("model")
        assert len({await handle.result(timeout=LIMIT_S) for handle in handles[1:]}) == 1
        assert stage.count("model closed") == 0
    assert stage.count("model opened") == stage.count("model closed") == 1
    assert stage.count("slice closed") == 4
    assert stage.notes[-1] == "model closed"


# -- overrides ------------------------------------------------------------------------------------


class Fake(Db):
    """Made instead of a Db."""


async def get_fake(name: str = Depends(get_name)) -> AsyncIterator[Fake]:
    yield Fake()
    note("fake closed")


async def tells(*, db: Db = Depends(get_db)) -> str:
    return type(db).__name__


@MEMORY
async def test_an_override_holds_for_its_block(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, tells)

    async def told() -> Any:
        return await (await job.enqueue()).result(timeout=LIMIT_S)

    async with working(app):
        assert await told() == "Db"
        with app.override(get_db, get_fake):
            assert await told() == "Fake"
            with app.override(get_db, Db):
                assert await told() == "Db"
            assert await told() == "Fake"
        assert await told() == "Db"
    assert stage.count("fake closed") == 2
    assert stage.count("db closed") == 2


async def test_plain_calls_make_and_end_them(stage: Stage) -> None:
    app = AsyncJobs("memory:")
    job = register(app, uses)
    in_thread = register(app, uses_in_thread)
    assert await job("go") == "go"
    assert stage.notes == [*OPENED, RUNS, "lock closed", *CLOSED]
    assert await in_thread("go") == "go"
    assert stage.notes[4:] == [*stage.notes[4:6], *OPENED, stage.notes[8], "lock closed", *CLOSED]
    stage.notes.clear()
    assert await in_thread("go", db=Fake(), lock="mine") == "go"
    assert stage.notes == [("runs", "Fake", "mine")]


async def test_a_plain_call_closes_what_a_worker_would_share(stage: Stage) -> None:
    app = AsyncJobs("memory:")
    job = register(app, predicts)
    stage.open("model")
    await job()
    assert stage.notes == ["model opened", "predicts", "slice closed", "model closed"]


async def test_a_plain_call_in_a_job_shares_what_its_worker_has(stage: Stage) -> None:
    app = AsyncJobs("memory:")
    inner = register(app, predicts)

    async def outer() -> None:
        await inner()
        await inner()

    outer.__qualname__ = "outer"
    job = register(app, outer)
    stage.open("model")
    async with working(app):
        await (await job.enqueue()).result(timeout=LIMIT_S)
        await until(lambda: stage.count("slice closed") == 2)
        assert stage.count("model closed") == 0
    assert stage.count("model opened") == 1


async def test_what_a_cancelled_plain_call_has_opened_is_closed(stage: Stage) -> None:
    app = AsyncJobs("memory:")
    job = register(app, uses)
    task = asyncio.create_task(job("wait"))
    await stage.noted(RUNS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closings(stage) == CLOSED
