"""The lifespan of a web application, as FastAPI, Starlette and Litestar take it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias, TypeVar, overload

from asyncjobs.app import AsyncJobs
from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import type_of

__all__ = ["Lifespan", "lifespan"]

W = TypeVar("W")

State: TypeAlias = Mapping[str, Any] | None
Lifespan: TypeAlias = Callable[[W], AbstractAsyncContextManager[State]]
"""A function from the web application to a context manager around its life."""

# Frameworks have one type for a lifespan with state and another for one without. Any fits both.
_Joined: TypeAlias = Callable[[W], AbstractAsyncContextManager[Any]]


@overload
def lifespan(app: AsyncJobs, /) -> _Joined[Any]: ...
@overload
def lifespan(app: AsyncJobs, first: Lifespan[W], /, *others: Lifespan[W]) -> _Joined[W]: ...
def lifespan(app: AsyncJobs, /, *others: Lifespan[Any]) -> _Joined[Any]:
    """A lifespan that opens `app` while the web application runs.

        web = FastAPI(lifespan=lifespan(jobs))
        web = Starlette(lifespan=lifespan(jobs, mine))
        web = Litestar(lifespan=[lifespan(jobs)])

    `others` are your own lifespans. They are entered after the app is open, in their order, and
    left in reverse before it closes, so they may enqueue at both ends. The states that they yield
    are merged; if two have the same name, the later one wins. An exception in one of them ends the
    start or the stop, after those entered before it have been left.

    Raises UsageError if `app` is not an AsyncJobs, and for an undecorated async generator among
    `others`. The lifespan raises like `async with app`.
    """
    if not isinstance(app, AsyncJobs):
        raise UsageError(
            f"lifespan() takes the AsyncJobs first, not {type_of(app)}; write "
            "FastAPI(lifespan=lifespan(jobs)), where jobs is your AsyncJobs"
        )
    for other in others:
        if not callable(other) or inspect.isasyncgenfunction(other):
            raise UsageError(
                f"lifespan() cannot enter {getattr(other, '__qualname__', type_of(other))}; give "
                "a function of the web application with @asynccontextmanager above it"
            )

    @asynccontextmanager
    async def joined(web: Any) -> AsyncIterator[dict[str, Any] | None]:
        state: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(app)
            for other in others:
                given: State = await stack.enter_async_context(other(web))
                if given is not None:
                    state.update(given)
            # None instead of an empty mapping: a server without ASGI's state extension refuses both
            # an empty and a full one.
            yield state or None

    return joined
