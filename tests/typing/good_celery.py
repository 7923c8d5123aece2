"""Celery's names over job functions, that both type checkers accept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import assert_type

from asyncjobs import AsyncJobs, JobFunction, ResultError, RetryPolicy
from asyncjobs.compat.celery import (
    FROM_REDIS,
    Celery,
    CeleryResult,
    celery_like,
    chain,
    chord,
    group,
    shared_task,
    shared_tasks,
)

jobs = AsyncJobs()
jobs.include(shared_tasks)
app = Celery(jobs, priorities=FROM_REDIS)


@app.task
def add(a: int, b: int = 0) -> int:
    return a + b


@app.task(queue="mail", retry=RetryPolicy(max_attempts=3), ignore_result=True)
async def send(to: str) -> str:
    return to


@shared_task
def shared(number: int) -> list[int]:
    return [number]


@jobs.job
async def written(text: str) -> bytes:
    return text.encode()


def view() -> None:
    assert_type(add.delay(1, b=2), CeleryResult[int])
    assert_type(add.delay(1).get(timeout=timedelta(seconds=1)), int)
    assert_type(add.delay(1).get(propagate=False), int | ResultError)
    assert_type(send.delay("ann").get(), str)
    assert_type(shared.delay(1).get(), list[int])
    assert_type(add.job.enqueue_sync(1).result_sync(), int)
    at = datetime.now(UTC)
    result = add.apply_async((1, 2), countdown=5, expires=60, queue="slow", task_id="a")
    add.apply_async(args=[1], kwargs={"b": 2}, eta=at, priority="high", ignore_result=True)
    assert_type(result.state, str)
    assert_type(result.revoke(terminate=True), bool)
    assert_type(celery_like(written).delay("a").get(), bytes)


def canvas() -> None:
    assert_type(add.s(1).set(queue="slow").delay(), CeleryResult[int])
    (add.s(1, 2) | send.s()).delay().get()
    chain(add.s(1, 2), group(add.s(n) for n in range(3)), add.si(1, 1)).apply_async()
    chord([add.s(1)], shared.s()).delay()


def by_name(job: JobFunction[[int], str]) -> str:
    app.send_task("mail.send", ["ann"], queue="mail").get()
    app.AsyncResult("default/a").ready()
    return celery_like(job).delay(7).get()
