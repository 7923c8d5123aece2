"""Schedules are stored, brought up to date, paused, listed and dropped."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import NewJob
from asyncjobs.model.schedules import ScheduleRef, tick_job_id
from asyncjobs.store.answers import QueueChanged
from asyncjobs.store.schedules import (
    Fire,
    NewSchedule,
    Put,
    Resume,
    ScheduleRecord,
    ScheduleRun,
    Schedules,
    Tick,
)
from asyncjobs.testing.conformance.store import LIMIT_S, QUEUE, SHORT_S, Store

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000


def rule(
    store: Store,
    id: str = "report",
    version: str = "v1",
    *,
    queue: str = QUEUE,
    in_ms: int | None = MINUTE_MS,
    is_code: bool = False,
    left: int | None = None,
) -> NewSchedule:
    """A schedule that fires next `in_ms` from now."""
    next_ms = None
    if in_ms is not None:
        next_ms = store.clock.ms + in_ms
    ref = ScheduleRef(queue, id)
    return NewSchedule(ref, version.encode(), version, next_ms, is_code, left)


async def one(schedules: Schedules, id: str = "report") -> ScheduleRecord:
    """The schedule, which must be there."""
    (record,) = await schedules.get([id])
    assert record is not None
    return record


async def fire_next(store: Store, schedules: Schedules, id: str = "report") -> None:
    """Let its time come and fire it; the next tick is a minute later."""
    record = await one(schedules, id)
    assert record.next_ms is not None
    store.clock.ms = record.next_ms
    job = NewJob(record.ref.queue, tick_job_id(id, record.next_ms), 2, b"{}")
    fire = Fire(
        record.ref,
        record.version,
        record.next_ms,
        record.next_ms + MINUTE_MS,
        record.next_ms,
        [Tick(record.next_ms, job)],
    )
    (fired,) = await schedules.fire([fire])
    assert fired.is_ours


async def test_a_schedule_is_stored_and_found(store: Store, schedules: Schedules) -> None:
    new = rule(store, left=5)
    other = rule(store, "other", queue="mail", in_ms=None, is_code=True)
    assert await schedules.put([new, other]) == [Put.NEW, Put.NEW]
    assert await schedules.get(["other", "nobody", "report"]) == [
        ScheduleRecord(other.ref, b"v1", "v1", is_code=True, declared_ms=store.clock.ms),
        None,
        ScheduleRecord(new.ref, b"v1", "v1", next_ms=store.clock.ms + MINUTE_MS, left=5),
    ]
    assert await schedules.queues() == ["mail", QUEUE]
    # People look for a queue by its name before the first job is there.
    assert await store.backend.inspect.queues.names() == ["mail", QUEUE]


async def test_nothing_is_known_of_an_unknown_schedule(store: Store, schedules: Schedules) -> None:
    assert await schedules.get([]) == []
    assert await schedules.get(["a"]) == [None]
    assert await schedules.runs("a") == []
    assert await schedules.run("a", []) is None
    assert await schedules.pause(["a"], "by hand") == [False]
    assert await schedules.resume([Resume("a", "v1", 5)]) == [False]
    assert await schedules.delete(["a"]) == [False]
    assert await schedules.declare([(ScheduleRef(QUEUE, "a"), "v1")]) == [False]
    assert await schedules.lapse([QUEUE], 5, "gone") == []
    assert await schedules.page([QUEUE]) == []
    assert (await schedules.due([QUEUE], 10)).records == []


async def test_the_same_version_keeps_its_next_time(store: Store, schedules: Schedules) -> None:
    await schedules.put([rule(store, left=5)])
    before = await one(schedules)
    store.clock.ms += 10
    assert await schedules.put([rule(store, left=9)]) == [Put.SAME]
    assert await one(schedules) == before


async def test_a_changed_version_counts_from_now(store: Store, schedules: Schedules) -> None:
    await schedules.put([rule(store, left=5)])
    await fire_next(store, schedules)
    before = await one(schedules)
    # It is due, and what it has missed by its old version is not made up for.
    store.clock.ms += 5 * MINUTE_MS
    assert await schedules.put([rule(store, version="v2", in_ms=7)]) == [Put.CHANGED]
    assert await one(schedules) == before._replace(
        definition=b"v2", version="v2", next_ms=store.clock.ms + 7, left=None
    )
    assert (await schedules.due([QUEUE], 10)).records == []
    assert await schedules.runs("report") == [
        ScheduleRun(before.last_ms or 0, tick_job_id("report", before.last_ms or 0))
    ]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_schedule_that_moves_takes_everything_with_it(
    store: Store, schedules: Schedules, version: str
) -> None:
    await schedules.put([rule(store, left=5)])
    await fire_next(store, schedules)
    before = await one(schedules)
    runs = await schedules.runs("report")
    moved = rule(store, version=version, queue="mail", in_ms=7)
    assert await schedules.put([moved]) == [Put.CHANGED]
    wanted = before._replace(ref=ScheduleRef("mail", "report"))
    if version == "v2":
        wanted = wanted._replace(
            definition=b"v2", version="v2", next_ms=store.clock.ms + 7, left=None
        )
    assert await one(schedules) == wanted
    assert await schedules.runs("report") == runs
    assert await schedules.page([QUEUE]) == []
    assert await schedules.page(["mail"]) == [wanted]
    store.clock.ms += 2 * MINUTE_MS
    assert (await schedules.due([QUEUE], 10)).records == []
    await fire_next(store, schedules)


async def test_a_pause_by_hand_outlasts_deploys(store: Store, schedules: Schedules) -> None:
    await schedules.put([rule(store, is_code=True)])
    assert await schedules.pause(["report", "nobody"], "too much mail") == [True, False]
    paused = await one(schedules)
    assert (paused.paused, paused.next_ms, paused.is_lapsed) == ("too much mail", None, False)
    assert await schedules.pause(["report"], "again") == [False]
    assert await schedules.put([rule(store, is_code=True)]) == [Put.SAME]
    assert await schedules.put([rule(store, version="v2", is_code=True)]) == [Put.CHANGED]
    later = await one(schedules)
    assert (later.paused, later.next_ms) == ("too much mail", None)
    store.clock.ms += 2 * MINUTE_MS
    due = await schedules.due([QUEUE], 10)
    assert (due.records, due.next_ms) == ([], {})


async def test_a_paused_schedule_goes_on(store: Store, schedules: Schedules) -> None:
    await schedules.put([rule(store)])
    at = store.clock.ms + 5
    assert await schedules.resume([Resume("report", "v1", at)]) == [False]
    await schedules.pause(["report"], "by hand")
    # Its next time was worked out for another version.
    assert await schedules.resume([Resume("report", "v2", at)]) == [False]
    assert await schedules.resume([Resume("report", "v1", at)]) == [True]
    record = await one(schedules)
    assert (record.paused, record.next_ms) == (None, at)


async def test_workers_hear_of_a_tick_that_may_be_nearer(
    store: Store, schedules: Schedules
) -> None:
    worker = await store.worker()
    # From now on it listens.
    await worker.lease.listen(SHORT_S)
    await schedules.put([rule(store)])
    assert set(await worker.lease.listen(LIMIT_S)) == {QueueChanged(QUEUE)}
    await schedules.pause(["report"], "by hand")
    await schedules.resume([Resume("report", "v1", store.clock.ms)])
    assert set(await worker.lease.listen(LIMIT_S)) == {QueueChanged(QUEUE)}


async def test_what_nobody_declares_lapses(store: Store, schedules: Schedules) -> None:
    code = rule(store, is_code=True)
    await schedules.put([code, rule(store, "own"), rule(store, "held", is_code=True)])
    before = await one(schedules)
    await schedules.pause(["held"], "by hand")
    store.clock.ms += 1_000
    assert await schedules.lapse([QUEUE], 1_001, "gone") == []
    assert await schedules.declare([(code.ref, "v1")]) == [True]
    store.clock.ms += 999
    assert await schedules.lapse([QUEUE], 1_000, "gone") == []
    store.clock.ms += 1
    assert await schedules.lapse([QUEUE], 1_000, "gone") == [code.ref]
    record = await one(schedules)
    assert (record.paused, record.is_lapsed, record.next_ms) == ("gone", True, None)
    assert (await one(schedules, "own")).paused is None
    assert (await one(schedules, "held")).paused == "by hand"
    # A worker that declares it again puts it. What has passed is late, as without any workers.
    store.clock.ms += 3 * MINUTE_MS
    assert await schedules.declare([(code.ref, "v1")]) == [False]
    assert await schedules.put([rule(store, in_ms=7, is_code=True)]) == [Put.SAME]
    assert await one(schedules) == before._replace(declared_ms=store.clock.ms)
    due = (await schedules.due([QUEUE], 10)).records
    assert {record.ref.id for record in due} == {"own", "report"}


async def test_a_lapsed_schedule_that_changes_counts_from_now(
    store: Store, schedules: Schedules
) -> None:
    await schedules.put([rule(store, is_code=True)])
    assert await schedules.lapse([QUEUE], 0, "gone") == [ScheduleRef(QUEUE, "report")]
    store.clock.ms += 3 * MINUTE_MS
    new = rule(store, version="v2", in_ms=7, is_code=True)
    assert await schedules.put([new]) == [Put.CHANGED]
    assert (await one(schedules)).next_ms == new.next_ms
    # It lapses anew, and somebody lets it go on by hand.
    store.clock.ms += 1
    assert await schedules.lapse([QUEUE], 0, "gone") == [new.ref]
    await schedules.pause(["report"], "by hand")
    assert await schedules.resume([Resume("report", "v2", store.clock.ms + 9)]) == [True]
    assert (await one(schedules)).next_ms == store.clock.ms + 9


async def test_a_lapsed_schedule_may_be_paused_by_hand(store: Store, schedules: Schedules) -> None:
    await schedules.put([rule(store, is_code=True)])
    await schedules.lapse([QUEUE], 0, "gone")
    assert await schedules.pause(["report"], "by hand") == [True]
    assert await schedules.put([rule(store, is_code=True)]) == [Put.SAME]
    assert (await one(schedules)).paused == "by hand"


async def test_only_what_is_there_as_declared_is_marked(store: Store, schedules: Schedules) -> None:
    code = rule(store, is_code=True)
    await schedules.put([code, rule(store, "own")])
    store.clock.ms += 1
    mail = ScheduleRef("mail", "report")
    own = ScheduleRef(QUEUE, "own")
    assert await schedules.declare(
        [(code.ref, "v2"), (mail, "v1"), (own, "v1"), (code.ref, "v1")]
    ) == [False, False, False, True]
    assert (await one(schedules)).declared_ms == store.clock.ms
    assert (await one(schedules, "own")).declared_ms is None


async def test_two_versions_of_a_rolling_deploy_do_not_fight(
    store: Store, schedules: Schedules
) -> None:
    old, new = rule(store, is_code=True), rule(store, version="v2", is_code=True)
    await schedules.put([old], fresh_ms=1_000)
    assert await schedules.put([new], fresh_ms=1_000) == [Put.CHANGED]
    for _ in range(3):
        # A worker of the old version starts again, or renews its mark.
        store.clock.ms += 999
        assert await schedules.put([old], fresh_ms=1_000) == [Put.OLDER]
        assert await schedules.declare([(old.ref, "v1"), (new.ref, "v2")]) == [False, True]
        assert (await one(schedules)).version == "v2"
    # Rolled back: nobody declares the new version any more.
    store.clock.ms += 1_000
    assert await schedules.put([old], fresh_ms=1_000) == [Put.CHANGED]
    assert (await one(schedules)).version == "v1"
    assert await schedules.put([new], fresh_ms=1_000) == [Put.OLDER]
    # What people put is what they want.
    assert await schedules.put([rule(store, version="v2")], fresh_ms=1_000) == [Put.CHANGED]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_two_versions_that_feed_different_queues_do_not_fight(
    store: Store, schedules: Schedules, version: str
) -> None:
    old = rule(store, is_code=True)
    new = rule(store, version=version, queue="mail", is_code=True)
    await schedules.put([old], fresh_ms=1_000)
    assert await schedules.put([new], fresh_ms=1_000) == [Put.CHANGED]
    for _ in range(3):
        store.clock.ms += 999
        assert await schedules.declare([(old.ref, "v1")]) == [False]
        assert await schedules.put([old], fresh_ms=1_000) == [Put.OLDER]
        assert await schedules.declare([(new.ref, version)]) == [True]
        assert (await one(schedules)).next_ms is not None
    store.clock.ms += 1_000
    assert await schedules.put([old], fresh_ms=1_000) == [Put.CHANGED]
    assert (await one(schedules)).ref == old.ref
    assert await schedules.put([new], fresh_ms=1_000) == [Put.OLDER]
    assert await schedules.page(["mail"]) == []


async def test_pages(store: Store, schedules: Schedules) -> None:
    names = [f"s{n:02}" for n in range(25)]
    await schedules.put([rule(store, name) for name in names])
    await schedules.put([rule(store, "a", queue="mail"), rule(store, "z", queue="zoo")])
    wanted = ["a", *names, "z"]
    for size in (1, 7, 27, 100):
        found: list[str] = []
        after = None
        while True:
            page = await schedules.page(["zoo", QUEUE, "mail"], after=after, limit=size)
            found += [record.ref.id for record in page]
            if len(page) < size:
                break
            after = page[-1].ref
        assert found == wanted
    assert [each.ref.id for each in await schedules.page(["mail", "nobody"])] == ["a"]


async def test_a_schedule_is_dropped(store: Store, schedules: Schedules) -> None:
    await schedules.put([rule(store), rule(store, "other")])
    await fire_next(store, schedules)
    assert await schedules.delete(["report", "nobody"]) == [True, False]
    assert await schedules.get(["report", "other"]) == [None, await one(schedules, "other")]
    assert await schedules.runs("report") == []
    assert await schedules.queues() == [QUEUE]
    assert [each.ref.id for each in await schedules.page([QUEUE])] == ["other"]
    # Its jobs stay, and another one with its id is new.
    assert sum((await store.counts()).ready) == 1
    assert await schedules.put([rule(store)]) == [Put.NEW]
    assert (await one(schedules)).fired == 0


async def test_a_queue_with_a_schedule_is_not_forgotten(store: Store, schedules: Schedules) -> None:
    await schedules.put([rule(store)])
    (left,) = await store.backend.inspect.queues.forget([QUEUE], 0)
    assert (left.schedules, left.is_forgotten) == (1, False)
    await schedules.delete(["report"])
    (left,) = await store.backend.inspect.queues.forget([QUEUE], 0)
    assert left.is_forgotten
    assert await store.backend.inspect.queues.names() == []
