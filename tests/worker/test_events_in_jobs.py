"""Jobs that wait for an event without a slot, and those who send it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    EventTimeout,
    JobContext,
    JobFailed,
    RetryPolicy,
    State,
    Worker,
    constant,
)
from asyncjobs.errors import (
    ConfigError,
    EncodeError,
    MissingCapability,
    PayloadTooLarge,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from asyncjobs.events import JobSuspended
from asyncjobs.jobs.seat import LocalSeat
from asyncjobs.jobs.waiting import EventWaits, _attempt_in, read_event
from asyncjobs.model.awaiting import NewEvent
from asyncjobs.model.clock import now_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.notes import Notes
from asyncjobs.model.outcome import revived
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import EventSent
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.letters import LetterQuery, Revival, Revived
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, ended, events_of, register, until, working

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("stage")]


class Slow(LocalSeat):
    """A seat whose store takes its time."""

    is_local = False

    async def read(self) -> Notes:
        await asyncio.sleep(0)
        return {}


async def waits(
    *keys: str, timeout: float | None = None, ctx: JobContext = INJECTED
) -> list[object]:
    """Waits for one event after the other."""
    jobs.stage.note(("begins", ctx.attempt))
    return [await ctx.wait_for("paid", key=key, timeout=timeout) for key in keys]


async def test_an_event_wakes_a_job_that_has_given_its_slot_away(app: AsyncJobs) -> None:
    suspended = events_of(app, JobSuspended)
    job, other = register(app, waits, retry=False), register(app, jobs.echo)
    async with working(app, concurrency=1):
        handle = await job.enqueue("7", timeout=3600)
        await until(lambda: bool(suspended))
        await ended(app, handle.id, State.SCHEDULED)
        assert (await handle.info()).held_by == "event paid:7"
        assert await (await other.enqueue("beside")).result(LIMIT_S) == "beside"
        assert await app.send_event("paid", "8", 1) == 0
        assert await app.send_event("paid", "7", {"amount": 42}) == 1
        assert await handle.result(LIMIT_S) == [{"amount": 42}]
    (event,) = suspended
    assert (event.attempt, event.reason) == (1, "event")
    assert 3590 < event.delay_s <= 3600
    assert jobs.stage.notes == [("begins", 1), ("begins", 1)]


async def test_events_that_came_before_are_for_the_waits_in_their_order(app: AsyncJobs) -> None:
    job = register(app, waits)
    async with app:
        handle = await job.enqueue("7", "8", "7", "")
        for key, value in (("7", "first"), ("8", None), ("7", "second"), ("", [1])):
            assert await app.send_event("paid", key, value) == 0
        async with Worker(app):
            assert await handle.result(LIMIT_S) == ["first", None, "second", [1]]
    assert jobs.stage.notes == [("begins", 1)]


async def test_a_job_that_wakes_again_and_again_has_each_event_once(app: AsyncJobs) -> None:
    job = register(app, waits, retry=False)
    async with working(app):
        handle = await job.enqueue("7", "7", "7")
        for number in range(3):
            await jobs.stage.noted(("begins", 1), number + 1)
            await ended(app, handle.id, State.SCHEDULED)
            assert await app.send_event("paid", "7", number) == 1
        assert await handle.result(LIMIT_S) == [0, 1, 2]


async def test_an_event_in_between_wakes_a_job_at_once(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = register(app, waits, retry=False)
    async with working(app):
        backend = app.backend
        lease = type(backend.attach(LeaseSpec("x", "x", (), 1)))
        ask = lease.await_events

        async def overtaken(self: Any, asked: Any) -> Any:
            answer = await ask(self, asked)
            await app.send_event("paid", "7", "quick")
            return answer

        monkeypatch.setattr(lease, "await_events", overtaken)
        assert await (await job.enqueue("7")).result(LIMIT_S) == ["quick"]


@dataclass
class Payment:
    amount: Decimal
    at: datetime


async def waits_typed(*, ctx: JobContext = INJECTED) -> str:
    payment = await ctx.wait_for("paid", type=Payment)
    count = await ctx.wait_for("count", type=int)
    return f"{payment.amount + 1} {payment.at.isoformat()} {count}"


async def test_a_value_is_of_its_type(app: AsyncJobs) -> None:
    job = register(app, waits_typed, retry=False)
    async with working(app):
        right, wrong = await job.enqueue(), await job.enqueue()
        await ended(app, right.id, State.SCHEDULED)
        await ended(app, wrong.id, State.SCHEDULED)
        paid = {"amount": "41.50", "at": "2026-11-30T12:00:00+01:00"}
        assert await app.send_event("paid", value=paid) == 2
        await ended(app, right.id, State.SCHEDULED)
        await ended(app, wrong.id, State.SCHEDULED)
        await wrong.cancel()
        await app.send_event("count", value=3)
        assert await right.result(LIMIT_S) == "42.50 2026-11-30T12:00:00+01:00 3"


async def test_a_value_of_another_type_is_no_secret_in_the_error(app: AsyncJobs) -> None:
    job = register(app, waits_typed, retry=False)
    async with working(app):
        handle = await job.enqueue()
        await app.send_event("paid", value={"amount": "secret", "at": 7})
        with pytest.raises(JobFailed, match="the value of the event 'paid' does not fit") as failed:
            await handle.result(LIMIT_S)
    assert "secret" not in str(failed.value)


async def test_a_type_that_nobody_can_convert_to() -> None:
    waiting = EventWaits(Slow(), Slow().read, JobRef("default", "a"), 1, 0)
    with pytest.raises(UsageError, match="type="):
        await waiting.wait("a", "", None, EventWaits)


async def test_one_event_wakes_all(app: AsyncJobs) -> None:
    job = register(app, waits)
    async with working(app):
        handles = [await job.enqueue("7") for _ in range(3)]
        for handle in handles:
            await ended(app, handle.id, State.SCHEDULED)
        assert await app.send_event("paid", "7", "x", queues=["default"]) == 3
        assert [await handle.result(LIMIT_S) for handle in handles] == [["x"]] * 3


async def reminds(*, ctx: JobContext = INJECTED) -> list[object]:
    """Goes on when its first wait is over."""
    got: list[object] = []
    for timeout in (0.05, 3600):
        try:
            got.append(await ctx.wait_for("paid", key="7", timeout=timeout))
        except EventTimeout:
            got.append("over")
    jobs.stage.note(ctx.attempt)
    if ctx.attempt == 1:
        raise jobs.Broken("after both")
    return got


async def test_a_time_out_that_the_job_has_passed_is_passed_again(app: AsyncJobs) -> None:
    suspended = events_of(app, JobSuspended)
    job = register(app, reminds, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        handle = await job.enqueue()
        await until(lambda: len(suspended) == 2)
        await ended(app, handle.id, State.SCHEDULED)
        assert await app.send_event("paid", "7", "late") == 1
        assert await handle.result(LIMIT_S) == ["over", "late"]
    # The retry has waited for nothing.
    assert len(suspended) == 2
    assert jobs.stage.notes == [1, 2]


async def gives_up(*, ctx: JobContext = INJECTED) -> object:
    jobs.stage.note(ctx.attempt)
    return await ctx.wait_for("paid", key="7", timeout=0.02)


async def test_a_retry_after_a_time_out_waits_anew(app: AsyncJobs) -> None:
    suspended = events_of(app, JobSuspended)
    job = register(app, gives_up, retry=RetryPolicy(3, constant(0)))
    async with working(app):
        handle = await job.enqueue()
        with pytest.raises(JobFailed, match="nobody has sent the event 'paid' with the key '7'"):
            await handle.result(LIMIT_S)
    # Each attempt begins, gives its slot away, and comes back.
    assert jobs.stage.notes == [1, 1, 2, 2, 3, 3]
    assert len(suspended) == 3


async def test_a_revived_job_waits_anew(app: AsyncJobs) -> None:
    job = register(app, gives_up, retry=False)
    async with working(app):
        handle = await job.enqueue()
        with pytest.raises(JobFailed):
            await handle.result(LIMIT_S)
        (letter,) = (await app.backend.dead.page(LetterQuery("default"))).letters
        revival = Revival(letter.key, revived(letter.letter, now_ms()))
        assert await app.backend.dead.revive([revival]) == [Revived.READY]
        await jobs.stage.noted(1, 4)
        await ended(app, handle.id, State.DEAD)
        assert jobs.stage.notes == [1, 1, 1, 1]


async def test_a_cancelled_job_waits_no_more(app: AsyncJobs) -> None:
    job = register(app, waits)
    async with working(app):
        handle = await job.enqueue("7")
        await ended(app, handle.id, State.SCHEDULED)
        await handle.cancel()
        assert await app.send_event("paid", "7") == 0
        assert await handle.status() is State.CANCELLED


async def test_a_job_waits_for_one_event_at_a_time() -> None:
    waiting = EventWaits(Slow(), Slow().read, JobRef("default", "a"), 1, 0)
    with pytest.raises(UsageError, match="it waits for one at a time"):
        await asyncio.gather(waiting.wait("a", "", None), waiting.wait("b", "", None))


@pytest.mark.parametrize("timeout", [-1, float("inf"), "1h"])
async def test_a_wrong_time_out(timeout: Any) -> None:
    waiting = EventWaits(Slow(), Slow().read, JobRef("default", "a"), 1, 0)
    with pytest.raises(ConfigError, match="timeout"):
        await waiting.wait("a", "", timeout)


async def test_a_wait_of_years() -> None:
    waiting = EventWaits(Slow(), Slow().read, JobRef("default", "a"), 1, 0)
    with pytest.raises(UsageError, match="at most 366 d"):
        await waiting.wait("a", "", 400 * 86_400)


async def test_a_store_that_is_away_is_waited_for(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = register(app, waits)
    async with working(app):
        fails = [StoreUnavailable("away"), StoreUnavailable("away")]
        backend = app.backend
        send = type(backend).send_event

        async def flaky(self: Any, event: NewEvent, queues: Any) -> EventSent:
            answer: EventSent = await send(self, event, queues)
            if fails:
                # It has arrived, and its reply is lost.
                raise fails.pop()
            return answer

        monkeypatch.setattr(type(backend), "send_event", flaky)
        handle = await job.enqueue("7", "7")
        await ended(app, handle.id, State.SCHEDULED)
        await app.send_event("paid", "7", "once")
        await jobs.stage.noted(("begins", 1), 2)
        await ended(app, handle.id, State.SCHEDULED)
        # Sent three times, it is one event: the second wait has none yet.
        await app.send_event("paid", "7", "twice")
        assert await handle.result(LIMIT_S) == ["once", "twice"]


async def test_a_store_that_stays_away_is_named(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(connect_timeout=0.1)
    async with app:

        async def away(*_: object) -> EventSent:
            raise StoreUnavailable("no route")

        monkeypatch.setattr(type(app.backend), "send_event", away)
        with pytest.raises(StoreUnavailable, match=r"did not confirm the event 'paid'.*no route"):
            await app.send_event("paid")


async def test_a_queue_that_refuses_is_named(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app:

        async def refuses(*_: object) -> EventSent:
            return EventSent({}, {"mail": StoreError("WRONGTYPE")})

        monkeypatch.setattr(type(app.backend), "send_event", refuses)
        with pytest.raises(StoreError, match="queue 'mail' has not taken the event 'paid'"):
            await app.send_event("paid")


async def test_a_store_without_events(app: AsyncJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    async with app:
        backend = app.backend
        without = type(backend.capabilities)(durable=False, shared=False, threaded_heartbeat=False)
        monkeypatch.setattr(type(backend), "capabilities", without)
        with pytest.raises(MissingCapability, match="no capability 'events'"):
            await app.send_event("paid")


async def test_what_is_sent_wrongly(app: AsyncJobs) -> None:
    async with app:
        for name, key, what in (
            ("", "", "the name of an event is empty"),
            ("a\0b", "", "control character"),
            ("a", "\n", "control character"),
            ("a", 7, r"is a text, not int; write str\(key\)"),
            ("a", "x" * 600, "has 600 bytes; use at most 512"),
            ("a", "\udc80", "no text that UTF-8 can write"),
        ):
            with pytest.raises(UsageError, match=what):
                await app.send_event(name, key)  # type: ignore[arg-type]  # what users do
        with pytest.raises(EncodeError, match="the value of the event"):
            await app.send_event("a", "", object())
        with pytest.raises(PayloadTooLarge, match="over 65,536"):
            await app.send_event("a", "", "x" * 70_000)


async def test_a_plain_call_cannot_wait() -> None:
    with pytest.raises(UsageError, match="a plain call has no store"):
        await waits("7", ctx=JobContext.local("waits"))


async def test_from_a_thread(app: AsyncJobs) -> None:
    job = register(app, waits)
    async with working(app):
        handle = await job.enqueue("7")
        await ended(app, handle.id, State.SCHEDULED)
        with pytest.raises(UsageError, match="would block the event loop"):
            app.send_event_sync("paid", "7", 1)
        assert await asyncio.to_thread(app.send_event_sync, "paid", "7", 1) == 1
        assert await handle.result(LIMIT_S) == [1]


async def test_an_event_that_was_sent_before_the_enqueue_does_not_count(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.jobs.waiting.SLACK_MS", -5)
    job = register(app, waits)
    async with working(app):
        await app.send_event("paid", "7", "old")
        handle = await job.enqueue("7")
        await ended(app, handle.id, State.SCHEDULED)
        await app.send_event("paid", "7", "new")
        assert await handle.result(LIMIT_S) == ["new"]


def test_what_is_stored_of_a_time_out_by_foreign_hands() -> None:
    assert [_attempt_in(raw) for raw in (b"", b"{}", b'{"attempt": 3}')] == [0, 0, 3]
    for raw in (b"", b"[]", b'{"w": 1}'):
        with pytest.raises(BadRecord):
            read_event(raw)
