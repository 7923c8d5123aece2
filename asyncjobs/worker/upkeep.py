"""The periodic duties of a worker: one short class each, on one shared loop.

Every worker does them; each is safe to be done by many at a time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from asyncjobs import events
from asyncjobs.backends.base import Backend, Heartbeat
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.events import Events
from asyncjobs.guarded import GuardedLog
from asyncjobs.job import PROGRESS, Note
from asyncjobs.worker.doubt import AwayLog
from asyncjobs.worker.engine.loop import Processor
from asyncjobs.worker.session import Session

__all__ = ["Duty", "ProgressNotes", "Prune", "Reclaim", "Upkeep"]

logger = GuardedLog("asyncjobs.worker")

STEP: Final = 1000
"""Jobs or dead letters that one call may move or drop, so that the store stays free."""
REFUSED_MOST_S: Final = 60.0
"""The longest pause after a refusal; it doubles with each in a row."""
HEARS_S: Final = 0.5
"""How long it may take until upkeep acts on what a heartbeat has brought."""


class Duty(Protocol):
    """Something to be done from time to time."""

    async def run(self) -> float:
        """Do it once; returns the seconds until the next time."""
        ...


class Upkeep:
    """Runs the duties one after the other, each when it said it wants to."""

    def __init__(self, duties: Sequence[Duty]) -> None:
        self._duties = duties
        self._refused: dict[Duty, int] = {}
        """How often in a row the store has refused a duty, though it could be reached."""

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        next_s = [0.0] * len(self._duties)
        while True:
            for place, duty in enumerate(self._duties):
                if next_s[place] <= loop.time():
                    next_s[place] = loop.time() + await self._once(duty)
            await asyncio.sleep(max(min(next_s) - loop.time(), 0.02))

    async def _once(self, duty: Duty) -> float:
        try:
            next_s = await duty.run()
            self._refused.pop(duty, None)
            return next_s
        except StoreUnavailable as error:
            # The processor meets the same fault and reports it once.
            logger.debug("%s put off: %s", type(duty).__name__, error)
        except StoreError as error:
            return self._put_off(duty, error)
        except Exception:
            logger.exception("%s failed", type(duty).__name__)
        return random.uniform(1.0, 3.0)

    def _put_off(self, duty: Duty, error: StoreError) -> float:
        """Something in the store is wrong, and nobody else may meet it: told once."""
        times = self._refused[duty] = self._refused.get(duty, 0) + 1
        if times == 1:
            logger.error("%s is refused, tried again: %s", type(duty).__name__, error)
        return random.uniform(0.5, 1.0) * min(2.0 ** min(times, 20), REFUSED_MOST_S)


class Reclaim:
    """Gives back the jobs of workers whose lease has ended, when the first one ends.

    Each heartbeat says anew when that can be. While all others renew theirs it is always
    yet to come, and nothing is asked.
    """

    def __init__(
        self,
        backend: Backend,
        session: Session,
        hub: Events,
        call: Callable[[Collection[str]], None],
    ) -> None:
        """`call` is given the queues when jobs were given back. A worker that died or stands
        still may have been waiting, and gets the store's call for them; nobody else would
        hear of it."""
        self._backend = backend
        self._session = session
        self._events = hub
        self._call = call
        self._due_s = float("-inf")
        self._log = AwayLog("reclaiming")

    def hear_beat(self, beat: Heartbeat) -> None:
        """The store has renewed the lease and said when the next one of others ends."""
        end_ms = beat.next_lease_end_ms
        # A lease is over when its end has passed, not at it.
        # rule:2 a heartbeat says when the next lease of others ends
        self._set_due(None if end_ms is None else end_ms - beat.now_ms + 1)

    def hear_signal(self) -> None:
        """Somebody knows that a lease has ended."""
        self._set_due(0)

    def _set_due(self, in_ms: int | None) -> None:
        left_s = float("inf") if in_ms is None else in_ms / 1000
        self._due_s = time.monotonic() + left_s

    async def run(self) -> float:
        if (left_s := self._due_s - time.monotonic()) > 0:
            return min(left_s, HEARS_S)
        lease, known_s = self._session.spec, self._due_s
        answer = await self._backend.reclaim(lease.queues, lease.grace_ms, STEP)
        self._log.note(answer.away)
        # A heartbeat that came meanwhile may know of an end that this answer does not.
        heard_s = self._due_s if self._due_s != known_s else float("inf")
        # rule:2 reclaim comes when the next lease ends
        self._set_due(answer.again_ms)
        self._due_s = min(self._due_s, heard_s)
        if answer.returned:
            # rule:1 who gives jobs back looks for them at once
            self._call(lease.queues)
        if answer.returned or answer.leases:
            logger.warning(
                "leases ended without a farewell: %d; jobs that are ready again: %d",
                answer.leases,
                answer.returned,
            )
            if self._events.active:
                told = events.JobsReclaimed(answer.returned, answer.leases, tuple(lease.queues))
                self._events.emit(told)
        return 0.0


class Prune:
    """Keeps dead letters and remembered ids within their age and number."""

    def __init__(self, backend: Backend, session: Session) -> None:
        self._backend = backend
        self._session = session

    async def run(self) -> float:
        dropped = await self._backend.prune(self._session.spec.queues, STEP)
        # A full step hints at more; with many workers a minute's jitter spreads the calls.
        return 0.1 if dropped >= STEP else random.uniform(45, 75)


class ProgressNotes:
    """Sends the newest progress of running jobs."""

    def __init__(self, session: Session, processor: Processor) -> None:
        self._session = session
        self._processor = processor

    async def run(self) -> float:
        taken = self._processor.running.take_notes()
        if taken:
            notes = [Note(job, PROGRESS, progress) for job, progress in taken]
            await self._session.lease.note(notes)
        return 0.5
