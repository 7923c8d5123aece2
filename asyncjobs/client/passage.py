"""Passing a limit outside of the gate of a job: `async with app.limit(...)`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NoReturn, Self, TypedDict

from anyio import move_on_after

from asyncjobs.errors import LimitLost, LimitTimeout, StoreError, StoreUnavailable, UsageError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide
from asyncjobs.model.backoff import Pauses
from asyncjobs.model.clock import Seconds, new_id
from asyncjobs.model.terms import LimitKind, LimitUse
from asyncjobs.store.seam import Backend

__all__ = ["Lines", "Passage", "PassageOptions", "PassageTerms"]

logger = GuardedLog("asyncjobs.limits")

ASK_AGAIN_MOST_S: Final = 30.0
"""How long to wait at most for a rate to open, before the store is asked again."""
GIVE_BACK_S: Final = 5.0
"""How long the end of a passage waits for the store. After that its permit ends with its time."""
STARTED_S: Final = 5.0
"""How long the store remembers a start at a rate: a call whose reply was lost counts once."""
RENEWS: Final = 3
"""How often a permit is renewed in its time."""

Place = tuple[str, str, str]


class PassageOptions(TypedDict, total=False):
    """What `app.limit(...)` takes by name."""

    timeout: Seconds | None
    weight: int
    ttl: Seconds
    queue: str | None


class _Line:
    """Those in this process who wait at one key, in the order in which they came."""

    def __init__(self) -> None:
        self.users = 0
        self.first = asyncio.Lock()
        """Held by who asks the store. The others wait for it, and Python lets them in turn."""
        self.freed = asyncio.Event()
        """Somebody here has given a permit back."""


class Lines:
    """The lines of one app."""

    def __init__(self) -> None:
        self._lines: dict[Place, _Line] = {}

    @contextlib.contextmanager
    def stand(self, place: Place) -> Iterator[_Line]:
        """Stand in the line of this key. A line that nobody uses is dropped."""
        line = self._lines.setdefault(place, _Line())
        line.users += 1
        try:
            yield line
        finally:
            line.users -= 1
            # There are as many keys as tenants: their lines must not pile up.
            if not line.users:
                self._lines.pop(place, None)

    def tell_freed(self, place: Place) -> None:
        """A permit was given back here. Who is first in line asks at once."""
        line = self._lines.get(place)
        if line is not None:
            line.freed.set()


@dataclass(frozen=True, slots=True)
class PassageTerms:
    """What is to be passed, and how long to wait for it. Times are in seconds."""

    queue: str
    use: LimitUse
    timeout_s: float | None
    ttl_s: float
    reach_s: float
    """How long a store that does not answer is asked again."""

    @property
    def place(self) -> Place:
        return self.queue, self.use.limit, self.use.key

    @property
    def has_permit(self) -> bool:
        """False for a rate: who has started has nothing to give back."""
        return self.use.rule.kind is LimitKind.CONCURRENCY

    def __str__(self) -> str:
        return f"the limit {self.use.limit} {self.use.key}".rstrip()


class Passage:
    """A part of a program that runs under a limit: `async with app.limit("api", tenant):`.

    It waits until the limit lets it in, and gives its permit back at the end. Meanwhile the permit
    is renewed. Each may be used once.
    """

    def __init__(self, terms: PassageTerms, opened: Callable[[], Backend], lines: Lines) -> None:
        self._terms = terms
        self._opened = opened
        self._lines = lines
        self._holder = f"outside:{new_id()}"
        self._store: Backend | None = None
        self._body: asyncio.Task[object] | None = None
        self._cancels_before = 0
        self._renewing: asyncio.Task[None] | None = None
        self._lost: str | None = None
        self._asked_s = 0.0
        """When the store was asked to be let in."""

    def __enter__(self) -> NoReturn:
        raise UsageError(
            f"{self._terms} is passed by `async with`; a sync job function has it by limits=, and "
            "a thread has no way to be stopped when the permit is lost"
        )

    def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> Self:
        """Wait until the limit lets it in.

        Raises LimitTimeout after the time-out, NotOpen, MissingCapability, and StoreUnavailable.
        """
        if self._store is not None:
            raise UsageError(f"{self._terms}: call app.limit(...) for each `async with`")
        self._store = store = self._opened()
        try:
            await self._wait(store)
        except TimeoutError:
            await self._give_back(store)
            raise LimitTimeout(
                f"{self._terms} had no room within {self._terms.timeout_s:g} s"
            ) from None
        except BaseException:
            # The store may have let it in: nobody knows what became of the last question.
            # rule:39 who is cancelled while it asks holds no permit
            await self._give_back(store)
            raise
        if self._terms.has_permit:
            self._body = asyncio.current_task()
            # A worker may have asked this task to stop before. That must not count as ours.
            self._cancels_before = self._body.cancelling() if self._body is not None else 0
            self._renewing = hide(asyncio.create_task(self._keep(store), name="asyncjobs-limit"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the permit back. Raises LimitLost if it was lost meanwhile."""
        store = self._store
        if self._renewing is None or store is None:
            return
        # Before the permit is given back: a renewal behind that would find it lost.
        self._renewing.cancel()
        if self._lost is not None:
            await self._end_lost(error)
            return
        await self._give_back(store)

    async def _end_lost(self, error: BaseException | None) -> None:
        if error is None:
            # The cancel has not reached the body before its end. It must not reach what follows.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        body = self._body
        # rule:39 who has cancelled it besides is obeyed
        if body is not None and body.uncancel() > self._cancels_before:
            return
        # Another error of the body says more than that the permit was lost.
        if error is None or isinstance(error, asyncio.CancelledError):
            raise LimitLost(f"{self._terms} was lost: {self._lost}") from error

    async def _wait(self, store: Backend) -> None:
        terms = self._terms
        loop = asyncio.get_running_loop()
        end_s = None
        if terms.timeout_s is not None:
            end_s = loop.time() + terms.timeout_s
        with self._lines.stand(terms.place) as line:
            async with asyncio.timeout_at(end_s), line.first:
                while (again_s := await self._ask(store, line)) > 0:
                    if terms.has_permit:
                        # Whoever gives a permit back here says so. Others do not.
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(line.freed.wait(), again_s)
                    else:
                        await asyncio.sleep(min(again_s, ASK_AGAIN_MOST_S))

    async def _ask(self, store: Backend, line: _Line) -> float:
        """Ask the store to be let in; after what time to ask again, in seconds; 0: it is in."""
        terms = self._terms
        ttl_s = terms.ttl_s if terms.has_permit else STARTED_S
        loop = asyncio.get_running_loop()
        pauses = Pauses(0.05, 1.0)
        end_s = loop.time() + terms.reach_s
        # Before the question: what is given back from here on is news.
        line.freed.clear()
        while True:
            self._asked_s = loop.time()
            try:
                # Asked again under its name it counts once, whatever became of a lost reply.
                answer = await store.limits.acquire(
                    terms.queue, [terms.use], self._holder, round(ttl_s * 1000)
                )
            except StoreUnavailable:
                pause_s = pauses.next_s()
                if loop.time() + pause_s >= end_s:
                    raise
                await asyncio.sleep(pause_s)
                continue
            if answer.is_in:
                return 0.0
            return max(answer.again_ms, 1) / 1000

    async def _keep(self, store: Backend) -> None:
        """Renew the permit until the body ends. Stop the body when it is lost."""
        terms = self._terms
        loop = asyncio.get_running_loop()
        kept_s = self._asked_s
        while True:
            # Until then nobody else can have it, and the store may come back.
            end_s = kept_s + terms.ttl_s
            await asyncio.sleep(min(terms.ttl_s / RENEWS, end_s - loop.time()))
            # The store counts from when it gets the call, which is later.
            asked_s = loop.time()
            try:
                # A store that does not answer is not waited for beyond that.
                async with asyncio.timeout_at(end_s):
                    is_kept = await store.limits.renew(
                        terms.queue, self._holder, round(terms.ttl_s * 1000)
                    )
            except (StoreError, TimeoutError) as error:
                if loop.time() < end_s:
                    continue
                why = str(error) or "it has not answered"
                self._lose(f"the store was away for longer than its {terms.ttl_s:g} s: {why}")
                return
            if not is_kept:
                self._lose(
                    f"it was not renewed within its {terms.ttl_s:g} s, or an operator has freed it"
                )
                return
            kept_s = asked_s

    def _lose(self, why: str) -> None:
        self._lost = why
        if self._body is not None:
            # rule:39 nobody goes on without the permit
            self._body.cancel()

    async def _give_back(self, store: Backend) -> None:
        if not self._terms.has_permit:
            return
        # Whatever the body ends with. But a store that is away must not hold its end up for long.
        with move_on_after(GIVE_BACK_S, shield=True) as scope:
            try:
                await store.limits.give_back(self._terms.queue, self._holder)
            except StoreError as error:
                self._warn(str(error))
        if scope.cancelled_caught:
            self._warn("the store did not answer")
        self._lines.tell_freed(self._terms.place)

    def _warn(self, why: str) -> None:
        logger.warning(
            "%s: its permit could not be given back (%s), and ends by itself within %g s",
            self._terms,
            why,
            self._terms.ttl_s,
        )
