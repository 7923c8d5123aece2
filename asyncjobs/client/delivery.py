"""Sends one batch to the store, again and again until the store answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from asyncjobs.client.waiters import maybe_stored_error
from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.backoff import pause_s
from asyncjobs.store.answers import Enqueued
from asyncjobs.store.seam import Backend, EnqueueBatch

__all__ = ["Delivery"]

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


class Delivery:
    """Sends a batch, and sends it again while the store is unavailable.

    Remembers the queues in which jobs were stored, and the last failure, which explains the
    errors of callers whose deadline passes meanwhile. Never owns the backend.
    """

    __slots__ = ("_backend", "_failure", "_timeout_s", "queues")

    def __init__(self, backend: Backend, timeout_s: float) -> None:
        """`timeout_s`: how long each caller waits at most."""
        self.queues: set[str] = set()
        self._backend = backend
        self._timeout_s = timeout_s
        self._failure: StoreUnavailable | None = None

    async def send(self, batch: EnqueueBatch, is_given_up: Callable[[], bool]) -> Enqueued | None:
        """The store's answer for a batch; None if no caller waits for it any more.

        The batch keeps its token when it is sent again. If it was stored and only the reply was
        lost, the store knows the token, and answers without storing the jobs twice.
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
            # An earlier try may have stored these jobs. A caller who hears "refused" would then
            # enqueue them a second time.
            refused = {queue: maybe_stored_error(why) for queue, why in enqueued.refused.items()}
            return enqueued._replace(refused=refused)
        return enqueued

    def _pause_s(self, failures: int) -> float:
        # Much shorter than a caller's time-out: the batches behind this one need a try, too.
        longest_s = min(LONGEST_PAUSE_S, self._timeout_s / 8)
        return pause_s(FIRST_PAUSE_S, longest_s, failures)

    def unavailable(self) -> StoreUnavailable:
        """The error for a caller whose deadline has passed."""
        why = ""
        if self._failure is not None:
            why = f": {self._failure}"
        error = StoreUnavailable(
            f"the store at {self._backend.address} did not confirm the enqueue within "
            f"connect_timeout={self._timeout_s:g} s{why}. The jobs may be "
            "stored: repeat the call with the same job ids to be sure"
        )
        error.__cause__ = self._failure
        return error
