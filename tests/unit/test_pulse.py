"""How long the loop has stood still, as a thread sees it that may be late itself."""

from __future__ import annotations

from asyncjobs.host.pulse import Standstill

NAP_S = 0.2


def test_a_mark_that_moves_is_no_standstill() -> None:
    still = Standstill(NAP_S, 100.0, 100.0)
    found = [still.look(100 + n * NAP_S, 100 + n * NAP_S - 0.1) for n in range(1, 50)]
    assert max(found) < 0.11


def test_a_mark_that_stays_is_counted_from_itself() -> None:
    still = Standstill(NAP_S, 100.0, 99.9)
    found = [still.look(100 + n * NAP_S, 99.9) for n in range(1, 6)]
    assert [round(seconds, 3) for seconds in found] == [0.3, 0.5, 0.7, 0.9, 1.1]


def test_what_the_watcher_slept_too_long_does_not_count() -> None:
    still = Standstill(NAP_S, 100.0, 99.9)
    assert round(still.look(700.2, 99.9), 3) == 0.5
    assert round(still.look(700.4, 99.9), 3) == 0.7


def test_nor_does_it_when_the_mark_has_moved_just_before() -> None:
    # It moved after the last look, then everything stood still for ten minutes.
    still = Standstill(NAP_S, 100.0, 99.9)
    assert still.look(700.2, 100.1) < 0.5


def test_what_was_before_the_mark_excuses_nothing_after_it() -> None:
    # Stopped for ten minutes; then the loop turned once, and stands still since.
    still = Standstill(NAP_S, 100.0, 99.9)
    still.look(700.1, 700.0)
    assert round(still.look(700.3, 700.0), 3) == 0.3


def test_a_new_mark_begins_anew() -> None:
    still = Standstill(NAP_S, 100.0, 99.9)
    assert still.look(100.2, 99.9) > 0.2
    assert round(still.look(100.4, 100.3), 3) == 0.1
