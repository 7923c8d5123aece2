"""lifespan(): the app is open around the web application and the user's own lifespans."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from asyncjobs import AsyncJobs, ConfigError, NotOpen, UsageError
from asyncjobs.integrations import lifespan

pytestmark = pytest.mark.anyio

Own = Callable[[Any], AbstractAsyncContextManager[Any]]


@pytest.fixture
def jobs() -> AsyncJobs:
    return AsyncJobs("memory:")


def is_open(app: AsyncJobs) -> bool:
    try:
        return bool(app.client)
    except NotOpen:
        return False


@pytest.fixture
def notes() -> list[tuple[str, bool]]:
    """What happened, and whether the app was open then."""
    return []


@pytest.fixture
def own(jobs: AsyncJobs, notes: list[tuple[str, bool]]) -> Callable[..., Own]:
    """Makes lifespans of a user, which write down when they start and stop."""

    def make(name: str, state: dict[str, Any] | None = None) -> Own:
        @asynccontextmanager
        async def lives(web: Any) -> AsyncIterator[dict[str, Any] | None]:
            notes.append((f"{name} starts", is_open(jobs)))
            try:
                yield state
            finally:
                notes.append((f"{name} stops", is_open(jobs)))

        return lives

    return make


async def run_asgi(web: Any) -> list[dict[str, Any]]:
    """Start and stop a web application as a server does; what it answered."""
    told = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(told)

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    await web(scope, receive, send)
    return [*answers, scope["state"]]


async def test_the_app_is_open_while_the_web_application_runs(jobs: AsyncJobs) -> None:
    async with lifespan(jobs)(object()) as state:
        assert (is_open(jobs), state) == (True, None)
    assert not is_open(jobs)


async def test_others_start_in_order_and_stop_in_reverse_while_the_app_is_open(
    jobs: AsyncJobs, own: Callable[..., Own], notes: list[tuple[str, bool]]
) -> None:
    async with lifespan(jobs, own("a"), own("b"))(object()):
        notes.append(("runs", is_open(jobs)))
    assert [name for name, _ in notes] == ["a starts", "b starts", "runs", "b stops", "a stops"]
    assert {was_open for _, was_open in notes} == {True}
    assert not is_open(jobs)


async def test_others_are_given_the_web_application(jobs: AsyncJobs) -> None:
    seen: list[Any] = []

    @asynccontextmanager
    async def mine(web: Any) -> AsyncIterator[None]:
        seen.append(web)
        yield

    web = object()
    async with lifespan(jobs, mine)(web):
        assert seen == [web]


async def test_state_is_merged_and_the_later_one_stays(
    jobs: AsyncJobs, own: Callable[..., Own]
) -> None:
    first, second = {"a": 1, "b": 1}, {"b": 2}
    async with lifespan(jobs, own("a", first), own("n"), own("b", second))(object()) as state:
        assert state == {"a": 1, "b": 2}
    assert (first, second) == ({"a": 1, "b": 1}, {"b": 2})


async def test_a_start_that_fails_leaves_what_has_been_entered(
    jobs: AsyncJobs, own: Callable[..., Own], notes: list[tuple[str, bool]]
) -> None:
    @asynccontextmanager
    async def broken(web: Any) -> AsyncIterator[None]:
        raise LookupError("no such thing")
        yield

    with pytest.raises(LookupError, match="no such thing"):
        async with lifespan(jobs, own("a"), broken, own("b"))(object()):
            raise AssertionError("it must not run")
    assert notes == [("a starts", True), ("a stops", True)]
    assert not is_open(jobs)


async def test_a_store_that_cannot_be_opened_ends_the_start(
    own: Callable[..., Own], notes: list[tuple[str, bool]]
) -> None:
    with pytest.raises(ConfigError, match="unknown scheme"):
        async with lifespan(AsyncJobs("nosuch://store"), own("a"))(object()):
            raise AssertionError("it must not run")
    assert notes == []


async def test_lifespans_can_be_nested_and_entered_again(jobs: AsyncJobs) -> None:
    other = AsyncJobs("memory:")
    both = lifespan(jobs, lifespan(other))
    for _ in range(2):
        async with both(object()):
            assert is_open(jobs)
            assert is_open(other)
        assert not is_open(jobs)
        assert not is_open(other)


@pytest.mark.parametrize("framework", [FastAPI, Starlette])
async def test_frameworks_take_it(
    framework: type[Starlette],
    jobs: AsyncJobs,
    own: Callable[..., Own],
    notes: list[tuple[str, bool]],
) -> None:
    web = framework(lifespan=lifespan(jobs, own("a", {"greeting": "hello"})))
    *answers, state = await run_asgi(web)
    complete = ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [answer["type"] for answer in answers] == complete
    assert state == {"greeting": "hello"}
    assert notes == [("a starts", True), ("a stops", True)]


async def test_a_web_application_in_the_place_of_the_app_is_named() -> None:
    with pytest.raises(UsageError, match=r"takes the AsyncJobs first, not a FastAPI; write"):
        # What a framework does with `lifespan=lifespan`.
        lifespan(FastAPI())  # type: ignore[call-overload]


async def test_an_undecorated_generator_is_named(jobs: AsyncJobs) -> None:
    async def mine(web: Any) -> AsyncIterator[None]:
        yield

    with pytest.raises(UsageError, match=r"cannot enter .*mine; give .* @asynccontextmanager"):
        lifespan(jobs, mine)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"cannot enter a str; give"):
        lifespan(jobs, "mine")  # type: ignore[call-overload]


def test_no_framework_is_imported() -> None:
    code = (
        "import sys, asyncjobs.integrations\n"
        "print([n for n in ('fastapi', 'starlette', 'litestar') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
