"""What the end of an attempt means for its job."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from asyncjobs import ConfigError, Discard, JobSignal, Retry, RetryPolicy, Snooze, constant
from asyncjobs.policy.retry import Retries
from asyncjobs.policy.verdict import Ending, Verdict, judge

POLICY = Retries.of(RetryPolicy(max_attempts=3, backoff=constant(7)))


class OwnSignal(JobSignal):
    """A signal that asyncjobs does not know."""


def verdict(
    error: BaseException, attempt: int = 1, discard_on: tuple[type[BaseException], ...] = ()
) -> Verdict:
    """What becomes of the job, without who pays for it."""
    made = judge(error, attempt=attempt, retry=POLICY, discard_on=discard_on, spent={})
    return made._replace(charge=None)


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several", list(errors))


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1), GeneratorExit(), OwnSignal()]
)
def test_an_error_is_a_failed_attempt(error: BaseException) -> None:
    assert verdict(error) == Verdict(Ending.RETRY, 7.0)
    assert verdict(error, 2) == Verdict(Ending.RETRY, 7.0)
    assert verdict(error, 3) == Verdict(Ending.DEAD, reason="exhausted")
    assert verdict(error, 99).ending is Ending.DEAD


@pytest.mark.parametrize(
    ("delay", "seconds"), [(None, 7.0), (0, 0.0), (2.5, 2.5), (timedelta(minutes=1), 60.0)]
)
def test_an_asked_retry(delay: Any, seconds: float) -> None:
    assert verdict(Retry(delay=delay)) == Verdict(Ending.RETRY, seconds)
    assert verdict(Retry(delay=delay), 3).ending is Ending.DEAD


@pytest.mark.parametrize("attempt", [1, 3, 99])
def test_a_snooze_spends_no_attempt(attempt: int) -> None:
    assert verdict(Snooze(5), attempt) == Verdict(Ending.SNOOZE, 5.0)
    assert verdict(Snooze(timedelta(hours=1)), attempt) == Verdict(Ending.SNOOZE, 3600.0)


def test_a_discard_says_why() -> None:
    assert verdict(Discard("gone")) == Verdict(Ending.DISCARD, reason="gone")
    assert verdict(Discard()).reason == "discarded by the job"


def test_discard_on() -> None:
    assert verdict(KeyError("k"), discard_on=(LookupError,)) == Verdict(
        Ending.DISCARD, reason="KeyError: 'k'"
    )
    assert verdict(ValueError(), discard_on=(LookupError,)).ending is Ending.RETRY


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "soon", True])
@pytest.mark.parametrize("signal", [Snooze, lambda delay: Retry(delay=delay)])
def test_a_delay_that_is_none_is_refused_where_it_is_written(signal: Any, bad: Any) -> None:
    with pytest.raises(ConfigError, match=r"must be a number of seconds or a timedelta"):
        signal(bad)


@pytest.mark.parametrize(
    ("errors", "ending"),
    [
        ((Discard("a"), Discard("b")), Ending.DISCARD),
        ((Discard("a"), KeyError("k")), Ending.DISCARD),
        ((Discard("a"), ValueError()), Ending.RETRY),
        ((KeyError("k"), ValueError()), Ending.RETRY),
        ((Snooze(1), Snooze(2)), Ending.SNOOZE),
        ((Snooze(1), Retry(delay=3)), Ending.RETRY),
        ((Snooze(1), ValueError()), Ending.RETRY),
        ((group(Discard("deep")),), Ending.DISCARD),
        ((group(group(ValueError())), Discard("a")), Ending.RETRY),
    ],
)
def test_a_group_is_its_leaves(errors: tuple[BaseException, ...], ending: Ending) -> None:
    assert verdict(group(*errors), discard_on=(LookupError,)).ending is ending


def test_the_longest_snooze_and_the_asked_delay_win() -> None:
    assert verdict(group(Snooze(1), Snooze(9), Snooze(2))).delay_s == 9
    assert verdict(group(Snooze(1), Retry(delay=3))).delay_s == 3
    assert verdict(group(Snooze(1), Retry(delay=3)), 3).ending is Ending.DEAD


def test_discard_on_a_whole_group() -> None:
    one = group(ValueError("v"))
    assert verdict(one, discard_on=(ValueError,)) == Verdict(Ending.DISCARD, reason="ValueError: v")


BY_ERROR = Retries.of(
    [
        RetryPolicy(3, lambda failure: failure * 10, on=KeyError),
        RetryPolicy(2, constant(5), on=OSError),
        RetryPolicy(4, constant(1)),
    ]
)


def charged(
    error: BaseException,
    attempt: int = 1,
    spent: dict[str, int] | None = None,
    discard_on: tuple[type[BaseException], ...] = (),
) -> tuple[str | None, Ending, float]:
    """The key of the policy that pays, and what becomes of the job."""
    made = judge(error, attempt=attempt, retry=BY_ERROR, discard_on=discard_on, spent=spent or {})
    return made.charge and made.charge.policy.key, made.ending, made.delay_s


def test_each_policy_has_a_budget_and_a_backoff_of_its_own() -> None:
    assert charged(KeyError()) == ("KeyError", Ending.RETRY, 10)
    assert charged(KeyError(), 9, {"KeyError": 1}) == ("KeyError", Ending.RETRY, 20)
    assert charged(KeyError(), 9, {"KeyError": 2}) == ("KeyError", Ending.DEAD, 0)
    assert charged(OSError(), 3, {"KeyError": 2}) == ("OSError", Ending.RETRY, 5)
    assert charged(OSError(), 4, {"OSError": 1}) == ("OSError", Ending.DEAD, 0)
    assert charged(ValueError(), 4, {"KeyError": 2}) == ("", Ending.RETRY, 1)
    assert charged(ValueError(), 4) == ("", Ending.DEAD, 0)


def test_an_asked_retry_obeys_the_policy_that_rules_it() -> None:
    assert charged(Retry(delay=3)) == ("", Ending.RETRY, 3)
    assert charged(Retry(delay=3), 4) == ("", Ending.DEAD, 0)
    assert charged(Retry()) == ("", Ending.RETRY, 1)
    own = Retries.of([RetryPolicy(2, constant(9), on=Retry)])
    made = judge(Retry(), attempt=1, retry=own, discard_on=(), spent={})
    assert (made.ending, made.delay_s) == (Ending.RETRY, 9)


def test_what_spends_no_attempt_is_charged_to_nobody() -> None:
    assert charged(Snooze(3)) == (None, Ending.SNOOZE, 3)
    assert charged(Discard())[:2] == (None, Ending.DISCARD)


@pytest.mark.parametrize(
    ("errors", "spent", "policy"),
    [
        ((KeyError(), OSError()), {}, "OSError"),
        ((KeyError(), OSError()), {"KeyError": 2}, "KeyError"),
        ((KeyError(), group(group(ValueError()))), {}, "KeyError"),
        ((OSError(), Discard()), {}, "OSError"),
        ((OSError(), Snooze(1)), {}, "OSError"),
        ((ValueError(), OSError()), {}, "OSError"),
        ((ValueError(), ConnectionError()), {}, ""),
    ],
)
def test_a_group_is_charged_to_the_policy_with_the_least_left(
    errors: tuple[BaseException, ...], spent: dict[str, int], policy: str
) -> None:
    attempt = 1 + sum(spent.values())
    assert charged(group(*errors), attempt, spent, (ConnectionError,))[0] == policy


def test_attempts_of_one_enqueue_keep_the_pace_of_each_policy() -> None:
    spent = {"KeyError": 1}
    limited = BY_ERROR.limited(9)
    made = judge(KeyError(), attempt=7, retry=limited, discard_on=(), spent=spent)
    # The second KeyError, though six attempts have failed before.
    assert (made.ending, made.delay_s) == (Ending.RETRY, 20)
    made = judge(KeyError(), attempt=9, retry=limited, discard_on=(), spent=spent)
    assert made.ending is Ending.DEAD
