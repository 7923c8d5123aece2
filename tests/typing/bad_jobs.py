"""Calls that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from datetime import UTC, datetime

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    JobCall,
    JobContext,
    JobHandle,
    Ref,
    RetryPolicy,
    Secret,
    by_id,
    constant,
    polynomial,
)

app = AsyncJobs()


class Animal: ...


class Dog(Animal): ...


@app.job
async def bare(user_id: int) -> str:
    return str(user_id)


@app.job(queue="mail", priority="high")
async def with_context(user_id: int, *, ctx: JobContext = INJECTED) -> str:
    return ctx.id


@app.job(timeout=30)
def sync_job(number: int) -> float:
    return number / 2


@app.job
async def pay(pin: Secret[str]) -> None: ...


@app.job
async def get_animal() -> Animal:
    return Animal()


async def wrong_arguments() -> None:
    await bare.enqueue()  # error
    await bare.enqueue("1")  # error
    await bare.enqueue(1, 2)  # error
    await bare.enqueue(user=1)  # error
    await with_context.enqueue(1, context=None)  # error
    await sync_job.enqueue("x")  # error
    await bare("1")  # error
    sync_job.enqueue_sync()  # error
    bare.bind("1")  # error
    await pay.enqueue(1)  # error
    await bare.options(delay=1).enqueue("1")  # error


@app.job
async def row_job(row: Ref[Dog], at: datetime) -> Dog:
    return row


async def wrong_typed() -> None:
    await row_job.enqueue(1, datetime.now(UTC))  # error
    await row_job.enqueue(by_id(Dog, 1), "tomorrow")  # error
    await row_job.enqueue(by_id(Animal, 1), datetime.now(UTC))  # error
    text: str = await (await row_job.enqueue(Dog(), datetime.now(UTC))).result()  # error
    app.serializer(Dog, dump=str, load=5)  # error
    print(text)


async def wrong_options() -> None:
    bare.options(delay="60s")  # error: delay
    bare.options(priority="urgent")  # error: priority
    bare.options(at="tomorrow")  # error: at
    bare.options(retry=RetryPolicy())  # error: retry
    bare.options(unknown=1)  # error: unknown
    app.job(priority="urgent")  # error pyright: priority
    app.job(que="mail")  # error mypy: que
    app.job(delay=3)  # error mypy: delay
    app.job(sensitive=[1])  # error pyright: sensitive
    app.job(timeout="30s")  # error pyright: timeout
    app.job(discard_on=ValueError("x"))  # error pyright: discard_on
    AsyncJobs(result_ttl="5m")  # error
    RetryPolicy(backoff=3)  # error
    RetryPolicy(on="KeyError")  # error
    RetryPolicy(on=[KeyError()])  # error
    RetryPolicy(3, constant(1), KeyError)  # error
    app.job(retry=[3])  # error
    app.job(expires=datetime(2027, 1, 1, tzinfo=UTC))  # error
    bare.options(expires="30s")  # error: expires
    bare.options(retry=[RetryPolicy()])  # error: retry
    bare.options(discard_on=KeyError)  # error: discard_on
    bare.options(queue=3)  # error: queue
    bare.options(timeout="3s")  # error: timeout
    constant(1, True)  # error
    polynomial(exponent="2")  # error


async def wrong_results() -> None:
    number: int = await (await bare.enqueue(1)).result()  # error
    text: str = await sync_job(1)  # error
    handle: JobHandle[Dog] = await get_animal.enqueue()  # error
    call: JobCall[Dog] = get_animal.bind()  # error
    await app.enqueue_many([1, 2])  # error
    await bare.handle("id").result(timeout="10s")  # error
    bare.handle(42)  # error
    print(number, text, handle, call)


async def wrong_signals(context: JobContext) -> None:
    context.progress("half")  # error
    app.include(app)  # error
