"""Tests of users that the checkers must refuse, each on its marked line."""

from __future__ import annotations

from asyncjobs import AsyncJobs
from asyncjobs.testing import (
    VirtualClock,
    assert_enqueued,
    drain,
    interrupt_at,
    perform,
    refute_enqueued,
    staged,
)

app = AsyncJobs("memory:")


@app.job
async def greet(name: str, *, times: int = 1) -> str:
    return name * times


async def plain(name: str) -> str:
    return name


async def test_async(clock: VirtualClock) -> None:
    assert_enqueued(plain)  # error
    assert_enqueued(greet, args=3)  # error
    assert_enqueued(greet, priority=1.5)  # error
    assert_enqueued(greet, at="now")  # error
    refute_enqueued(greet, count=0)  # error: count
    await perform(greet)  # error
    await perform(greet, 3)  # error
    await perform(plain, "a")  # error
    await perform(greet.bind("a"), attempt="3")  # error
    await drain(schedule=True)  # error: schedule
    clock.leap("a day")  # error
    await clock.advance(month=1)  # error: month
    interrupt_at(3)  # error


staged("shop:app")  # error
