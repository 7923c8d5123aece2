"""Batch consumers that the tests of workers register."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass

from asyncjobs import INJECTED, BatchContext, BatchError, Depends, Discard, JobContext, Snooze
from tests.worker import jobs
from tests.worker.kit import LIMIT_S


@dataclass
class Row:
    id: int
    tenant: str = "a"


async def store(rows: list[Row]) -> None:
    assert all(type(row) is Row for row in rows)
    jobs.stage.note([row.id for row in rows])


async def double(numbers: list[int]) -> list[int | Exception]:
    jobs.stage.note(list(numbers))
    return [number * 2 for number in numbers]


def double_in_thread(numbers: list[int]) -> list[int | Exception]:
    jobs.stage.note(list(numbers))
    return [number * 2 for number in numbers]


async def some_fail(numbers: list[int]) -> list[int | Exception]:
    jobs.stage.note(list(numbers))
    ends: dict[int, Exception] = {
        1: ValueError("one is bad"),
        2: Snooze(3600),
        3: Discard("three is not wanted"),
    }
    return [ends.get(number, number) for number in numbers]


async def name_those_that_fail(numbers: list[int]) -> None:
    jobs.stage.note(list(numbers))
    raise BatchError({place: ValueError(f"{n}") for place, n in enumerate(numbers) if n % 2})


async def all_fail(numbers: list[int]) -> None:
    jobs.stage.note(list(numbers))
    raise RuntimeError("the table is locked")


async def at_the_gate(names: list[str], *, ctx: BatchContext = INJECTED) -> list[str]:
    jobs.stage.note(("began", list(names)))
    try:
        await jobs.stage.gate("call").wait()
    finally:
        jobs.stage.note(("ended", [item.should_stop for item in ctx.items]))
    return [item.id for item in ctx.items]


async def slow_to_end(names: list[str]) -> None:
    jobs.stage.note("began")
    try:
        await asyncio.Event().wait()
    finally:
        await jobs.stage.gate("clean up").wait()
        jobs.stage.note("ended")


def in_thread_at_the_gate(names: list[str]) -> None:
    jobs.stage.note(("began", list(names)))
    assert jobs.thread_gates["t"].wait(LIMIT_S)
    jobs.stage.note("ended")


async def wrong_length(numbers: list[int]) -> list[int]:
    return numbers[1:]


async def wrong_kind(numbers: list[int]) -> list[int]:
    return {"a": 1}  # type: ignore[return-value]


async def wrong_place(numbers: list[int]) -> None:
    raise BatchError({len(numbers): ValueError("there is no such item")})


locale: ContextVar[str] = ContextVar("locale", default="en")


async def speaks(words: list[str]) -> None:
    jobs.stage.note((locale.get(), list(words)))


async def session() -> AsyncIterator[str]:
    jobs.stage.note("open")
    yield "session"
    jobs.stage.note("closed")


async def with_session(numbers: list[int], *, session: str = Depends(session)) -> None:
    assert session == "session"
    jobs.stage.note(list(numbers))


async def tells_all(cards: list[str]) -> None:
    raise RuntimeError(f"cannot charge {cards}")


def double_in_thread_of_nobody(numbers: list[int]) -> list[int]:
    return [number * 2 for number in numbers]


async def name_those_that_fail_of_nobody(numbers: list[int]) -> None:
    if numbers[0] % 2:
        raise BatchError({0: ValueError(f"{numbers[0]}")})


async def first_id(numbers: list[int], *, ctx: BatchContext = INJECTED) -> list[str]:
    assert len(ctx) == len(numbers)
    return [item.id for item in ctx.items]


async def nothing() -> str:
    return "made"


async def with_own_session(numbers: list[int], *, session: str = Depends(nothing)) -> list[str]:
    return [session]


async def two_lists(one: list[int], two: list[int]) -> None: ...


async def no_list() -> None: ...


async def of_default(items: list[int] = []) -> None: ...  # noqa: B006


async def of_one(items: int) -> None: ...


async def of_job_context(items: list[int], *, ctx: JobContext = INJECTED) -> None: ...
