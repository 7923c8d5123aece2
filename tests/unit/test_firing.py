"""How a worker fires the schedules of its queues: which ticks, when it looks again, what fails."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from asyncjobs import AsyncJobs, FromTick
from asyncjobs.errors import StoreError, StoreFull, StoreUnavailable
from asyncjobs.events import CronEnqueued, CronMissed, CronSkipped, Events, ScheduleEvent
from asyncjobs.jobs.rule import Definition, cron_rule, every_rule
from asyncjobs.jobs.tick import scheduled_call
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.schedules import ScheduleRef
from asyncjobs.policy.catch_up import jitter_ms
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.schedules import DueSchedules, Fire, Fired, NewSchedule
from asyncjobs.store.seam import StoreSettings
from asyncjobs.worker.firing import Firing

pytestmark = pytest.mark.anyio

START_MS = 1_790_000_000_000 - 1_790_000_000_000 % 3_600_000
BERLIN = ZoneInfo("Europe/Berlin")


async def _note(at: str = "") -> None: ...


app = AsyncJobs("memory:")
note = app.job(_note, name="note")


class Place:
    """A store with a clock that tests move, and what fires there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = START_MS
        self.store = MemoryBackend(StoreSettings(), now_ms=lambda: self.now_ms)
        self.hub = Events()
        self.heard: list[ScheduleEvent] = []
        self.hub.on(ScheduleEvent, self.heard.append)
        self.schedules = self.store.schedules
        monkeypatch.setattr(
            "asyncjobs.worker.firing.time",
            SimpleNamespace(monotonic=lambda: self.now_ms / 1000),
        )

    def new_worker(self) -> Firing:
        return Firing(self.schedules, self.hub)

    async def put(
        self, id: str, every: float | str = 60, queue: str = "default", **rule: Any
    ) -> None:
        made, _ = every_rule(every, rule)
        await self.put_rule(id, made, queue)

    async def put_rule(self, id: str, rule: Any, queue: str = "default") -> None:
        call = scheduled_call(note.options(queue=queue), (FromTick.TIME,), {})
        definition = Definition(rule, call)
        await self.schedules.put(
            [
                NewSchedule(
                    ScheduleRef(queue, id),
                    definition.encode(),
                    definition.version,
                    rule.next_after(self.now_ms),
                    left=rule.limit,
                )
            ]
        )

    def at(self, seconds: float) -> None:
        self.now_ms = START_MS + round(seconds * 1000)

    async def fired(self, id: str) -> list[float]:
        """The ticks that made jobs, in seconds from the start."""
        runs = await self.schedules.runs(id)
        return sorted((run.tick_ms - START_MS) / 1000 for run in runs)


@pytest.fixture
async def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(monkeypatch)
    await place.store.open()
    return place


async def test_a_tick_makes_one_job_whoever_looks(place: Place) -> None:
    await place.put("a")
    one, other = place.new_worker(), place.new_worker()
    place.at(59)
    await one.run(["default"])
    assert await place.fired("a") == []
    place.at(60)
    await one.run(["default"])
    await other.run(["default"])
    assert await place.fired("a") == [60]
    ref = JobRef("default", f"cron:a:{START_MS + 60_000}")
    assert place.heard == [CronEnqueued("a", "default", "note", ref, START_MS + 60_000)]
    (record,) = await place.store.get([ref])
    assert record is not None
    assert record.envelope is not None
    envelope = Envelope.decode(record.envelope)
    text = datetime.fromtimestamp((START_MS + 60_000) / 1000, UTC).isoformat()
    assert envelope.args == [text]
    assert envelope.headers.tick is not None
    assert envelope.headers.tick.at_ms == START_MS + 60_000


async def test_it_looks_again_when_the_next_tick_has_come(place: Place) -> None:
    await place.put("a", 60)
    await place.put("b", 7)
    worker = place.new_worker()
    await worker.run(["default"])
    (record,) = await place.schedules.get(["b"])
    assert record is not None
    assert record.next_ms is not None
    assert worker.due_s == pytest.approx(record.next_ms / 1000, abs=0.001)
    place.now_ms = record.next_ms
    await worker.run(["default"])
    assert worker.due_s == pytest.approx(record.next_ms / 1000 + 7, abs=0.001)


async def test_it_looks_each_half_minute_at_least_and_after_a_signal(place: Place) -> None:
    await place.put("a", "1h")
    worker = place.new_worker()
    await worker.run(["default"])
    assert worker.due_s == START_MS / 1000 + 30
    worker.hasten()
    assert worker.due_s == 0


