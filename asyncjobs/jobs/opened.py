"""The open resources of one worker, and the task that opens and closes them."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

from asyncjobs.errors import ResourceError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide
from asyncjobs.jobs.dependency import Maker, Provider
from asyncjobs.jobs.resources import Resources

__all__ = ["CLOSE_S", "Opened"]

logger = GuardedLog("asyncjobs.worker")

SLOW_S: Final = 10.0
"""After so long, and each time again, a line of the log names a resource that is still opening."""
CLOSE_S: Final = 10.0
"""How long each resource may take to close. Longer, it would hold up the end of the process."""

_opened: contextvars.ContextVar[Opened] = contextvars.ContextVar("asyncjobs_opened")
"""Of the worker that runs this job, or of the `async with app.resources()` around this code."""
_everywhere: list[Opened] = []
"""Those of each `async with app.resources()`, the innermost last."""


class Opened:
    """What one worker has opened once: its lifespans, and dependencies with `scope="worker"`.

    One task opens all of them, one after the other, and closes them in the reverse order. Some
    resources, such as a task group, must be closed by the task that has opened them, and the task
    of a job may be gone or cancelled by then. Nothing is started until the first one is asked for.
    """

    def __init__(self, resources: Resources) -> None:
        self._loop = asyncio.get_running_loop()
        self._resources = resources.root
        self._values: dict[Maker, asyncio.Future[Any]] = {}
        self._asked: deque[tuple[Provider, asyncio.Future[Any]]] = deque()
        """At most one entry for each function."""
        self._news = asyncio.Event()
        self._stack: list[tuple[str, AsyncExitStack]] = []
        self._owner: asyncio.Task[None] | None = None
        self._opening: Provider | None = None
        self._is_closing = False
        # The first one may be asked for by a job, whose trace and context must not be kept.
        self._context = contextvars.copy_context()

    # -- who uses them ------------------------------------------------------------------------

    @contextmanager
    def within(self) -> Iterator[None]:
        """Let the code inside use them, and the tasks that it starts."""
        token = _opened.set(self)
        try:
            yield
        finally:
            _opened.reset(token)

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Let all plain calls on this loop use them that no worker makes."""
        _everywhere.append(self)
        try:
            with self.within():
                yield
        finally:
            _everywhere.remove(self)

    @classmethod
    def at_hand(cls, resources: Resources) -> Opened | None:
        """What is open for the code that asks; None if it has to be opened first."""
        root = resources.root
        here = _opened.get(None)
        # A job may call a job function of another app, which has resources of its own.
        if here is not None and here._resources is root:
            return here
        loop = asyncio.get_running_loop()
        for each in reversed(_everywhere):
            if each._resources is root and each._loop is loop:
                return each
        return None

    # -- opening ------------------------------------------------------------------------------

    async def open_lifespans(self) -> None:
        """Open all lifespans of the app. Raises ResourceError naming the first that fails."""
        for lifespan in self._resources.lifespans:
            provider = self._resources.in_force(lifespan)
            try:
                await self.value(provider)
            except Exception as error:
                raise ResourceError(
                    f"the resource {provider.name} could not be opened: "
                    f"{type(error).__name__}: {error}"
                ) from error

    async def value(self, provider: Provider) -> Any:
        """What this provider makes, made once. Raises what it raises; the next who asks tries
        again."""
        future = self._values.get(provider.function)
        if future is None:
            if self._is_closing:
                raise ResourceError(f"the resource {provider.name} is closed: its worker has ended")
            future = self._ask(provider)
        # rule:28 who waits for a resource and is cancelled does not take it from the others
        return await asyncio.shield(future)

    def _ask(self, provider: Provider) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._values[provider.function] = future
        self._asked.append((provider, future))
        self._news.set()
        if self._owner is None:
            start = self._context.run
            self._owner = hide(
                start(self._loop.create_task, self._own(), name="asyncjobs-resources")
            )
        return future

    # -- the task that owns them --------------------------------------------------------------

    async def _own(self) -> None:
        try:
            while not self._is_closing:
                while self._asked and not self._is_closing:
                    await self._answer(*self._asked.popleft())
                self._news.clear()
                if not self._is_closing:
                    await self._news.wait()
        finally:
            for _, future in self._asked:
                future.cancel()
            await self._close_all()

    async def _answer(self, provider: Provider, future: asyncio.Future[Any]) -> None:
        self._opening = provider
        slow = self._loop.call_later(SLOW_S, self._warn_slow, provider, time.monotonic())
        try:
            value = await self._open(provider)
        # Even SystemExit: in a task of its own it would end the loop, past all jobs.
        except BaseException as error:
            del self._values[provider.function]
            if future.done():
                return
            if isinstance(error, asyncio.CancelledError) and self._is_closing:
                future.cancel()
                return
            if not isinstance(error, Exception):
                error = ResourceError(f"{provider.name} has raised {type(error).__name__}")
            future.set_exception(error)
            # Whoever asked may be gone. Then asyncio would log that nobody has seen it.
            future.exception()
        else:
            if not future.done():
                future.set_result(value)
        finally:
            self._opening = None
            slow.cancel()

    async def _open(self, provider: Provider) -> Any:
        if provider.context is not None:
            # Refused at registration, but an override comes later.
            raise ResourceError(f"{provider.name} is made once a worker, so it gets no JobContext")
        values: dict[str, Any] = {}
        for need in provider.needs:
            values[need.parameter] = await self._open_need(self._resources.in_force(need.provider))
        stack = AsyncExitStack()
        value = await provider.make(stack, values)
        self._stack.append((provider.name, stack))
        return value

    async def _open_need(self, provider: Provider) -> Any:
        """What another resource needs. Asked for by the owner, which cannot wait for itself."""
        future = self._values.get(provider.function)
        if future is not None and future.done():
            return future.result()
        value = await self._open(provider)
        if future is None:
            future = self._values[provider.function] = self._loop.create_future()
        future.set_result(value)
        # Somebody may have asked for it, too, and waits.
        self._asked = deque(each for each in self._asked if each[1] is not future)
        return value

    def _warn_slow(self, provider: Provider, since_s: float) -> None:
        logger.warning(
            "the resource %s is still opening after %.0f s; no job that needs it starts before",
            provider.name,
            time.monotonic() - since_s,
        )
        self._loop.call_later(SLOW_S, self._warn_if_slow, provider, since_s)

    def _warn_if_slow(self, provider: Provider, since_s: float) -> None:
        if self._opening is provider:
            self._warn_slow(provider, since_s)

    # -- the end ------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close all of them, the newest first. What one raises is logged. Raises nothing else."""
        self._is_closing = True
        owner = self._owner
        if owner is None:
            return
        self._news.set()
        if self._opening is not None:
            owner.cancel()
        # Each has its own limit inside. This one is for a resource that ignores its cancellation.
        limit_s = CLOSE_S * (len(self._stack) + 1)
        _, late = await asyncio.wait({owner}, timeout=limit_s)
        if late:
            logger.error("resources are left open: one ignores that it was cancelled")

    async def _close_all(self) -> None:
        while self._stack:
            name, stack = self._stack.pop()
            try:
                async with asyncio.timeout(CLOSE_S):
                    await stack.aclose()
            except TimeoutError:
                logger.error("the resource %s was not closed within %g s", name, CLOSE_S)
            # rule:28 a resource that fails to close does not keep the others open
            except BaseException as error:
                logger.error("the resource %s failed to close", name, exc_info=error)

    @classmethod
    @asynccontextmanager
    async def of(cls, resources: Resources) -> AsyncIterator[Opened]:
        """Open while entered, and nothing in it yet."""
        opened = cls(resources)
        try:
            yield opened
        finally:
            await opened.close()
