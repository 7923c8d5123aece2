"""How long to wait after a failed attempt."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs import constant, exponential, polynomial
from asyncjobs.errors import ConfigError
from asyncjobs.policy.backoff import Backoff, Exponential, Polynomial


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


def refused(low: float, high: float) -> float:
    raise AssertionError("chance was asked")


@pytest.mark.parametrize(
    ("backoff", "longest"),
    [
        (exponential(base=2, cap=9), [2, 4, 8, 9]),
        (polynomial(base=2, exponent=3, cap=60), [2, 16, 54, 60]),
        (polynomial(base=timedelta(seconds=3), exponent=0.5, cap=6), [3, 4, 5, 6]),
        (polynomial(), [2, 8, 18, 32]),
        (constant(7, jitter=True), [7, 7, 7, 7]),
    ],
)
def test_jitter_takes_all_of_the_range(backoff: Backoff, longest: list[int]) -> None:
    assert [int(backoff.delay_s(n, highest)) for n in (1, 2, 3, 4)] == longest
    assert [backoff.delay_s(n, lowest) for n in (1, 2, 3, 4)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (exponential(base=1, cap=3, jitter=False), [1, 2, 3]),
        (polynomial(base=1, exponent=2, cap=5, jitter=False), [1, 4, 5]),
        (constant(7), [7, 7, 7]),
    ],
)
def test_without_jitter_no_chance(backoff: Backoff, delays: list[float]) -> None:
    assert [backoff.delay_s(n, refused) for n in (1, 2, 3)] == delays


@given(
    st.integers(min_value=1, max_value=10**9),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e3),
)
def test_a_backoff_stays_between_zero_and_its_cap(
    number: int, base: float, more: float, exponent: float
) -> None:
    for backoff in (Exponential(base, base + more), Polynomial(base, exponent, base + more)):
        assert 0 <= backoff.delay_s(number, highest) <= base + more


def test_huge_numbers_do_not_overflow() -> None:
    assert exponential(base=1, cap=300).delay_s(10**9, highest) == 300
    assert polynomial(base=1, exponent=999, cap=300).delay_s(10**9, highest) == 300
    assert polynomial(base=0, exponent=999, cap=300).delay_s(10**9, highest) == 0


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: exponential(base=-1), r"exponential\(base\)"),
        (lambda: exponential(base=10, cap=5), r"exponential\(cap\)"),
        (lambda: exponential(base=True), r"exponential\(base\)"),
        (lambda: exponential(jitter=1), r"exponential\(jitter\)"),  # type: ignore[arg-type]  # checked at run time too
        (lambda: polynomial(base=-1), r"polynomial\(base\)"),
        (lambda: polynomial(base=10, cap=5), r"polynomial\(cap\)"),
        (lambda: polynomial(exponent=-1), r"polynomial\(exponent\)"),
        (lambda: polynomial(exponent=float("inf")), r"polynomial\(exponent\)"),
        (lambda: polynomial(exponent=True), r"polynomial\(exponent\)"),
        (lambda: constant(float("nan")), r"constant\(delay\)"),
        (lambda: constant(1, jitter=0), r"constant\(jitter\)"),  # type: ignore[arg-type]  # checked at run time too
    ],
)
def test_what_cannot_work_is_refused_by_name(make: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        make()
