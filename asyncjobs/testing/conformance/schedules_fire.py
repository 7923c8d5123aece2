"""Schedules fire: each tick once, whoever asks, and with all that an enqueue does."""

from __future__ import annotations

import random
from collections.abc import Sequence

import anyio
import pytest

from asyncjobs.errors import MissingCapability, UsageError
from asyncjobs.model.job import NewJob, State
from asyncjobs.model.schedules import Overlap, ScheduleRef, tick_job_id
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Gate, Terms
from asyncjobs.store.schedules import (
    MOST_TICKS,
    Fire,
    Fired,
    Put,
    Resume,
    ScheduleRecord,
    ScheduleRun,
    Schedules,
    Tick,
    TickVerdict,
)
from asyncjobs.testing.conformance.schedules import MINUTE_MS, one, rule
from asyncjobs.testing.conformance.store import QUEUE, SHORT_S, Store, Worker, ids

pytestmark = pytest.mark.anyio

FIRED, SKIPPED, OVER, RAN = TickVerdict


def tick(
    at: int,
    id: str = "report",
    *,
    queue: str = QUEUE,
    job_id: str | None = None,
    delay_ms: int = 0,
    priority: int = 2,
    terms: Terms | None = None,
) -> Tick:
    name = job_id or tick_job_id(id, at)
    at_ms = at + delay_ms if delay_ms else None
    return Tick(at, NewJob(queue, name, priority, name.encode(), at_ms=at_ms, terms=terms))


def firing(
    record: ScheduleRecord,
    *ticks: Tick,
    next_ms: int | None = None,
    overlap: Overlap = Overlap.ALLOW,
    missed: int = 0,
) -> Fire:
    """Fire these ticks of the schedule as it was read, or the one that is next."""
    assert record.next_ms is not None
    if not ticks:
        ticks = (tick(record.next_ms, record.ref.id, queue=record.ref.queue),)
    last_ms = ticks[-1].tick_ms
    if next_ms is None:
        next_ms = last_ms + MINUTE_MS
    return Fire(
        record.ref, record.version, record.next_ms, next_ms, last_ms, ticks, missed, overlap
    )


async def due(store: Store, schedules: Schedules, left: int | None = None) -> ScheduleRecord:
    """A new schedule whose time has come."""
    await schedules.put([rule(store, left=left)])
    store.clock.ms += MINUTE_MS
    return await one(schedules)


async def fire(schedules: Schedules, about: Fire) -> Fired:
    (fired,) = await schedules.fire([about])
    return fired


async def run(schedules: Schedules, ticks: Sequence[Tick]) -> Sequence[TickVerdict]:
    ran = await schedules.run("report", ticks)
    assert ran is not None
    return ran.verdicts


async def test_a_tick_fires_with_all_that_an_enqueue_does(
    store: Store, schedules: Schedules
) -> None:
    worker = await store.worker()
    record = await due(store, schedules)
    at = store.clock.ms
    assert record.next_ms == at
    store.clock.ms += 7
    fired = await fire(schedules, firing(record))
    assert fired == Fired(record.ref, True, [FIRED], at + MINUTE_MS, 7)
    assert await worker.signalled() == [QUEUE]
    name = tick_job_id("report", at)
    assert await store.state(name) is State.READY
    (flow,) = await store.backend.inspect.queues.flow([QUEUE])
    assert flow.enqueued == 1
    job = await worker.take_one()
    assert (job.id, job.envelope) == (name, name.encode())
    await worker.exchange(Settlement.succeeded(job))
    assert await one(schedules) == record._replace(
        next_ms=at + MINUTE_MS, last_ms=at, fired=1, lag_ms=7
    )
    assert await schedules.runs("report") == [ScheduleRun(at, name)]


async def test_a_fire_that_is_sent_twice_fires_once(store: Store, schedules: Schedules) -> None:
    about = firing(await due(store, schedules))
    assert (await fire(schedules, about)).is_ours
    assert await fire(schedules, about) == Fired(about.ref, is_ours=False)
    assert sum((await store.counts()).ready) == 1
    assert (await one(schedules)).fired == 1


