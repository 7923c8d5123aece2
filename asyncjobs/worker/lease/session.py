"""The session of a worker with the store: its lease, and the numbers of its exchanges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model.backoff import Pauses, doubled
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange, Resync, StaleSequence
from asyncjobs.store.lease import Lease, LeaseSpec
from asyncjobs.store.seam import Backend

__all__ = ["ExchangeFault", "Session"]

logger = GuardedLog("asyncjobs.worker")

BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MOST_S: Final = 3.0


class ExchangeFault(Exception):
    """An exchange has raised what is no answer of a store: its client or our code has a fault.

    The cause is what was raised. Errors of the operating system are not among them: they say
    nothing of what was to be sent.
    """


class Session:
    """Owns the lease and the sequence. One exchange at a time, and none during a resync."""

    def __init__(self, backend: Backend, lease: Lease) -> None:
        self.backend = backend
        self.lease = lease
        self._sequence = 0
        self.confirmed_s = float("-inf")
        """Monotonic time at which the last confirmed renewal was sent."""
        self.leaves = False
        """Set from any thread when the worker was told to end. From then on heartbeats say so, and
        if the worker dies before its end, no job is charged with a crash."""
        self.info = b""
        """What heartbeats tell the store of this worker, once it is other than at its start. Set on
        the worker's loop, read by the thread of heartbeats."""
        self.away = False
        """True while the store cannot be reached."""
        self.losses = 0
        """How often the lease was lost in a queue and that queue was entered again."""
        self._failures = 0
        self.unrenewed: frozenset[str] = frozenset()
        """Queues in which the last heartbeat could not renew the lease. Set by its thread."""
        self.outside: frozenset[str] = frozenset()
        """Queues in which the lease is not entered: it was lost there, or never was."""
        self._never_entered: frozenset[str] = frozenset()

    @classmethod
    async def begin(cls, backend: Backend, spec: LeaseSpec) -> Session:
        """Enter all queues with a new lease. Those that fail are in `outside`, and `rejoin` enters
        them later. Raises the first error when all have failed."""
        sent_s = time.monotonic()
        lease = await backend.lease(spec)
        away = lease.entered.away
        for error in away.values():
            if len(away) == len(spec.queues):
                raise error
        session = cls(backend, lease)
        session.confirmed_s = sent_s
        session.outside = session._never_entered = frozenset(away)
        return session

    @property
    def spec(self) -> LeaseSpec:
        """The lease as it is now. May be read from any thread."""
        return self.lease.spec

    def next_sequence(self) -> int:
        """The number of the next exchange. No number is used twice."""
        self._sequence += 1
        return self._sequence

    async def exchange(
        self, sequence: int, settlements: Sequence[Settlement], demand: Mapping[str, Demand]
    ) -> Exchange:
        """Raises StoreError, StaleSequence or ExchangeFault: then nothing is known until a
        resync."""
        try:
            answer = await self.lease.exchange(sequence, settlements, demand)
        except (StoreError, StaleSequence, OSError):
            raise
        # rule:17 a fault in an exchange is told apart from faults of the loop
        except Exception as fault:
            raise ExchangeFault(f"{type(fault).__name__} in an exchange: {fault}") from fault
        self._failures = 0
        return answer

    def is_confirmed(self, now_s: float) -> bool:
        """False when the lease may have ended without this worker knowing it."""
        # rule:2 nothing starts while the lease is not confirmed
        return now_s - self.confirmed_s < self.lease.spec.duration_ms / 1000

    async def resync(
        self, cause: BaseException, holding: Callable[[], Collection[TakenJob]]
    ) -> Resync:
        """Ask until the store answers, with growing pauses. Logs once that the store is away, and
        once that it is back.

        Exchanges that arrive after it have no effect if their number is lower.
        """
        if not self.away and isinstance(cause, StoreUnavailable):
            self.away = True
            logger.warning("the store is away, running jobs go on: %s", cause)
        elif isinstance(cause, StoreError) and not isinstance(cause, StoreUnavailable):
            logger.error("an exchange was refused: %s", cause)
        if self._failures:
            # The store answers resyncs but fails each exchange. Without a pause this would spin.
            await asyncio.sleep(doubled(BACKOFF_FIRST_S, BACKOFF_MOST_S, self._failures))
        self._failures += 1
        pauses = Pauses(BACKOFF_FIRST_S, BACKOFF_MOST_S)
        while True:
            try:
                answer = await self.lease.resync(self.next_sequence(), holding())
            except StaleSequence:
                # The store has seen a number as high as this one. A leap gets above it.
                self._sequence += 1000
            except StoreError as error:
                logger.debug("the store is still away: %s", error)
                await asyncio.sleep(pauses.next_s())
            else:
                if self.away:
                    self.away = False
                    logger.warning("the store is back")
                return answer

    async def rejoin(self, queues: Collection[str]) -> Mapping[str, StoreError]:
        """Enter the queues in which the lease was lost, under a new name. Returns those that have
        failed."""
        sent_s = time.monotonic()
        away = (await self.lease.rejoin(queues)).away
        entered = {queue for queue in queues if queue not in away}
        self.losses += len(entered - self._never_entered)
        self._never_entered -= entered
        if entered == set(self.spec.queues):
            # Only then: in the other queues an older lease goes on, and that may have ended.
            self.confirmed_s = sent_s
        return away

    async def ask(self, queues: Collection[str], holding: Collection[TakenJob]) -> Resync:
        """Resync these queues alone, once. The others go on with their numbers.

        Raises StoreError or StaleSequence: then not only these queues have a fault.
        """
        return await self.lease.resync(self.next_sequence(), holding, queues)
