"""Schedules end to end: declared, fired, changed and given up, by one worker and by several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    ConfigError,
    FromTick,
    JobContext,
    JobFunction,
    Retry,
    Schedule,
    ScheduleNotFound,
    State,
    Unique,
    UsageError,
    Worker,
)
from asyncjobs.events import CronEnqueued, CronSkipped
from asyncjobs.jobs.context import current_job
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.worker.declaring import Declaring
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    NewApp,
    Stage,
    ended,
    events_of,
    eventually,
    listens,
    register,
    until,
    working,
)

pytestmark = pytest.mark.anyio

YEARLY = "0 0 1 1 *"
"""Once a year: it does not fire while a test runs."""
BERLIN = ZoneInfo("Europe/Berlin")
"""Read from disk now, and not by a test on its event loop."""


async def told(at: str = "", day: str = "", *, ctx: JobContext = INJECTED) -> None:
    """Writes down its arguments and its tick; the first attempt fails."""
    assert ctx.scheduled_for is not None
    jobs.stage.note((at, day, ctx.schedule, ctx.scheduled_for, ctx.attempt))
    if ctx.attempt == 1:
        raise Retry(delay=0)


async def waits() -> None:
    """Ends when its gate is opened."""
    jobs.stage.note(f"began {current_job().id}")
    await jobs.stage.gate("open").wait()


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(milliseconds=300)


def scheduled(app: AsyncJobs, expression: str = YEARLY, **options: Any) -> JobFunction[..., Any]:
    """A job function with a schedule, as a new version of the code would declare it."""
    job = register(app, told)
    app.cron(expression, id="nightly", **options)(job)
    return job


async def of(app: AsyncJobs, id: str = "nightly") -> Schedule:
    found = await app.schedules.get(id)
    assert found is not None
    return found


async def comes(app: AsyncJobs, check: Callable[[Schedule], bool], id: str = "nightly") -> Schedule:
    """The schedule, once it is there and like this."""
    found: list[Schedule] = []

    async def look() -> bool:
        schedule = await app.schedules.get(id)
        if schedule is not None and check(schedule):
            found.append(schedule)
        return bool(found)

    await eventually(look)
    return found[0]


async def test_a_job_knows_its_tick_over_retries(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, told)
    heard = events_of(app, CronEnqueued)
    async with working(app):
        await listens(app)
        at = soon().replace(microsecond=0) + timedelta(seconds=1)
        bound = job.bind(FromTick.TIME, day=FromTick.DATE)
        put = await app.schedules.put("once", bound, at=at)
        assert (put.state, put.source, put.next_at, put.name) == ("active", "runtime", at, "told")
        assert put.args == [FromTick.TIME]
        await until(lambda: len(stage.notes) == 2)
        over = await comes(app, lambda schedule: schedule.state == "over", "once")
    text = at.isoformat()
    assert stage.notes == [(text, text[:10], "once", at, attempt) for attempt in (1, 2)]
    assert (over.fired, over.next_at, over.last_at) == (1, None, at)
    (event,) = heard
    assert (event.schedule, event.name, event.queue) == ("once", "told", "default")
    # The signal of the put has woken the worker, which else looks each half minute.
    assert event.lag_s < 5


async def test_declared_schedules_are_stored_at_the_start_of_a_worker(app: AsyncJobs) -> None:
    scheduled(app, args=("x",), tz=BERLIN.key)
    async with app:
        assert await app.schedules.list() == []
        async with Worker(app):
            found = await comes(app, lambda schedule: True)
        assert (found.source, found.state, found.times) == ("code", "active", YEARLY)
        assert (found.tz, found.args, found.text) == (
            "Europe/Berlin",
            ["x"],
            "At 00:00 on January 1 (Europe/Berlin)",
        )
        assert await app.schedules.list() == [found]
        assert await app.schedules.list("other") == []


async def test_a_changed_expression_counts_from_now(new_app: NewApp, kind: str) -> None:
    old, new = apps(new_app, kind, 2)
    scheduled(old, "* * * * *", catch_up="all")
    scheduled(new, YEARLY, catch_up="all")
    async with old, new:
        async with Worker(old):
            before = await comes(old, lambda schedule: True)
        async with Worker(new):
            # The older version runs no more, but its mark is fresh. The newer one wins at once.
            after = await comes(new, lambda schedule: schedule.times == YEARLY)
        assert before.next_at is not None
        assert after.next_at is not None
        assert after.next_at > before.next_at
        assert (after.fired, after.missed) == (0, 0)


async def test_two_versions_side_by_side_do_not_flap(
    new_app: NewApp, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.declaring.RENEW_S", 0.01)
    old, new = apps(new_app, kind, 2)
    scheduled(old, "0 12 1 1 *")
    scheduled(new, YEARLY)
    renewed = counting(monkeypatch)
    async with old, new, Worker(old):
        await comes(old, lambda schedule: True)
        async with Worker(new):
            await comes(new, lambda schedule: schedule.times == YEARLY)
            begun = renewed[0]
            seen = set[str]()

            async def many_renewals() -> bool:
                seen.add((await of(new)).times)
                return renewed[0] > begun + 10

            await eventually(many_renewals)
            assert seen == {YEARLY}


async def test_a_schedule_that_no_code_has_is_paused_and_comes_back(
    new_app: NewApp, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.declaring.RENEW_S", 0.01)
    monkeypatch.setattr("asyncjobs.worker.declaring.GRACE_S", 0.05)
    old, new = apps(new_app, kind, 2)
    job = scheduled(old)
    async with old, new:
        async with Worker(old):
            await comes(old, lambda schedule: True)
            runtime = await old.schedules.put("mine", job, cron=YEARLY)
        async with Worker(new):
            paused = await comes(new, lambda schedule: schedule.state == "paused")
            assert paused.reason is not None
            assert "no running worker has it in its code" in paused.reason
            # What was made at run time belongs to nobody's code.
            assert await of(new, "mine") == runtime
        async with Worker(old):
            back = await comes(old, lambda schedule: schedule.state == "active")
            assert back.reason is None


async def test_a_pause_by_hand_outlives_workers_and_new_versions(
    new_app: NewApp, kind: str
) -> None:
    old, new = apps(new_app, kind, 2)
    scheduled(old)
    scheduled(new, "0 12 1 1 *")
    async with old, new:
        async with Worker(old):
            await comes(old, lambda schedule: True)
            paused = await old.schedules.pause("nightly", "the disk is full")
            assert (paused.state, paused.reason, paused.next_at) == (
                "paused",
                "the disk is full",
                None,
            )
        async with Worker(new):
            changed = await comes(new, lambda schedule: schedule.times == "0 12 1 1 *")
        assert (changed.state, changed.reason) == ("paused", "the disk is full")
        assert len(await new.schedules.upcoming("nightly", 3)) == 3
        resumed = await new.schedules.resume("nightly")
        assert (resumed.state, resumed.reason) == ("active", None)
        assert [resumed.next_at] == [*await new.schedules.upcoming("nightly", 1)]


async def test_a_worker_without_the_function_fires_all_the_same(
    new_app: NewApp, kind: str, stage: Stage
) -> None:
    author, other = apps(new_app, kind, 2)
    job = register(author, told)
    async with author, other:
        heard = events_of(other, CronEnqueued)
        async with Worker(other):
            await listens(other)
            await author.schedules.put("once", job, at=soon())
            await until(lambda: len(heard) == 1)
        async with Worker(author):
            await until(lambda: len(stage.notes) == 2)


async def test_a_burst_leaves_schedules_alone(app: AsyncJobs, stage: Stage) -> None:
    job = scheduled(app)
    async with app:
        await app.schedules.put("once", job, at=datetime(2020, 1, 1, tzinfo=UTC))
        await Worker(app).run(burst=True, burst_wait=0)
        assert await app.schedules.get("nightly") is None
    assert stage.notes == []


async def test_a_tick_is_skipped_while_the_last_job_runs(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, waits)
    heard = events_of(app, CronSkipped)
    async with working(app):
        await listens(app)
        await app.schedules.put("often", job, every=1, overlap="skip")
        await until(lambda: len(stage.notes) == 1)
        await comes(app, lambda schedule: schedule.skipped >= 1, "often")
        assert (await app.schedules.pause("often")).fired == 1
        stage.open("open")
    assert heard[0].holder is None


async def test_one_job_waits_while_the_last_one_runs(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, waits)
    heard = events_of(app, CronEnqueued)
    async with working(app, concurrency=8):
        await listens(app)
        await app.schedules.put("often", job, every=1, overlap="queue_one")
        await comes(app, lambda schedule: schedule.skipped >= 1, "often")
        assert (await app.schedules.pause("often")).fired == 2
        # Slots are free, and the second one is held until the first one has ended.
        assert stage.notes == [f"began {heard[0].ref.id}"]
        info = await app.handle(heard[1].ref.id).info()
        assert (info.state, info.held_by) == (State.HELD, f"job {heard[0].ref}")
        stage.open("open")
        await until(lambda: len(stage.notes) == 2)
    assert stage.notes == [f"began {event.ref.id}" for event in heard]


async def test_the_last_job_is_cancelled(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, waits)
    heard = events_of(app, CronEnqueued)
    async with working(app):
        await listens(app)
        await app.schedules.put("often", job, every=1, overlap="cancel_running")
        await until(lambda: len(stage.notes) >= 2)
        await app.schedules.pause("often")
        await ended(app, heard[0].ref.id, State.CANCELLED)
        stage.open("open")
    assert stage.notes[:2] == [f"began {event.ref.id}" for event in heard[:2]]


async def test_a_schedule_of_a_unique_job(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, waits, unique=Unique())
    heard = events_of(app, CronSkipped)
    async with working(app):
        await listens(app)
        handle = await job.enqueue()
        await app.schedules.put("often", job, every=1)
        await comes(app, lambda schedule: schedule.skipped >= 1, "often")
        await until(lambda: len(heard) >= 1)
        assert heard[0].holder == handle.ref
        again = await app.schedules.trigger("often")
        assert (again.id, again.disposition) == (handle.id, "existing")
        stage.open("open")
        await comes(app, lambda schedule: schedule.fired >= 1, "often")
        await app.schedules.pause("often")
    assert stage.notes[0] == f"began {handle.id}"


async def test_what_a_trigger_does_to_a_unique_job(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, waits, unique=Unique(on_conflict="keep_latest"))
    async with app:
        await app.schedules.put("yearly", job, cron=YEARLY)
        handles = [await app.schedules.trigger("yearly") for _ in range(2)]
        async with Worker(app):
            await until(lambda: len(stage.notes) == 1)
            handles.append(await app.schedules.trigger("yearly"))
            assert [handle.disposition for handle in handles] == ["new", "replaced", "held"]
            assert handles[1].id == handles[0].id
            stage.open("open")
            await handles[2].result(LIMIT_S)
        end = datetime(2026, 1, 2, tzinfo=UTC)
        done = await app.schedules.backfill("yearly", datetime(2024, 1, 1, tzinfo=UTC), end)
        assert done == (3, 0, 0)
        assert (await of(app, "yearly")).fired == 6


async def test_overlaps_that_a_unique_job_cannot_have(app: AsyncJobs) -> None:
    job = register(app, waits, unique=Unique())
    async with app:
        for overlap in ("queue_one", "cancel_running"):
            with pytest.raises(ConfigError, match=r"unique key of the next one|for a second one"):
                await app.schedules.put("yearly", job, cron=YEARLY, overlap=overlap)
    with pytest.raises(ConfigError, match="would wait for a second one"):
        app.cron(YEARLY, overlap="queue_one")(job)


async def test_by_hand(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.echo)
    async with working(app):
        await app.schedules.put("hourly", job.bind(FromTick.TIME), cron="@hourly")
        handle = await app.schedules.trigger("hourly")
        text = await handle.result(LIMIT_S)
        assert abs(datetime.fromisoformat(text) - datetime.now(UTC)) < timedelta(minutes=5)
        end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        start = end - timedelta(hours=5)
        assert await app.schedules.backfill("hourly", start, end) == (5, 0, 0)
        earlier = start - timedelta(hours=2)
        assert await app.schedules.backfill("hourly", earlier, end) == (2, 5, 0)
        assert (await of(app, "hourly")).fired == 8
        with pytest.raises(UsageError, match="more than 1,000 ticks"):
            await app.schedules.backfill("hourly", end - timedelta(days=60), end)
        with pytest.raises(UsageError, match="its end is in the future"):
            await app.schedules.backfill("hourly", start, end + timedelta(hours=2))
        assert await app.schedules.delete("hourly")
        assert not await app.schedules.delete("hourly")


async def test_an_unknown_id_is_an_error_that_names_it(app: AsyncJobs) -> None:
    async with app:
        assert await app.schedules.get("nobody") is None
        for act in (
            app.schedules.pause("nobody"),
            app.schedules.resume("nobody"),
            app.schedules.trigger("nobody"),
            app.schedules.upcoming("nobody"),
        ):
            with pytest.raises(ScheduleNotFound, match="'nobody'"):
                await act


async def test_what_the_code_declares_is_changed_there(new_app: NewApp, kind: str) -> None:
    author, other = apps(new_app, kind, 2)
    scheduled(author)
    job = register(other, jobs.echo)
    async with author, other:
        async with Worker(author):
            await comes(author, lambda schedule: True)
        with pytest.raises(UsageError, match="the code declares the schedule 'nightly'"):
            await other.schedules.put("nightly", job.bind(1), cron="@daily")
        with pytest.raises(UsageError, match="the code declares the schedule 'nightly'"):
            await author.schedules.delete("nightly")


async def test_ten_workers_fire_each_tick_once(new_app: NewApp, kind: str, stage: Stage) -> None:
    fleet = apps(new_app, kind, 5)
    for app in fleet:
        register(app, jobs.echo)
    heard = [event for app in fleet for event in [events_of(app, CronEnqueued)]]
    async with asyncio.TaskGroup() as tasks:
        stops = [asyncio.Event() for _ in fleet]

        async def work(app: AsyncJobs, stop: asyncio.Event) -> None:
            async with app, Worker(app):
                await stop.wait()

        for app, stop in zip(fleet, stops, strict=True):
            tasks.create_task(work(app, stop))
        async with fleet[0] as app:
            job = app.registry.find("echo")
            assert job is not None
            at = soon()
            for number in range(30):
                await app.schedules.put(f"s{number}", job.bind(number), at=at)
            await until(lambda: sum(map(len, heard)) >= 30)
            found = await app.schedules.list()
        for stop in stops:
            stop.set()
    assert [schedule.fired for schedule in found] == [1] * 30
    assert len({event.ref for events in heard for event in events}) == 30
    assert sum(map(len, heard)) == 30


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a worker has renewed its schedules."""
    renewed = [0]
    run = Declaring.run

    async def counted(self: Declaring, others: Any) -> None:
        await run(self, others)
        renewed[0] += 1

    monkeypatch.setattr(Declaring, "run", counted)
    return renewed


def apps(new_app: NewApp, kind: str, number: int) -> list[AsyncJobs]:
    """Apps on one store."""
    if kind != "memory":
        return [new_app() for _ in range(number)]
    store = MemoryBackend(new_app().settings.store())
    return [AsyncJobs(backend=store) for _ in range(number)]