async def test_the_clock_of_the_store_decides(store: Store, schedules: Schedules) -> None:
    record = await due(store, schedules)
    store.clock.ms -= 1
    assert not (await fire(schedules, firing(record))).is_ours
    assert (await store.counts()).ready == (0, 0, 0, 0)
    store.clock.ms += 1
    assert (await fire(schedules, firing(record))).is_ours


@pytest.mark.parametrize("change", ["pause", "drop", "version", "lapse", "resume", "move"])
async def test_a_schedule_that_has_changed_does_not_fire(
    store: Store, schedules: Schedules, change: str
) -> None:
    await schedules.put([rule(store, is_code=True)])
    store.clock.ms += MINUTE_MS
    about = firing(await one(schedules))
    if change in ("pause", "resume"):
        await schedules.pause(["report"], "by hand")
    if change == "resume":
        await schedules.resume([Resume("report", "v1", store.clock.ms + 1)])
    elif change == "drop":
        await schedules.delete(["report"])
    elif change == "version":
        await schedules.put([rule(store, version="v2")])
    elif change == "lapse":
        await schedules.lapse([QUEUE], 0, "gone")
    elif change == "move":
        await schedules.put([rule(store, queue="mail")])
    assert await fire(schedules, about) == Fired(about.ref, is_ours=False)
    assert (await store.counts()).ready == (0, 0, 0, 0)


async def test_due_schedules_and_when_to_ask_again(store: Store, schedules: Schedules) -> None:
    now = store.clock.ms
    for name, in_ms in (("c", 300), ("a", 100), ("b", 200), ("later", 900)):
        await schedules.put([rule(store, name, in_ms=in_ms)])
    await schedules.put([rule(store, "mail", queue="mail", in_ms=400)])
    await schedules.put([rule(store, "never", queue="mail", in_ms=None)])
    found = await schedules.due([QUEUE, "mail", "empty"], 10)
    assert (found.now_ms, found.records, found.away) == (now, [], {})
    assert found.next_ms == {QUEUE: now + 100, "mail": now + 400}
    store.clock.ms = now + 300
    found = await schedules.due([QUEUE, "mail"], 2)
    assert [record.ref.id for record in found.records] == ["a", "b"]
    assert found.records[0] == await one(schedules, "a")
    assert found.next_ms == {QUEUE: now + 300, "mail": now + 400}
    found = await schedules.due([QUEUE, "mail"], 10)
    assert [record.ref.id for record in found.records] == ["a", "b", "c"]
    assert found.next_ms == {QUEUE: now + 900, "mail": now + 400}
    store.clock.ms = now + 5_000
    found = await schedules.due([QUEUE, "mail"], 10)
    assert len(found.records) == 5
    assert found.next_ms == {}


async def test_several_ticks_at_once(store: Store, schedules: Schedules) -> None:
    record = await due(store, schedules)
    at = store.clock.ms
    store.clock.ms += 4 * MINUTE_MS
    ticks = [tick(at + n * MINUTE_MS, priority=n % 4) for n in range(3)]
    fired = await fire(schedules, firing(record, *ticks, missed=4))
    assert (fired.verdicts, fired.lag_ms) == ([FIRED] * 3, 2 * MINUTE_MS)
    record = await one(schedules)
    assert (record.fired, record.missed) == (3, 4)
    assert (record.last_ms, record.next_ms) == (at + 2 * MINUTE_MS, at + 3 * MINUTE_MS)
    runs = await schedules.runs("report")
    assert [run.tick_ms for run in runs] == [each.tick_ms for each in reversed(ticks)]
    assert await schedules.runs("report", 1) == runs[:1]
    worker = await store.worker()
    assert sorted(ids(await worker.take())) == sorted(each.job.id for each in ticks)


async def test_ticks_may_be_used_up_without_a_job(store: Store, schedules: Schedules) -> None:
    record = await due(store, schedules)
    about = Fire(record.ref, "v1", store.clock.ms, None, store.clock.ms, (), missed=3)
    assert await fire(schedules, about) == Fired(record.ref, True, [])
    assert await one(schedules) == record._replace(next_ms=None, last_ms=store.clock.ms, missed=3)
    assert (await schedules.due([QUEUE], 10)).next_ms == {}


