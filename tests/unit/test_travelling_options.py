"""Whatever an enqueue accepts, a worker can read back from the envelope."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import orjson
import pytest

from asyncjobs import AsyncJobs, JobRegistry, ResultTimeout
from asyncjobs.errors import ConfigError
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.clock import LONGEST_S
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import Priority
from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import check_job_id, check_queue_name
from asyncjobs.options.given import Given
from asyncjobs.options.option import Option
from asyncjobs.options.table import ENQUEUE, OPTIONS, EnqueueOptions, JobOptions
from asyncjobs.policy.unique import Debounce, Throttle, Unique
from tests.worker.kit import store_raw

MOST = 2**70
"""Larger than any number that an option takes."""


async def noop() -> None: ...


FUNCTION: JobFunction[[], Any] = JobRegistry().job(noop)


def kinds_of(hint: Any) -> Iterator[Any]:
    """The types that an option takes, one by one."""
    if get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from kinds_of(part)
    else:
        yield hint


def extremes(kind: Any, is_taken: Callable[[Any], bool]) -> list[Any]:
    """The smallest and the largest values of this type that an option takes."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if get_origin(kind) is Mapping:
        return [{}, {"n" * 64: "v" * 256}, {f"n{number}": "v" for number in range(16)}]
    if get_origin(kind) is Iterable:
        return [[], ["t" * 64], [f"t{number}" for number in range(16)]]
    if kind is Priority:
        return list(Priority)
    if kind is bool:
        return [False, True]
    if kind is NoneType:
        return [None]
    if kind is datetime:
        latest = datetime.now(UTC) + timedelta(seconds=LONGEST_S - 60)
        return [datetime.min.replace(tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC), latest]
    if kind is str:
        return ["a", "a" * 64, "é" * 256]
    if kind is float or kind is int:
        return [0.0, 0.001, 1, largest(is_taken)]
    if kind is timedelta:
        # The same limits, for the option converts it.
        return [timedelta(0), timedelta(milliseconds=1), timedelta(seconds=LONGEST_S)]
    if kind is Unique:
        return [Unique(), Unique(for_=0.001), Unique(until="window", for_=LONGEST_S)]
    if kind is Debounce:
        return [Debounce(0.001), Debounce(LONGEST_S, max_wait=LONGEST_S)]
    if kind is Throttle:
        return [Throttle(0.001), Throttle(LONGEST_S)]
    raise AssertionError(f"say here what the extremes of a {kind} are")


def largest(is_taken: Callable[[Any], bool]) -> int:
    """The largest whole number that an option takes, found by halving."""
    low, high = 1, MOST
    assert is_taken(low)
    assert not is_taken(high)
    while high - low > 1:
        middle = (low + high) // 2
        if is_taken(middle):
            low = middle
        else:
            high = middle
    return low


def taken_values() -> Iterator[tuple[str, Any]]:
    """Each option of an enqueue with its extreme values."""
    for name, hint in get_type_hints(EnqueueOptions).items():

        def is_taken(value: Any, name: str = name) -> bool:
            try:
                ENQUEUE[name].check(value, field=name)
            except ConfigError:
                return False
            return True

        for kind in kinds_of(hint):
            for value in extremes(kind, is_taken):
                if value is None or is_taken(value):
                    yield name, value


VALUES = list(taken_values())


@pytest.mark.parametrize("name", ENQUEUE)
def test_extremes_are_known_of_each_option(name: str) -> None:
    values = [value for known, value in VALUES if known == name and value is not None]
    assert len(values) >= 2


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_what_an_enqueue_accepts_is_read_back(name: str, value: Any) -> None:
    variant = FUNCTION.options(**{name: value})
    job = variant.new_job((), {})
    assert check_job_id(job.id) == job.id
    assert check_queue_name(job.queue) == job.queue
    # Raises for a time that no worker accepts.
    envelope = Envelope.decode(job.envelope)
    read = FUNCTION.settings_for(envelope.options)
    for option in OPTIONS:
        if option.travels is not None:
            field = option.field
            # Without a number of attempts the whole policy of the function holds.
            assert getattr(read, field) == getattr(variant.settings, field)
    assert read.retry == variant.settings.retry


def test_a_function_has_the_same_limits_for_its_results_as_an_enqueue() -> None:
    registered = JobRegistry().job(result_ttl=LONGEST_S)(noop)
    asked = FUNCTION.options(result_ttl=LONGEST_S)
    read = FUNCTION.settings_for(Envelope.decode(asked.new_job((), {}).envelope).options)
    assert read.result_ttl_ms == registered.settings.result_ttl_ms == round(LONGEST_S * 1000)


@pytest.mark.parametrize("stored", [-1, LONGEST_S * 1000 + 1, 2**70, 0.5, True, "1", None, []])
def test_no_other_time_to_keep_a_result_is_read(stored: Any) -> None:
    given = Given({})
    with pytest.raises(ConfigError, match="stored result_ttl"):
        given.by_envelope({"result_ttl": stored})
    assert given.within(AppSettings()) == JobOptions()


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.travels is not None])
@pytest.mark.parametrize("stored", ["x", "9", -5, 2**64 - 1, 1e300, [1], {"a": 1}, True], ids=str)
@pytest.mark.anyio
async def test_options_that_no_enqueue_writes_fail_no_question(option: Option, stored: Any) -> None:
    assert option.travels is not None
    app = AsyncJobs("memory:", result_ttl=7, retry=3)
    function = app.job(noop)
    with pytest.raises(ConfigError):
        function.settings_for({option.travels.key: stored})
    call = {"v": 1, "f": function.name, "n": 1, "e": 1, "o": {option.travels.key: stored}}
    async with app:
        handle = app.handle(await store_raw(app, orjson.dumps(call)), "default")
        with pytest.raises(ResultTimeout, match="it is ready"):
            await handle.result(0)
        info = await handle.info()
        assert info.max_attempts == 3
        assert app.result_ttl_ms(function.name, call["o"]) == 7_000
        assert app.result_ttl_ms(function.name, {"result_ttl": 9}) == 9
        assert app.max_attempts(function.name, {"max_attempts": 9}) == 9
