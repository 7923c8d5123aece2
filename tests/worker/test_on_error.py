"""Handlers of errors, on each store: what they answer, which one is asked, and when none is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from asyncjobs import (
    Abort,
    AsyncJobs,
    CallNext,
    Discard,
    JobAttempt,
    JobDiscarded,
    JobFailed,
    JobRegistry,
    RegistrationError,
    Retry,
    RetryPolicy,
    Snooze,
    State,
    Succeed,
    constant,
)
from asyncjobs.jobs.rescue import Handler, nearest
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, ended, register, working

pytestmark = pytest.mark.anyio

seen: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


async def looks_up(name: str) -> str:
    raise KeyError(name)


def looks_up_in_thread(name: str) -> str:
    raise KeyError(name)


EACH = pytest.mark.parametrize("function", [looks_up, looks_up_in_thread])


@EACH
@pytest.mark.parametrize(
    ("answer", "result"), [("instead", "instead"), (Succeed(), None), (Succeed([1]), [1]), (0, 0)]
)
async def test_a_value_is_the_result_of_the_job(
    app: AsyncJobs, function: Callable[..., Any], answer: Any, result: Any
) -> None:
    job = register(app, function)

    @job.on_error(LookupError)
    async def answers(attempt: JobAttempt, error: LookupError) -> Any:
        seen.append((attempt.name, attempt.args, type(error)))
        return answer

    async with working(app):
        assert await (await job.enqueue("x")).result(LIMIT_S) == result
    assert seen == [(function.__name__, ("x",), KeyError)]


async def test_signals_that_are_returned_or_raised_are_obeyed(app: AsyncJobs) -> None:
    job = register(app, looks_up)

    @job.on_error(KeyError)
    async def answers(attempt: JobAttempt, error: KeyError) -> Any:
        if attempt.args == ("retry",):
            if attempt.number == 2:
                return "second"
            return Retry("once more", delay=0)
        if attempt.args == ("discard",):
            return Discard("not wanted")
        if attempt.args == ("abort",):
            raise Abort("not now")
        return Snooze(600)

    async with working(app):
        assert await (await job.enqueue("retry")).result(LIMIT_S) == "second"
        with pytest.raises(JobDiscarded, match="not wanted"):
            await (await job.enqueue("discard")).result(LIMIT_S)
        with pytest.raises(JobDiscarded, match="not now"):
            await (await job.enqueue("abort")).result(LIMIT_S)
        await ended(app, (await job.enqueue("snooze")).id, State.SCHEDULED)


async def test_none_leaves_the_error_as_it_is(app: AsyncJobs) -> None:
    job = register(app, looks_up, retry=False)

    @job.on_error(KeyError)
    async def only_looks(attempt: JobAttempt, error: KeyError) -> None:
        seen.append(error.args)

    async with working(app):
        with pytest.raises(JobFailed, match="KeyError"):
            await (await job.enqueue("x")).result(LIMIT_S)
    assert seen == [("x",)]


async def test_the_error_of_a_handler_fails_the_attempt_and_shows_the_first_one(
    app: AsyncJobs,
) -> None:
    job = register(app, looks_up, retry=False)

    @job.on_error(KeyError)
    async def breaks(attempt: JobAttempt, error: KeyError) -> None:
        raise ValueError("in the handler")

    async with working(app):
        with pytest.raises(JobFailed, match="in the handler") as caught:
            await (await job.enqueue("x")).result(LIMIT_S)
    assert caught.value.error_type == "ValueError"
    assert "KeyError: 'x'" in caught.value.remote_traceback


async def test_the_function_is_asked_first_then_its_registry_then_the_app(app: AsyncJobs) -> None:
    job = register(app, looks_up)

    @app.on_error(KeyError)
    async def last(attempt: JobAttempt, error: KeyError) -> str:
        seen.append("app")
        return "from the app"

    @job.on_error(Exception)
    async def first(attempt: JobAttempt, error: Exception) -> None:
        seen.append("function")

    async with working(app):
        assert await (await job.enqueue("x")).result(LIMIT_S) == "from the app"
    assert seen == ["function", "app"]


async def test_it_answers_errors_of_middleware_too(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)

    @job.middleware
    async def breaks(attempt: JobAttempt, call_next: CallNext) -> Any:
        raise LookupError("from a middleware")

    @app.on_error(LookupError)
    async def answers(attempt: JobAttempt, error: LookupError) -> str:
        return str(error)

    async with working(app):
        assert await (await job.enqueue("x")).result(LIMIT_S) == "from a middleware"


async def test_it_is_not_asked_about_stops_and_signals(app: AsyncJobs, stage: Stage) -> None:
    slow = register(app, jobs.tidies, timeout=0.05, retry=False)
    stopped = register(app, jobs.gated)
    discards, snoozes = register(app, jobs.discards), register(app, jobs.snoozes)

    @app.on_error(Exception)
    async def answers(attempt: JobAttempt, error: Exception) -> str:
        seen.append(error)
        return "answered"

    async with working(app):
        with pytest.raises(JobFailed, match="longer than its"):
            await (await slow.enqueue("slow")).result(LIMIT_S)
        handle = await stopped.enqueue("g")
        await stage.noted(("started", "g"))
        assert await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)
        with pytest.raises(JobDiscarded):
            await (await discards.enqueue()).result(LIMIT_S)
        await (await snoozes.enqueue(1)).result(LIMIT_S)
    assert seen == []


async def raises_when_stopped(name: str) -> None:
    jobs.stage.note(("started", name))
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise LookupError("while it was stopped") from None


async def test_what_a_stopped_attempt_raises_is_answered_by_none(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, raises_when_stopped)

    @app.on_error(Exception)
    async def answers(attempt: JobAttempt, error: Exception) -> str:
        seen.append(error)
        return "answered"

    async with working(app):
        handle = await job.enqueue("x")
        await stage.noted(("started", "x"))
        assert await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)
    assert seen == []


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("kinds", "answered"),
    [(["broken", "broken"], True), (["broken", "value"], False), (["broken", "discard"], True)],
)
async def test_a_group_counts_as_the_errors_in_it(
    app: AsyncJobs, kinds: list[str], answered: bool
) -> None:
    job = register(app, jobs.fails_in_group, retry=RetryPolicy(1, constant(0)))

    @job.on_error(jobs.Broken)
    async def answers(attempt: JobAttempt, error: Exception) -> str:
        assert isinstance(error, ExceptionGroup)
        return "answered"

    async with working(app):
        handle = await job.enqueue(kinds)
        if answered:
            assert await handle.result(LIMIT_S) == "answered"
        else:
            with pytest.raises(JobFailed):
                await handle.result(LIMIT_S)


# -- without a worker ------------------------------------------------------------------------------


async def handler(attempt: JobAttempt, error: Exception) -> None: ...
async def other(attempt: JobAttempt, error: Exception) -> None: ...


@pytest.mark.parametrize(
    ("kinds", "errors", "wanted"),
    [
        ([Exception, KeyError, LookupError], [KeyError()], 1),
        ([Exception, LookupError], [KeyError()], 1),
        ([KeyError, KeyError], [KeyError()], 0),
        ([ValueError], [KeyError()], None),
        ([KeyError, LookupError], [KeyError(), IndexError()], 1),
    ],
)
def test_the_most_specific_class_is_asked_and_of_equals_the_first(
    kinds: list[type[Exception]], errors: list[Exception], wanted: int | None
) -> None:
    functions: list[Any] = [object() for _ in kinds]
    handlers = [Handler((kind,), function) for kind, function in zip(kinds, functions, strict=True)]
    found = nearest(handlers, errors)
    assert found is (None if wanted is None else functions[wanted])


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        ((), "names no exception class"),
        ((asyncio.CancelledError,), "cancellation and exits are no errors"),
        (("KeyError",), "takes classes of Exception"),
        ((ExceptionGroup,), "a group counts as the errors in it"),
        ((KeyError, Snooze), "is a signal and no error"),
    ],
)
def test_what_no_handler_can_answer_is_refused(
    app: AsyncJobs, kinds: tuple[Any, ...], why: str
) -> None:
    with pytest.raises(RegistrationError, match=why):
        app.on_error(*kinds)


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
def test_a_handler_that_does_not_fit_is_refused(app: AsyncJobs) -> None:
    def plain(attempt: JobAttempt, error: Exception) -> None: ...

    with pytest.raises(RegistrationError, match=r"must be async def f\(attempt, error\)"):
        app.on_error(Exception)(plain)  # type: ignore[arg-type]
    assert JobRegistry().hooks.passage() is None
    assert app.hooks.passage() is None
