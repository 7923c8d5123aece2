"""Values that nobody should pass: refused with an error of ours, in a text that stays short."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from asyncjobs import (
    AsyncJobs,
    AsyncJobsError,
    Discard,
    JobContext,
    JobRegistry,
    Retry,
    RetryPolicy,
    Snooze,
    Worker,
    constant,
    exponential,
    polynomial,
)
from asyncjobs.guard.texts import safe_text, shown
from asyncjobs.model.clock import at_ms, seconds
from asyncjobs.model.codec import check_json
from asyncjobs.options.checks import check_queue_name, parse_priority
from asyncjobs.options.durations import parse_duration
from tests.faults.records import nested

LONGEST = 3_000
"""Characters of the text of any error."""


class Mute:
    """Raises whatever one asks it."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no attribute")


class Loud:
    def __repr__(self) -> str:
        return "x" * 1_000_000


def ring() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


ODD = [
    10**400,
    -(10**400),
    10**5_000,
    float("nan"),
    float("inf"),
    "x" * 1_000_000,
    b"x" * 1_000_000,
    Mute(),
    Loud(),
    [Mute()],
    {Mute(): Loud()},
    ["x" * 1_000_000] * 50,
    nested(5_000),
    ring(),
    {"k" * 1_000_000: object()},
    object,
    None.__class__,
    1j,
]
NAMES = [type(each).__name__ + str(number) for number, each in enumerate(ODD)]


async def subject(a: Any, b: Any = None) -> None:
    """The job function of these tests."""


app = AsyncJobs("memory:")
job: Any = app.job(name="subject")(subject)


@app.job(name="defaults")
async def defaults(a: Any, b: Any = Mute(), c: Any = Loud()) -> None:  # noqa: B008
    """Has defaults that no error can simply show."""


CALLS: dict[str, Callable[[Any], object]] = {
    "delay": lambda odd: job.options(delay=odd),
    "at": lambda odd: job.options(at=odd),
    "id": lambda odd: job.options(id=odd),
    "queue": lambda odd: job.options(queue=odd),
    "priority": lambda odd: job.options(priority=odd),
    "timeout": lambda odd: job.options(timeout=odd),
    "retry": lambda odd: job.options(retry=odd),
    "result_ttl": lambda odd: job.options(result_ttl=odd),
    "expires": lambda odd: job.options(expires=odd),
    "Retry": lambda odd: Retry(delay=odd),
    "Snooze": Snooze,
    "max_attempts": RetryPolicy,
    "backoff": lambda odd: RetryPolicy(3, odd),
    "own backoff": lambda odd: RetryPolicy(3, lambda number: odd).delay_s(1),
    "constant": constant,
    "exponential": lambda odd: exponential(base=odd),
    "cap": lambda odd: exponential(cap=odd),
    "jitter": lambda odd: constant(1, jitter=odd),
    "polynomial": lambda odd: polynomial(exponent=odd),
    "prefix": lambda odd: AsyncJobs("memory:", prefix=odd),
    "result ttl": lambda odd: AsyncJobs("memory:", result_ttl=odd),
    "max_payload": lambda odd: AsyncJobs("memory:", max_payload=odd),
    "app retry": lambda odd: AsyncJobs("memory:", retry=[odd]),
    "redact": lambda odd: AsyncJobs("memory:", redact=[odd, odd]),
    "concurrency": lambda odd: Worker(app, concurrency=odd),
    "queues": lambda odd: Worker(app, queues=[odd]),
    "grace": lambda odd: Worker(app, grace=odd),
    "include": lambda odd: JobRegistry().include(odd),
    "name": lambda odd: JobRegistry().job(name=odd)(subject),
    "progress": lambda odd: JobContext.local("f").progress(odd, odd),
    "keyword": lambda odd: job.bind(1, **{"k" * 1_000_000: odd}),
    "too many": lambda odd: job.bind(odd, odd, odd),
}


def error_of(call: Callable[[Any], object], odd: Any) -> str:
    """The text of the error; '' when the value will do. Raises what is not ours."""
    try:
        call(odd)
    except AsyncJobsError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("number", range(len(ODD)), ids=NAMES)
@pytest.mark.parametrize("call", CALLS)
def test_an_odd_value_is_refused_in_our_words(call: str, number: int) -> None:
    text = error_of(CALLS[call], ODD[number])
    assert len(text) < LONGEST


@pytest.mark.anyio
@pytest.mark.parametrize("number", [n for n, odd in enumerate(ODD) if type(odd) is not str])
async def test_an_argument_that_is_no_json(number: int) -> None:
    odd = ODD[number]
    calls = partial(job.enqueue, odd), partial(job.enqueue, 1, b=odd), partial(job.enqueue, [odd])
    async with app:
        for enqueue in calls:
            with pytest.raises(AsyncJobsError) as caught:
                await enqueue()
            assert len(str(caught.value)) < LONGEST


def test_a_signature_is_shown_whatever_its_defaults_are() -> None:
    with pytest.raises(AsyncJobsError, match="missing argument 'a'") as caught:
        defaults.bind()
    assert len(str(caught.value)) < LONGEST


def test_a_long_key_does_not_grow_with_each_level() -> None:
    value: Any = object()
    for _ in range(50):
        value = {"k" * 100_000: value}
    with pytest.raises(AsyncJobsError) as caught:
        check_json(value, "x")
    assert len(str(caught.value)) < LONGEST


def test_durations_of_the_command_line() -> None:
    for text in ("9" * 400, "9" * 5_000 + "d", "1" * 1_000_000 + "x", "101000d"):
        with pytest.raises(AsyncJobsError) as caught:
            parse_duration(text, field="--grace")
        assert len(str(caught.value)) < LONGEST
    assert parse_duration("90s", field="x") == 90.0


def test_times_at_the_ends_of_the_calendar() -> None:
    far = timezone(timedelta(hours=14))
    with pytest.raises(AsyncJobsError):
        at_ms(datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))))
    assert at_ms(datetime.min.replace(tzinfo=far)) == 0
    assert at_ms(datetime(1969, 12, 31, tzinfo=UTC)) == 0
    assert at_ms(datetime(2026, 1, 1, tzinfo=UTC)) == 1_767_225_600_000


def test_a_reason_without_a_text_discards_all_the_same() -> None:
    for reason in (Mute(), Loud(), ValueError(Mute())):
        assert Discard(reason).reason


def test_what_is_shown() -> None:
    assert shown(3) == "3"
    assert shown("a") == "'a'"
    assert shown(1.5) == "1.5"
    assert shown([1, "b"]) == "[1, 'b']"
    assert shown(timedelta(1)) == "datetime.timedelta(days=1)"
    assert shown(10**5_000) == "an integer of 16610 bits"
    assert "Mute" in shown(Mute())
    assert safe_text(Mute()) == "(a Mute without a text: RuntimeError)"
    for odd in ODD:
        assert len(shown(odd)) < 500
        assert shown(odd).isprintable()


def test_usual_values_are_named_in_full() -> None:
    for call, value in ((check_queue_name, "no queue"), (parse_priority, "urgent")):
        with pytest.raises(AsyncJobsError, match=value):
            call(value)  # type: ignore[operator]
    with pytest.raises(AsyncJobsError, match="-1"):
        seconds(-1, field="grace")
