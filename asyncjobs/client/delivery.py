"""One batch on its way to the store, however often it has to be sent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from asyncjobs.client.waiters import maybe_stored_error
from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.backoff import doubled
from asyncjobs.store.answers import Enqueued
from asyncjobs.store.seam import Backend, EnqueueBatch

__all__ = ["Delivery"]

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


class Delivery:
    """Sends a batch again while the store is away.

    Remembers the queues that jobs have gone to, and the last failure, for the errors of those
    whose time is over meanwhile. Never owns the backend.
    """

    __slots__ = ("_backend", "_failure", "_timeout_s", "queues")

    def __init__(self, backend: Backend, timeout_s: float) -> None:
        """`timeout_s`: how long each caller waits."""
        self.queues: set[str] = set()
        self._backend = backend
        self._timeout_s = timeout_s
        self._failure: StoreUnavailable | None = None

    async def send(self, batch: EnqueueBatch, is_given_up: Callable[[], bool]) -> Enqueued | None:
        """The answer for a batch; None when nobody wants it any more.

        Sent again as it is while the store is away: by its token a batch that was stored,
        and whose reply was lost, is answered again and not stored again.
        """
        failures = 0
        while True:
            try:
                enqueued = await self._backend.enqueue(batch)
                break
            except StoreUnavailable as error:
                self._failure = error
            await asyncio.sleep(self._pause_s(failures))
            failures += 1
            if is_given_up():
                return None
        self._failure = None
        for job in batch.jobs:
            if job.queue not in self.queues:
                self.queues.add(job.queue)
        if enqueued.refused and failures:
            # A try before may have stored these jobs: then they were not refused, and who is
            # told so would enqueue them twice.
            refused = {queue: maybe_stored_error(why) for queue, why in enqueued.refused.items()}
            return enqueued._replace(refused=refused)
        return enqueued

    def _pause_s(self, failures: int) -> float:
        # Much shorter than a caller's whole time: those who wait behind want a try, too.
        longest_s = min(LONGEST_PAUSE_S, self._timeout_s / 8)
        return random.uniform(0, doubled(FIRST_PAUSE_S, longest_s, failures))

    def unavailable(self) -> StoreUnavailable:
        """The error for a caller whose time is over."""
        why = "" if self._failure is None else f": {self._failure}"
        error = StoreUnavailable(
            f"the store at {self._backend.address} did not confirm the enqueue within "
            f"connect_timeout={self._timeout_s:g} s{why}. The jobs may be "
            "stored: repeat the call with the same job ids to be sure"
        )
        error.__cause__ = self._failure
        return error