@pytest.mark.parametrize(
    ("options", "ran", "missed"),
    [
        ({"catch_up": "latest"}, [600], 9),
        ({"catch_up": "none"}, [], 10),
        ({"catch_up": "all"}, [60.0 * n for n in range(1, 11)], 0),
        ({"catch_up": "all", "window": "5m"}, [360, 420, 480, 540, 600], 5),
        ({"catch_up": "latest", "window": 10}, [], 10),
        ({"catch_up": "all", "limit": 3}, [60, 120, 180], 0),
    ],
)
async def test_ticks_that_passed_without_a_worker(
    place: Place, options: dict[str, Any], ran: list[float], missed: int
) -> None:
    await place.put("a", **options)
    place.at(630)
    await place.new_worker().run(["default"])
    assert await place.fired("a") == ran
    told = [event for event in place.heard if isinstance(event, CronMissed)]
    assert sum(event.ticks for event in told) == missed
    lags = [event.lag_s for event in place.heard if isinstance(event, CronEnqueued)]
    assert lags == [630 - tick for tick in ran]


async def test_hundreds_of_missed_ticks_fire_in_parts(place: Place) -> None:
    await place.put("a", 10, catch_up="all")
    place.at(2_500)
    worker = place.new_worker()
    for _ in range(3):
        assert worker.due_s <= place.now_ms / 1000
        await worker.run(["default"])
    assert await place.fired("a") == [10.0 * n for n in range(1, 251)]


async def test_the_overlap_is_kept_and_told(place: Place) -> None:
    await place.put("a", overlap="skip")
    worker = place.new_worker()
    for minute in (1, 2, 3):
        place.at(60 * minute)
        await worker.run(["default"])
    assert await place.fired("a") == [60]
    told = [event for event in place.heard if isinstance(event, CronSkipped)]
    assert [(event.schedule, event.name, event.ticks) for event in told] == [("a", "note", 1)] * 2


async def test_jitter_delays_the_job_and_not_the_tick(place: Place) -> None:
    await place.put("a", jitter=30)
    place.at(60)
    await place.new_worker().run(["default"])
    assert await place.fired("a") == [60]
    tick_ms = START_MS + 60_000
    (record,) = await place.store.get([JobRef("default", f"cron:a:{tick_ms}")])
    assert record is not None
    due_ms = tick_ms + jitter_ms("a", tick_ms, 30_000)
    assert (record.state, record.due_ms) == (State.SCHEDULED, due_ms)


