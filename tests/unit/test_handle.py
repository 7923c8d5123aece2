from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobError, JobRef, Priority, Progress, State
from asyncjobs.errors import (
    ConfigError,
    JobCancelled,
    JobDiscarded,
    JobFailed,
    JobNotFound,
    NotOpen,
    ResultsDisabled,
    ResultTimeout,
    ResultUnavailable,
    UsageError,
)
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.headers import NO_HEADERS, PastError
from asyncjobs.model.job import TakenJob
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.settlement import Settlement
from asyncjobs.options.app import AppSettings
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory import MemoryBackend

pytestmark = pytest.mark.anyio

START_MS = 1_800_000_000_000
QUEUES = ("mail", "default")


class Bench:
    """An app on the memory store with a clock by hand, and a worker by hand."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.backend = MemoryBackend(AppSettings().store(), now_ms=lambda: self.now_ms)
        self.app = AsyncJobs(backend=self.backend, result_ttl=60)
        self.send = self.app.job(queue="mail", priority="high", retry=4)(send)
        self.quiet = self.app.job(result_ttl=0)(quiet)
        self.lease = self.backend.attach(LeaseSpec("lease-1", "worker", QUEUES, 30_000))
        self.sequence = 0

    async def exchange(self, *settlements: Settlement) -> list[TakenJob]:
        self.sequence += 1
        demand = dict.fromkeys(QUEUES, Demand(10))
        answer = await self.lease.exchange(self.sequence, settlements, demand)
        assert not answer.not_yours
        return answer.jobs

    async def finish(self, outcome: Outcome | None, ttl_ms: int = 60_000) -> None:
        """Take the one ready job and end it like this."""
        (job,) = await self.exchange()
        raw = None if outcome is None else outcome.encode()
        state = State.SUCCEEDED if outcome is None else outcome.state
        if outcome is not None and state is State.DEAD:
            letter = dead_letter(outcome.encode(), job.envelope)
            await self.exchange(Settlement.dead(job, letter, raw, ttl_ms))
        else:
            make = getattr(Settlement, state.value)
            await self.exchange(make(job, raw, ttl_ms))


async def send(user_id: int) -> str:
    return str(user_id)


async def quiet() -> None: ...


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with asyncio.timeout(20), made.app:
        await made.lease.enter()
        yield made


async def test_identity(bench: Bench) -> None:
    handle = await bench.send.options(id="42").enqueue(1)
    assert (handle.id, handle.queue, handle.is_new) == ("42", "mail", True)
    assert handle.ref == JobRef("mail", "42")
    assert (str(handle.ref), repr(handle)) == ("mail/42", "<JobHandle mail/42>")
    assert (await bench.send.options(id="42").enqueue(1)).is_new is False
    assert bench.send.handle("42").is_new is None
    with pytest.raises(ConfigError, match="id="):
        bench.send.handle("4 2")


async def test_status_follows_the_job(bench: Bench) -> None:
    handle = await bench.send.enqueue(1)
    assert await handle.status() is State.READY
    (job,) = await bench.exchange()
    assert await handle.status() is State.RUNNING
    await bench.exchange(Settlement.reschedule(job, job.envelope, 500))
    assert await handle.status() is State.SCHEDULED
    bench.now_ms += 500
    await bench.finish(Outcome(State.SUCCEEDED, "done"))
    assert await handle.status() is State.SUCCEEDED
    assert await bench.send.handle(handle.id).result(timeout=1) == "done"


async def test_an_unknown_id_is_not_found_at_once(bench: Bench) -> None:
    handle = bench.send.handle("nobody")
    for ask in (handle.status, handle.info, handle.result):
        with pytest.raises(JobNotFound, match="expired or unknown"):
            await ask()
    assert await handle.cancel() is False


async def test_result_waits_for_the_end(bench: Bench) -> None:
    handle = await bench.send.enqueue(1)
    waiting = [asyncio.create_task(handle.result()) for _ in range(50)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    await bench.finish(Outcome(State.SUCCEEDED, "1"))
    assert await asyncio.gather(*waiting) == ["1"] * 50


async def test_result_times_out_and_the_job_goes_on(bench: Bench) -> None:
    handle = await bench.send.enqueue(1)
    with pytest.raises(ResultTimeout, match=r"0\.01 s: it is ready") as caught:
        await handle.result(timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    await bench.finish(Outcome(State.SUCCEEDED, None))
    assert await handle.result(timeout=0) is None
    with pytest.raises(ConfigError, match="timeout"):
        await handle.result(timeout="10s")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "error", "said"),
    [
        (
            Outcome(
                State.DEAD,
                reason="exhausted",
                error_type="ValueError",
                message="no",
                traceback="tb!",
            ),
            JobFailed,
            "ValueError: no",
        ),
        (Outcome(State.DEAD, reason="crashed"), JobFailed, "crashed"),
        (Outcome(State.DISCARDED, reason="no use"), JobDiscarded, "no use"),
        (Outcome(State.DISCARDED, error_type="KeyError"), JobDiscarded, "KeyError"),
        (Outcome(State.CANCELLED), JobCancelled, "cancelled"),
        (Outcome(State.SUCCEEDED, unavailable="over max_result"), ResultUnavailable, "max_result"),
    ],
)
async def test_other_ends_are_errors(
    bench: Bench, outcome: Outcome, error: type[Exception], said: str
) -> None:
    handle = await bench.send.enqueue(1)
    await bench.finish(outcome)
    with pytest.raises(error, match=said) as caught:
        await handle.result(timeout=5)
    assert str(handle.ref) in str(caught.value)
    if isinstance(caught.value, JobFailed) and outcome.error_type:
        assert caught.value.error_type == "ValueError"
        assert caught.value.remote_traceback == "tb!"
        assert "tb!" in str(caught.value)


async def test_an_expired_result_is_not_found_at_once(bench: Bench) -> None:
    handle = await bench.send.enqueue(1)
    await bench.finish(Outcome(State.SUCCEEDED, "1"), ttl_ms=1_000)
    bench.now_ms += 1_001
    assert await handle.status() is State.SUCCEEDED
    with pytest.raises(JobNotFound, match="its result is not there"):
        await handle.result()


async def test_results_that_are_off_are_said_at_once(bench: Bench) -> None:
    first = await bench.quiet.enqueue()
    for handle in (first, bench.quiet.handle("any"), bench.app.handle(first.id)):
        with pytest.raises(ResultsDisabled, match="result_ttl"):
            await handle.result()
    once = await bench.send.options(result_ttl=0).enqueue(1)
    for handle in (once, bench.app.handle(once.id, queue="mail")):
        with pytest.raises(ResultsDisabled):
            await handle.result()


async def test_one_enqueue_may_turn_results_on(bench: Bench) -> None:
    handle = await bench.quiet.options(result_ttl=60).enqueue()
    for known in (handle, bench.app.handle(handle.id)):
        with pytest.raises(ResultTimeout):
            await known.result(timeout=0)


async def test_cancel(bench: Bench) -> None:
    ready = await bench.send.enqueue(1)
    later = await bench.send.options(delay=60).enqueue(1)
    assert [await ready.cancel(), await later.cancel()] == [True, True]
    assert [await ready.status(), await later.status()] == [State.CANCELLED] * 2
    assert await ready.cancel() is False
    with pytest.raises(JobCancelled):
        await ready.result()
    running = await bench.send.enqueue(1)
    (job,) = await bench.exchange()
    assert await running.cancel() is True
    assert await running.status() is State.RUNNING
    await bench.exchange(Settlement.cancelled(job, Outcome(State.CANCELLED).encode(), 60_000))
    assert await running.cancel() is False


async def test_info(bench: Bench) -> None:
    handle = await bench.send.options(delay=5, id="1").enqueue(7)
    info = await handle.info()
    assert (info.ref, info.state, info.name) == (
        JobRef("mail", "1"),
        State.SCHEDULED,
        bench.send.name,
    )
    assert (info.attempt, info.max_attempts, info.priority) == (1, 4, Priority.HIGH)
    assert (info.args, info.kwargs) == ([7], {})
    assert info.enqueued_at is not None
    assert info.scheduled_at is not None
    assert (info.scheduled_at - info.enqueued_at).total_seconds() == 5
    assert info.due_at == datetime.fromtimestamp(START_MS / 1000 + 5, UTC)
    assert (info.progress, info.error, info.worker) == (None, None, None)
    bench.now_ms += 5_000
    (job,) = await bench.exchange()
    await bench.lease.note([Note(job, PROGRESS, b'{"done":1,"total":null,"note":"half"}')])
    info = await handle.info()
    assert (info.state, info.progress) == (State.RUNNING, Progress(1, None, "half"))
    assert info.worker is not None
    outcome = Outcome(State.DEAD, error_type="ValueError", message="no", traceback="tb")
    record = outcome.encode()
    settlement = Settlement.dead(job, dead_letter(record, job.envelope), record, 60_000)
    await bench.exchange(settlement)
    info = await handle.info()
    assert (info.state, info.error) == (State.DEAD, JobError("ValueError", "no", "tb"))
    assert (info.reason, info.errors) == (None, (info.error,))


def past(attempt: int, at_ms: int) -> PastError:
    return PastError(attempt, "KeyError", f"number {attempt}", "tb", at_ms, "worker-1")


async def test_the_last_errors_stay_with_the_job(bench: Bench) -> None:
    handle = await bench.send.enqueue(7)
    (job,) = await bench.exchange()
    envelope = Envelope.decode(job.envelope)
    envelope.attempt, envelope.headers = 2, NO_HEADERS.with_error(past(1, START_MS))
    await bench.exchange(Settlement.reschedule(job, envelope.encode(), 500))
    first = JobError("KeyError", "number 1", "tb", 1, from_ms(START_MS), "worker-1")
    info = await handle.info()
    assert (info.attempt, info.error, info.errors) == (2, None, (first,))
    bench.now_ms += 500
    about: dict[str, Any] = {"attempt": 2, "finished_ms": START_MS + 5, "worker": "worker-2"}
    await bench.finish(
        Outcome(State.DEAD, reason="exhausted", error_type="OSError", message="last", **about)
    )
    info = await handle.info()
    last = JobError("OSError", "last", "", 2, from_ms(START_MS + 5), "worker-2")
    assert (info.reason, info.error, info.errors) == ("exhausted", last, (first, last))


async def test_a_job_that_expires_says_when(bench: Bench) -> None:
    handle = await bench.send.options(expires=from_ms(START_MS + 9_000)).enqueue(7)
    assert (await handle.info()).expires_at == from_ms(START_MS + 9_000)
    assert (await (await bench.send.enqueue(7)).info()).expires_at is None


async def test_one_enqueue_may_have_attempts_of_its_own(bench: Bench) -> None:
    assert (await (await bench.send.options(retry=2).enqueue(1)).info()).max_attempts == 2


async def test_stored_bytes_that_cannot_be_read_are_no_fault_of_the_handle(bench: Bench) -> None:
    handle = await bench.send.enqueue(1)
    (job,) = await bench.exchange()
    await bench.lease.note([Note(job, PROGRESS, b"\xff")])
    await bench.exchange(Settlement.reschedule(job, b"no envelope", 1_000))
    info = await handle.info()
    assert (info.state, info.name, info.progress) == (State.SCHEDULED, None, None)
    bench.now_ms += 1_000
    (job,) = await bench.exchange()
    await bench.exchange(Settlement.succeeded(job, b"no outcome", 60_000))
    with pytest.raises(JobNotFound):
        await handle.result()


async def test_an_app_finds_a_job_in_all_queues_it_knows(bench: Bench) -> None:
    await bench.send.options(id="42").enqueue(1)
    handle = bench.app.handle("42")
    assert handle.id == "42"
    assert repr(handle) == "<JobHandle default/42 or mail/42>"
    with pytest.raises(UsageError, match="not known yet"):
        _ = handle.queue
    assert await handle.status() is State.READY
    assert handle.queue == "mail"
    assert await bench.app.handle("42").cancel() is True
    assert await bench.app.handle("nobody").cancel() is False
    with pytest.raises(JobNotFound, match="default, mail"):
        await bench.app.handle("nobody").result()


async def test_an_app_finds_jobs_in_queues_that_it_enqueued_into(bench: Bench) -> None:
    await bench.send.options(id="42", queue="other").enqueue(1)
    handle = bench.app.handle("42")
    assert await handle.status() is State.READY
    assert handle.queue == "other"


async def test_an_id_that_stands_for_two_jobs_asks_for_the_queue(bench: Bench) -> None:
    await bench.send.options(id="42").enqueue(1)
    await bench.quiet.options(id="42").enqueue()
    with pytest.raises(UsageError, match="default/42, mail/42"):
        await bench.app.handle("42").status()
    assert await bench.app.handle("42", queue="mail").status() is State.READY


async def test_queue_and_id_in_one_text(bench: Bench) -> None:
    await bench.send.options(id="42").enqueue(1)
    assert bench.app.handle("mail/42").ref == JobRef("mail", "42")
    await bench.send.options(id="a/b").enqueue(1)
    handle: Any = bench.app.handle("a/b")
    assert await handle.status() is State.READY
    assert handle.ref == JobRef("mail", "a/b")
    assert await bench.app.handle("mail/a/b").status() is State.READY
    with pytest.raises(ConfigError, match="queue="):
        bench.app.handle("42", queue="a/b")


async def test_a_handle_asks_only_while_the_app_is_open(bench: Bench) -> None:
    closed = AsyncJobs("memory:")
    with pytest.raises(NotOpen, match="async with app"):
        await closed.handle("42").status()
