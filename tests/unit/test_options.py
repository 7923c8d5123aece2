"""The table of options, the types that checkers read, and the values agree."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import pytest

from asyncjobs import AsyncJobs, JobRegistry
from asyncjobs.errors import ConfigError
from asyncjobs.options.app import SETTINGS, AppOptions, AppSettings
from asyncjobs.options.given import Given
from asyncjobs.options.option import UNSET, Option, Scope
from asyncjobs.options.table import (
    ENQUEUE,
    FUNCTION,
    OPTIONS,
    EnqueueOptions,
    JobOptions,
    RegisteredOptions,
)

SCOPES: dict[Scope, tuple[dict[str, Option], Any]] = {
    Scope.APP: (SETTINGS, AppOptions),
    Scope.FUNCTION: (FUNCTION, RegisteredOptions),
    Scope.ENQUEUE: (ENQUEUE, EnqueueOptions),
}
OF_THE_FUNCTION_ITSELF = {"sensitive", "name", "aliases"}
MADE_OF_OTHERS = {"route", "carried"}
"""`route` comes from the option `queue`, `carried` from calls of `app.carry`."""


async def noop() -> None: ...


@pytest.mark.parametrize("scope", Scope)
def test_the_types_have_the_options_of_the_table_in_its_order(scope: Scope) -> None:
    known, typed = SCOPES[scope]
    assert list(typed.__annotations__) == list(known)
    assert typed.__total__ is False


@pytest.mark.parametrize("scope", Scope)
def test_the_types_take_none_where_the_table_does(scope: Scope) -> None:
    known, typed = SCOPES[scope]
    takes_none = {
        name: type(None) in get_args(hint)
        for name, hint in get_type_hints(typed).items()
        # `timeout=None` is a value: it is switched off.
        if name != "timeout"
    }
    expected = {
        name: option.scopes[scope].default in (None, UNSET)
        for name, option in known.items()
        if name != "timeout"
    }
    assert takes_none == expected


def test_each_option_sets_a_field() -> None:
    of_jobs = {field.name for field in fields(JobOptions)}
    of_apps = {field.name for field in fields(AppSettings)}
    assert {option.field for option in OPTIONS} == (
        of_jobs - MADE_OF_OTHERS
    ) | OF_THE_FUNCTION_ITSELF
    assert {option.field for option in SETTINGS.values()} == of_apps - MADE_OF_OTHERS
    assert {option.from_app for option in OPTIONS if option.from_app} <= of_apps


def test_no_two_options_travel_under_one_key() -> None:
    keys = [option.travels.key for option in OPTIONS if option.travels is not None]
    assert len(keys) == len(set(keys))
    # Jobs that are stored already have these.
    assert {"timeout", "max_attempts", "result_ttl", "tracing"} <= set(keys)


def test_what_is_not_given_is_the_default() -> None:
    assert Given({}).within(AppSettings()) == JobOptions()
    said = {
        option.field: option.check(option.scopes[Scope.FUNCTION].default, field=name)
        for name, option in FUNCTION.items()
        if option.scopes[Scope.FUNCTION].default not in (None, UNSET)
    }
    for field in OF_THE_FUNCTION_ITSELF:
        assert said.pop(field, ()) == ()
    assert Given(said).within(AppSettings()) == JobOptions()


def test_the_defaults_of_an_app_are_those_of_its_table() -> None:
    said = {name: option.scopes[Scope.APP].default for name, option in SETTINGS.items()}
    assert AppSettings.of(**said) == AppSettings.of() == AppSettings()


def test_an_option_that_there_is_not_is_told_with_the_one_that_was_meant() -> None:
    app = AsyncJobs("memory:")
    registry = JobRegistry()
    for register in (app.job, registry.job):
        with pytest.raises(TypeError, match=r"job\(\) got .* 'que'; did you mean 'queue'\?"):
            register(que="mail")  # type: ignore[call-overload]
    function = registry.job(noop)
    with pytest.raises(TypeError, match=r"options\(\) got .* 'delays'; did you mean 'delay'\?"):
        function.options(delays=3)  # type: ignore[call-arg]
    # An option of another scope is none here.
    with pytest.raises(TypeError, match=r"options\(\) got an unexpected .* 'aliases'$"):
        function.options(aliases=["a"])  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"AsyncJobs\(\) got .* 'prefx'; did you mean 'prefix'\?"):
        AsyncJobs(prefx="a")  # type: ignore[call-arg]


def test_options_that_exclude_each_other_are_told_with_the_function() -> None:
    function = JobRegistry().job(noop, name="mail.send")
    both: Any = {"delay": 1, "at": datetime(2031, 1, 1, tzinfo=UTC)}
    with pytest.raises(ConfigError, match=r"^mail\.send: give delay or at, not both$"):
        function.options(**both)
    # Wherever it stands, the misspelled name comes first.
    for options in ({**both, "bogus": 1}, {"bogus": 1, **both}):
        with pytest.raises(TypeError, match=r"^options\(\) got an unexpected .* 'bogus'$"):
            function.options(**options)
    assert function.options(delay=1, at=None).settings.due.after_ms == 1_000


def test_none_says_nothing_where_it_is_the_default() -> None:
    function = JobRegistry().job(noop)
    silent: Any = dict.fromkeys(ENQUEUE)
    del silent["timeout"], silent["expires"]
    assert function.options(**silent).settings == function.settings
    assert function.options(timeout=None).settings.timeout_s is None
    registry = JobRegistry()
    register = registry.job(retry=None, result_ttl=None, expires=None, tracing=None, name=None)
    assert register(noop).settings == JobOptions()
    for wrong in ({"queue": None}, {"priority": None}, {"discard_on": None}, {"sensitive": None}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            registry.job(**wrong)  # type: ignore[call-overload]
