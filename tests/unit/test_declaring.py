"""How a worker keeps the schedules of its code in the store, beside other versions of that code."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.jobs.declared import DeclaredSchedule
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.schedules import NewSchedule, Put, ScheduleRecord
from asyncjobs.store.seam import StoreSettings
from asyncjobs.worker.declaring import GRACE_S, RENEW_S, Declaring

pytestmark = pytest.mark.anyio

START_MS = 1_790_000_000_000


async def _note() -> None: ...


def code(*expressions: str, queue: str = "default") -> list[DeclaredSchedule]:
    """A version of the code with these schedules: `a`, `b` and so on."""
    app = AsyncJobs("memory:")
    job = app.job(_note, name="note", queue=queue)
    for id, expression in zip("abc", expressions, strict=False):
        app.cron(expression, id=id)(job)
    return app.registry.schedules()


class Fleet:
    """A store, and workers with different code, on a clock that tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.s = 0.0
        self.store = MemoryBackend(StoreSettings(), now_ms=lambda: START_MS + round(self.s * 1000))
        self.workers: list[Declaring] = []
        monkeypatch.setattr(
            "asyncjobs.worker.declaring.time", SimpleNamespace(monotonic=lambda: self.s)
        )

    def start(self, *expressions: str, queue: str = "default") -> Declaring:
        worker = Declaring(self.store.schedules, code(*expressions, queue=queue), ["default"])
        self.workers.append(worker)
        return worker

    async def live(self, seconds: float) -> None:
        """Let this time pass; each worker renews when it wants to."""
        end_s = self.s + seconds
        while self.s < end_s:
            for worker in self.workers:
                if worker.due_s <= self.s:
                    await worker.run(["default"])
            self.s += 5

    async def times(self, id: str = "a") -> str | None:
        """The expression that is stored; None for a schedule that is not there."""
        from asyncjobs.jobs.schedule import schedule_of

        record = await self.record(id)
        if record is None:
            return None
        return schedule_of(record).times

    async def record(self, id: str = "a") -> ScheduleRecord | None:
        (record,) = await self.store.schedules.get([id])
        return record


@pytest.fixture
async def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    fleet = Fleet(monkeypatch)
    await fleet.store.open()
    return fleet


async def test_an_unchanged_schedule_is_only_marked(fleet: Fleet) -> None:
    fleet.start("0 2 * * *")
    await fleet.live(1)
    before = await fleet.record()
    await fleet.live(RENEW_S + 5)
    after = await fleet.record()
    assert before is not None
    assert after is not None
    assert before.declared_ms is not None
    assert after.declared_ms is not None
    assert after.declared_ms >= before.declared_ms + RENEW_S * 1000
    assert after._replace(declared_ms=0) == before._replace(declared_ms=0)


async def test_a_rolling_deploy_with_two_versions_does_not_flap(fleet: Fleet) -> None:
    old = fleet.start("0 2 * * *", "0 3 * * *")
    await fleet.live(10 * RENEW_S)
    fleet.start("0 4 * * *")
    # For an hour both versions run; one of the old ones is even restarted.
    for _ in range(60):
        await fleet.live(RENEW_S)
        assert await fleet.times("a") == "0 4 * * *"
        record = await fleet.record("b")
        assert record is not None
        assert record.paused is None
    fleet.workers.remove(old)
    late = fleet.start("0 2 * * *", "0 3 * * *")
    await fleet.live(RENEW_S)
    assert await fleet.times("a") == "0 4 * * *"
    fleet.workers.remove(late)
    await fleet.live(GRACE_S + 2 * RENEW_S)
    record = await fleet.record("b")
    assert record is not None
    assert record.is_lapsed
    assert "no running worker has it in its code" in (record.paused or "")