async def test_a_schedule_that_cannot_be_read_does_not_stop_the_others(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    for id, definition in (("broken", b"{}"), ("newer", b'{"v":9}'), ("worse", b"\xff")):
        ref = ScheduleRef("default", id)
        await place.schedules.put([NewSchedule(ref, definition, "v", START_MS)])
    await place.put("a")
    worker = place.new_worker()
    for minute in (1, 2):
        place.at(60 * minute)
        await worker.run(["default"])
    assert await place.fired("a") == [60, 120]
    for id in ("broken", "newer", "worse"):
        assert caplog.text.count(f"schedule default/{id} does not fire here") == 1
    assert worker.due_s > place.now_ms / 1000 + 1


async def test_hundreds_that_cannot_be_read_keep_no_worker_busy(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.firing.MOST_BROKEN", 10)
    refs = [ScheduleRef("default", f"newer{number}") for number in range(150)]
    await place.schedules.put([NewSchedule(ref, b'{"v":9}', "v", START_MS) for ref in refs])
    worker = place.new_worker()
    place.at(60)
    await worker.run(["default"])
    assert worker.due_s >= place.now_ms / 1000 + 5


async def test_more_due_ones_than_a_look_brings(place: Place) -> None:
    for number in range(230):
        await place.put(f"s{number}")
    place.at(60)
    worker = place.new_worker()
    for _ in range(3):
        await worker.run(["default"])
    assert [len(await place.fired(f"s{number}")) for number in range(230)] == [1] * 230


class Refusing:
    """Passes on to a store, but for the queue that is refused."""

    def __init__(self, place: Place, error: StoreError) -> None:
        self._inner = place.schedules
        self.error: StoreError | None = error
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def fire(self, fires: Sequence[Fire]) -> list[Fired]:
        if self.error is not None and any(fire.ref.queue == "bad" for fire in fires):
            self.tries += 1
            raise self.error
        return await self._inner.fire(fires)


async def test_a_queue_that_refuses_does_not_stop_the_others(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.put("a", queue="bad")
    await place.put("b", queue="good")
    store = Refusing(place, StoreFull("no memory"))
    worker = Firing(store, place.hub)  # type: ignore[arg-type]
    for second in range(60, 75):
        place.at(second)
        if worker.due_s <= place.now_ms / 1000:
            await worker.run(["bad", "good"])
    assert (await place.fired("a"), await place.fired("b")) == ([], [60])
    # It is tried again, less and less often.
    assert 2 <= store.tries <= 6
    assert caplog.text.count("schedules of queue 'bad' do not fire") == 1
    store.error = None
    place.at(140)
    await worker.run(["bad", "good"])
    assert await place.fired("a") == [120]


async def test_a_queue_that_answers_again_is_not_asked_without_a_pause(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.put("a", every=3_600)
    worker = place.new_worker()
    look = place.schedules.due

    async def refused(queues: Sequence[str], limit: int) -> DueSchedules:
        return DueSchedules(place.now_ms, [], {}, {queues[0]: StoreError("spoiled")})

    monkeypatch.setattr(place.schedules, "due", refused)
    await worker.run(["default"])
    monkeypatch.setattr(place.schedules, "due", look)
    # The clock of the store has whole milliseconds.
    place.at(worker.due_s - START_MS / 1000 + 0.001)
    for _ in range(2):
        now_s = place.now_ms / 1000
        await worker.run(["default"])
        assert worker.due_s == now_s + 30
        place.now_ms += 1_000


async def test_a_store_that_is_away_is_told_to_upkeep(place: Place) -> None:
    await place.put("a", queue="bad")
    worker = Firing(Refusing(place, StoreUnavailable("away")), place.hub)  # type: ignore[arg-type]
    place.at(60)
    with pytest.raises(StoreUnavailable):
        await worker.run(["bad"])


async def week(place: Place, expression: str, first: datetime, days: int) -> list[str]:
    """The local times at which the jobs of a cron schedule are made, on the clock of the test."""
    place.now_ms = round(first.timestamp() * 1000) - 1
    rule, _ = cron_rule(expression, {"tz": "Europe/Berlin"})
    await place.put_rule(expression, rule)
    worker = place.new_worker()
    end_ms = round((first + timedelta(days=days)).timestamp() * 1000)
    while place.now_ms < end_ms:
        await worker.run(["default"])
        place.now_ms = max(round(worker.due_s * 1000), place.now_ms + 1)
        record = (await place.schedules.get([expression]))[0]
        assert record is not None
        if record.next_ms is not None:
            place.now_ms = max(place.now_ms, min(record.next_ms, end_ms))
    runs = sorted(run.tick_ms for run in await place.schedules.runs(expression))
    times = [datetime.fromtimestamp(ms / 1000, BERLIN) for ms in runs if ms < end_ms]
    return [f"{at:%d %H:%M%z}" for at in times]


AUTUMN = datetime(2026, 10, 24, tzinfo=BERLIN)
SPRING = datetime(2026, 3, 28, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("expression", "first", "times"),
    [
        ("30 2 * * *", AUTUMN, ["24 02:30+0200", "25 02:30+0200", "26 02:30+0100"]),
        ("30 2 * * *", SPRING, ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]),
        (
            "*/30 2 * * *",
            AUTUMN,
            [
                "24 02:00+0200",
                "24 02:30+0200",
                "25 02:00+0200",
                "25 02:30+0200",
                "25 02:00+0100",
                "25 02:30+0100",
                "26 02:00+0100",
                "26 02:30+0100",
            ],
        ),
        (
            "*/30 2 * * *",
            SPRING,
            ["28 02:00+0100", "28 02:30+0100", "30 02:00+0200", "30 02:30+0200"],
        ),
    ],
)
async def test_jobs_around_a_change_of_clocks(
    place: Place, expression: str, first: datetime, times: list[str]
) -> None:
    assert await week(place, expression, first, 3) == times


@pytest.mark.parametrize(("first", "hours"), [(AUTUMN, 169), (SPRING, 167)])
async def test_each_real_hour_of_a_week_with_a_change(
    place: Place, first: datetime, hours: int
) -> None:
    assert len(await week(place, "0 * * * *", first, 7)) == hours


A_WEEK: list[tuple[datetime, dict[str, str]]] = [
    (
        AUTUMN,
        {
            "30 2 * * *": "24 02:30+0200, 25 02:30+0200, 26 02:30+0100, 27 02:30+0100, "
            "28 02:30+0100, 29 02:30+0100, 30 02:30+0100",
            "15 2 * * SUN": "25 02:15+0200",
            "0 2,3 24-26 * *": "24 02:00+0200, 24 03:00+0200, 25 02:00+0200, 25 03:00+0100, "
            "26 02:00+0100, 26 03:00+0100",
            "0 9 * * MON-WED": "26 09:00+0100, 27 09:00+0100, 28 09:00+0100",
            "0 */12 25,30 * *": "25 00:00+0200, 25 12:00+0100, 30 00:00+0100, 30 12:00+0100",
        },
    ),
    (
        SPRING,
        {
            "30 2 * * *": "28 02:30+0100, 29 03:00+0200, 30 02:30+0200, 31 02:30+0200, "
            "01 02:30+0200, 02 02:30+0200, 03 02:30+0200",
            "15 2 * * SUN": "29 03:00+0200",
            "0 2,3 28-30 * *": "28 02:00+0100, 28 03:00+0100, 29 03:00+0200, 30 02:00+0200, "
            "30 03:00+0200",
            "0 9 * * MON-WED": "30 09:00+0200, 31 09:00+0200, 01 09:00+0200",
            "0 */12 29 * *": "29 00:00+0100, 29 12:00+0200",
        },
    ),
]


@pytest.mark.parametrize(("first", "table"), A_WEEK, ids=["autumn", "spring"])
async def test_a_week_of_schedules_across_a_change_by_a_table(
    place: Place, first: datetime, table: dict[str, str]
) -> None:
    found = {rule: ", ".join(await week(place, rule, first, 7)) for rule in table}
    assert found == table
