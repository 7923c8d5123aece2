"""Middleware and callbacks that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from typing import Any

from asyncjobs import AsyncJobs, CallNext, JobAttempt

app = AsyncJobs()


def plain(attempt: JobAttempt, call_next: CallNext) -> int:
    return 1


async def takes_one(attempt: JobAttempt) -> Any: ...


async def takes_a_number(attempt: int, call_next: CallNext) -> Any: ...


def registers() -> None:
    app.middleware(plain)  # error
    app.middleware(takes_one)  # error
    app.middleware(takes_a_number)  # error
    app.middleware()  # error


async def changes(attempt: JobAttempt, call_next: CallNext) -> Any:
    attempt.number = 2  # error
    attempt.kwargs["to"] = "me"  # error
    return await call_next(1)  # error
