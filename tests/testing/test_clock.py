"""The time of a test: it moves for all of asyncjobs, and for nothing else."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine

from asyncjobs import AsyncJobs, ConfigError, JobNotFound, State, UsageError
from asyncjobs.events import CronEnqueued
from asyncjobs.model.clock import now_ms
from asyncjobs.testing import Recorder, VirtualClock, assert_enqueued, drain, perform, staged
from tests.testing import shop

pytestmark = pytest.mark.anyio


async def test_a_week_of_schedules_and_retries(
    clock: VirtualClock, recorder: Recorder, ran: list[object]
) -> None:
    clock.leap_to(datetime(2030, 3, 28, 12, tzinfo=UTC))
    await shop.failing.options(delay=timedelta(days=2)).enqueue(times=2)
    done = await clock.advance(days=7)
    assert (done.succeeded, done.retried) == (8, 2)
    berlin = ZoneInfo("Europe/Berlin")
    # A clock change lies within the week, and each night has its three o'clock.
    days = [datetime(2030, 3, 29, 3, tzinfo=berlin) + timedelta(days=n) for n in range(7)]
    assert shop.ticks == days
    assert len(recorder.of(CronEnqueued)) == 7
    assert_enqueued(shop.nightly, count=7, queue="night")
    assert clock.now() == datetime(2030, 4, 4, 12, tzinfo=UTC)
    assert ran == [1, 2, 3]


async def test_after_a_leap_schedules_catch_up_by_their_own_rules(
    clock: VirtualClock, ran: list[object]
) -> None:
    clock.leap_to(datetime(2030, 6, 1, 12, tzinfo=UTC))
    await clock.advance(0)
    # Nobody works for three days. Then only the last tick is young enough: by half an hour.
    clock.leap_to(datetime(2030, 6, 4, 1, 30, tzinfo=UTC))
    await drain()
    assert shop.ticks == [datetime(2030, 6, 4, 3, tzinfo=ZoneInfo("Europe/Berlin"))]


async def test_a_leap_counts_from_the_begin_of_the_test(
    clock: VirtualClock, ran: list[object]
) -> None:
    clock.leap_to(datetime(2030, 6, 2, 1, 30, tzinfo=UTC))
    await drain()
    assert len(shop.ticks) == 1


async def test_jobs_run_when_they_are_due(clock: VirtualClock, ran: list[object]) -> None:
    await shop.receipt.options(delay=120).enqueue(2)
    await shop.receipt.options(at=clock.now() + timedelta(minutes=1)).enqueue(1)
    assert (await clock.advance(59)).attempts == 0
    assert (await clock.advance(seconds=1)).attempts == 1
    assert (await clock.advance(timedelta(hours=1))).attempts == 1
    assert ran == [1, 2]


async def test_expiry_results_and_contexts_live_by_it(clock: VirtualClock) -> None:
    handle = await shop.receipt.options(expires=60).enqueue(1)
    clock.leap(minutes=2)
    assert (await drain()).discarded == 1
    assert await handle.status() is State.DISCARDED
    kept = await shop.receipt.options(result_ttl=600).enqueue(2)
    await drain()
    assert await kept.result(timeout=0) == "1 of 2"
    clock.leap(minutes=11)
    with pytest.raises(JobNotFound):
        await kept.result(timeout=0)
    info = await (await shop.check_out(3)).info()
    assert info.enqueued_at == clock.now()


async def test_it_stands_still_and_does_not_go_back(clock: VirtualClock) -> None:
    began = clock.now()
    await perform(shop.receipt, 1)
    assert clock.now() == began
    with pytest.raises(UsageError, match="does not go back"):
        clock.leap(-1)
    with pytest.raises(UsageError, match="does not go back"):
        clock.leap_to(began - timedelta(seconds=1))
    with pytest.raises(ConfigError, match="has no time zone"):
        clock.leap_to(datetime(2050, 1, 1))  # noqa: DTZ001
    with pytest.raises(ConfigError, match="the time that passes"):
        clock.leap(days=40_000)


async def test_the_users_own_time_is_not_touched(clock: VirtualClock) -> None:
    before = time.time_ns()
    clock.leap(days=365)
    assert datetime.now(UTC) < clock.now() - timedelta(days=364)
    assert time.time_ns() - before < 10**9 * 86_400
    assert now_ms() > time.time_ns() // 1_000_000 + 364 * 86_400_000


def test_it_leaks_into_nothing_after_the_test() -> None:
    app = AsyncJobs("memory:")
    with staged(app) as stage:
        stage.clock.leap(days=30)
        assert now_ms() > time.time_ns() // 1_000_000 + 29 * 86_400_000
    assert abs(now_ms() - time.time_ns() // 1_000_000) < 86_400_000


async def test_without_the_clock_it_follows_a_patched_time(
    asyncjobs_app: AsyncJobs, ran: list[object]
) -> None:
    with time_machine.travel(datetime(2031, 1, 1, tzinfo=UTC), tick=False) as traveller:
        handle = await shop.receipt.options(delay=3_600).enqueue(1)
        assert (await handle.info()).enqueued_at == datetime(2031, 1, 1, tzinfo=UTC)
        assert (await drain()).attempts == 0
        traveller.shift(timedelta(hours=1))
        assert (await drain()).attempts == 1
    assert ran == [1]
