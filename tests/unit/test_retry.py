from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.errors import ConfigError
from asyncjobs.policy.retry import Exponential, RetryPolicy, constant, exponential


def highest(low: float, high: float) -> float:
    return high


def test_the_default_is_ten_attempts_and_two_seconds_doubling_to_ten_minutes() -> None:
    policy = RetryPolicy()
    assert policy.max_attempts == 10
    assert [policy.delay_s(n, highest) for n in (1, 2, 3, 9, 10)] == [2, 4, 8, 512, 600]


@given(st.integers(min_value=1, max_value=10**9), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_backoff_stays_between_zero_and_its_cap(attempt: int, base: float, more: float) -> None:
    policy = RetryPolicy(backoff=Exponential(base, base + more))
    assert 0 <= policy.delay_s(attempt) <= base + more


def test_huge_attempts_do_not_overflow() -> None:
    assert exponential(base=1, cap=300).delay_s(10**9, highest) == 300


@pytest.mark.parametrize(
    ("value", "attempts"), [(5, 5), (1, 1), (False, 1), (True, 10), (None, 10)]
)
def test_short_forms(value: Any, attempts: int) -> None:
    assert RetryPolicy.of(value).max_attempts == attempts


def test_a_policy_is_taken_as_it_is() -> None:
    policy = RetryPolicy(3)
    assert RetryPolicy.of(policy) is policy


def test_constant_and_own_backoffs() -> None:
    assert RetryPolicy(backoff=constant(timedelta(minutes=1))).delay_s(7) == 60
    assert RetryPolicy(backoff=lambda attempt: attempt * 1.5).delay_s(4) == 6
    assert RetryPolicy(backoff=lambda _: timedelta(seconds=9)).delay_s(1) == 9


@pytest.mark.parametrize("returned", [-1, float("nan"), float("inf"), "3", None])
def test_an_own_backoff_that_returns_no_time_is_named(returned: Any) -> None:
    with pytest.raises(ConfigError, match="delay that"):
        RetryPolicy(backoff=lambda _: returned).delay_s(1)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: RetryPolicy(0), "max_attempts"),
        (lambda: RetryPolicy(True), "max_attempts"),
        (lambda: RetryPolicy(2.5), "max_attempts"),
        (lambda: RetryPolicy(backoff=3), "backoff"),
        (lambda: RetryPolicy.of("5"), "retry"),
        (lambda: RetryPolicy.of(0), "max_attempts"),
        (lambda: RetryPolicy.of(-1), "max_attempts"),
        (lambda: exponential(base=-1), "base"),
        (lambda: exponential(base=10, cap=5), "cap"),
        (lambda: exponential(base=True), "base"),
        (lambda: constant(float("nan")), "delay"),
    ],
)
def test_what_cannot_work_is_refused_by_name(make: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        make()
