"""Which retry policy rules an error, and what is left of its budget."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from asyncjobs import RetryPolicy, constant
from asyncjobs.errors import ConfigError, Discard
from asyncjobs.policy.retry import Charge, Retries, class_name


class Broken(Exception):
    """What belongs to no policy."""


class Slow(TimeoutError):
    """A narrower class."""


ON_KEY = RetryPolicy(5, on=KeyError)
ON_OS = RetryPolicy(3, on=(TimeoutError, OSError))
REST = RetryPolicy(2)
SEVERAL = Retries.of([ON_KEY, ON_OS, REST])


def highest(low: float, high: float) -> float:
    return high


def test_the_default_is_ten_attempts_and_two_seconds_doubling_to_ten_minutes() -> None:
    policy = RetryPolicy()
    assert policy.max_attempts == 10
    assert [policy.delay_s(n, highest) for n in (1, 2, 3, 9, 10)] == [2, 4, 8, 512, 600]


@pytest.mark.parametrize(("value", "attempts"), [(5, 5), (1, 1), (False, 1), (True, 10)])
def test_short_forms(value: Any, attempts: int) -> None:
    assert Retries.of(value) == Retries(default=RetryPolicy(attempts))
    assert Retries.of(value).max_attempts == attempts


def test_nothing_is_the_apps() -> None:
    assert Retries.of(None) == Retries()
    assert Retries.of(None).within(SEVERAL) == SEVERAL
    assert Retries.of(None).within(Retries()).max_attempts == 10


def test_a_policy_is_taken_as_it_is() -> None:
    policy = RetryPolicy(3)
    assert Retries.of(policy).default is policy
    assert Retries.of([policy]) == Retries.of(policy)
    assert Retries.of(ON_KEY) == Retries((ON_KEY,))


def test_constant_and_own_backoffs() -> None:
    assert RetryPolicy(backoff=constant(timedelta(minutes=1))).delay_s(7) == 60
    assert RetryPolicy(backoff=lambda attempt: attempt * 1.5).delay_s(4) == 6
    assert RetryPolicy(backoff=lambda _: timedelta(seconds=9)).delay_s(1) == 9


@pytest.mark.parametrize("returned", [-1, float("nan"), float("inf"), "3", None])
def test_an_own_backoff_that_returns_no_time_is_named(returned: Any) -> None:
    with pytest.raises(ConfigError, match="delay that"):
        RetryPolicy(backoff=lambda _: returned).delay_s(1)


@pytest.mark.parametrize(
    ("error", "policy"),
    [
        (KeyError(), ON_KEY),
        (LookupError(), REST),
        (OSError(), ON_OS),
        (ConnectionError(), ON_OS),
        (TimeoutError(), ON_OS),
        (Slow(), ON_OS),
        (Broken(), REST),
        (KeyboardInterrupt(), REST),
    ],
)
def test_the_first_policy_that_names_the_error_rules(
    error: BaseException, policy: RetryPolicy
) -> None:
    assert SEVERAL.policy_for(error) is policy


def test_a_narrower_class_comes_first_or_is_refused() -> None:
    narrow, wide = RetryPolicy(4, on=Slow), RetryPolicy(2, on=OSError)
    both = Retries.of([narrow, wide])
    assert both.policy_for(Slow()) is narrow
    assert both.policy_for(TimeoutError()) is wide
    with pytest.raises(ConfigError, match=r"policy on .*Slow is never asked"):
        Retries.of([wide, narrow])
    with pytest.raises(ConfigError, match="policy on KeyError is never asked"):
        Retries.of([ON_KEY, RetryPolicy(1, on=KeyError)])


def test_what_a_function_does_not_say_is_the_apps() -> None:
    app = Retries.of([RetryPolicy(7, on=OSError), RetryPolicy(8, on=ValueError), RetryPolicy(9)])
    mine = Retries.of([ON_OS]).within(app)
    assert mine.policy_for(OSError()) is ON_OS
    assert mine.policy_for(ValueError()).max_attempts == 8
    assert mine.policy_for(Broken()).max_attempts == 9
    # The app's policy on OSError is never asked here, so it adds no attempts.
    assert mine.max_attempts == 1 + 2 + 7 + 8
    assert SEVERAL.within(app) is SEVERAL


def test_the_most_attempts_of_a_job() -> None:
    assert SEVERAL.max_attempts == 1 + 4 + 2 + 1
    assert Retries.of(RetryPolicy(1)).max_attempts == 1
    assert SEVERAL.limited(3).max_attempts == 3
    assert Retries().limited(4).within(SEVERAL) == Retries((ON_KEY, ON_OS), REST, 4)


def test_failures_are_charged_to_their_policy() -> None:
    spent = {"KeyError": 3, "OSError|TimeoutError": 1}
    assert SEVERAL.charge([KeyError()], 6, spent) == Charge(ON_KEY, 4, 4, 5)
    assert SEVERAL.charge([OSError()], 6, spent) == Charge(ON_OS, 2, 2, 3)
    # Five attempts failed before this one, four of them in another policy's name.
    assert SEVERAL.charge([Broken()], 6, spent) == Charge(REST, 2, 2, 2)


def test_the_policy_with_the_least_left_pays() -> None:
    errors = [KeyError(), OSError()]
    assert SEVERAL.charge(errors, 1, {}).policy is ON_OS
    assert SEVERAL.charge(errors, 5, {"KeyError": 4}).policy is ON_KEY
    equal = {"KeyError": 2}
    assert SEVERAL.charge(errors, 3, equal).policy is ON_KEY
    assert SEVERAL.charge(errors[::-1], 3, equal).policy is ON_OS


def test_attempts_of_one_enqueue_replace_all_budgets() -> None:
    limited = SEVERAL.limited(20)
    charge = limited.charge([OSError()], 12, {"OSError|TimeoutError": 9})
    assert charge == Charge(ON_OS, 10, 12, 20)


def test_a_policy_is_known_by_its_classes_and_not_by_its_place() -> None:
    again = RetryPolicy(9, constant(1), on=[OSError, TimeoutError, OSError])
    assert again.key == ON_OS.key == "OSError|TimeoutError"
    assert REST.key == ""
    assert RetryPolicy(on=Broken).key == f"{__name__}.Broken"
    assert class_name(Discard) == "asyncjobs.errors.Discard"


def test_plain_backoffs_have_the_same_budgets() -> None:
    own = Retries.of([RetryPolicy(4, lambda _: 1 / 0, on=KeyError), RetryPolicy(5, lambda _: 1)])
    plain = own.plain()
    assert plain.max_attempts == own.max_attempts
    assert plain.policy_for(KeyError()).delay_s(1, highest) == 2
    assert plain.policy_for(Broken()).delay_s(1, highest) == 2


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: RetryPolicy(0), "max_attempts"),
        (lambda: RetryPolicy(True), "max_attempts"),
        (lambda: RetryPolicy(2.5), "max_attempts"),
        (lambda: RetryPolicy(backoff=3), "backoff"),
        (lambda: RetryPolicy(on="KeyError"), "on must hold exception classes"),
        (lambda: RetryPolicy(on=KeyError()), "on must hold exception classes"),
        (lambda: RetryPolicy(on=[KeyError, 3]), "on must hold exception classes"),
        (lambda: RetryPolicy(on=()), "on names no exception class"),
        (lambda: RetryPolicy(on=ExceptionGroup), "name their classes"),
        (lambda: Retries.of("5"), "retry"),
        (lambda: Retries.of([]), "retry"),
        (lambda: Retries.of([3]), "retry"),
        (lambda: Retries.of([ON_KEY, 3]), "retry"),
        (lambda: Retries.of({ON_KEY: 3}), "retry"),
        (lambda: Retries.of([REST, REST]), "two policies without on="),
        (lambda: Retries.of(0), "max_attempts"),
        (lambda: Retries.of(-1), "max_attempts"),
        (lambda: SEVERAL.limited(0), "max_attempts"),
    ],
)
def test_what_cannot_work_is_refused_by_name(make: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        make()
