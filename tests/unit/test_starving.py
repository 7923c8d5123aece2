"""Blocked by what runs on the loop, or starved by other threads: from what looks have shown."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from asyncjobs.worker.watch import starving
from asyncjobs.worker.watch.starving import Evidence, Used, cpu_of_thread

NAP_S = 0.2
WARN_S = 1.0


class Frame:
    """Stands for a frame of the loop's thread."""

    def __init__(self) -> None:
        self.f_lasti = 0


def judged(
    *,
    loop: float | None,
    others: float,
    moves: bool,
    late_s: float = 0.0,
    looks: int = 6,
    limit_s: float = WARN_S,
) -> bool:
    """Whether it counts as starved, when the loop and others use such shares of the time."""
    nothing = Used(None if loop is None else 0.0, 0.0)
    evidence = Evidence(NAP_S, 0.0, nothing)
    frame = Frame()
    now_s = 0.0
    for turn in range(looks):
        now_s += NAP_S + late_s
        used = Used(None if loop is None else loop * now_s, ((loop or 0.0) + others) * now_s)
        if moves:
            frame.f_lasti += 1
        evidence.look(now_s, used, frame, has_turned=turn == 0)  # type: ignore[arg-type]
    return evidence.is_starved(limit_s)


def test_one_that_waits_on_the_loop_blocks_it() -> None:
    assert not judged(loop=0, others=0, moves=False)


def test_one_that_computes_on_the_loop_blocks_it() -> None:
    assert not judged(loop=1, others=0, moves=True)
    # In C code that frees the lock others compute beside it.
    assert not judged(loop=0.9, others=0.9, moves=True)


def test_one_that_waits_on_the_loop_blocks_it_although_others_compute() -> None:
    assert not judged(loop=0, others=1, moves=False, late_s=0.02)


def test_with_many_that_compute_the_loop_is_starved() -> None:
    assert judged(loop=0.02, others=0.98, moves=True, late_s=0.2)


def test_on_a_busy_machine_looks_that_come_late_tell_it() -> None:
    assert judged(loop=0.02, others=0.3, moves=True, late_s=0.2)
    assert not judged(loop=0.02, others=0.3, moves=True, late_s=0.01)
    assert not judged(loop=0.02, others=0.05, moves=True, late_s=0.2)


def test_a_step_that_takes_no_longer_than_a_turn_of_the_lock_is_no_block() -> None:
    # At one place from the second look on, but each look had to wait as long.
    assert judged(loop=0, others=1, moves=False, late_s=1.5, looks=4)


def test_one_that_computes_for_long_enough_blocks_it_although_others_do_too() -> None:
    assert judged(loop=0.3, others=0.7, moves=True, looks=6)
    assert not judged(loop=0.3, others=0.7, moves=True, looks=40)
    # The limit for the process is longer.
    assert judged(loop=0.3, others=0.7, moves=True, looks=40, limit_s=300)


@pytest.mark.parametrize(("others", "moves", "starved"), [(1, True, True), (1, False, False)])
def test_without_clocks_of_threads_the_place_decides(
    others: float, moves: bool, starved: bool
) -> None:
    assert judged(loop=None, others=others, moves=moves) is starved


def test_a_machine_that_stands_still_blames_nobody() -> None:
    evidence = Evidence(NAP_S, 0.0, Used(0.0, 0.0))
    evidence.look(10.0, Used(0.0, 0.1), None, has_turned=False)
    assert evidence.held_s == 0.0


@pytest.mark.parametrize(("loop_s", "by_loop"), [(9.0, True), (0.1, False)])
def test_a_look_that_comes_late_while_the_process_computes_was_held_up(
    loop_s: float, by_loop: bool
) -> None:
    evidence = Evidence(NAP_S, 0.0, Used(0.0, 0.0))
    evidence.look(10.0, Used(loop_s, 9.5), None, has_turned=False)
    assert evidence.held_s == pytest.approx(9.8)
    assert evidence.is_held_by_loop is by_loop
    evidence.look(10.2, Used(loop_s, 9.6), None, has_turned=True)
    assert evidence.held_s == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_the_clock_of_a_thread() -> None:
    mine = threading.get_native_id()
    before_s, began_s = cpu_of_thread(mine), time.thread_time()
    assert before_s is not None
    while time.thread_time() - began_s < 0.1:
        continue
    after_s = cpu_of_thread(mine)
    assert after_s is not None
    assert after_s - before_s >= 0.05
    assert cpu_of_thread(2**31 - 1) is None


def test_where_the_system_does_not_tell_there_is_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starving, "LINUX", False)
    assert cpu_of_thread(threading.get_native_id()) is None
