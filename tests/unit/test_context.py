from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from asyncjobs.errors import UsageError
from asyncjobs.jobs.context import INJECTED, JobContext, _current, current_job
from asyncjobs.model.refs import JobRef

pytestmark = pytest.mark.anyio


def make(**changes: Any) -> JobContext:
    fields: dict[str, Any] = {
        "attempt": 2,
        "max_attempts": 5,
        "enqueued_ms": 1_000,
        "scheduled_ms": None,
        "deadline_ms": None,
        "crashes": 1,
        "on_progress": None,
    }
    return JobContext(JobRef("mail", "1"), "tasks.send", **{**fields, **changes})


def test_what_it_knows() -> None:
    context = make(scheduled_ms=2_000, deadline_ms=3_500)
    assert (context.id, context.queue, context.name) == ("1", "mail", "tasks.send")
    assert (context.attempt, context.max_attempts, context.crashes) == (2, 5, 1)
    assert context.enqueued_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert context.scheduled_at == datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert context.deadline == datetime(1970, 1, 1, 0, 0, 3, 500_000, tzinfo=UTC)
    assert make().scheduled_at is None
    assert make().deadline is None
    assert make(expires_ms=2_000).expires_at == datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert make().expires_at is None
    assert "mail/1" in repr(context)


def test_progress_is_handed_on_as_json() -> None:
    notes: list[tuple[JobContext, bytes]] = []
    context = make(on_progress=lambda *note: notes.append(note))
    context.progress(1, 3, "half \ud800" + "x" * 2_000)
    context.progress(0.5)
    assert [note[0] for note in notes] == [context, context]
    first, second = (orjson.loads(note[1]) for note in notes)
    assert (first["done"], first["total"]) == (1, 3)
    assert len(first["note"]) < 1_010
    assert second == {"done": 0.5, "total": None, "note": ""}


@pytest.mark.parametrize(
    ("done", "total"),
    [("1", 2), (1, "2"), (float("nan"), 2), (1, float("inf")), (True, 2), (2**64, 1)],
)
def test_progress_is_told_in_finite_numbers(done: Any, total: Any) -> None:
    with pytest.raises(UsageError, match="finite"):
        make().progress(done, total)


async def test_the_current_job_is_seen_by_tasks_and_threads_of_it_only() -> None:
    with pytest.raises(UsageError, match="outside of a job"):
        current_job()
    context = make()
    token = _current.set(context)
    try:
        assert current_job() is context
        assert await asyncio.to_thread(current_job) is context
        assert await asyncio.create_task(_current_in_task()) is context
    finally:
        _current.reset(token)
    with pytest.raises(UsageError):
        current_job()


async def _current_in_task() -> JobContext:
    return current_job()


def test_a_local_context() -> None:
    context = JobContext.local("tasks.send", queue="mail")
    assert (context.id, context.queue, context.attempt, context.max_attempts) == (
        "local",
        "mail",
        1,
        1,
    )
    context.progress(1, 2)


def test_the_mark_shows_its_name() -> None:
    assert repr(INJECTED) == "INJECTED"
