"""Batch consumers that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from asyncjobs import AsyncJobs, Batch, BatchError, JobContext

app = AsyncJobs()


@app.job(batch=Batch())
async def store(rows: list[int]) -> None: ...


@app.job(batch=Batch())
async def price(rows: list[int]) -> list[float | Exception]:
    return [1.0 for _ in rows]


async def wrong_calls() -> None:
    await store.enqueue([1])  # error
    await store.enqueue("1")  # error
    await store.enqueue(1, 2)  # error
    await store.enqueue()  # error
    text: str = await (await price.enqueue(1)).result()  # error
    Batch(size="3")  # error
    Batch(by=3)  # error
    app.job(batch=3)  # error
    BatchError([ValueError()])  # error
    print(text)


async def wrong_waits(ctx: JobContext) -> None:
    await ctx.gather([1])  # error
    await ctx.gather(await price.enqueue(1))  # error
    numbers: list[str] = await ctx.gather([await price.enqueue(1)])  # error
    print(numbers)
