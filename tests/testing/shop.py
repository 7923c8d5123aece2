"""The app whose tests these are: what a shop does in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    Batch,
    BatchContext,
    Depends,
    Discard,
    JobContext,
    RateLimit,
    RetryPolicy,
    Secret,
    Snooze,
    Unique,
    constant,
)

app = AsyncJobs(retry=RetryPolicy(max_attempts=3, backoff=constant(60)))
log = logging.getLogger("shop")
ran: list[Any] = []


@app.job
async def receipt(order: int, *, copies: int = 1, ctx: JobContext = INJECTED) -> str:
    log.warning("receipt for %s", order)
    ran.append(order)
    return f"{copies} of {order}"


@app.job(queue="mail", priority="high")
def mail(to: str, password: Secret[str] = "") -> None:
    """A sync function, which enqueues from its thread."""
    ran.append(to)
    receipt.enqueue_sync(99)


@app.job
async def tangle(address: dict[str, Any]) -> None:
    ran.append(address)


@app.job
async def failing(times: int = 99, *, ctx: JobContext = INJECTED) -> int:
    ran.append(ctx.attempt)
    if ctx.attempt <= times:
        raise ValueError("the printer is on fire")
    return ctx.attempt


@app.job
async def late() -> None:
    raise Snooze(30)


@app.job
async def dropped() -> None:
    raise Discard("nobody wants it")


@app.job
async def forever() -> None:
    await forever.enqueue()


@app.job
async def elsewhere() -> None:
    await receipt.options(queue="nobody-knows-it").enqueue(5)


@app.job(batch=Batch(size=10, window=600))
async def restock(products: list[int], *, ctx: BatchContext = INJECTED) -> list[int | Exception]:
    ran.append(list(products))
    return [product or ValueError("no product") for product in products]


@app.job
async def total(products: list[int], *, ctx: JobContext = INJECTED) -> int:
    return sum(await ctx.gather([await restock.enqueue(product) for product in products]))


@app.job(unique=Unique(until="window", for_=3_600))
async def once_an_hour() -> None:
    ran.append("once")


@app.job(result_ttl=0)
async def adds(a: int, b: int) -> int:
    return a + b


@app.job
async def waits() -> str:
    return await (await receipt.enqueue(1)).result()


@app.job
async def hangs() -> None:
    await asyncio.Event().wait()


@app.job
async def imports(rows: int, *, ctx: JobContext = INJECTED) -> int:
    async for step in ctx.step("rows", start=0):
        for row in range(step.cursor, rows):
            ran.append(row)
            ctx.progress(row + 1, rows, "rows")
            await step.advance(row + 1)
    return rows


@app.job
async def naps(*, ctx: JobContext = INJECTED) -> str:
    await ctx.sleep(3_600)
    return "awake"


@app.lifespan
async def printer() -> AsyncIterator[str]:
    printers.append("opened")
    yield "laser"
    printers.append("closed")


@app.job
async def prints(order: int, *, on: str = Depends(printer)) -> str:
    return f"{order} on {on}"


printers: list[str] = []


@dataclass(frozen=True)
class Address:
    city: str
    since: date | None = None


@app.job
async def moves(to: Address, price: Decimal = Decimal(0)) -> Address:
    ran.append((to, price))
    return to


ticks: list[datetime | None] = []


@app.cron("0 3 * * *", tz="Europe/Berlin")
@app.job(queue="night")
async def nightly(*, ctx: JobContext = INJECTED) -> None:
    ticks.append(ctx.scheduled_for)


async def check_out(order: int) -> Any:
    return await receipt.enqueue(order=order)


@app.job
async def square(number: int) -> int:
    return number * number


@app.job(limits=RateLimit("2/minute", by="customer"))
async def letter(customer: int) -> None:
    ran.append(customer)


@app.job
async def orders(number: int, *, ctx: JobContext = INJECTED) -> None:
    await ctx.enqueue(letter.bind(number))
    if number < 0:
        raise ValueError("there is no such order")
