"""Jobs of a success that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from asyncjobs import AsyncJobs, JobContext, JobHandle

app = AsyncJobs()


@app.job
async def ship(order: int) -> str:
    return str(order)


async def bill(ctx: JobContext) -> None:
    await ctx.enqueue(ship)  # error
    await ctx.enqueue(ship(7))  # error
    await ctx.enqueue(ship.bind("7"))  # error
    await ctx.enqueue(call=ship.bind(7))  # error
    await ctx.enqueue_many(ship.bind(7))  # error
    handle: JobHandle[int] = await ctx.enqueue(ship.bind(7))  # error
    print(handle)
