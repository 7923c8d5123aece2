"""Waits and events that both type checkers accept."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_type

from asyncjobs import INJECTED, AsyncJobs, EventTimeout, JobContext

app = AsyncJobs(event_ttl=timedelta(hours=1))


@app.job
async def waits(order: str, *, ctx: JobContext = INJECTED) -> int:
    try:
        amount: int = await ctx.wait_for("paid", key=order, timeout=timedelta(days=1))
    except EventTimeout:
        return 0
    await ctx.wait_for("sent")
    assert_type(await ctx.wait_for("due", type=datetime), datetime)
    return amount


async def sends() -> None:
    assert_type(await app.send_event("paid", "7", {"amount": 42}), int)
    assert_type(await app.send_event("sent", queues=["mail"]), int)
    assert_type(app.send_event_sync("paid", value=1), int)
