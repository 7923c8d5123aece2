"""Job functions with typed arguments, as they were and as they are after a deploy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from asyncjobs import INJECTED, JobContext, Ref
from tests.worker import jobs


@dataclass
class Line:
    price: Decimal
    due: datetime | None = None


@dataclass
class Invoice:
    id: UUID
    lines: list[Line]
    tags: frozenset[str] = frozenset()


class User:
    def __init__(self, id: int | None, name: str = "Ada") -> None:
        self.id = id
        self.name = name


async def pay(invoice: Invoice, at: datetime, *, ctx: JobContext = INJECTED) -> Invoice:
    jobs.stage.note((invoice, at, str(at.tzinfo), ctx.attempt))
    return invoice


def pay_in_thread(invoice: Invoice, at: datetime) -> Invoice:
    jobs.stage.note((invoice, at, str(at.tzinfo), 1))
    return invoice


async def greet(user: Ref[User], others: list[Ref[User]], boss: Ref[User] | None = None) -> str:
    names = [user.name, *(each.name for each in others)]
    jobs.stage.note(names)
    return " ".join(names)


async def spread(*days: date, **prices: Decimal) -> Any:
    jobs.stage.note((days, prices))


async def as_it_was(*args: Any, **kwargs: Any) -> None:
    raise AssertionError


def note_call(*call: Any) -> None:
    jobs.stage.note(call)


async def takes_number(number: int, more: int = 0) -> None:
    note_call(number, more)


async def takes_day(day: date) -> None:
    note_call(day)


async def takes_one(one: Any) -> None:
    note_call(one)


async def takes_two(one, two):  # type: ignore[no-untyped-def]
    note_call(one, two)


async def raises_type_error(one: Any) -> None:
    note_call(one)
    raise TypeError("takes 1 positional argument")


async def gives_a_list(days: int) -> list[date]:
    return [date(2026, 1, 1 + number) for number in range(days)]


async def gives_a_dict(fits: bool) -> Line:
    found: Any = {"price": "1.5"}
    if not fits:
        found = {"prices": "1.5"}
    return found  # type: ignore[no-any-return]


async def gives_nothing_json() -> Line:
    return Line(Decimal("NaN"))


Function = Callable[..., Any]
