"""Decorators with `@wraps` that put in arguments, take some, or leave all as it is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import pytest

from asyncjobs import INJECTED, AsyncJobs, JobContext, Secret
from asyncjobs.errors import ArgumentsError
from asyncjobs.jobs.binding import Binding
from asyncjobs.policy.parameters import parameters_of
from asyncjobs.policy.redaction import Redaction
from tests.worker.kit import LIMIT_S, working

pytestmark = pytest.mark.anyio

Function = Callable[..., Any]


def as_it_is(function: Function) -> Function:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return call


def with_db_in_front(function: Function) -> Function:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await function("db", *args, **kwargs)

    return call


def with_db_by_name(function: Function) -> Function:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, db="db", **kwargs)

    return call


def takes_tenant(function: Function) -> Function:
    @functools.wraps(function)
    async def call(tenant: str, *args: Any, **kwargs: Any) -> Any:
        return [tenant, await function(*args, **kwargs)]

    return call


def explicit(function: Function) -> Function:
    @functools.wraps(function)
    async def call(number: int) -> Any:
        return await function("db", number)

    return call


@with_db_in_front
async def db_in_front(db: str, number: int, /, *, ctx: JobContext = INJECTED) -> Any:
    return [db, number, ctx.attempt]


@with_db_in_front
async def db_first(db: str, number: int, more: int = 0) -> Any:
    return [db, number, more]


@as_it_is
@with_db_by_name
async def db_by_name(number: int, db: str) -> Any:
    return [db, number]


@takes_tenant
@with_db_by_name
async def of_tenant(number: int, *, db: str, ctx: JobContext = INJECTED) -> Any:
    return [db, number, ctx.attempt]


@as_it_is
@explicit
async def explicit_inside(db: str, number: int) -> Any:
    return [db, number]


@as_it_is
async def plain(number: int, more: int = 0) -> Any:
    return [number, more]


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "result"),
    [
        (db_in_front, (1,), {}, ["db", 1, 1]),
        (db_first, (1,), {}, ["db", 1, 0]),
        (db_first, (1, 2), {}, ["db", 1, 2]),
        (db_first, (), {"number": 1}, ["db", 1, 0]),
        (db_by_name, (1,), {}, ["db", 1]),
        (db_by_name, (), {"number": 1}, ["db", 1]),
        (of_tenant, ("ada", 1), {}, ["ada", ["db", 1, 1]]),
        (of_tenant, (), {"tenant": "ada", "number": 1}, ["ada", ["db", 1, 1]]),
        (explicit_inside, (1,), {}, ["db", 1]),
        (explicit_inside, (), {"number": 1}, ["db", 1]),
        (plain, (1,), {"more": 2}, [1, 2]),
    ],
)
async def test_what_python_would_run_is_enqueued(
    app: AsyncJobs, function: Function, args: Any, kwargs: Any, result: Any
) -> None:
    job = app.job(retry=False)(function)
    async with working(app):
        assert await (await job.enqueue(*args, **kwargs)).result(LIMIT_S) == result
        assert await job(*args, **kwargs) == result


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "said"),
    [
        (plain, (1, 2, 3), {}, r"plain\(number: 'int' = \.\.\., more: 'int' = 0\): .* at most 2"),
        (plain, (1,), {"mroe": 2}, r"unexpected keyword argument 'mroe'; if a decorator takes"),
        (plain, (1,), {"number": 2}, "given twice"),
        (of_tenant, (), {"number": 1}, "missing argument 'tenant'"),
        (of_tenant, ("ada", 1), {"ctx": 1}, "filled in by the worker"),
        (explicit(db_first), (), {}, "missing argument 'number'"),
        (explicit_inside, (1,), {"db": 2}, "unexpected keyword argument 'db'"),
        (explicit_inside, (1, 2), {}, "at most 1"),
    ],
)
def test_what_is_certainly_wrong_is_refused(
    function: Function, args: Any, kwargs: Any, said: str
) -> None:
    with pytest.raises(ArgumentsError, match=said):
        Binding(function.__name__, function).check(args, kwargs)


def test_a_signature_is_taken_at_its_word() -> None:
    @functools.wraps(db_first)
    async def call(*args: Any, **kwargs: Any) -> Any: ...

    one = Parameter("number", Parameter.POSITIONAL_OR_KEYWORD)
    call.__signature__ = Signature([one])  # type: ignore[attr-defined]
    binding = Binding("f", call)
    binding.check((1,), {})
    for args in ((), (1, 2)):
        with pytest.raises(ArgumentsError):
            binding.check(args, {})


def test_what_a_wrapper_cannot_pass_on() -> None:
    @functools.wraps(db_first)
    async def by_position(*args: Any) -> Any: ...

    @functools.wraps(db_first)
    async def by_name(**kwargs: Any) -> Any: ...

    kinds = {p.name: p.kind for p in parameters_of(by_position).all}
    assert set(kinds.values()) == {Parameter.POSITIONAL_ONLY}
    assert list(kinds) == ["db", "number", "more"]
    assert {p.kind for p in parameters_of(by_name).all} == {Parameter.KEYWORD_ONLY}


async def pays(db: str, user: int, pin: Secret[str]) -> Any: ...
async def notes(pin: Secret[str], user: int) -> Any: ...


def test_what_is_sensitive_is_hidden_wherever_it_may_stand() -> None:
    rule = Redaction.of("pays", with_db_in_front(pays), (), ())
    # `pays.enqueue(7, "1234")`: the pin is the second one, though it is named as the third.
    assert [n for n in range(4) if rule.hides_position(n)] == [0, 1, 2]
    assert rule.hides("pin")
    assert not rule.hides("user")
    alone = Redaction.of("pays", pays, (), ())
    assert [n for n in range(4) if alone.hides_position(n)] == [2]
    first = Redaction.of("notes", as_it_is(notes), (), ())
    assert [n for n in range(4) if first.hides_position(n)] == [0]
    patterned = first.with_patterns(("us*",), as_it_is(notes))
    assert [n for n in range(4) if patterned.hides_position(n)] == [0, 1]
