"""Waits and events that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from asyncjobs import AsyncJobs, JobContext

app = AsyncJobs()


async def waits(ctx: JobContext) -> None:
    await ctx.wait_for(7)  # error
    await ctx.wait_for("paid", "7")  # error
    await ctx.wait_for("paid", key=7)  # error
    await ctx.wait_for("paid", timeout="1h")  # error


async def sends() -> None:
    await app.send_event("paid", 7)  # error
    await app.send_event("paid", queues=[7])  # error