async def test_a_job_may_be_due_later_than_its_tick(store: Store, schedules: Schedules) -> None:
    worker = await store.worker()
    await worker.settle_signals()
    record = await due(store, schedules)
    at = store.clock.ms
    await fire(schedules, firing(record, tick(at, delay_ms=500)))
    name = tick_job_id("report", at)
    assert (await store.look(name)).due_ms == at + 500
    # It is due before all others, so somebody has to wake for it.
    assert await worker.signalled() == [QUEUE]
    record = await one(schedules)
    store.clock.ms = record.next_ms or 0
    await fire(schedules, firing(record, tick(store.clock.ms, delay_ms=500)))
    assert await worker.signalled(SHORT_S) == []


async def test_a_job_that_has_the_id_of_a_tick_is_not_made_again(
    store: Store, schedules: Schedules
) -> None:
    record = await due(store, schedules)
    worker = await store.worker()
    name = tick_job_id("report", store.clock.ms)
    await store.enqueue(name)
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    fired = await fire(schedules, firing(record))
    assert (fired.is_ours, fired.verdicts) == (True, [RAN])
    assert (await store.counts()).ready == (0, 0, 0, 0)
    assert (await one(schedules)).fired == 0


async def test_a_limit(store: Store, schedules: Schedules) -> None:
    record = await due(store, schedules, left=3)
    assert (await fire(schedules, firing(record))).left == 2
    record = await one(schedules)
    assert record.left == 2
    at = record.next_ms or 0
    store.clock.ms = at + 2 * MINUTE_MS
    ticks = [tick(at + n * MINUTE_MS) for n in range(3)]
    fired = await fire(schedules, firing(record, *ticks))
    assert (fired.verdicts, fired.left, fired.next_ms) == ([FIRED, FIRED, OVER], 0, None)
    record = await one(schedules)
    assert (record.next_ms, record.left, record.fired) == (None, 0, 3)
    assert (await schedules.due([QUEUE], 10)).records == []


async def earlier(store: Store, schedules: Schedules, *, runs: bool) -> tuple[Worker, str]:
    """A job of an earlier tick that runs or waits; the next tick has come."""
    worker = await store.worker()
    record = await due(store, schedules)
    await fire(schedules, firing(record))
    if runs:
        await worker.take_one()
    record = await one(schedules)
    store.clock.ms = record.next_ms or 0
    return worker, tick_job_id("report", record.last_ms or 0)


@pytest.mark.parametrize(
    ("overlap", "runs", "wanted"),
    [
        (Overlap.ALLOW, True, FIRED),
        (Overlap.ALLOW, False, FIRED),
        (Overlap.SKIP, True, SKIPPED),
        (Overlap.SKIP, False, SKIPPED),
        (Overlap.QUEUE_ONE, True, FIRED),
        (Overlap.QUEUE_ONE, False, SKIPPED),
        (Overlap.CANCEL_RUNNING, True, FIRED),
        (Overlap.CANCEL_RUNNING, False, FIRED),
    ],
)
async def test_an_earlier_job_lives(
    store: Store, schedules: Schedules, overlap: Overlap, runs: bool, wanted: TickVerdict
) -> None:
    worker, name = await earlier(store, schedules, runs=runs)
    record = await one(schedules)
    fired = await fire(schedules, firing(record, overlap=overlap))
    assert (fired.is_ours, fired.verdicts) == (True, [wanted])
    after = await one(schedules)
    assert after.skipped == int(wanted is SKIPPED)
    assert after.fired == 1 + int(wanted is FIRED)
    # A tick without a job is used up as well.
    assert (after.last_ms, after.next_ms) == (store.clock.ms, store.clock.ms + MINUTE_MS)
    if overlap is not Overlap.CANCEL_RUNNING:
        assert fired.cancelled == ()
        return
    assert [job.id for job in fired.cancelled] == [name]
    earlier_job = await store.look(name)
    if runs:
        assert (earlier_job.state, earlier_job.is_cancelled) == (State.RUNNING, True)
        assert [job.id for job in (await worker.exchange()).cancels] == [name]
    else:
        assert earlier_job.state is State.CANCELLED
    assert ids(await worker.take()) == [tick_job_id("report", store.clock.ms)]


