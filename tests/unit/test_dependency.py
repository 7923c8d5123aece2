"""Dependencies that cannot work are refused when the job function is registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from asyncjobs import INJECTED, AsyncJobs, Depends, JobContext, JobRegistry
from asyncjobs.errors import RegistrationError
from asyncjobs.jobs import function as job_function
from asyncjobs.jobs.binding import Binding
from asyncjobs.jobs.dependency import provider_of
from asyncjobs.jobs.isolation import Isolation


def get_one() -> int:
    return 1


async def get_two(one: int = Depends(get_one)) -> int:
    return one + 1


async def get_attempt(*, ctx: JobContext = INJECTED) -> int:
    return ctx.attempt


def get_shared(one: int = Depends(get_one, scope="worker")) -> int:
    return one


def with_argument(host: str) -> None: ...
def with_context(ctx: JobContext) -> None: ...
def with_place(one: int = Depends(get_one), /) -> None: ...
def without_annotation(one=Depends(get_one)) -> None: ...  # type: ignore[no-untyped-def]
def with_many(*args: Any, port: int = 1, **more: Any) -> None: ...


def binding_of(function: Callable[..., Any]) -> Binding:
    return Binding("send", function)


def test_what_is_filled_in_is_no_argument() -> None:
    def send(
        to: str,
        *,
        two: int = Depends(get_two),
        shared: int = Depends(get_shared, scope="worker"),
        many: None = Depends(with_many),
        ctx: JobContext = INJECTED,
    ) -> None: ...

    binding = binding_of(send)
    assert binding.filled == {"two", "shared", "many", "ctx"}
    assert [p.name for p in binding.parameters.all] == ["to"]
    binding.check(("x",), {})
    assert repr(Depends(get_two)) == f"Depends({__name__}.get_two)"


def by_position(one: int = Depends(get_one)) -> None: ...
def untyped(*, one=Depends(get_one)) -> None: ...  # type: ignore[no-untyped-def]
def needs_argument(*, one: None = Depends(with_argument)) -> None: ...
def needs_context(*, one: None = Depends(with_context)) -> None: ...
def needs_place(*, one: None = Depends(with_place)) -> None: ...
def needs_untyped(*, one: None = Depends(without_annotation)) -> None: ...
def shares_two(*, two: int = Depends(get_two, scope="worker")) -> None: ...
def shares_attempt(*, two: int = Depends(get_attempt, scope="worker")) -> None: ...
def needs_builtin(*, one: Any = Depends(type)) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (by_position, r"'one' with Depends must be keyword-only; write '\*, one: \.\.\. = Depends"),
        (untyped, "send: the parameter 'one' with Depends has no annotation"),
        (needs_argument, r"with_argument: nobody would fill in its parameter 'host'; give it a"),
        (needs_context, "with_context: nobody would fill in its parameter 'ctx'"),
        (needs_place, "with_place: its parameter 'one' is filled in by its name"),
        (needs_untyped, "without_annotation: the parameter 'one' with Depends has no annotation"),
        (
            shares_two,
            r"get_two is made once a worker, but its parameter 'one' is made once an attempt; "
            r"write Depends\(.*get_one, scope='worker'\)",
        ),
        (
            shares_attempt,
            "get_attempt is made once a worker, so it gets no JobContext; leave 'ctx'",
        ),
        (needs_builtin, "parameters of the dependency builtins.type cannot be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_work_is_refused(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(RegistrationError, match=said):
        binding_of(function)


def test_a_circle_is_refused() -> None:
    def first(other: int = Depends(get_one)) -> int:
        return other

    def second(other: int = Depends(first)) -> int:
        return other

    first.__defaults__ = (Depends(second),)

    def send(*, value: int = Depends(first)) -> None: ...

    with pytest.raises(RegistrationError, match=r"need each other: .*first -> .*second -> .*first"):
        binding_of(send)


def test_depends_takes_functions_and_known_scopes() -> None:
    wrong: Any = 5
    wrong_scope: Any = "job"
    with pytest.raises(RegistrationError, match="takes a function that makes the dependency"):
        Depends(wrong)
    with pytest.raises(RegistrationError, match=r"get_one, scope='job'\): scope is 'attempt' or"):
        Depends(get_one, scope=wrong_scope)


def test_a_lifespan_is_shared_by_all() -> None:
    def get_pool() -> Iterator[int]:
        yield 1

    def again(*, pool: int = Depends(get_pool, scope="attempt")) -> None: ...
    def uses(*, pool: int = Depends(get_pool)) -> None: ...

    assert not binding_of(uses).needs[0].is_shared
    registry = JobRegistry()
    assert registry.lifespan(get_pool) is get_pool
    assert binding_of(uses).needs[0].is_shared
    with pytest.raises(RegistrationError, match=r"'pool' has scope='attempt', but .*get_pool is a"):
        binding_of(again)
    app = AsyncJobs("memory:")
    app.lifespan(get_two_pools)
    app.include(registry)
    names = [each.function for each in app.registry.resources.lifespans]
    assert names == [get_two_pools, get_pool]
    # As a reload does it.
    app.lifespan(get_two_pools)
    assert len(app.registry.resources.lifespans) == 2
    with pytest.raises(RegistrationError, match="get_two is made once a worker, but"):
        app.lifespan(get_two)
    with pytest.raises(RegistrationError, match="a lifespan is a function at module level"):
        app.lifespan("x".upper)


def get_two_pools() -> Iterator[int]:
    yield 2


def test_an_override_that_needs_what_it_replaces_is_refused() -> None:
    app = AsyncJobs("memory:")

    def fake(two: int = Depends(get_two)) -> int:
        return two

    override = app.override(get_two, fake)
    with pytest.raises(RegistrationError, match=r"fake needs .*get_two, which it replaces"):
        override.__enter__()
    one = app.registry.resources.in_force(provider_of(get_two))
    assert one.function is get_two
    wrong: Any = 5
    with pytest.raises(RegistrationError, match=r"override\(\) takes a function that makes"):
        app.override(get_two, wrong).__enter__()


def test_another_process_gets_none() -> None:
    far = SimpleNamespace(value="process", shares_memory=False)
    with pytest.raises(RegistrationError, match="far has isolation='process', and what Depends"):
        job_function._check_isolation("far", cast("Isolation", far))
