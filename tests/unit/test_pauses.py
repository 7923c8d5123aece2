"""Pauses grow, keep a random half, and stay within their limit however often they grow."""

from __future__ import annotations

import pytest

from asyncjobs.model.backoff import Pauses, doubled, pause_s


@pytest.mark.parametrize(
    ("times", "expected_s"), [(-1, 0.5), (0, 0.5), (1, 1.0), (3, 4.0), (4, 5.0), (10**9, 5.0)]
)
def test_a_time_doubles_up_to_a_limit(times: int, expected_s: float) -> None:
    assert doubled(0.5, 5.0, times) == expected_s


def test_without_a_limit_it_is_finite_all_the_same() -> None:
    assert doubled(1.0, 1e300, 10**9) < 1e300


def test_each_pause_may_be_twice_as_long_as_the_one_before() -> None:
    pauses = Pauses(1.0, 3.0)
    for most_s in (1.0, 2.0, 3.0, 3.0):
        assert most_s / 2 <= pauses.next_s() <= most_s
    pauses.reset()
    assert pauses.next_s() <= 1.0


def test_a_pause_that_is_counted_elsewhere_grows_in_the_same_way() -> None:
    for times, most_s in ((0, 1.0), (1, 2.0), (2, 3.0), (10**9, 3.0)):
        assert most_s / 2 <= pause_s(1.0, 3.0, times) <= most_s


def test_the_half_that_is_random_differs() -> None:
    assert len({Pauses(1.0, 2.0).next_s() for _ in range(50)}) > 40
