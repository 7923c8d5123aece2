"""Middleware and callbacks that both type checkers accept, and that keep their types."""

from __future__ import annotations

from typing import Any, assert_type

from asyncjobs import (
    AsyncJobs,
    CallNext,
    EnqueueCall,
    Hooked,
    JobAttempt,
    JobEnd,
    JobHandle,
    JobRegistry,
    Retry,
    Send,
)
from asyncjobs.events import AttemptInfo, JobDead

app = AsyncJobs()
registry = JobRegistry()


@registry.job
async def pay(amount: int) -> str:
    return str(amount)


@app.middleware
@registry.middleware
@pay.middleware
async def measured(attempt: JobAttempt, call_next: CallNext) -> Any:
    assert_type(attempt.info, AttemptInfo)
    assert_type(attempt.number, int)
    return await call_next()


@pay.middleware
async def counts(attempt: object, call_next: CallNext) -> int:
    await call_next()
    return 1


@app.enqueue_middleware
@pay.enqueue_middleware
async def cheaper(call: EnqueueCall, send: Send) -> JobHandle[Any]:
    assert_type(call.options.queue, str)
    return await send(call.replace(args=(1,), kwargs={}, priority="low", delay=3))


@registry.enqueue_middleware
async def forgets(call: EnqueueCall, send: Send) -> None:
    await send()


@pay.on_error(KeyError)
@registry.on_error(LookupError)
async def answers(attempt: JobAttempt, error: LookupError) -> Retry | str:
    return str(error)


@app.on_error(ValueError, KeyError)
async def answers_several(attempt: JobAttempt, error: Exception) -> None: ...


@app.on_dead
@registry.on_discard
@pay.on_dead
async def told(end: JobEnd) -> int:
    return end.number


@app.on(JobDead)
async def hears(event: JobDead) -> None:
    assert_type(event.reason, str)


app.on(JobDead, hears)


def install(scope: Hooked) -> None:
    scope.middleware(measured)


async def kept(attempt: JobAttempt, call_next: CallNext) -> None:
    assert_type(await counts(attempt, call_next), int)
    assert_type(await answers(attempt, KeyError()), Retry | str)
    install(app)
    install(registry)
    install(pay)
