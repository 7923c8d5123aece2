"""Steps that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from asyncjobs import INJECTED, AsyncJobs, JobContext

app = AsyncJobs()


async def charge(order_id: str, *, cents: int = 0) -> dict[str, int]:
    return {order_id: cents}


@app.job
async def stepwise(*, ctx: JobContext = INJECTED) -> None:
    async for step in ctx.step("import", start=0):
        await step.advance("one")  # error
    await ctx.step("charge", charge, 5)  # error
    await ctx.step("charge", charge, "A-1", cent=5)  # error
    paid: str = await ctx.step("charge", charge, "A-1")  # error
    await ctx.step("charge", charge("A-1"))  # error
    await ctx.sleep("1h")  # error
    print(paid)


@app.job(max_resumptions="many")  # error
async def wrong() -> None: ...
