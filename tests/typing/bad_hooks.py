"""Middleware and callbacks that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from typing import Any

from asyncjobs import AsyncJobs, CallNext, EnqueueCall, JobAttempt, JobEnd, JobHandle, Send

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


async def returns_a_number(call: EnqueueCall, send: Send) -> int:
    return 1


async def takes_an_attempt(attempt: JobAttempt, call_next: CallNext) -> JobHandle[Any]:
    raise NotImplementedError


def registers_for_enqueues() -> None:
    app.enqueue_middleware(returns_a_number)  # error
    app.enqueue_middleware(takes_an_attempt)  # error


def plain_handler(attempt: JobAttempt, error: KeyError) -> None: ...


async def for_keys(attempt: JobAttempt, error: KeyError) -> None: ...


def plain_callback(end: JobEnd) -> None: ...


async def takes_two(end: JobEnd, more: int) -> None: ...


def registers_answers() -> None:
    app.on_error(KeyError)(plain_handler)  # error
    app.on_error(LookupError)(for_keys)  # error
    app.on_error(BaseException)  # error
    app.on_error("KeyError")  # error
    app.on_dead(plain_callback)  # error
    app.on_discard(takes_two)  # error


async def replaces(call: EnqueueCall, send: Send) -> JobHandle[Any]:
    call.kwargs["to"] = "me"  # error
    await send(3)  # error
    return await send(call.replace(priority="urgent"))  # error


async def changes(attempt: JobAttempt, call_next: CallNext) -> Any:
    attempt.number = 2  # error
    attempt.kwargs["to"] = "me"  # error
    return await call_next(1)  # error
