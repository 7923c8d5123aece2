"""Jobs of a success that both type checkers accept."""

from __future__ import annotations

from typing import assert_type

from asyncjobs import INJECTED, AsyncJobs, JobContext, JobHandle

app = AsyncJobs()


@app.job
async def ship(order: int) -> str:
    return str(order)


@app.job
async def bill(order: int, *, ctx: JobContext = INJECTED) -> None:
    assert_type(await ctx.enqueue(ship.bind(order)), JobHandle[str])
    many = await ctx.enqueue_many(ship.options(queue="mail").bind(n) for n in range(3))
    assert_type(many, list[JobHandle[str]])


@app.job
def bill_in_thread(order: int, *, ctx: JobContext = INJECTED) -> None:
    assert_type(ctx.enqueue_sync(ship.bind(order)), JobHandle[str])
