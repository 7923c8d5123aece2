"""Waiting until a queue is empty: one look a second, and no busy polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from asyncjobs.errors import DrainTimeout, UsageError
from asyncjobs.model.job import State
from asyncjobs.store.control import Purge
from asyncjobs.store.inspect import QueueCounts
from asyncjobs.store.seam import Backend

__all__ = ["Drain", "Drained"]

FIRST_S: Final = 0.1
"""The pause after the first look. It doubles from look to look, so that a queue which is nearly
empty is not waited for too long."""
LONGEST_S: Final = 1.0
STEP: Final = 500


@dataclass(frozen=True, slots=True)
class Drained:
    """A queue at one look: jobs by state, and how many live workers it has."""

    queue: str
    ready: int
    running: int
    scheduled: int
    workers: int


class Drain:
    """Looks at one queue again and again. `timeout_s`: from now on, for all waits together."""

    def __init__(
        self,
        backend: Backend,
        queue: str,
        with_scheduled: bool,
        timeout_s: float | None,
        on_progress: Callable[[Drained], object] | None,
    ) -> None:
        self._backend = backend
        self._queue = queue
        self._with_scheduled = with_scheduled
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._until_s = float("inf")
        if timeout_s is not None:
            self._until_s = asyncio.get_running_loop().time() + timeout_s
        self._before: Drained | None = None

    async def wait(self) -> Drained:
        """Until nothing is ready or running, nor scheduled if that is waited for.

        Raises DrainTimeout, and UsageError for ready jobs that are paused.
        """
        return await self._wait(self._is_empty)

    async def wait_for_running(self) -> Drained:
        """Until nothing is running. Raises DrainTimeout."""
        return await self._wait(self._is_idle)

    def _is_empty(self, found: Drained) -> bool:
        return not (found.ready or found.running or (self._with_scheduled and found.scheduled))

    def _is_idle(self, found: Drained) -> bool:
        return not found.running

    async def _wait(self, is_over: Callable[[Drained], bool]) -> Drained:
        loop = asyncio.get_running_loop()
        pause_s = FIRST_S
        while True:
            (counts,) = await self._backend.inspect.queues.counts([self._queue])
            found = _drained(counts)
            if self._on_progress is not None:
                self._on_progress(found)
            # Before the time-out is looked at: a time-out of 0 asks whether it is empty now.
            if is_over(found):
                return found
            await self._refuse_what_is_paused(found)
            left_s = self._until_s - loop.time()
            if left_s <= 0:
                raise self._is_late(found)
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 2, LONGEST_S)

    async def _refuse_what_is_paused(self, found: Drained) -> None:
        """Raises UsageError when nothing but paused jobs is ready: that would never end."""
        before, self._before = self._before, found
        # Only when nothing has moved since the last look, for counting by function costs the store
        # something.
        if not found.ready or found.running or before != found:
            return
        # A function that is being resumed is not stuck: its jobs are on their way back.
        (pauses,) = await self._backend.control.queues.paused([self._queue])
        names = [pause.function for pause in pauses if not pause.is_resuming]
        stuck = 0
        if None in names:
            stuck = found.ready
        for name in names:
            if name is not None and stuck < found.ready:
                stuck += await self._count(name)
        if stuck >= found.ready:
            what = ", ".join(name or "the queue itself" for name in names)
            raise UsageError(
                f"queue {self._queue!r} has {found.ready:,} ready jobs that nobody may take, for "
                f"this is paused: {what}; resume it, or purge the jobs"
            )

    async def _count(self, function: str) -> int:
        after: bytes | None = None
        jobs = 0
        while True:
            trial = Purge(self._queue, function, frozenset({State.READY}), is_trial=True)
            number, after = await self._backend.control.queues.purge(trial, STEP, after)
            jobs += number
            if after is None:
                return jobs

    def _is_late(self, found: Drained) -> DrainTimeout:
        left = f"{found.ready:,} ready, {found.running:,} running, {found.scheduled:,} scheduled"
        advice = "wait longer"
        if not found.workers:
            advice = "it has no live worker: start one"
        return DrainTimeout(
            f"queue {self._queue!r} is not empty after {self._timeout_s:g} s: {left}; {advice}"
        )


def _drained(counts: QueueCounts) -> Drained:
    ready = sum(counts.ready)
    return Drained(counts.queue, ready, counts.running, counts.scheduled, counts.workers)
