"""The open resources of one worker, and the tasks that open and close them."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
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

LAST_S: Final = 1.0
"""How long one may take that was cancelled for that."""

_opened: contextvars.ContextVar[Opened] = contextvars.ContextVar("asyncjobs_opened")
"""Of the worker that runs this job, or of the `async with app.resources()` around this code."""
_everywhere: list[Opened] = []
"""Those of each `async with app.resources()`, the innermost last."""


class Opened:
    """What one worker has opened once: its lifespans, and dependencies with `scope="worker"`.

    `on_failed` is called when a resource ends although nobody has closed it, because a task of
    its own has failed. `failure` says which one.
    """

    def __init__(self, resources: Resources, on_failed: Callable[[], None] = lambda: None) -> None:
        self._loop = asyncio.get_running_loop()
        self._resources = resources.root
        self._known: dict[Maker, _Resource] = {}
        self._order: list[_Resource] = []
        """Those that are open, the newest last."""
        self._is_closing = False
        self._on_failed = on_failed
        self.failure: ResourceError | None = None
        # The first who asks may be a job, whose trace and context must not be kept.
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
        resource = self._known.get(provider.function)
        if resource is None:
            if self._is_closing:
                raise ResourceError(f"the resource {provider.name} is closed: its worker has ended")
            resource = self._known[provider.function] = _Resource(provider, self._loop)
            resource.task = hide(self._context.run(self._loop.create_task, self._keep(resource)))
        # rule:28 who waits for a resource and is cancelled does not take it from the others
        return await asyncio.shield(resource.value)

    # -- the task of each resource ------------------------------------------------------------

    async def _keep(self, resource: _Resource) -> None:
        """Open it, wait, and close it. All in one task: a task group, for example, must be left by
        the task that has entered it. And if such a group cancels its task, it is no other's."""
        stack = AsyncExitStack()
        try:
            value = await resource.open(stack, self._need)
        # Even SystemExit: in a task of its own it would end the loop, past all jobs.
        except BaseException as error:
            self._known.pop(resource.provider.function, None)
            resource.fail(error)
            return
        self._order.append(resource)
        resource.value.set_result(value)
        fault = await resource.hold(stack)
        if not resource.is_ending:
            self._note_end(resource, fault)

    async def _need(self, provider: Provider) -> Any:
        return await self.value(self._resources.in_force(provider))

    def _note_end(self, resource: _Resource, fault: BaseException | None) -> None:
        """It has ended by itself, under the jobs that use it."""
        self._known.pop(resource.provider.function, None)
        self._order.remove(resource)
        if self.failure is None:
            self.failure = ResourceError(f"the resource {resource.name} has ended by itself")
            self.failure.__cause__ = fault
        logger.error("the resource %s has ended by itself", resource.name, exc_info=fault)
        # rule:28 a worker whose resource has failed takes no more jobs
        self._on_failed()

    # -- the end ------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close all of them, the newest first. What one raises is logged. Raises nothing else."""
        self._is_closing = True
        for resource in list(self._known.values()):
            if not resource.value.done():
                await resource.end()
        for resource in reversed(self._order.copy()):
            await resource.end()

    @classmethod
    @asynccontextmanager
    async def of(
        cls, resources: Resources, on_failed: Callable[[], None] = lambda: None
    ) -> AsyncIterator[Opened]:
        """Open while entered, and nothing in it yet."""
        opened = cls(resources, on_failed)
        try:
            yield opened
        finally:
            await opened.close()


class _Resource:
    """One resource, from its opening to its end."""

    def __init__(self, provider: Provider, loop: asyncio.AbstractEventLoop) -> None:
        self.provider = provider
        self.name = provider.name
        self.value: asyncio.Future[Any] = loop.create_future()
        self.task: asyncio.Task[None] | None = None
        self.is_ending = False
        self._is_late = False
        self._loop = loop
        self._ends = asyncio.Event()
        self._slow: asyncio.TimerHandle | None = None

    async def open(
        self, stack: AsyncExitStack, need: Callable[[Provider], Coroutine[Any, Any, Any]]
    ) -> Any:
        """Its value. `need` gets what it needs itself."""
        if self.provider.context is not None:
            # Refused at registration, but an override comes later.
            raise ResourceError(f"{self.name} is made once a worker, so it gets no JobContext")
        self._warn_later(time.monotonic())
        try:
            values: dict[str, Any] = {}
            for each in self.provider.needs:
                values[each.parameter] = await need(each.provider)
            return await self.provider.make(stack, values)
        finally:
            if self._slow is not None:
                self._slow.cancel()

    def _warn_later(self, since_s: float) -> None:
        self._slow = self._loop.call_later(SLOW_S, self._warn, since_s)

    def _warn(self, since_s: float) -> None:
        logger.warning(
            "the resource %s is still opening after %.0f s; no job that needs it starts before",
            self.name,
            time.monotonic() - since_s,
        )
        self._warn_later(since_s)

    def fail(self, error: BaseException) -> None:
        """It could not be opened."""
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if is_cancelled and self.is_ending:
            self.value.cancel()
            return
        if not isinstance(error, Exception):
            error = ResourceError(f"{self.name} has raised {type(error).__name__}")
        self.value.set_exception(error)
        # Whoever asked may be gone. Then asyncio would log that nobody has seen it.
        self.value.exception()

    async def hold(self, stack: AsyncExitStack) -> BaseException | None:
        """Wait for its end, and close it. Returns the error that has ended it, if any."""
        cause: BaseException | None = None
        try:
            await self._ends.wait()
        except BaseException as error:
            # By a task group inside of it, one of whose tasks has failed.
            cause = error
        try:
            if cause is None:
                await stack.aclose()
            else:
                await stack.__aexit__(type(cause), cause, cause.__traceback__)
        # rule:28 a resource that fails to close does not keep the others open
        except BaseException as error:
            if self.is_ending and not self._is_late:
                logger.error("the resource %s failed to close", self.name, exc_info=error)
            return error
        return cause

    async def end(self) -> None:
        """Let its task close it, and wait for that, but not for ever."""
        assert self.task is not None
        self.is_ending = True
        self._ends.set()
        if not self.value.done():
            self.task.cancel()
        _, late = await asyncio.wait({self.task}, timeout=CLOSE_S)
        if late:
            self._is_late = True
            logger.error("the resource %s was not closed within %g s", self.name, CLOSE_S)
            self.task.cancel()
            # One turn and a little more, for its `finally` blocks. It may ignore even that.
            await asyncio.wait({self.task}, timeout=LAST_S)
