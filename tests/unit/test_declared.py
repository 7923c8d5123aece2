"""`@app.cron` and `@app.every`: what is refused, and which ids schedules get."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from asyncjobs import (
    ArgumentsError,
    AsyncJobs,
    ConfigError,
    EncodeError,
    FromTick,
    JobRegistry,
    RegistrationError,
)
from asyncjobs.jobs.rule import Definition, NewerDefinition
from asyncjobs.jobs.tick import scheduled_call
from asyncjobs.model.codec import BadRecord, to_json
from asyncjobs.model.schedules import CatchUp, Overlap


def fresh(name: str = "report") -> Callable[..., Any]:
    """A new function at module level, as far as one can tell."""

    async def made(region: str = "eu", day: str = "") -> None: ...

    made.__name__ = made.__qualname__ = name
    return made


def ids(registry: JobRegistry) -> list[str]:
    return [schedule.id for schedule in registry.schedules()]


def test_above_and_below_the_job() -> None:
    app = AsyncJobs("memory:")
    above = app.cron("30 2 * * *", tz="Europe/Berlin")(app.job(name="a")(fresh()))
    below = app.job(name="b")(app.every("90s")(fresh()))
    assert (above.name, below.name) == ("a", "b")
    first, second = app.registry.schedules()
    assert (first.id, first.function, first.rule.text) == (
        "a",
        above,
        "At 02:30 every day (Europe/Berlin)",
    )
    assert (second.id, second.function, second.rule.text) == ("b", below, "Every 90 seconds")


def test_stacked_ones_are_counted_from_the_function_upwards() -> None:
    registry = JobRegistry()
    function = registry.every(60)(registry.every(30)(fresh()))
    job = registry.job(name="a")(function)
    registry.cron("@daily", id="nightly")(registry.cron("@hourly")(job))
    assert ids(registry) == ["a", "a#2", "a#3", "nightly"]
    assert [each.rule.times for each in registry.schedules()] == [
        "every 30s",
        "every 60s",
        "@hourly",
        "@daily",
    ]


def test_with_options_of_the_function() -> None:
    registry = JobRegistry()
    job = registry.job(name="a")(fresh())
    registry.cron("@daily")(job)
    registry.cron("@daily")(job.options(queue="slow", priority="low"))
    assert ids(registry) == ["a", "a#2"]
    assert registry.queues() == {"default", "slow"}


def test_a_decorator_in_between_keeps_the_schedule() -> None:
    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return wrapper

    registry = JobRegistry()
    registry.job(name="a")(wrapped(registry.every("5m")(fresh())))
    assert ids(registry) == ["a"]


def test_an_included_registry_brings_its_schedules() -> None:
    app, registry = AsyncJobs("memory:"), JobRegistry()
    registry.every(60)(registry.job(name="a")(fresh()))
    app.include(registry)
    registry.every(60)(registry.job(name="b")(fresh()))
    assert ids(app.registry) == ["a", "b"]


def test_an_id_that_is_taken_names_both_functions() -> None:
    app, registry = AsyncJobs("memory:"), JobRegistry()
    app.every(60, id="x")(app.job(name="a")(fresh()))
    registry.every(60, id="x")(registry.job(name="b")(fresh()))
    with pytest.raises(RegistrationError, match=r"'x': of a and of b; give one of them another"):
        app.include(registry)
    with pytest.raises(RegistrationError, match=r"'x': of a and of a"):
        app.every(90, id="x")(app.registry.functions()[0])
    assert ids(app.registry) == ["x"]


def test_a_function_that_is_defined_again_replaces_its_schedules() -> None:
    registry = JobRegistry()
    function = fresh()
    for expression in ("@daily", "@hourly"):
        # The same `def`, executed again, as a reload does.
        again = type(function)(function.__code__, function.__globals__, "again", ("eu", ""))
        again.__qualname__ = "again"
        registry.job(name="a")(registry.cron(expression)(again))
    assert [each.rule.times for each in registry.schedules()] == ["@hourly"]


def test_a_schedule_without_a_job_is_refused() -> None:
    app, registry = AsyncJobs("memory:"), JobRegistry()
    app.include(registry)
    registry.cron("@daily")(fresh("orphan"))
    with pytest.raises(RegistrationError, match=r"orphan has a schedule .*write @app.job on it"):
        app.registry.schedules()
    with pytest.raises(RegistrationError, match="a schedule needs a job function, not 7"):
        app.every(5)(7)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("expression", "options", "words"),
    [
        ("30 25 * * *", {}, "30 25"),
        ("0 0 30 2 *", {}, "Bad day-of-month"),
        ("@fortnightly", {}, "@fortnightly"),
        ("@daily", {"tz": "Europe/Berlln"}, "Europe/Berlln"),
        ("@daily", {"catch_up": "most"}, "catch_up must be one of none, latest, all"),
        ("@daily", {"overlap": "forbid"}, "overlap must be one of allow, skip"),
        ("@daily", {"window": "an hour"}, "window='an hour' is not a duration"),
        ("@daily", {"jitter": -1}, "jitter must be a time from 0"),
        ("@daily", {"limit": 0}, "limit must be a whole number from 1"),
        ("@daily", {"start": datetime(2026, 1, 1)}, "start=.*has no time zone"),  # noqa: DTZ001
        (
            "@daily",
            {"start": datetime(2026, 2, 1, tzinfo=UTC), "end": datetime(2026, 1, 1, tzinfo=UTC)},
            "end must be after start",
        ),
        ("@daily", {"id": "two words"}, "id of a schedule='two words' is not a job id"),
        ("@daily", {"id": "x" * 201}, "at most 200 characters"),
        ("@daily", {"args": "eu"}, r"write|must be a tuple or a list: \('eu',\)"),
        ("@daily", {"kwargs": ["eu"]}, "must be a dict"),
    ],
)
def test_what_cannot_work_is_refused(expression: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        JobRegistry().cron(expression, **options)


def test_an_interval_below_a_second_and_a_misspelled_option_are_refused() -> None:
    registry = JobRegistry()
    with pytest.raises(ConfigError, match="every must be a time from 1 s"):
        registry.every(0.5)
    with pytest.raises(TypeError, match="'windw'; did you mean 'window'"):
        registry.every(60, windw=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'tz'"):
        registry.every(60, tz="UTC")  # type: ignore[call-arg]


def test_arguments_that_do_not_fit_are_refused_at_once() -> None:
    registry = JobRegistry()
    job = registry.job(name="a")(fresh())
    with pytest.raises(ArgumentsError, match="unexpected keyword argument 'dya'"):
        registry.every(60, kwargs={"dya": FromTick.DATE})(job)
    with pytest.raises(EncodeError, match="argument 'region' is a set"):
        registry.every(60, args=({1},))(job)
    with pytest.raises(ConfigError, match="a: a schedule makes many jobs"):
        registry.every(60)(job.options(id="one"))
    assert ids(registry) == []


def definition(**options: Any) -> Definition:
    registry = JobRegistry()
    registry.cron("*/5 * * * *", **options)(registry.job(name="a")(fresh()))
    (schedule,) = registry.schedules()
    return Definition(schedule.rule, scheduled_call(schedule.function, ("eu",), {}))


def test_a_definition_comes_back_as_it_was() -> None:
    made = definition(
        tz="Europe/Berlin",
        catch_up="all",
        window="2h",
        overlap="skip",
        jitter=30,
        start=datetime(2026, 1, 1, tzinfo=UTC),
        end=datetime(2027, 1, 1, tzinfo=UTC),
        limit=7,
    )
    found = Definition.decode(made.encode(), "default")
    assert found == made
    assert found.version == made.version != definition().version
    rule = found.rule
    assert (rule.catch_up, rule.overlap, rule.window_ms) == (CatchUp.ALL, Overlap.SKIP, 7_200_000)
    assert (rule.jitter_ms, rule.limit) == (30_000, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"v": "1"},
        {"v": 0},
        {"cron": 7},
        {"cron": "never"},
        {"tz": "Mars/Olympus"},
        {"overlap": "no"},
        {"catch_up": None},
        {"window_ms": -1},
        {"jitter_ms": True},
        {"end_ms": 2**60},
        {"priority": 9},
        {"call": None},
    ],
)
def test_a_definition_that_others_have_written_is_checked(change: dict[str, Any]) -> None:
    import orjson

    fields = {**orjson.loads(definition().encode()), **change}
    with pytest.raises(BadRecord, match="its definition cannot be read"):
        Definition.decode(to_json(fields), "default")
    with pytest.raises(BadRecord):
        Definition.decode(b"[]", "default")


def test_a_definition_of_a_later_release() -> None:
    with pytest.raises(NewerDefinition, match="version 2, newer than 1"):
        Definition.decode(b'{"v":2}', "default")
