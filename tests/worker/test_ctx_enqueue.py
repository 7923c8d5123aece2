"""Jobs that a job enqueues with its success: stored in the same step, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from asyncjobs import (
    INJECTED,
    Abort,
    Aborted,
    AsyncJobs,
    Discard,
    EncodeError,
    EnqueueCall,
    JobContext,
    JobFailed,
    JobFunction,
    JobNotFound,
    PayloadTooLarge,
    RetryPolicy,
    Send,
    Snooze,
    State,
    Unique,
    UsageError,
    constant,
)
from asyncjobs.events import JobEnqueued, JobSucceeded
from asyncjobs.model.settlement import MOST_EFFECT_JOBS
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    NewApp,
    Stage,
    counts,
    ended,
    events_of,
    is_settled,
    register,
    until,
    working,
)

pytestmark = pytest.mark.anyio

NEVER_AGAIN = False

Act = Callable[[JobContext, JobFunction[..., Any]], Awaitable[None]]


class Planned:
    """What the parents of one test do, and the function of their children."""

    act: Act
    kids: JobFunction[..., Any]


planned = Planned()


async def child(name: str) -> str:
    """Writes down that it ran."""
    jobs.stage.note(name)
    return name


async def parent(*, ctx: JobContext = INJECTED) -> None:
    await planned.act(ctx, planned.kids)


async def parent_with_id(name: str, *, ctx: JobContext = INJECTED) -> str:
    return (await ctx.enqueue(planned.kids.bind(name))).id


async def parent_without_result(*, ctx: JobContext = INJECTED) -> object:
    await ctx.enqueue(planned.kids.bind("child"))
    return object()


def parent_in_thread(name: str, *, ctx: JobContext = INJECTED) -> str:
    handle = ctx.enqueue_sync(planned.kids.bind(name))
    assert handle.disposition == "pending"
    if name == "bad":
        raise ValueError(name)
    return handle.id


async def plain_part(name: str, *, ctx: JobContext = INJECTED) -> None:
    await ctx.enqueue(planned.kids.bind(name))


async def step(number: int, *, ctx: JobContext = INJECTED) -> None:
    jobs.stage.note(number)
    if number < 5:
        assert jobs.stage.again is not None
        await ctx.enqueue(jobs.stage.again.bind(number + 1))


def parent_of(app: AsyncJobs, act: Act, **options: Any) -> JobFunction[..., Any]:
    """A job that does `act` with its context and the function of its children."""
    planned.act = act
    planned.kids = register(app, child)
    return register(app, parent, **options)


async def quiet(app: AsyncJobs) -> None:
    """Wait until nothing is queued or running."""
    while not await is_settled(app):
        await asyncio.sleep(0.01)


async def test_the_children_of_a_success_run(app: AsyncJobs, stage: Stage) -> None:
    handles: list[Any] = []

    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        handles.append(await ctx.enqueue(kids.bind("one")))
        handles.extend(await ctx.enqueue_many(kids.bind(name) for name in ("two", "three")))
        # Nothing is stored yet.
        with pytest.raises(JobNotFound, match=r"ctx.enqueue\(\) keeps it"):
            await handles[0].status()
        stage.note("parent")

    job = parent_of(app, act)
    async with working(app, concurrency=1):
        await (await job.enqueue()).result(LIMIT_S)
        assert [await handle.result(LIMIT_S) for handle in handles] == ["one", "two", "three"]
    assert [handle.disposition for handle in handles] == ["pending"] * 3
    assert [handle.is_new for handle in handles] == [None] * 3
    assert stage.notes == ["parent", "one", "two", "three"]


async def fail(ctx: JobContext) -> None:
    raise ValueError("no")


async def discard(ctx: JobContext) -> None:
    raise Discard("not needed")


async def snooze(ctx: JobContext) -> None:
    if not jobs.stage.count("again"):
        jobs.stage.note("again")
        raise Snooze(0)


async def retry(ctx: JobContext) -> None:
    if ctx.attempt == 1:
        raise ValueError("again")


async def interrupt(ctx: JobContext) -> None:
    if not jobs.stage.count("again"):
        jobs.stage.note("again")
        ctx.interrupt()


async def too_long(ctx: JobContext) -> None:
    await asyncio.sleep(LIMIT_S)


@pytest.mark.parametrize(
    ("how", "state", "number"),
    [
        (fail, State.DEAD, 0),
        (discard, State.DISCARDED, 0),
        (too_long, State.DEAD, 0),
        (snooze, State.SUCCEEDED, 1),
        (retry, State.SUCCEEDED, 1),
        (interrupt, State.SUCCEEDED, 1),
    ],
)
async def test_only_a_success_stores_them(
    app: AsyncJobs,
    stage: Stage,
    how: Callable[[JobContext], Awaitable[None]],
    state: State,
    number: int,
) -> None:
    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        await ctx.enqueue(kids.bind("child"))
        await how(ctx)

    policy: Any = RetryPolicy(2, constant(0)) if how is retry else False
    timeout = 0.05 if how is too_long else None
    job = parent_of(app, act, retry=policy, timeout=timeout)
    enqueued = events_of(app, JobEnqueued)
    async with working(app):
        handle = await job.enqueue()
        await ended(app, handle.id, state)
        await quiet(app)
    assert stage.count("child") == number
    assert [event.name for event in enqueued].count("child") == number


async def test_a_cancelled_job_stores_none(app: AsyncJobs, stage: Stage) -> None:
    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        await ctx.enqueue(kids.bind("child"))
        stage.note("begun")
        # It returns all the same.
        try:
            await asyncio.sleep(LIMIT_S)
        except asyncio.CancelledError:
            stage.note("stopped")

    job = parent_of(app, act)
    async with working(app):
        handle = await job.enqueue()
        await stage.noted("begun")
        await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)
        await quiet(app)
    assert stage.notes == ["begun", "stopped"]


async def test_a_job_that_the_worker_gives_back_stores_none(new_app: NewApp, stage: Stage) -> None:
    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        await ctx.enqueue(kids.bind("child"))
        if not stage.count("begun"):
            stage.note("begun")
            await asyncio.sleep(LIMIT_S)

    app = new_app()
    job = parent_of(app, act)
    async with app:
        async with working(app, grace=0):
            handle = await job.enqueue()
            await stage.noted("begun")
        assert sum((await counts(app)).ready) == 1
        async with working(app):
            await handle.result(LIMIT_S)
            await quiet(app)
    assert stage.count("child") == 1


async def test_a_success_of_a_lost_lease_stores_none(
    app: AsyncJobs, stage: Stage, mute: Any
) -> None:
    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        attempts = stage.count("parent")
        stage.note("parent")
        await ctx.enqueue(kids.bind(f"child {attempts}"))
        if not attempts:
            await stage.gate("lost").wait()

    job = parent_of(app, act)
    async with working(app) as first:
        await job.enqueue()
        await stage.noted("parent")
        # The store forgets the lease, as after a long pause of the process.
        await app.backend.reclaim(["default"], 0, 100, dead=first._shift.session.spec.id)  # type: ignore[union-attr]
        stage.open("lost")
        await stage.noted("child 1")
        await quiet(app)
    assert stage.count("child 0") == 0
    assert stage.count("child 1") == 1


async def test_a_sync_job_enqueues_from_its_thread(app: AsyncJobs, stage: Stage) -> None:
    kids = planned.kids = register(app, child)
    job = register(app, parent_in_thread, retry=NEVER_AGAIN)
    async with working(app):
        bad = await job.enqueue("bad")
        id = await (await job.enqueue("good")).result(LIMIT_S)
        assert await kids.handle(id).result(LIMIT_S) == "good"
        with pytest.raises(JobFailed):
            await bad.result(LIMIT_S)
        await quiet(app)
    assert stage.notes == ["good"]


async def test_enqueue_sync_does_not_block_a_loop(app: AsyncJobs, stage: Stage) -> None:
    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        with pytest.raises(UsageError, match=r"write await ctx.enqueue\(...\)"):
            ctx.enqueue_sync(kids.bind("child"))

    job = parent_of(app, act, retry=NEVER_AGAIN)
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)


async def test_an_attempt_keeps_so_many_and_no_more(app: AsyncJobs, stage: Stage) -> None:
    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        await ctx.enqueue_many(kids.bind(f"{n}") for n in range(MOST_EFFECT_JOBS - 1))
        with pytest.raises(UsageError, match=r"keep 1,001 jobs .* app.enqueue_many\(\)"):
            await ctx.enqueue_many([kids.bind("more"), kids.bind("more")])
        await ctx.enqueue(kids.bind("last"))
        with pytest.raises(UsageError, match="keep 1,001 jobs"):
            await ctx.enqueue(kids.bind("more"))

    job = parent_of(app, act, retry=NEVER_AGAIN)
    async with working(app, concurrency=100):
        await (await job.enqueue()).result(LIMIT_S)
        await until(lambda: len(stage.notes) >= MOST_EFFECT_JOBS)
        await quiet(app)
    assert sorted(stage.notes) == sorted(["last", *map(str, range(MOST_EFFECT_JOBS - 1))])


async def test_they_may_be_endless_and_are_refused(app: AsyncJobs, stage: Stage) -> None:
    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        with pytest.raises(UsageError, match="keep 1,001 jobs"):
            await ctx.enqueue_many(iter(lambda: kids.bind("x"), None))
        assert await ctx.enqueue_many([]) == []

    job = parent_of(app, act, retry=NEVER_AGAIN)
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)
        await quiet(app)
    assert stage.notes == []


async def test_what_an_enqueue_refuses_is_refused_at_once(new_app: NewApp, stage: Stage) -> None:
    app, other = new_app(max_payload=5_000_000), new_app()
    foreign = register(other, child)

    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        with pytest.raises(PayloadTooLarge, match="child"):
            await ctx.enqueue(kids.bind("x" * 5_000_000))
        with pytest.raises(UsageError, match=r"4,\d+,\d+ bytes, and an attempt may keep"):
            await ctx.enqueue(kids.bind("x" * 4_200_000))
        with pytest.raises(EncodeError):
            await ctx.enqueue(kids.bind(object()))
        with pytest.raises(UsageError, match="another AsyncJobs"):
            await ctx.enqueue_many([kids.bind("x"), foreign.bind("x")])
        with pytest.raises(UsageError, match=r"ctx.enqueue.* got a call of another app"):
            await ctx.enqueue(foreign.bind("x"))
        with pytest.raises(UsageError, match=r"takes a call, not .*; write f.bind"):
            await ctx.enqueue("child")  # type: ignore[arg-type]

    job = parent_of(app, act, retry=NEVER_AGAIN)
    async with other, working(app):
        await (await job.enqueue()).result(LIMIT_S)
        await quiet(app)
    assert stage.notes == []


async def test_nobody_enqueues_after_the_end_of_an_attempt(app: AsyncJobs, stage: Stage) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        async def later() -> None:
            await stage.gate("over").wait()
            await ctx.enqueue(kids.bind("late"))

        await ctx.enqueue(kids.bind("child"))
        tasks.append(asyncio.get_running_loop().create_task(later()))

    job = parent_of(app, act)
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)
        await stage.noted("child")
        stage.open("over")
        with pytest.raises(UsageError, match="after the end of this attempt"):
            await tasks[0]


async def test_nobody_enqueues_after_an_attempt_has_failed(app: AsyncJobs, stage: Stage) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        async def later() -> None:
            await stage.gate("over").wait()
            await ctx.enqueue(kids.bind("late"))

        tasks.append(asyncio.get_running_loop().create_task(later()))
        raise ValueError("no")

    job = parent_of(app, act, retry=NEVER_AGAIN)
    async with working(app):
        with pytest.raises(JobFailed, match="no"):
            await (await job.enqueue()).result(LIMIT_S)
        stage.open("over")
        with pytest.raises(UsageError, match="after the end of this attempt"):
            await tasks[0]
        await quiet(app)
    assert stage.notes == []


async def test_a_plain_call_belongs_to_the_attempt_around_it(app: AsyncJobs, stage: Stage) -> None:
    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        await part("inner")

    job, part = parent_of(app, act), register(app, plain_part)
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)
        await stage.noted("inner")
        with pytest.raises(UsageError, match="a plain call has none"):
            await part("alone")
        await quiet(app)
    assert stage.notes == ["inner"]


async def test_a_unique_key_that_is_taken_leaves_its_job_out(app: AsyncJobs, stage: Stage) -> None:
    kids = planned.kids = register(app, child, unique=Unique(by="name"))
    job = register(app, parent_with_id)
    async with app:
        holder = await kids.options(delay=3600).enqueue("same")
        async with working(app):
            dropped = await (await job.enqueue("same")).result(LIMIT_S)
            stored = await (await job.enqueue("other")).result(LIMIT_S)
            await stage.noted("other")
            with pytest.raises(JobNotFound):
                await kids.handle(dropped).status()
            assert await kids.handle(stored).status() is State.SUCCEEDED
            assert await holder.status() is State.SCHEDULED


async def test_a_unique_job_may_store_the_next_one_under_its_own_key(
    app: AsyncJobs, stage: Stage
) -> None:
    job = stage.again = register(app, step, unique=Unique(by=lambda number: "one"))
    async with working(app):
        await job.enqueue(1)
        await stage.noted(5)
    assert stage.notes == [1, 2, 3, 4, 5]


async def test_an_id_that_is_given_stores_a_child_once(app: AsyncJobs, stage: Stage) -> None:
    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        await ctx.enqueue(kids.options(id="the-one").bind("child"))

    job = parent_of(app, act)
    async with working(app):
        for _ in range(3):
            await (await job.enqueue()).result(LIMIT_S)
        await quiet(app)
    assert stage.notes == ["child"]


async def test_middleware_of_enqueues_sees_them(app: AsyncJobs, stage: Stage) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="none")

    @app.enqueue_middleware
    async def guard(call: EnqueueCall, send: Send) -> Any:
        if call.args == ("refused",):
            raise Abort("not today")
        if call.name == "child":
            tenant.set("acme")
            return await send(call.replace(args=[f"{call.args[0]} by {tenant.get()}"]))
        return await send()

    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        await ctx.enqueue(kids.bind("one"))
        handles = await ctx.enqueue_many([kids.bind("two"), kids.bind("three")])
        assert [handle.disposition for handle in handles] == ["pending"] * 2
        with pytest.raises(Aborted, match="not today"):
            await ctx.enqueue(kids.bind("refused"))

    job, sync_job = parent_of(app, act), register(app, parent_in_thread)
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)
        await (await sync_job.enqueue("four")).result(LIMIT_S)
        await until(lambda: len(stage.notes) >= 4)
        await quiet(app)
    numbers = ("one", "two", "three", "four")
    assert sorted(stage.notes) == sorted(f"{number} by acme" for number in numbers)


async def test_events_tell_them_with_the_success(app: AsyncJobs, stage: Stage) -> None:
    seen: list[tuple[str, str]] = []
    app.on(JobEnqueued, lambda event: seen.append(("enqueued", event.name)))
    app.on(JobSucceeded, lambda event: seen.append(("succeeded", event.name)))

    async def act(ctx: JobContext, kids: JobFunction[..., Any]) -> None:
        await ctx.enqueue(kids.bind("child"))
        assert seen == [("enqueued", "parent")]

    job = parent_of(app, act, result_ttl=0)
    async with working(app):
        await job.enqueue()
        await stage.noted("child")
        await quiet(app)
    assert sorted(seen) == [
        ("enqueued", "child"),
        ("enqueued", "parent"),
        ("succeeded", "child"),
        ("succeeded", "parent"),
    ]


async def test_a_result_that_cannot_be_kept_drops_no_child(app: AsyncJobs, stage: Stage) -> None:
    planned.kids = register(app, child)
    job = register(app, parent_without_result, retry=NEVER_AGAIN)
    async with working(app):
        handle = await job.enqueue()
        await stage.noted("child")
        assert await handle.status() is State.SUCCEEDED
