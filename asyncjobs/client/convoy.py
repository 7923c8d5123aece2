"""The calls of one `enqueue_many` that pass middleware: beside each other, then stored together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from typing import Any, Final, NamedTuple, TypeAlias

from asyncjobs.client.passing import Passing
from asyncjobs.errors import Aborted, UniqueConflict
from asyncjobs.guard.own import hide
from asyncjobs.jobs.enqueue_call import EnqueueCall, EnqueueMiddleware
from asyncjobs.jobs.handle import JobHandle

__all__ = ["Arrival", "Convoy", "Passed", "StoreAll", "conclude"]

PATIENCE_S: Final = 0.1
"""When no call has come for so long, those that are there are stored."""

Arrival: TypeAlias = JobHandle[Any] | UniqueConflict | Aborted
"""What became of one call."""


class Passed(NamedTuple):
    """A call that has passed its middleware. `context`: where its `send()` was called, with what
    the middleware has set."""

    call: EnqueueCall
    context: Context


StoreAll: TypeAlias = Callable[
    [Sequence[Passed]], Coroutine[Any, Any, list[JobHandle[Any] | UniqueConflict]]
]
"""Stores calls in batches."""


class Convoy:
    """Up to a thousand calls. Each one passes its middleware as far as `send()`, and waits there
    until all have come so far or were refused. Then one call of the store takes them all.

    Owns the tasks of the calls, and ends them with its `run`.
    """

    def __init__(self, store_all: StoreAll) -> None:
        self._store_all = store_all
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, Passed] = {}
        """The calls that wait for the store, by their place."""
        self._answers: dict[int, asyncio.Future[JobHandle[Any]]] = {}
        self._tasks: dict[int, asyncio.Task[JobHandle[Any]]] = {}
        self._missing: set[int] = set()
        """The places of the calls that have not come to `send()` and have not ended."""
        self._all_there = asyncio.Event()

    async def run(
        self, calls: Sequence[tuple[EnqueueCall, Sequence[EnqueueMiddleware]]]
    ) -> list[Arrival]:
        """What became of each call, in their order. Raises the first error of a middleware, and
        what the store raises."""
        self._missing.update(range(len(calls)))
        arrivals: dict[int, Arrival] = {}
        try:
            for place, (call, chain) in enumerate(calls):
                self._start(place, call, chain)
            while self._missing or self._waiting:
                await self._gather()
                # rule:16 an error of a middleware comes before its calls are stored
                for task in self._tasks.values():
                    if task.done():
                        _arrival(task)
                arrivals.update(await self._store())
            if self._tasks:
                await asyncio.wait(self._tasks.values())
            for place, task in self._tasks.items():
                arrivals[place] = _arrival(task)
            return [arrivals[place] for place in range(len(calls))]
        finally:
            await self._end()

    def _start(self, place: int, call: EnqueueCall, chain: Sequence[EnqueueMiddleware]) -> None:
        if not chain:
            self._waiting[place] = Passed(call, copy_context())
            self._come(place)
            return

        async def deliver(changed: EnqueueCall) -> JobHandle[Any]:
            # rule:33 a job carries what its middleware has set, also one of many
            self._waiting[place] = Passed(changed, copy_context())
            answer: asyncio.Future[JobHandle[Any]] = self._loop.create_future()
            self._answers[place] = answer
            self._come(place)
            return await answer

        # Hidden: a job that cancels all tasks must not end the enqueue of another one.
        task = hide(self._loop.create_task(Passing(chain, deliver).run(call)))
        self._tasks[place] = task
        # It may end before `send()`: refused, or answered with the handle of another job.
        task.add_done_callback(lambda _: self._come(place))

    def _come(self, place: int) -> None:
        self._missing.discard(place)
        if not self._missing:
            self._all_there.set()

    async def _gather(self) -> None:
        """Wait until all calls are there, or until no more come."""
        while self._missing:
            before = len(self._missing)
            # A middleware may hold a lock around `send()`, and then the next call waits for this
            # one. So those that are there do not wait for ever.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await self._all_there.wait()
            if len(self._missing) == before and self._waiting:
                return

    async def _store(self) -> dict[int, Arrival]:
        """Store the calls that wait, and tell them."""
        waiting = self._waiting
        self._waiting = {}
        if not waiting:
            return {}
        places = sorted(waiting)
        answers = [(place, self._answers.pop(place, None)) for place in places]
        try:
            stored = await self._store_all([waiting[place] for place in places])
        except Exception as error:
            # Each middleware sees that its call is not stored, as in a single enqueue.
            for _, answer in answers:
                _tell(answer, error)
            await asyncio.sleep(0)
            raise
        arrivals: dict[int, Arrival] = dict(zip(places, stored, strict=True))
        for place, answer in answers:
            _tell(answer, arrivals[place])
        return arrivals

    async def _end(self) -> None:
        left = [task for task in self._tasks.values() if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        for task in self._tasks.values():
            # Asked for, so that asyncio does not report it as forgotten.
            if not task.cancelled():
                task.exception()


def _tell(answer: asyncio.Future[JobHandle[Any]] | None, found: Arrival | Exception) -> None:
    # A middleware may have given up waiting.
    if answer is None or answer.done():
        return
    if isinstance(found, JobHandle):
        answer.set_result(found)
    else:
        answer.set_exception(found)


def _arrival(task: asyncio.Task[JobHandle[Any]]) -> Arrival:
    try:
        return task.result()
    except (Aborted, UniqueConflict) as refusal:
        return refusal


def conclude(arrivals: Sequence[Arrival]) -> list[JobHandle[Any]]:
    """The handles of all calls. Raises Aborted or UniqueConflict if some have none."""
    handles: list[JobHandle[Any] | None] = [None] * len(arrivals)
    for place, arrival in enumerate(arrivals):
        if isinstance(arrival, JobHandle):
            handles[place] = arrival
    for kind in (Aborted, UniqueConflict):
        refusals = [each for each in arrivals if isinstance(each, kind)]
        if refusals:
            raise _for_all(refusals, handles)
    return [each for each in handles if each is not None]


def _for_all(
    refusals: Sequence[Aborted | UniqueConflict], handles: Sequence[JobHandle[Any] | None]
) -> Aborted | UniqueConflict:
    first = refusals[0]
    stored = sum(handle is not None for handle in handles)
    text = f"{first} ({len(refusals):,} of these {len(handles):,} calls; {stored:,} are stored)"
    if isinstance(first, Aborted):
        return Aborted(text, reason=first.reason, handles=tuple(handles))
    return UniqueConflict(text, holder=first.holder)