@pytest.mark.parametrize("overlap", [each for each in Overlap if each is not Overlap.ALLOW])
async def test_of_several_ticks_at_once_one_fires(
    store: Store, schedules: Schedules, overlap: Overlap
) -> None:
    record = await due(store, schedules)
    at = store.clock.ms
    store.clock.ms += 2 * MINUTE_MS
    ticks = [tick(at + n * MINUTE_MS) for n in range(3)]
    fired = await fire(schedules, firing(record, *ticks, overlap=overlap))
    wanted = [FIRED, SKIPPED, SKIPPED]
    if overlap is Overlap.CANCEL_RUNNING:
        wanted.reverse()
    assert fired.verdicts == wanted
    assert sum((await store.counts()).ready) == 1


async def test_an_earlier_job_that_has_ended_is_in_nobodys_way(
    store: Store, schedules: Schedules
) -> None:
    worker, _ = await earlier(store, schedules, runs=False)
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    fired = await fire(schedules, firing(await one(schedules), overlap=Overlap.SKIP))
    assert fired.verdicts == [FIRED]
    # One that somebody has made by hand is an earlier one as well.
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert await run(schedules, [tick(store.clock.ms, job_id="by-hand")]) == [FIRED]
    store.clock.ms += MINUTE_MS
    fired = await fire(schedules, firing(await one(schedules), overlap=Overlap.SKIP))
    assert fired.verdicts == [SKIPPED]


async def test_a_job_given_back_waits(store: Store, schedules: Schedules) -> None:
    worker, _ = await earlier(store, schedules, runs=False)
    await worker.exchange(Settlement.release(await worker.take_one()))
    fired = await fire(schedules, firing(await one(schedules), overlap=Overlap.QUEUE_ONE))
    assert fired.verdicts == [SKIPPED]


async def test_ticks_by_hand_and_of_the_past(store: Store, schedules: Schedules) -> None:
    record = await due(store, schedules, left=1)
    at = store.clock.ms
    await fire(schedules, firing(record))
    await schedules.pause(["report"], "by hand")
    before = await one(schedules)
    past = [tick(at - MINUTE_MS), tick(at), tick(at - 2 * MINUTE_MS)]
    assert await run(schedules, past) == [FIRED, RAN, FIRED]
    assert await run(schedules, past) == [RAN] * 3
    hand = [tick(at, job_id="one"), tick(at, job_id="two")]
    assert await run(schedules, hand) == [FIRED] * 2
    assert await run(schedules, hand[:1]) == [RAN]
    assert await one(schedules) == before._replace(fired=5)
    runs = await schedules.runs("report")
    assert [(run.tick_ms, run.job_id) for run in runs] == [
        (at, "two"),
        (at, "one"),
        (past[2].tick_ms, past[2].job.id),
        (past[0].tick_ms, past[0].job.id),
        (at, tick_job_id("report", at)),
    ]
    assert sum((await store.counts()).ready) == 5


async def test_a_tick_that_ran_is_known_for_longer_than_its_id(
    store: Store, schedules: Schedules
) -> None:
    worker = await store.worker()
    record = await due(store, schedules)
    at = store.clock.ms
    await fire(schedules, firing(record))
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    await store.pass_time(3 * store.settings.id_ttl_ms, worker)
    assert await run(schedules, [tick(at)]) == [RAN]


@pytest.mark.parametrize("overlap", list(Overlap))
async def test_a_tick_that_ran_before_its_time_was_used_up(
    store: Store, schedules: Schedules, overlap: Overlap
) -> None:
    worker = await store.worker()
    record = await due(store, schedules)
    at = store.clock.ms
    # Somebody has backfilled it, or the schedule has changed at this very moment.
    assert await run(schedules, [tick(at)]) == [FIRED]
    job = await worker.take_one()
    fired = await fire(schedules, firing(record, overlap=overlap))
    assert (fired.verdicts, fired.cancelled) == ([RAN], ())
    await worker.exchange(Settlement.succeeded(job))
    await store.pass_time(3 * store.settings.id_ttl_ms, worker)
    # Even when its id is free again.
    record = await one(schedules)
    again = rule(store, version="v2", in_ms=at - store.clock.ms)
    assert await schedules.put([again]) == [Put.CHANGED]
    record = await one(schedules)
    both = tick(at), tick(at + 1)
    fired = await fire(schedules, firing(record, *both, overlap=overlap))
    assert fired.verdicts == [RAN, FIRED]
    assert (await one(schedules)).fired == 2


