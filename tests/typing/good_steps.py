"""Steps, sleeps and stops as both type checkers see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal, assert_type

from asyncjobs import INJECTED, AsyncJobs, JobContext, Step

app = AsyncJobs()


@dataclass
class Totals:
    rows: int = 0


async def charge(order_id: str, *, cents: int = 0) -> dict[str, int]:
    return {order_id: cents}


def blocking(number: int) -> str:
    return str(number)


@app.job
async def plain(number: int) -> float:
    return number / 2


async def walk(step: Step[int]) -> None:
    await step.advance(step.cursor + 1)


@app.job(max_resumptions=5)
async def stepwise(*, ctx: JobContext = INJECTED) -> None:
    assert_type(await ctx.step("charge", charge, "A-1", cents=5), dict[str, int])
    assert_type(await ctx.step("blocking", blocking, 5), str)
    assert_type(await ctx.step("job", plain, 5), float)
    async for step in ctx.step("import", start=0):
        assert_type(step, Step[int])
        await walk(step)
        await step.checkpoint()
    async with ctx.step("days", start=date(2026, 1, 1), isolated=True) as days:
        assert_type(days.cursor, date)
        assert_type(days.is_finished, bool)
    async for page in ctx.step("pages", cursor=str):
        assert_type(page.cursor, str | None)
        await page.advance("next")
    async for _ in ctx.step("once"):
        pass
    assert_type(await ctx.state(Totals), Totals)
    await ctx.save()
    await ctx.sleep(5)
    await ctx.sleep(timedelta(days=1), name="a day")
    await ctx.sleep(until=datetime.now(UTC))
    assert_type(ctx.should_stop, Literal["shutdown", "cancel", "timeout", "lease lost"] | None)
    if await ctx.stopping() == "shutdown":
        ctx.interrupt()
