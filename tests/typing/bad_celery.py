"""Celery's names over job functions, that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from asyncjobs import AsyncJobs
from asyncjobs.compat.celery import Celery

jobs = AsyncJobs()
app = Celery(jobs)


@app.task
def add(a: int, b: int = 0) -> int:
    return a + b


def view() -> None:
    add.delay("1")  # error
    add.delay()  # error
    add.delay(1, c=2)  # error
    add.apply_async((1,), countdown="5s")  # error
    add.apply_async((1,), priority=9)  # error
    add.apply_async((1,), serializer="pickle")  # error
    text: str = add.delay(1).get()  # error
    add.delay(1).revoke(True)  # error
    print(text)


Celery("redis://localhost")  # error