async def test_ticks_that_no_store_can_fire(store: Store, schedules: Schedules) -> None:
    record = await due(store, schedules)
    at = store.clock.ms
    for bad, wanted in (
        ([tick(at + n) for n in range(MOST_TICKS + 1)], "101 ticks of the schedule"),
        ([tick(at, queue="mail")], "make one for the queue 'work'"),
        ([tick(at, priority=4)], "the priority 4: use 0 to 3"),
    ):
        with pytest.raises(UsageError, match=wanted):
            await schedules.fire([firing(record, *bad)])
        with pytest.raises(UsageError, match=wanted):
            await schedules.run("report", bad)
    if not store.backend.capabilities.gates:
        gated = tick(at, terms=Terms(gate=Gate(turn="x")))
        with pytest.raises(MissingCapability):
            await schedules.fire([firing(record, gated)])
    assert await one(schedules) == record


async def test_as_many_as_fit_into_one_fire(store: Store, schedules: Schedules) -> None:
    record = await due(store, schedules)
    at = store.clock.ms
    store.clock.ms += MOST_TICKS
    ticks = [tick(at + n) for n in range(MOST_TICKS)]
    assert (await fire(schedules, firing(record, *ticks))).verdicts == [FIRED] * MOST_TICKS
    assert sum((await store.counts()).ready) == MOST_TICKS


async def test_ten_tickers_with_clocks_that_differ_fire_each_tick_once(
    store: Store, schedules: Schedules
) -> None:
    names = [f"s{n}" for n in range(8)]
    start = store.clock.ms
    await schedules.put([rule(store, name) for name in names])
    twins = [store.make(store.settings, store.clock) for _ in range(10)]
    if not store.backend.capabilities.shared:
        twins = [store.backend] * 10
    drawn = random.Random(7)
    ours: list[tuple[str, int]] = []
    ends = start + 6 * MINUTE_MS

    async def ticker(own: Schedules, skew_ms: int, order: Sequence[str]) -> None:
        while store.clock.ms < ends:
            for name in order:
                record = await one(own, name)
                # It believes its own clock, which may be ahead of the store's.
                if record.next_ms is None or record.next_ms > store.clock.ms + skew_ms:
                    continue
                (fired,) = await own.fire([firing(record)])
                if fired.is_ours:
                    ours.append((name, record.next_ms))
            store.clock.ms += 400
            await anyio.sleep(0)

    async with anyio.create_task_group() as group:
        for twin in twins:
            order = drawn.sample(names, len(names))
            group.start_soon(ticker, twin.schedules, drawn.randint(-2_000, 2_000), order)
    for twin in twins:
        if twin is not store.backend:
            await twin.close()
    assert len(ours) == len(set(ours))
    for name in names:
        ticks = [at for each, at in ours if each == name]
        assert ticks == [start + (n + 1) * MINUTE_MS for n in range(len(ticks))]
        assert len(ticks) >= 4
        assert (await one(schedules, name)).fired == len(ticks)
    assert sum((await store.counts()).ready) == len(ours)


async def test_fires_beside_changes(store: Store, schedules: Schedules) -> None:
    """Whatever comes first: a tick that has fired has a job, and one that has not has none."""
    for number in range(12):
        name = f"s{number}"
        await schedules.put([rule(store, name)])
        store.clock.ms += MINUTE_MS
        about = firing(await one(schedules, name))
        found: list[Fired] = []

        async def use_up(about: Fire = about, found: list[Fired] = found) -> None:
            found.append(await fire(schedules, about))

        async def change(name: str = name, number: int = number) -> None:
            if number % 3 == 0:
                await schedules.delete([name])
            elif number % 3 == 1:
                await schedules.pause([name], "by hand")
            else:
                await schedules.put([rule(store, name, version="v2")])

        first, second = (use_up, change) if number % 2 else (change, use_up)
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            group.start_soon(second)
            group.start_soon(use_up)
        job = await store.find(about.ticks[0].job.id)
        assert sum(each.is_ours for each in found) == int(job is not None)


async def test_schedules_of_other_queues_are_nobodys_business(
    store: Store, schedules: Schedules
) -> None:
    record = await due(store, schedules)
    foreign = firing(record)._replace(ref=ScheduleRef("mail", "report"), ticks=())
    assert not (await fire(schedules, foreign)).is_ours
    assert await one(schedules) == record
