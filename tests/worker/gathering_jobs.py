"""Jobs that wait for other jobs."""

from __future__ import annotations

import asyncio

from asyncjobs import INJECTED, JobContext
from tests.worker import jobs


async def child(number: int) -> int:
    jobs.stage.note(("child", number))
    await jobs.stage.gate(f"child {number}").wait()
    if number < 0:
        raise ValueError(f"below 0: {number}")
    return number * 2


async def parent(numbers: list[int], *, ctx: JobContext = INJECTED) -> list[int]:
    jobs.stage.note("parent")
    assert jobs.stage.again is not None
    made = [await jobs.stage.again.options(id=f"{ctx.id}:{n}").enqueue(n) for n in numbers]
    try:
        results = await ctx.gather(made)
    finally:
        jobs.stage.note("back")
    jobs.stage.note("after")
    await jobs.stage.gate("after").wait()
    return results


async def patient(numbers: list[int], *, ctx: JobContext = INJECTED) -> list[str]:
    assert jobs.stage.again is not None
    made = [await jobs.stage.again.enqueue(n) for n in numbers]
    found = await ctx.gather(made, return_exceptions=True, timeout=10)
    return [str(each) if isinstance(each, int) else type(each).__name__ for each in found]


async def hasty(*, ctx: JobContext = INJECTED) -> str:
    assert jobs.stage.again is not None
    try:
        await ctx.gather([await jobs.stage.again.enqueue(1)], timeout=0.05)
    except TimeoutError as error:
        return type(error).__name__
    return "no time-out"


async def tower(height: int, *, ctx: JobContext = INJECTED) -> int:
    if not height:
        return 0
    assert jobs.stage.again is not None
    (below,) = await ctx.gather([await jobs.stage.again.enqueue(height - 1)])
    found: int = below + 1
    return found


async def twice_at_once(*, ctx: JobContext = INJECTED) -> list[list[int]]:
    assert jobs.stage.again is not None
    one = [await jobs.stage.again.enqueue(1)]
    two = [await jobs.stage.again.enqueue(2)]
    return list(await asyncio.gather(ctx.gather(one), ctx.gather(two)))
