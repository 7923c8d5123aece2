"""A worker's standing with the store: its lease, and the numbering of its exchanges."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from asyncjobs.backends.base import (
    Backend,
    Demand,
    Exchange,
    Lease,
    Resync,
    StaleSequence,
)
from asyncjobs.clock import new_id
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guarded import GuardedLog
from asyncjobs.job import Settlement, TakenJob

__all__ = ["Session"]

logger = GuardedLog("asyncjobs.worker")

BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MOST_S: Final = 3.0


class Session:
    """Owns lease and sequence. One exchange at a time, none while it resyncs."""

    def __init__(self, backend: Backend, lease: Lease) -> None:
        self.backend = backend
        self.lease = lease
        self._sequence = 0
        self.confirmed_s = float("-inf")
        """Monotonic time at which the last confirmed renewal was sent."""
        self.leaves = False
        """Set from any thread when the worker was told to end: heartbeats say so from then on,
        and should it die on its way, nobody is charged with a crash."""
        self.away = False
        """True while the store cannot be reached."""
        self.losses = 0
        """How often the lease was lost in a queue, and that queue entered again."""
        self._failures = 0

    def next_sequence(self) -> int:
        """The number of the next exchange; never used twice."""
        self._sequence += 1
        return self._sequence

    async def exchange(
        self, sequence: int, settlements: Sequence[Settlement], demand: Mapping[str, Demand]
    ) -> Exchange:
        """Raises StoreError or StaleSequence: then nothing is known until a resync."""
        answer = await self.backend.exchange(self.lease, sequence, settlements, demand)
        self._failures = 0
        return answer

    def is_confirmed(self, now_s: float) -> bool:
        """False when the lease may have ended for all this worker knows."""
        return now_s - self.confirmed_s < self.lease.duration_ms / 1000

    async def resync(
        self, cause: BaseException, holding: Callable[[], Collection[TakenJob]]
    ) -> Resync:
        """Ask until the store answers, with backoff and jitter; told once a change.

        Exchanges up to the present sequence that arrive later have no effect any more.
        """
        if not self.away and isinstance(cause, StoreUnavailable):
            self.away = True
            logger.warning("the store is away, running jobs go on: %s", cause)
        elif isinstance(cause, StoreError) and not isinstance(cause, StoreUnavailable):
            logger.error("an exchange was refused: %s", cause)
        delay_s = BACKOFF_FIRST_S
        if self._failures:
            # The store answers resyncs but fails each exchange: do not spin.
            await asyncio.sleep(min(delay_s * 2**self._failures, BACKOFF_MOST_S))
        self._failures = min(self._failures + 1, 10)
        while True:
            try:
                answer = await self.backend.resync(self.lease, self.next_sequence(), holding())
            except StaleSequence:
                self._sequence += 1000
            except StoreError as error:
                logger.debug("the store is still away: %s", error)
                await asyncio.sleep(random.uniform(delay_s / 2, delay_s))
                delay_s = min(delay_s * 2, BACKOFF_MOST_S)
            else:
                if self.away:
                    self.away = False
                    logger.warning("the store is back")
                return answer

    async def rejoin(self, queues: Collection[str]) -> None:
        """Enter the queues in which the lease was lost, under a new name."""
        lease = self.lease.renew(queues, new_id())
        sent_s = time.monotonic()
        await self.backend.register(lease, tuple(queues))
        self.lease = lease
        self.losses += len(queues)
        if set(queues) == set(lease.queues):
            self.confirmed_s = sent_s
