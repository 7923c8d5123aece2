"""Hints of work, and how long they are remembered."""

from __future__ import annotations

import pytest

from asyncjobs.worker.engine.signals import Signals
from tests.engine.kit import NOW_MS, exchange

NEVER_S = float("inf")


def due(**next_due_ms: int | None) -> Signals:
    signals = Signals()
    signals.note_due(exchange(next_due_ms=next_due_ms), 100.0)
    return signals


def test_the_earliest_due_time_wakes() -> None:
    signals = due(a=NOW_MS + 600_000, b=NOW_MS + 20)
    assert signals.wake_s == pytest.approx(100.02)
    assert not signals.tick(100.02)
    assert signals.due == {"b"}
    assert signals.next_due_in_s(100.02) == pytest.approx(599.98)


@pytest.mark.parametrize("due_ms", [NOW_MS, NOW_MS - 5000])
def test_a_time_that_is_over_wakes_at_once(due_ms: int) -> None:
    signals = due(a=due_ms)
    assert signals.wake_s == 100
    signals.tick(100.0)
    assert signals.due == {"a"}


def test_a_due_time_that_is_gone_does_not_wake() -> None:
    signals = due(a=NOW_MS + 1)
    signals.note_due(exchange(next_due_ms={"a": None}), 100.0)
    assert signals.wake_s == NEVER_S
    assert signals.next_due_in_s(100.0) is None


def test_an_earlier_time_comes_first() -> None:
    signals = due(a=NOW_MS + 600_000)
    signals.note_due(exchange(next_due_ms={"a": NOW_MS + 20}), 100.0)
    assert signals.wake_s == pytest.approx(100.02)


def test_a_timer_that_rings_early_says_nothing() -> None:
    signals = due(a=NOW_MS + 20)
    signals.tick(100.019)
    assert signals.due == set()
    assert signals.wake_s == pytest.approx(100.02)


def test_saying_so_again_does_not_put_off_the_look() -> None:
    signals = Signals()
    signals.look_within(1.0, 100.0)
    signals.look_within(1.0, 100.9)
    assert signals.wake_s == 101
    assert not signals.tick(100.9)
    assert signals.tick(101.0)
    assert signals.wake_s == NEVER_S


def test_a_look_is_taken_back() -> None:
    signals = due(a=NOW_MS + 2_000)
    signals.look_within(1.0, 100.0)
    assert signals.wake_s == 101
    signals.look_within(None, 100.5)
    assert signals.wake_s == 102


def test_a_heartbeat_finds_work_that_no_signal_came_for() -> None:
    signals = Signals()
    signals.hear_beat(["b"], 100.0)
    assert signals.signalled == {"b"}


def test_while_heartbeats_come_a_wait_that_ends_asks_nothing() -> None:
    signals = Signals()
    signals.hear_beat([], 100.0)
    signals.hear_beat([], 104.0)
    assert not signals.hear_wait([], 105.0, has_failed=False)
    assert signals.hear_wait(["a"], 105.0, has_failed=False)
    assert signals.hear_wait([], 105.0, has_failed=True)


def test_without_recent_heartbeats_it_is_time_to_look() -> None:
    signals = Signals()
    assert signals.hear_wait([], 100.0, has_failed=False), "none has come yet"
    signals.hear_beat([], 100.0)
    signals.hear_beat([], 104.0)
    assert signals.hear_wait([], 114.0, has_failed=False), "as with a lease of 30 s"


def test_while_heartbeats_are_rare_a_recent_one_is_no_look() -> None:
    signals = Signals()
    signals.hear_beat([], 100.0)
    signals.hear_beat([], 110.0)
    assert signals.hear_wait([], 110.1, has_failed=False)


def test_a_worker_that_ends_by_itself_always_looks() -> None:
    signals = Signals()
    signals.always_looks = True
    signals.hear_beat([], 100.0)
    signals.hear_beat([], 101.0)
    assert signals.hear_wait([], 101.0, has_failed=False)
