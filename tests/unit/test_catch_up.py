"""Which ticks fire when they were not fired in time."""

from __future__ import annotations

import pytest

from asyncjobs.model.schedules import CatchUp
from asyncjobs.policy.calendar import MOST_COUNTED, Cron, Every, Once
from asyncjobs.policy.catch_up import MOST_AT_ONCE, PUNCTUAL_MS, DueTicks, due_ticks, jitter_ms

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
MINUTELY = Every(MINUTE_MS)


def test_one_tick_in_time() -> None:
    for catch_up in CatchUp:
        found = due_ticks(MINUTELY, MINUTE_MS, MINUTE_MS + 50, catch_up=catch_up)
        assert found == DueTicks([MINUTE_MS], 0, MINUTE_MS, 2 * MINUTE_MS)


def test_a_tick_that_is_not_due() -> None:
    assert due_ticks(MINUTELY, MINUTE_MS, 0) == DueTicks([], 0, None, MINUTE_MS)
    assert due_ticks(MINUTELY, MINUTE_MS, 0, end_ms=5) == DueTicks([], 0, None, None)


@pytest.mark.parametrize(
    ("catch_up", "ticks", "missed"),
    [
        # The last one is 11 s old.
        (CatchUp.NONE, [], 5),
        (CatchUp.LATEST, [5], 4),
        (CatchUp.ALL, [3, 4, 5], 2),
    ],
)
def test_after_an_outage(catch_up: CatchUp, ticks: list[int], missed: int) -> None:
    now = 5 * MINUTE_MS + 11_000
    found = due_ticks(MINUTELY, MINUTE_MS, now, catch_up=catch_up, window_ms=150_000)
    wanted = [minute * MINUTE_MS for minute in ticks]
    assert found == DueTicks(wanted, missed, 5 * MINUTE_MS, 6 * MINUTE_MS)


@pytest.mark.parametrize("late_ms", [0, 1, PUNCTUAL_MS])
def test_a_punctual_tick_is_never_missed(late_ms: int) -> None:
    found = due_ticks(MINUTELY, MINUTE_MS, 5 * MINUTE_MS + late_ms, catch_up=CatchUp.NONE)
    assert (found.ticks, found.missed) == ([5 * MINUTE_MS], 4)


def test_all_punctual_ticks_fire() -> None:
    found = due_ticks(Every(1_000), 1_000, 3_500, catch_up=CatchUp.NONE)
    assert found == DueTicks([1_000, 2_000, 3_000], 0, 3_000, 4_000)


@pytest.mark.parametrize(("age_ms", "fires"), [(HOUR_MS, True), (HOUR_MS + 1, False)])
def test_the_latest_within_its_window(age_ms: int, fires: bool) -> None:
    daily = Cron("@daily")
    day = 24 * HOUR_MS
    found = due_ticks(daily, day, 3 * day + age_ms)
    wanted = ([3 * day], 2) if fires else ([], 3)
    assert (found.ticks, found.missed, found.next_ms) == (*wanted, 4 * day)


def test_so_many_at_once_and_the_others_right_after_them() -> None:
    now = 250 * MINUTE_MS
    fired: list[int] = []
    next_ms: int | None = MINUTE_MS
    while next_ms is not None and next_ms <= now:
        found = due_ticks(MINUTELY, next_ms, now, catch_up=CatchUp.ALL, window_ms=300 * MINUTE_MS)
        assert len(found.ticks) <= MOST_AT_ONCE
        assert found.last_ms == found.ticks[-1]
        fired += found.ticks
        next_ms = found.next_ms
    assert fired == [n * MINUTE_MS for n in range(1, 251)]


def test_years_of_missed_ticks_cost_little_and_are_used_up() -> None:
    year = 365 * 24 * HOUR_MS
    found = due_ticks(Cron("* * * * *"), MINUTE_MS, year + 30_000)
    assert (found.ticks, found.next_ms) == ([year], year + MINUTE_MS)
    # No further than it counts: the first one, less the one that fires.
    assert found.missed == MOST_COUNTED


def test_nothing_fires_after_the_end() -> None:
    end = 3 * MINUTE_MS
    found = due_ticks(MINUTELY, MINUTE_MS, HOUR_MS, catch_up=CatchUp.ALL, end_ms=end)
    assert found == DueTicks([MINUTE_MS, 2 * MINUTE_MS, end], 0, end, None)
    found = due_ticks(MINUTELY, MINUTE_MS, HOUR_MS, end_ms=end)
    assert found == DueTicks([end], 2, end, None)


def test_no_more_than_are_left() -> None:
    found = due_ticks(MINUTELY, MINUTE_MS, HOUR_MS, catch_up=CatchUp.ALL, left=2)
    assert found.ticks == [MINUTE_MS, 2 * MINUTE_MS]


def test_a_single_time_that_was_missed() -> None:
    assert due_ticks(Once(5), 5, 50) == DueTicks([5], 0, 5, None)
    assert due_ticks(Once(5), 5, 2 * HOUR_MS) == DueTicks([], 1, 5, None)


def test_a_next_tick_that_is_not_in_the_calendar_fires() -> None:
    found = due_ticks(MINUTELY, 90_000, 95_000)
    assert found == DueTicks([90_000], 0, 90_000, 120_000)


def test_jitter_is_bounded_and_the_same_for_all() -> None:
    drawn = [jitter_ms("report", tick, 1_000) for tick in range(500)]
    assert drawn == [jitter_ms("report", tick, 1_000) for tick in range(500)]
    assert min(drawn) >= 0
    assert max(drawn) <= 1_000
    assert len(set(drawn)) > 250
    assert drawn != [jitter_ms("other", tick, 1_000) for tick in range(500)]
    assert jitter_ms("report", 5, 0) == 0