async def test_a_rollback_wins_when_the_newer_version_is_gone(fleet: Fleet) -> None:
    fleet.start("0 2 * * *")
    await fleet.live(RENEW_S)
    newer = fleet.start("0 4 * * *")
    await fleet.live(RENEW_S)
    fleet.workers.remove(newer)
    await fleet.live(GRACE_S + 2 * RENEW_S)
    assert await fleet.times("a") == "0 2 * * *"


async def test_after_a_night_without_workers_nothing_is_paused(fleet: Fleet) -> None:
    one = fleet.start("0 2 * * *", "0 3 * * *")
    await fleet.live(RENEW_S)
    next_ms = {id: (await fleet.record(id)) for id in "ab"}
    fleet.workers.remove(one)
    await fleet.live(16 * 3_600)
    # The first one to come back has other code. It must not pause what the next one brings.
    fleet.start()
    await fleet.live(GRACE_S - RENEW_S)
    for id in next_ms:
        record = await fleet.record(id)
        assert record is not None
        assert record.paused is None
    fleet.start("0 2 * * *", "0 3 * * *")
    await fleet.live(3 * GRACE_S)
    for id, before in next_ms.items():
        record = await fleet.record(id)
        assert record is not None
        assert before is not None
        # The tick of the night is still to be caught up.
        assert (record.paused, record.next_ms) == (None, before.next_ms)


async def test_only_a_worker_of_its_queue_declares_a_schedule(fleet: Fleet) -> None:
    worker = fleet.start("0 2 * * *", queue="mail")
    await fleet.live(RENEW_S)
    assert await fleet.record() is None
    assert worker.queues == frozenset()


async def test_the_next_tick_is_counted_by_the_clock_of_the_store(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This machine is an hour ahead.
    monkeypatch.setattr("time.time_ns", lambda: (START_MS + 3_600_000) * 1_000_000)
    fleet.start("* * * * *")
    await fleet.live(1)
    record = await fleet.record()
    assert record is not None
    assert record.next_ms is not None
    assert 0 < record.next_ms - START_MS <= 60_000


class Refusing:
    """A store that refuses to renew, with this error."""

    def __init__(self, inner: Any, error: StoreError) -> None:
        self._inner = inner
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def declare(self, declared: Any) -> list[bool]:
        raise self._error


async def test_a_schedule_that_is_refused_does_not_keep_the_others_out(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    schedules = fleet.store.schedules
    put = schedules.put

    async def some(new: Sequence[NewSchedule], *, fresh_ms: int = 0) -> list[Put]:
        if any(each.ref.id == "a" for each in new):
            raise StoreError("the queue that it comes from has a key of a wrong type")
        return await put(new, fresh_ms=fresh_ms)

    monkeypatch.setattr(schedules, "put", some)
    fleet.start("0 2 * * *", "0 3 * * *")
    await fleet.live(3 * RENEW_S)
    assert (await fleet.times("a"), await fleet.times("b")) == (None, "0 3 * * *")
    assert caplog.text.count("cannot be renewed") == 1


async def test_a_queue_that_refuses_is_logged_once(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    store: Any = Refusing(fleet.store.schedules, StoreError("a key of a wrong type"))
    worker = Declaring(store, code("0 2 * * *"), ["default"])
    for _ in range(3):
        await worker.run(["default"])
    assert caplog.text.count("the schedules of queue 'default' cannot be renewed") == 1
    away: Any = Refusing(fleet.store.schedules, StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        await Declaring(away, code("0 2 * * *"), ["default"]).run([])


async def test_a_schedule_whose_queue_this_worker_does_not_serve_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its queue comes from a function, so perhaps no worker serves it."""
    fleet = Fleet(monkeypatch)
    app = AsyncJobs("memory:")
    job = app.job(_note, name="note", queue=lambda: "odd")
    app.cron("0 * * * *", id="a")(job)
    worker = Declaring(fleet.store.schedules, app.registry.schedules(), ["default"])
    await worker.run(["default"])
    await worker.run(["default"])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("schedule 'a' goes to queue 'odd', which this worker does not serve")
