"""Rounds of work on the store of a test: run what is ready, then see what comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from asyncjobs.app import AsyncJobs
from asyncjobs.testing.recording import RecordingBackend
from asyncjobs.testing.wall_clock import WallClock
from asyncjobs.worker.declaring import Declaring
from asyncjobs.worker.engine.burst import Burst
from asyncjobs.worker.firing import Firing
from asyncjobs.worker.report import WorkerReport
from asyncjobs.worker.settings import App
from asyncjobs.worker.worker import Worker

__all__ = ["BurstWorker", "Plan", "Rounds", "working_now"]

Plan: TypeAlias = Callable[[], Awaitable[bool]]
"""Asked when nothing is ready: makes more ready, and returns whether it has done so."""

LEASE_S: Final = 80 * 366 * 86_400.0
"""A lease that ends with no time that a test lets pass."""
NAME: Final = "test"
_working: Final[list[BurstWorker]] = []
"""Those that work off a burst now, the newest last."""


def working_now() -> BurstWorker | None:
    """The worker that runs the jobs of the test at this moment."""
    return _working[-1] if _working else None


class BurstWorker(Worker):
    """A worker without a watchdog: a test may stop in a debugger. The time of the test may leap,
    so its lease does not end."""

    def __init__(self, app: App, queues: Sequence[str], *, concurrency: int) -> None:
        super().__init__(
            app,
            queues=queues,
            concurrency=concurrency,
            lease=LEASE_S,
            grace=0,
            name=NAME,
            block_warning=None,
            hard_limit=None,
        )
        self.was_stopped = False

    async def work_off(self, limit: int, plan: Plan | None = None) -> WorkerReport:
        """Run what is ready, and what `plan` makes ready, but at most so many attempts."""
        _working.append(self)
        try:
            return await self._run(asyncio.Event(), Burst(limit, 0.0, plan), None)
        finally:
            _working.remove(self)

    def interrupt(self) -> None:
        """Stop, as a deploy does. What runs is given back."""
        self.was_stopped = True
        self.stop()

    def reports(self) -> list[bytes]:
        """Progress of the jobs that run, as far as the store has not heard of it."""
        if self._shift is None:
            return []
        return [progress for _, progress in self._shift.processor.running.take_notes()]


class Rounds:
    """Runs the jobs of an app, round after round, and moves the clock from one round to the next.

    It decides nothing about jobs: it starts a worker and asks the store when the next job or tick
    is due.
    """

    def __init__(self, app: AsyncJobs, backend: RecordingBackend, clock: WallClock) -> None:
        self._app = app
        self._backend = backend
        self._clock = clock
        self._firing = Firing(backend.schedules, app.events)

    async def queues(self) -> list[str]:
        """Every queue that may have jobs: those of the app, and those that jobs have gone to."""
        return sorted({*self._app.local_queues, *await self._backend.inspect.queues.names()})

    async def run(self, plan: Plan, limit: int, concurrency: int) -> bool:
        """Run what is ready, and what `plan` makes ready. False if `limit` attempts have run and
        more are ready."""
        left = limit
        while left > 0:
            queues = await self.queues()
            worker = BurstWorker(self._app, queues, concurrency=concurrency)
            # rule:29 a drain comes to its end
            left -= (await worker.work_off(left, plan)).taken
            if worker.was_stopped:
                return True
            # A job may have enqueued into a queue of which nobody knew, for example by
            # `options(queue=...)`. That worker has not served it.
            if left > 0 and not await self._has_ready(set(await self.queues()) - {*queues}):
                return True
        # The limit is reached. What comes next decides whether it was too low.
        while not await self._has_ready(set(await self.queues())):
            if not await plan():
                return True
        return False

    async def _has_ready(self, queues: set[str]) -> bool:
        counts = await self._backend.inspect.queues.counts(sorted(queues))
        return any(sum(each.ready) for each in counts)

    # ── plans ────────────────────────────────────────────────────────────────────────

    async def until_empty(self) -> bool:
        """Go on for as long as a tick is due."""
        return await self._fire()

    async def until_nothing_is_due(self) -> bool:
        """Go on for as long as a job is scheduled, or a tick is due now."""
        if await self._fire():
            return True
        due_ms = await self._next_job_ms()
        if due_ms is None:
            return False
        self._clock.put_forward(due_ms - self._clock.now_ms())
        return True

    def until(self, end_ms: int) -> Plan:
        """Go on until this time, from each job that is due and each tick to the next one."""

        async def go_on() -> bool:
            await self.declare()
            if await self._fire():
                return True
            now_ms = self._clock.now_ms()
            if now_ms >= end_ms:
                return False
            found = (await self._next_job_ms(), await self._next_tick_ms())
            next_ms = min((ms for ms in found if ms is not None), default=end_ms)
            self._clock.put_forward(min(next_ms, end_ms) - now_ms)
            await self._fire()
            return True

        return go_on

    # ── schedules ────────────────────────────────────────────────────────────────────

    async def declare(self) -> None:
        """Store the schedules of the app's code, as a worker does when it starts. They count from
        the present time of the test."""
        store = self._backend.schedules
        declaring = Declaring(store, self._app.registry.schedules(), self._app.local_queues)
        await declaring.run(())

    def declare_at_once(self) -> None:
        """The same, without an event loop: a store in memory never waits."""
        if self._app.registry.schedules():
            declaring = self.declare()
            try:
                declaring.send(None)
            except StopIteration:
                return
            declaring.close()
            raise RuntimeError("a store in memory has waited for something; please report this")

    async def _fire(self) -> bool:
        """Fire the ticks that are due. Returns whether there were any."""
        queues = await self._backend.schedules.queues()
        before = await self._backend.schedules.due(queues, 1)
        if not before.records:
            return False
        await self._firing.run(queues)
        # One that cannot fire stays due for ever.
        after = await self._backend.schedules.due(queues, 1)
        return after.records != before.records

    async def _next_tick_ms(self) -> int | None:
        answer = await self._backend.schedules.due(await self._backend.schedules.queues(), 1)
        return min(answer.next_ms.values(), default=None)

    async def _next_job_ms(self) -> int | None:
        """When the next job is due after now, or may pass its limits. What was due before and is
        still scheduled cannot run: its queue is paused, for example."""
        now_ms = self._clock.now_ms()
        queues = await self.queues()
        flows = await self._backend.inspect.queues.flow(queues)
        times = [flow.next_due_ms for flow in flows]
        for queue in queues:
            times += await self._openings_ms(queue)
        return min((ms for ms in times if ms is not None and ms > now_ms), default=None)

    async def _openings_ms(self, queue: str) -> list[int | None]:
        """When the keys of limits open that jobs of this queue wait at."""
        found: list[int | None] = []
        after: str | None = None
        while True:
            page = await self._backend.limits.page(queue, after)
            found += [each.opens_ms for each in page.limits if each.waiting]
            after = page.after
            if after is None:
                return found
