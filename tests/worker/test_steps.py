"""Jobs with steps, sleeps and cursors, on each store."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    JobContext,
    JobFailed,
    RetryPolicy,
    Step,
    UsageError,
    Worker,
    constant,
)
from asyncjobs.events import JobResumed, JobRetryScheduled, JobSuspended, StepFinished
from asyncjobs.jobs import notebook
from asyncjobs.model.clock import now_ms
from asyncjobs.model.outcome import revived
from asyncjobs.store.letters import LetterQuery, Revival, Revived
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, processor_of, register, until, working

pytestmark = pytest.mark.anyio
AT_ONCE = RetryPolicy(max_attempts=2, backoff=constant(0))
CURSORS: list[Any] = [
    None,
    7,
    -(2**70),
    1.5,
    "ü$",
    b"\xff",
    date(2026, 11, 30),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(2026, 10, 25, tzinfo=UTC),
    timedelta(days=-1, microseconds=3),
    UUID(int=5),
    Decimal("1.10"),
    ("a", (1, None)),
    {"$date": "no date", "b": [Decimal(1)]},
    {1: ("x",)},
]


async def charges(fails: int, *, ctx: JobContext = INJECTED) -> list[Any]:
    """Steps of both forms; the last one fails so many times."""
    jobs.stage.note("visit")

    async def charge(order: str) -> dict[str, Any]:
        jobs.stage.note("charge")
        return {"order": order, "on": date(2026, 11, 30)}

    def blocking(number: int) -> int:
        jobs.stage.note("blocking")
        return number + 1

    paid = await ctx.step("charge", charge, "o-1")
    number = await ctx.step("blocking", blocking, number=1)
    async for step in ctx.step("block", start=0):
        jobs.stage.note("block")
        await step.advance(1)
    async with ctx.step("with", start=0) as step:
        if not step.is_finished:
            jobs.stage.note("with")
    if jobs.stage.count("visit") <= fails:
        raise jobs.Broken("late")
    return [paid["order"], paid["on"].isoformat(), number]


async def test_a_finished_step_does_not_run_again(app: AsyncJobs, stage: Stage) -> None:
    finished = events_of(app, StepFinished)
    job = register(app, charges, retry=AT_ONCE)
    async with working(app):
        assert await (await job.enqueue(1)).result(LIMIT_S) == ["o-1", "2026-11-30", 2]
    assert stage.notes == ["visit", "charge", "blocking", "block", "with", "visit"]
    assert [event.step for event in finished] == ["charge", "blocking", "block", "with"]


async def walks(total: int, breaks_at: list[int], *, ctx: JobContext = INJECTED) -> int:
    """Goes on at its cursor; fails once at each of these."""
    async for step in ctx.step("walk", start=0):
        for number in range(step.cursor, total):
            if number in breaks_at and jobs.stage.count(("broke", number)) == 0:
                jobs.stage.note(("broke", number))
                raise jobs.Broken(f"at {number}")
            jobs.stage.note(number)
            await step.advance(number + 1)
    return ctx.attempt


async def test_what_brings_the_job_forward_spends_no_attempt(app: AsyncJobs, stage: Stage) -> None:
    resumed, retried = events_of(app, JobResumed), events_of(app, JobRetryScheduled)
    job = register(app, walks, retry=RetryPolicy(1, constant(0)))
    async with working(app):
        handle = await job.enqueue(10, [3, 5, 8])
        assert await handle.result(LIMIT_S) == 1
    assert [note for note in stage.notes if isinstance(note, int)] == list(range(10))
    assert [event.resumptions for event in resumed] == [1, 2, 3]
    # Who listens to retries hears of the errors, too.
    assert retried == resumed


async def test_an_error_without_progress_spends_one(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, walks, retry=RetryPolicy(1, constant(0)))
    async with working(app):
        with pytest.raises(JobFailed, match="at 0"):
            await (await job.enqueue(10, [0])).result(LIMIT_S)


async def stands_still(*, ctx: JobContext = INJECTED) -> None:
    jobs.stage.note("visit")
    async for step in ctx.step("still", start=0):
        await step.advance(1)
        raise jobs.Broken("no")


async def test_a_cursor_that_stays_is_no_progress(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, stands_still, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        with pytest.raises(JobFailed, match="no"):
            await (await job.enqueue()).result(LIMIT_S)
    # The first visit has brought the job forward. The other two spend its attempts.
    assert stage.count("visit") == 3


async def test_resumptions_have_a_limit(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, walks, retry=RetryPolicy(1, constant(0)), max_resumptions=2)
    async with working(app):
        handle = await job.enqueue(10, [3, 5, 8])
        with pytest.raises(JobFailed, match="at 8"):
            await handle.result(LIMIT_S)
        assert [error.message for error in (await handle.info()).errors] == ["at 3", "at 5", "at 8"]


async def test_a_revived_job_goes_on_at_its_cursor(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, walks, retry=RetryPolicy(1, constant(0)), max_resumptions=0)
    async with working(app):
        handle = await job.enqueue(6, [4])
        with pytest.raises(JobFailed):
            await handle.result(LIMIT_S)
        dead = app.backend.dead
        (letter,) = (await dead.page(LetterQuery("default"))).letters
        envelope = revived(letter.letter, now_ms())
        assert await dead.revive([Revival(letter.key, envelope)]) == [Revived.READY]
        await until(lambda: stage.count(5) == 1)
    assert [note for note in stage.notes if isinstance(note, int)] == list(range(6))


async def remembers(case: int, *, ctx: JobContext = INJECTED) -> str:
    cursor = CURSORS[case]
    async for step in ctx.step("cursor", start="unset"):
        if step.cursor == "unset":
            await step.checkpoint(cursor)
            if cursor is not None:
                ctx.interrupt()
        jobs.stage.note(step.cursor)
    return "done"


@pytest.mark.parametrize("case", range(1, len(CURSORS)))
async def test_a_cursor_keeps_its_type(app: AsyncJobs, stage: Stage, case: int) -> None:
    job = register(app, remembers, retry=False)
    async with working(app):
        await (await job.enqueue(case)).result(LIMIT_S)
    (found,) = stage.notes
    assert (found, type(found)) == (CURSORS[case], type(CURSORS[case]))
    if isinstance(found, datetime):
        assert (str(found.tzinfo), found.fold) == (
            str(CURSORS[case].tzinfo),
            CURSORS[case].fold,
        )


async def twice(*, ctx: JobContext = INJECTED) -> None:
    async for _ in ctx.step("same"):
        pass
    async for _ in ctx.step("same"):
        pass


async def test_a_name_is_used_once_in_an_attempt(app: AsyncJobs) -> None:
    job = register(app, twice, retry=False)
    async with working(app):
        with pytest.raises(JobFailed, match="two steps with the name 'same'"):
            await (await job.enqueue()).result(LIMIT_S)


async def tries_again(*, ctx: JobContext = INJECTED) -> int:
    async def fails_once() -> int:
        jobs.stage.note("call")
        if jobs.stage.count("call") == 1:
            raise jobs.Broken("once")
        return 5

    try:
        return await ctx.step("call", fails_once)
    except jobs.Broken:
        return await ctx.step("call", fails_once)


async def test_a_step_that_failed_may_be_tried_again(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, tries_again, retry=False)
    async with working(app):
        assert await (await job.enqueue()).result(LIMIT_S) == 5


async def isolates(*, ctx: JobContext = INJECTED) -> None:
    jobs.stage.note("visit")
    for name, isolated in [("a", False), ("b", True), ("c", False), ("d", False)]:
        async for _ in ctx.step(name, isolated=isolated):
            jobs.stage.note(name)


async def test_an_isolated_step_has_an_attempt_of_its_own(app: AsyncJobs, stage: Stage) -> None:
    suspended = events_of(app, JobSuspended)
    job = register(app, isolates, retry=False)
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)
    assert stage.notes == ["visit", "a", "visit", "b", "visit", "c", "d"]
    assert [event.reason for event in suspended] == ["isolated", "isolated"]


async def nests_isolated(*, ctx: JobContext = INJECTED) -> None:
    async with ctx.step("outer"), ctx.step("inner", isolated=True):
        pass


async def test_an_isolated_step_is_in_no_other_one(app: AsyncJobs) -> None:
    job = register(app, nests_isolated, retry=False)
    async with working(app):
        with pytest.raises(JobFailed, match="inside the step 'outer'"):
            await (await job.enqueue()).result(LIMIT_S)


async def renamed(*, ctx: JobContext = INJECTED) -> None:
    name = "old" if jobs.stage.count("visit") == 0 else "new"
    jobs.stage.note("visit")
    async for _ in ctx.step(name):
        jobs.stage.note(name)
    if jobs.stage.count("visit") < 3:
        ctx.interrupt()


async def test_a_step_that_is_gone_only_warns(
    app: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.jobs.steps._warned", set())
    job = register(app, renamed, retry=False)
    async with working(app):
        for _ in range(2):
            stage.notes.clear()
            await (await job.enqueue()).result(LIMIT_S)
            assert stage.notes == ["visit", "old", "visit", "new", "visit"]
    warnings = [record for record in caplog.records if "has finished the step" in record.message]
    assert [record.levelno for record in warnings] == [logging.WARNING]


async def advances_much(times: int, *, ctx: JobContext = INJECTED) -> None:
    async for step in ctx.step("many", start=0):
        for number in range(times):
            await step.advance(number)
            if number % 100 == 0:
                await asyncio.sleep(0)


async def test_a_job_that_advances_often_writes_seldom(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "EVERY_S", 60.0)
    job = register(app, advances_much)
    async with working(app) as worker:
        lease: Any = processor_of(worker).session.lease
        write, calls = type(lease).note, []

        async def note(self: Any, notes: Any) -> Any:
            calls.append([each.name for each in notes])
            return await write(self, notes)

        monkeypatch.setattr(type(lease), "note", note)
        await (await job.enqueue(20_000)).result(LIMIT_S)
    assert calls == [["step:many"]]


async def is_stopped(*, ctx: JobContext = INJECTED) -> int:
    async for step in ctx.step("until stopped", start=0):
        jobs.stage.note(("from", step.cursor))
        if step.cursor:
            return step.cursor
        await step.advance(41)
        await step.advance(42)
        jobs.stage.note("advanced")
        await asyncio.sleep(LIMIT_S)
    return 0


async def test_a_stop_writes_the_cursor_before_the_job_is_given_back(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "EVERY_S", 60.0)
    job = register(app, is_stopped, retry=False)
    async with app:
        worker = Worker(app, grace=0)
        run = asyncio.create_task(worker.run())
        handle = await job.enqueue()
        await stage.noted("advanced")
        worker.stop()
        assert (await run).released == 1
        async with Worker(app):
            assert await handle.result(LIMIT_S) == 42
    assert stage.notes == [("from", 0), "advanced", ("from", 42)]


async def times_out(*, ctx: JobContext = INJECTED) -> int:
    async for step in ctx.step("slow", start=0):
        if step.cursor < 2:
            await step.advance(step.cursor + 1)
            await asyncio.sleep(LIMIT_S)
    return ctx.attempt


async def test_a_time_out_on_the_way_is_a_resumption(app: AsyncJobs) -> None:
    job = register(app, times_out, retry=RetryPolicy(1, constant(0)), timeout=0.05)
    async with working(app):
        assert await (await job.enqueue()).result(LIMIT_S) == 1


async def sleeps(*, ctx: JobContext = INJECTED) -> str:
    jobs.stage.note("visit")
    await ctx.sleep(0.01)
    await ctx.sleep(timedelta(seconds=0.2))
    jobs.stage.note("between")
    await ctx.sleep(until=datetime.now(UTC) - timedelta(days=1))
    await ctx.sleep(0.1, name="named")
    return "awake"


async def test_a_sleep_gives_the_slot_away(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.jobs.sleeping.SHORT_MS", 50)
    suspended = events_of(app, JobSuspended)
    job = register(app, sleeps, retry=False)
    async with working(app, concurrency=1):
        handle = await job.enqueue()
        assert await handle.result(LIMIT_S) == "awake"
    assert stage.notes.count("between") >= 2
    assert {event.reason for event in suspended} == {"sleep"}
    assert 0.1 < suspended[0].delay_s <= 0.2


async def both(*, ctx: JobContext = INJECTED) -> None:
    await ctx.sleep(1, until=datetime.now(UTC))


async def test_a_sleep_takes_one_time(app: AsyncJobs) -> None:
    job = register(app, both, retry=False)
    async with working(app):
        with pytest.raises(JobFailed, match="one of the two"):
            await (await job.enqueue()).result(LIMIT_S)


async def too_many(count: int, size: int, *, ctx: JobContext = INJECTED) -> None:
    for number in range(count):
        async for step in ctx.step(f"s{number}", start=""):
            await step.advance("x" * size)


@pytest.mark.parametrize(
    ("count", "size", "text"),
    [(4, 1, "at most 3 steps"), (1, 300, "more than 200 B"), (3, 100, "more than 300 B")],
)
async def test_notes_have_bounds(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch, count: int, size: int, text: str
) -> None:
    monkeypatch.setattr(notebook, "MOST_NOTES", 3)
    monkeypatch.setattr(notebook, "MOST_NOTE_BYTES", 200)
    monkeypatch.setattr(notebook, "MOST_BYTES", 300)
    job = register(app, too_many, retry=False)
    async with working(app):
        with pytest.raises(JobFailed, match=text):
            await (await job.enqueue(count, size)).result(LIMIT_S)


async def test_a_plain_call_has_steps_and_sleeps(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = register(app, charges)
    assert await job(0) == ["o-1", "2026-11-30", 2]
    waited: list[float] = []

    async def no_sleep(seconds: float) -> None:
        waited.append(round(seconds))

    monkeypatch.setattr("asyncjobs.jobs.sleeping.asyncio.sleep", no_sleep)
    await JobContext.local("f").sleep(3600)
    assert waited == [3600]


async def test_wrong_calls() -> None:
    context: Any = JobContext.local("f")
    for arguments in ({"start": 1, "cursor": int}, {}):
        name: Any = "a" if arguments else ""
        with pytest.raises(UsageError):
            async with context.step(name, **arguments):
                pass
    with pytest.raises(UsageError, match="was not entered"):
        context.step("b", start=0).cursor  # noqa: B018


async def test_the_steps_of_a_job_are_shown(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, walks, retry=RetryPolicy(1, constant(0)), max_resumptions=0)
    async with working(app):
        handle = await job.enqueue(6, [4])
        with pytest.raises(JobFailed):
            await handle.result(LIMIT_S)
        (step,) = (await handle.info()).steps
    assert (step.name, step.is_finished, step.cursor) == ("walk", False, 4)
    assert abs(datetime.now(UTC) - step.at) < timedelta(minutes=1)


@dataclass
class Totals:
    rows: int = 0
    last: date | None = None
    seen: list[Any] = field(default_factory=list)


class Counts(TypedDict, total=False):
    rows: int


async def keeps_state(fails: int, *, ctx: JobContext = INJECTED) -> list[Any]:
    state = await ctx.state(Totals)
    assert await ctx.state(Totals) is state
    state.rows += 1
    state.last = date(2026, 11, state.rows)
    state.seen.append((ctx.attempt, state.rows))
    if state.rows <= fails:
        raise jobs.Broken("no")
    if state.rows == fails + 1:
        ctx.interrupt()
    return [state.rows, state.last.isoformat(), [list(pair) for pair in state.seen]]


async def test_a_state_is_kept_from_attempt_to_attempt(app: AsyncJobs) -> None:
    job = register(app, keeps_state, retry=RetryPolicy(3, constant(0)))
    async with working(app):
        found = await (await job.enqueue(2)).result(LIMIT_S)
    # It brings no job forward: each failure spends an attempt.
    assert found == [4, "2026-11-04", [[1, 1], [2, 2], [3, 3], [3, 4]]]


async def keeps_counts(*, ctx: JobContext = INJECTED) -> int:
    counts = await ctx.state(Counts)
    counts["rows"] = counts.get("rows", 0) + 1
    await ctx.save()
    if counts["rows"] == 1:
        # A kill would come to this: nothing is stored at the end of this attempt.
        ctx.work.steps.note_state = lambda: None
        counts["rows"] = 50
        ctx.interrupt()
    return counts["rows"]


async def test_a_state_can_be_saved_at_once(app: AsyncJobs) -> None:
    job = register(app, keeps_counts)
    async with working(app):
        assert await (await job.enqueue()).result(LIMIT_S) == 2


async def counts_rows(total: int, breaks_at: int, form: str, *, ctx: JobContext = INJECTED) -> int:
    """Counts in its state what it walks through, and fails once in the midst of a piece."""
    state = await ctx.state(Totals)

    async def walk(step: Step[int]) -> None:
        for number in range(step.cursor, total):
            state.rows += 1
            if number == breaks_at and not jobs.stage.notes:
                jobs.stage.note("broke")
                raise jobs.Broken("midst")
            await step.advance(number + 1)

    if form == "for":
        async for step in ctx.step("walk", start=0):
            await walk(step)
    else:
        async with ctx.step("walk", start=0) as step:
            await walk(step)
    return state.rows


@pytest.mark.parametrize("form", ["for", "with"])
async def test_state_and_cursor_fit(app: AsyncJobs, stage: Stage, form: str) -> None:
    job = register(app, counts_rows, retry=AT_ONCE)
    async with working(app):
        assert await (await job.enqueue(6, 3, form)).result(LIMIT_S) == 6
    assert stage.notes == ["broke"]


async def test_state_and_cursor_are_sent_together(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "EVERY_S", 60.0)
    job = register(app, counts_rows)
    async with working(app) as worker:
        lease: Any = processor_of(worker).session.lease
        write, calls = type(lease).note, []

        async def note(self: Any, notes: Any) -> Any:
            calls.append(sorted(each.name for each in notes))
            return await write(self, notes)

        monkeypatch.setattr(type(lease), "note", note)
        await (await job.enqueue(6, 99, "for")).result(LIMIT_S)
    assert calls == [["state", "step:walk"]]


@dataclass
class Demanding:
    rows: int


async def asks_for(which: str, *, ctx: JobContext = INJECTED) -> None:
    await ctx.state({"no class": int, "demanding": Demanding, "two": Totals}[which])
    await ctx.state(Counts)


@pytest.mark.parametrize(
    ("which", "text"),
    [("no class", "a state is a dataclass"), ("demanding", "default"), ("two", "one state")],
)
async def test_a_state_that_cannot_be(app: AsyncJobs, which: str, text: str) -> None:
    job = register(app, asks_for, retry=False)
    async with working(app):
        with pytest.raises(JobFailed, match=text):
            await (await job.enqueue(which)).result(LIMIT_S)


async def with_secret(token: str, *, ctx: JobContext = INJECTED) -> None:
    async for step in ctx.step("login", start=""):
        await step.advance(f"as {token}")
        raise jobs.Broken("no")


async def test_what_is_sensitive_is_hidden_in_cursors(app: AsyncJobs) -> None:
    job = register(
        app, with_secret, retry=RetryPolicy(1, constant(0)), max_resumptions=0, sensitive=["token"]
    )
    async with working(app):
        handle = await job.enqueue("s3cr3t-token")
        with pytest.raises(JobFailed):
            await handle.result(LIMIT_S)
        info = await handle.info()
    assert "s3cr3t-token" in info.steps[0].cursor
    assert "s3cr3t-token" not in str(info.redacted().steps)
