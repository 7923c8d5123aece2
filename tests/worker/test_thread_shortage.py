"""A system that has no more threads costs attempts, and neither slots nor the end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from asyncjobs import INJECTED, AsyncJobs, JobContext, RetryPolicy, Worker, constant
from asyncjobs.worker.engine.threads import THREAD_NAME
from asyncjobs.worker.lease.farewell import within

ran: list[int] = []


def note(*, ctx: JobContext = INJECTED) -> None:
    ran.append(ctx.attempt)


def refuse_first(monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> Callable[[], int]:
    """So many threads whose names begin like that cannot be started."""
    start = threading.Thread.start
    refused: list[str] = []

    def start_or_refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(name) and len(refused) < times:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_refuse)
    return lambda: len(refused)


@pytest.mark.anyio
async def test_an_attempt_that_gets_no_thread_fails_and_is_not_run_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran.clear()
    refused = refuse_first(monkeypatch, THREAD_NAME, 2)
    app = AsyncJobs("memory:")
    job = app.job(retry=RetryPolicy(3, backoff=constant(0)))(note)
    # One thread: a place that is lost would be the last.
    async with app, Worker(app, threads=1, grace=0):
        await (await job.enqueue()).result(timeout=20)
        await (await job.enqueue()).result(timeout=20)
    assert refused() == 2
    assert ran == [3, 1]


def test_who_ends_a_process_does_not_fail_for_want_of_a_thread(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = refuse_first(monkeypatch, "asyncjobs-step", 1)
    done: list[int] = []
    within(1, lambda: done.append(1))
    assert (refused(), done) == (1, [])
    assert "no thread can be started" in capfd.readouterr().err
