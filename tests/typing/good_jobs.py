"""Calls that both type checkers accept, and the types they see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    Backfill,
    FromTick,
    JobCall,
    JobContext,
    JobError,
    JobFunction,
    JobHandle,
    JobInfo,
    JobRegistry,
    Priority,
    Ref,
    RetryPolicy,
    Schedule,
    Secret,
    State,
    Worker,
    by_id,
    constant,
    current_job,
    exponential,
    polynomial,
)

app = AsyncJobs("redis://localhost:6379", result_ttl=timedelta(minutes=5), retry=5)
picky = AsyncJobs(retry=(RetryPolicy(3, on=OSError), RetryPolicy(4)))
registry = JobRegistry()
app.include(registry)


class Animal: ...


class Dog(Animal): ...


@app.job
async def bare(user_id: int) -> str:
    return str(user_id)


@app.cron("30 2 * * *", tz="Europe/Berlin", args=(7,), overlap="skip")
@app.job
@app.every(timedelta(minutes=5), args=(7,), window="1h")
async def nightly(user_id: int, day: str = "") -> str:
    return day * user_id


@app.job()
async def called(user_id: int, name: str = "x") -> str:
    return name * user_id


@app.job(
    queue="mail",
    priority="high",
    timeout=30,
    retry=RetryPolicy(max_attempts=5, backoff=exponential(base=1, cap=300)),
    discard_on=(ValueError, KeyError),
    result_ttl=timedelta(hours=1),
    name="mail.welcome",
    aliases=["mail.old"],
)
async def send_welcome(user_id: int, *, ctx: JobContext = INJECTED) -> str:
    assert_type(ctx, JobContext)
    assert_type(ctx.deadline, datetime | None)
    assert_type(ctx.expires_at, datetime | None)
    ctx.progress(1, 2, "half")
    return ctx.id


@registry.job(priority=Priority.LOW, timeout=None, retry=False, discard_on=ValueError)
def sync_job(*parts: str, sep: str = "") -> list[str]:
    return sep.join(parts).split()


@app.job(sensitive=["card.number"])
async def pay(card: dict[str, str], pin: Secret[str], tries: Secret[int | None] = None) -> str:
    assert_type(pin, str)
    assert_type(tries, int | None)
    return pin


@registry.job
def bare_sync(number: int) -> float:
    return number / 2


@app.job
async def owned(self: int, kwargs: str) -> str:
    return kwargs * self


@app.job(retry=RetryPolicy(backoff=constant(3)))
async def get_dog() -> Dog:
    return Dog()


@app.job(
    expires=timedelta(minutes=5),
    retry=[
        RetryPolicy(on=ConnectionError, max_attempts=10, backoff=polynomial(base=1, exponent=3)),
        RetryPolicy(3, constant(2, jitter=True), on=(TimeoutError, OSError)),
        RetryPolicy(5, exponential(jitter=False), on=[ValueError]),
    ],
)
async def by_error() -> None: ...


@app.job(retry=RetryPolicy(backoff=lambda attempt: attempt * 2.0))
async def nothing() -> None: ...


async def enqueues() -> None:
    async with app as entered:
        assert_type(entered, AsyncJobs)
    assert_type(await bare.enqueue(1), JobHandle[str])
    assert_type(await called.enqueue(1, name="n"), JobHandle[str])
    assert_type(await nightly.enqueue(1, day="x"), JobHandle[str])
    assert_type(await send_welcome.enqueue(user_id=1), JobHandle[str])
    assert_type(await sync_job.enqueue("a", "b", sep=" "), JobHandle[list[str]])
    assert_type(await bare_sync.enqueue(1), JobHandle[float])
    assert_type(await nothing.enqueue(), JobHandle[None])
    assert_type(await pay.enqueue({}, "1234"), JobHandle[str])
    assert_type(bare.enqueue_sync(1), JobHandle[str])
    assert_type(bare.enqueue_sync(1).result_sync(timeout=timedelta(seconds=1)), str)
    assert_type(bare.enqueue_sync(1).result_sync(), str)
    assert_type(bare.enqueue_sync(1).status_sync(), State)
    assert_type(await owned.enqueue(self=1, kwargs="x"), JobHandle[str])
    assert_type(owned.bind(self=1, kwargs="x"), JobCall[str])


class Row:
    id: int


async def load_row(id: int) -> Row | None: ...


app.loader(Row, load=load_row, id=lambda row: row.id)
app.serializer(complex, dump=str, load=complex)


@app.job
async def typed(row: Ref[Row], others: list[Ref[Row]], at: datetime | None = None) -> Row:
    assert_type(row, Row)
    assert_type(others, list[Row])
    return row


async def typed_arguments(row: Row) -> None:
    assert_type(await typed.enqueue(row, [row], at=datetime.now(UTC)), JobHandle[Row])
    assert_type(await typed.enqueue(by_id(Row, 1), []), JobHandle[Row])
    assert_type(await (await typed.enqueue(row, [])).result(), Row)


async def schedules() -> None:
    call = nightly.options(priority="low").bind(7, FromTick.DATE)
    found = await app.schedules.put("us", call, cron="@daily", tz="UTC", catch_up="all")
    assert_type(found, Schedule)
    assert_type(await app.schedules.get("us"), Schedule | None)
    assert_type(found.next_at, datetime | None)
    assert_type(await app.schedules.trigger("us"), JobHandle[Any])
    assert_type(await app.schedules.backfill("us", datetime.now(UTC), datetime.now(UTC)), Backfill)


async def plain_calls() -> None:
    assert_type(await bare(1), str)
    assert_type(await bare_sync(1), float)
    assert_type(await send_welcome(1), str)
    assert_type(current_job(), JobContext)


async def options() -> None:
    later = send_welcome.options(delay=60, priority="low", id="welcome:42")
    await later.enqueue(42)
    await bare.options(at=datetime(2027, 1, 1, 9, tzinfo=UTC), queue="q").enqueue(42)
    await bare.options(expires=datetime(2027, 1, 1, 9, tzinfo=UTC)).enqueue(42)
    await bare.options(expires=timedelta(minutes=1)).options(expires=None).enqueue(42)
    await bare.options(delay=timedelta(hours=1), timeout=None, retry=3, result_ttl=0).enqueue(1)


async def handles() -> None:
    handle = bare.handle("id")
    assert_type(handle, JobHandle[str])
    assert_type(await handle.result(timeout=10), str)
    assert_type(await handle.result(timedelta(seconds=1)), str)
    assert_type(await handle.status(), State)
    assert_type(await handle.cancel(), bool)
    assert_type(await handle.info(), JobInfo)
    assert_type((await handle.info()).redacted(), JobInfo)
    assert_type((await handle.info()).errors, tuple[JobError, ...])
    assert_type(handle.is_new, bool | None)
    assert_type(app.handle("id"), JobHandle[Any])
    app.handle("id", queue="mail")


async def many(ids: list[int]) -> None:
    assert_type(bare.bind(1), JobCall[str])
    assert_type(await app.enqueue_many([bare.bind(i) for i in ids]), list[JobHandle[str]])
    assert_type(await app.enqueue_many(bare_sync.bind(i) for i in ids), list[JobHandle[float]])


async def covariance() -> None:
    animal: JobHandle[Animal] = await get_dog.enqueue()
    call: JobCall[Animal] = get_dog.bind()
    function: JobFunction[[], Animal] = get_dog
    await app.enqueue_many([call, get_dog.bind()])
    await animal.result()
    await function.enqueue()


async def worker() -> None:
    runner = Worker(app, queues={"mail": 3, "default": 1}, concurrency=10)
    await runner.run(burst=True)
