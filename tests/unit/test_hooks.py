"""The hooks of scopes: which ones a job function passes, in which order, and what is refused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from asyncjobs import (
    Abort,
    AsyncJobs,
    CallNext,
    Discard,
    JobAttempt,
    JobRegistry,
    RegistrationError,
    UsageError,
)

pytestmark = pytest.mark.anyio

seen: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def noting(name: str) -> Callable[[JobAttempt, CallNext], Any]:
    async def middleware(attempt: JobAttempt, call_next: CallNext) -> Any:
        seen.append(f"{name} in")
        value = await call_next()
        seen.append(f"{name} out")
        return value

    return middleware


async def pays(amount: int) -> int:
    return amount


async def mails(amount: int) -> int:
    return amount


async def call() -> str:
    seen.append("job")
    return "done"


def attempt() -> JobAttempt:
    return JobAttempt.local("pays", [1], {"to": "you"})


async def test_scopes_are_passed_from_the_app_to_the_function_in_the_order_of_adding() -> None:
    app, outer, inner = AsyncJobs("memory:"), JobRegistry(), JobRegistry()
    job = inner.job(pays)
    job.middleware(noting("function 1"))
    job.middleware(noting("function 2"))
    inner.middleware(noting("inner"))
    outer.middleware(noting("outer"))
    outer.include(inner)
    app.include(outer)
    # A scope may get its middleware after it was included.
    app.middleware(noting("app"))
    passage = job.hooks.passage()
    assert passage is not None
    assert await passage.run(attempt(), call) == "done"
    ways = ["app", "outer", "inner", "function 1", "function 2"]
    assert seen == [
        *(f"{way} in" for way in ways),
        "job",
        *(f"{way} out" for way in reversed(ways)),
    ]


async def test_a_scope_is_passed_by_its_own_job_functions_only() -> None:
    app, first, second = AsyncJobs("memory:"), JobRegistry(), JobRegistry()
    app.include(first)
    app.include(second)
    with_it, beside, elsewhere = first.job(pays), first.job(mails), app.job(call)
    with_it.middleware(noting("function"))
    assert beside.hooks.passage() is None
    second.middleware(noting("second"))
    assert beside.hooks.passage() is None
    assert elsewhere.hooks.passage() is None
    assert with_it.options(priority="high").hooks is with_it.hooks


async def test_what_it_sees_of_a_call_without_a_worker() -> None:
    app = AsyncJobs("memory:")
    job = app.job(pays)
    found: list[JobAttempt] = []

    @job.middleware
    async def looks(attempt: JobAttempt, call_next: CallNext) -> Any:
        found.append(attempt)
        return await call_next()

    passage = job.hooks.passage()
    assert passage is not None
    await passage.run(attempt(), call)
    (one,) = found
    assert (one.name, one.number, str(one.ref)) == ("pays", 1, "default/local")
    assert (one.args, dict(one.kwargs)) == ((1,), {"to": "you"})
    assert one.context.name == "pays"
    assert one.info.max_attempts == 1
    assert "you" not in repr(one)
    with pytest.raises(TypeError):
        one.kwargs["to"] = "me"  # type: ignore[index]


async def test_a_middleware_calls_the_function_once() -> None:
    app = AsyncJobs("memory:")
    job = app.job(pays)

    @job.middleware
    async def twice(attempt: JobAttempt, call_next: CallNext) -> Any:
        await call_next()
        return await call_next()

    passage = job.hooks.passage()
    assert passage is not None
    with pytest.raises(UsageError, match=r"call_next\(\) twice"):
        await passage.run(attempt(), call)
    assert seen == ["job"]


def plain(attempt: JobAttempt, call_next: CallNext) -> Any: ...


async def takes_one(attempt: JobAttempt) -> Any: ...


async def takes_three(attempt: JobAttempt, call_next: CallNext, more: int) -> Any: ...


@pytest.mark.parametrize("scope", [AsyncJobs("memory:"), JobRegistry(), AsyncJobs().job(pays)])
@pytest.mark.parametrize(
    ("middleware", "why"),
    [
        (plain, r"must be async def f\(attempt, call_next\)"),
        (None, "must be async def"),
        (functools.partial(plain), "must be async def"),
        (takes_one, "does not fit: too many positional arguments"),
        (takes_three, "does not fit: missing a required argument: 'more'"),
    ],
)
def test_what_cannot_be_a_middleware_is_refused_at_once(
    scope: Any, middleware: Any, why: str
) -> None:
    with pytest.raises(RegistrationError, match=why):
        scope.middleware(middleware)
    assert scope.hooks.passage() is None


class Called:
    async def __call__(self, attempt: JobAttempt, call_next: CallNext) -> Any:
        return await call_next()


@pytest.mark.parametrize(
    "middleware",
    [functools.partial(takes_three, more=1), Called(), functools.partial(Called())],
)
def test_objects_and_partials_may_be_middleware(middleware: Any) -> None:
    app = AsyncJobs("memory:")
    assert app.middleware(middleware) is middleware


def test_an_abort_is_a_discard_with_a_reason() -> None:
    assert isinstance(Abort("closed"), Discard)
    assert Abort("closed").reason == "closed"
    assert Abort(ValueError("no")).reason == "no"
    assert Abort().reason == "aborted by a middleware"
